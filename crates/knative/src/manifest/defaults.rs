//! Reads `config-defaults` (`pkg/apis/config/defaults.go` of Knative Serving).

use super::tree::Mapping;
use crate::kpa::text;
use longhaul_places::report::Report;

/// The part of `config-defaults` that a revision's behaviour depends on; all timeouts in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    pub timeout: u32,
    /// The highest `timeoutSeconds`. Without a ConfigMap it is `None`: a longer timeout then only
    /// gives a warning, because clusters for long work have raised this value.
    pub timeout_max: Option<u32>,
    /// `None` means the same value as `timeout`.
    pub response_start_timeout: Option<u32>,
    pub idle_timeout: u32,
    pub container_concurrency: u32,
    pub container_concurrency_max: u32,
    /// Whether a revision may set 0, which means unlimited.
    pub container_concurrency_zero: bool,
}

/// Knative's own `max-revision-timeout-seconds`.
pub(super) const TIMEOUT_MAX: u32 = 600;

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
                report.mistake(&data.path.key(key), "this is not a whole number", "write digits in quotes");
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
        // If these values contradict each other, every Service would be refused for a mistake that
        // it did not make. So the defaults are used.
        if defaults.check(data, report) { defaults } else { default }
    }

    /// Reports the values that Knative refuses in the ConfigMap. Returns whether all are right.
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

    /// Returns the `containerConcurrency` of a revision with this `spec`.
    pub(super) fn concurrency(&self, spec: &Mapping<'_>, report: &mut Report) -> u32 {
        let given = spec.number("containerConcurrency", 0..=self.container_concurrency_max, report);
        let concurrency = given.unwrap_or(self.container_concurrency);
        if concurrency == 0 && !self.container_concurrency_zero {
            // If the key is left out, the value is also 0, unless the cluster has another default.
            let reason = "0 is refused: the cluster's allow-container-concurrency-zero is false";
            let help = format!("write 1..{}", self.container_concurrency_max);
            report.mistake(&spec.path.key("containerConcurrency"), reason, help);
        }
        concurrency
    }
}

fn flag(key: &str, data: &Mapping<'_>, report: &mut Report) -> Option<bool> {
    let flag = text::flag(&data.text(key, report)?);
    if let Err(reason) = &flag {
        report.mistake(&data.path.key(key), reason.as_str(), "write \"true\" or \"false\"");
    }
    flag.ok()
}
