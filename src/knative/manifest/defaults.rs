//! `config-defaults`, and what it makes of a revision's timeouts (`pkg/apis/config/defaults.go`, `pkg/apis/serving/v1/revision_defaults.go`
//! and `revision_validation.go` of Knative Serving).

use std::time::Duration;

use super::tree::Mapping;
use crate::config::report::Report;
use crate::knative::kpa::text;

/// The part of `config-defaults` that a revision's behaviour depends on; all timeouts in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    pub timeout: u32,
    /// The most that `timeoutSeconds` may be. None where no ConfigMap was given: then a greater one is only warned of, since clusters
    /// for long work have raised it.
    pub timeout_max: Option<u32>,
    /// None is that of `timeout`.
    pub response_start_timeout: Option<u32>,
    pub idle_timeout: u32,
    pub container_concurrency: u32,
    pub container_concurrency_max: u32,
    /// Whether a revision may go without a limit, which is 0.
    pub container_concurrency_zero: bool,
}

/// A revision's three timeouts, all counted from the arrival of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// `timeoutSeconds`: waiting and running together.
    pub request: Duration,
    /// `responseStartTimeoutSeconds`: until the worker's first byte.
    pub response_start: Option<Duration>,
    /// `idleTimeoutSeconds`: without a byte from the worker.
    pub idle: Option<Duration>,
    /// Knative set `response_start` because the manifest did not: silent work that takes longer is cut.
    pub response_start_is_default: bool,
}

/// Knative's `max-revision-timeout-seconds` where nobody has set it.
const TIMEOUT_MAX: u32 = 600;

impl Default for Defaults {
    fn default() -> Self {
        Defaults {
            timeout: 300,
            timeout_max: None,
            response_start_timeout: None,
            idle_timeout: 0,
            container_concurrency: 0,
            container_concurrency_max: 1000,
            container_concurrency_zero: true,
        }
    }
}

impl Defaults {
    pub(super) fn read(data: &Mapping<'_>, report: &mut Report) -> Self {
        let mut number = |key: &str| {
            let text = data.text(key, report)?;
            let number = text.parse::<u32>().ok();
            if number.is_none() {
                report.mistake(&data.path.key(key), "this is no whole number", "write digits in quotes");
            }
            number
        };
        let default = Defaults::default();
        let timeout = number("revision-timeout-seconds").unwrap_or(default.timeout);
        let timeout_max = number("max-revision-timeout-seconds").unwrap_or(TIMEOUT_MAX);
        let defaults = Defaults {
            timeout,
            timeout_max: Some(timeout_max),
            response_start_timeout: number("revision-response-start-timeout-seconds"),
            idle_timeout: number("revision-idle-timeout-seconds").unwrap_or(default.idle_timeout),
            container_concurrency: number("container-concurrency").unwrap_or(default.container_concurrency),
            container_concurrency_max: number("container-concurrency-max-limit")
                .unwrap_or(default.container_concurrency_max),
            container_concurrency_zero: flag("allow-container-concurrency-zero", data, report)
                .unwrap_or(default.container_concurrency_zero),
        };
        // With values that refuse each other the Service would be refused for what is not its own.
        if defaults.check(data, report) { defaults } else { default }
    }

    /// Refuses what Knative refuses in the ConfigMap; whether that is nothing.
    fn check(&self, data: &Mapping<'_>, report: &mut Report) -> bool {
        let mut fits = true;
        if self.container_concurrency_max == 0 {
            let path = data.path.key("container-concurrency-max-limit");
            report.mistake(&path, "it must be at least 1", "leave it out for Knative's 1000");
            fits = false;
        }
        let (timeout, timeout_max) = (self.timeout, self.timeout_max.unwrap_or(TIMEOUT_MAX));
        let response_start = self.response_start_timeout.unwrap_or(timeout);
        let (concurrency, concurrency_max) = (self.container_concurrency, self.container_concurrency_max);
        for (key, value, limit, most) in [
            ("revision-timeout-seconds", timeout, "max-revision-timeout-seconds", timeout_max),
            ("revision-response-start-timeout-seconds", response_start, "revision-timeout-seconds", timeout),
            ("revision-idle-timeout-seconds", self.idle_timeout, "revision-timeout-seconds", timeout),
            ("container-concurrency", concurrency, "container-concurrency-max-limit", concurrency_max),
        ] {
            if value > most {
                let reason = format!("{value} is more than the {limit} of {most}");
                report.mistake(&data.path.key(key), reason, format!("write less, or raise {limit}"));
                fits = false;
            }
        }
        fits
    }

    /// The `containerConcurrency` of a revision with this `spec`.
    pub(super) fn concurrency(&self, spec: &Mapping<'_>, report: &mut Report) -> u32 {
        let given = spec.number("containerConcurrency", 0..=self.container_concurrency_max, report);
        let concurrency = given.unwrap_or(self.container_concurrency);
        if concurrency == 0 && !self.container_concurrency_zero {
            // One that is left out is 0 too, unless the cluster has another default.
            let reason = "0 is refused: the cluster's allow-container-concurrency-zero is false";
            let mend = format!("write 1..{}", self.container_concurrency_max);
            report.mistake(&spec.path.key("containerConcurrency"), reason, mend);
        }
        concurrency
    }

    /// The timeouts of a revision with this `spec`.
    pub(super) fn timeouts(&self, spec: &Mapping<'_>, report: &mut Report) -> Timeouts {
        let any = 0..=i32::MAX.unsigned_abs();
        let timeout = spec.number("timeoutSeconds", any.clone(), report).filter(|seconds| *seconds > 0);
        let timeout = timeout.unwrap_or(self.timeout);
        self.check_timeout(timeout, spec, report);
        let response_start = spec.number("responseStartTimeoutSeconds", any.clone(), report);
        let idle = spec.number("idleTimeoutSeconds", any, report);
        for (key, seconds) in [("responseStartTimeoutSeconds", response_start), ("idleTimeoutSeconds", idle)]
        {
            if seconds.is_some_and(|seconds| seconds > timeout) {
                let reason = format!("it is more than the timeoutSeconds of {timeout}");
                report.mistake(
                    &spec.path.key(key),
                    reason,
                    format!("write 0..{timeout}; 0 is no limit of its own"),
                );
            }
        }
        // Left out, each is the cluster's, and only where that comes before timeoutSeconds. An explicit 0 is no limit.
        let or_default = |default: u32| (default != 0 && default < timeout).then_some(default);
        let default = or_default(self.response_start_timeout.unwrap_or(self.timeout));
        let is_default = !spec.has("responseStartTimeoutSeconds") && default.is_some();
        if is_default {
            let seconds = default.unwrap_or_default();
            let reason = format!(
                "responseStartTimeoutSeconds is left out, so Knative sets {seconds}: work that answers later than that is cut"
            );
            report.warning(
                &spec.path.key("responseStartTimeoutSeconds"),
                reason,
                "write `responseStartTimeoutSeconds: 0` for no limit of its own",
            );
        }
        let span = |seconds: Option<u32>| {
            seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.into()))
        };
        Timeouts {
            request: Duration::from_secs(timeout.into()),
            response_start: span(response_start.or(default)),
            idle: span(idle.or_else(|| or_default(self.idle_timeout))),
            response_start_is_default: is_default,
        }
    }

    fn check_timeout(&self, timeout: u32, spec: &Mapping<'_>, report: &mut Report) {
        let path = spec.path.key("timeoutSeconds");
        match self.timeout_max {
            Some(most) if timeout > most => {
                let reason = format!("it is more than the cluster's max-revision-timeout-seconds of {most}");
                report.mistake(&path, reason, "write less, or raise it in config-defaults");
            }
            None if timeout > TIMEOUT_MAX => {
                let reason = format!("a cluster refuses more than {TIMEOUT_MAX} until it is told otherwise");
                report.warning(&path, reason, "raise max-revision-timeout-seconds in its config-defaults");
            }
            _ => {}
        }
    }
}

fn flag(key: &str, data: &Mapping<'_>, report: &mut Report) -> Option<bool> {
    let flag = text::flag(&data.text(key, report)?);
    if let Err(reason) = &flag {
        report.mistake(&data.path.key(key), reason.as_str(), "write \"true\" or \"false\"");
    }
    flag.ok()
}
