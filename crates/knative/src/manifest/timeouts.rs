//! A revision's timeouts, as written in its spec and as Knative resolves them
//! (`pkg/apis/serving/v1/revision_defaults.go` and `revision_validation.go` of Knative Serving).

use std::time::Duration;

use super::defaults::{Defaults, TIMEOUT_MAX};
use super::tree::Mapping;
use longhaul_places::report::Report;

const REQUEST: &str = "timeoutSeconds";
const RESPONSE_START: &str = "responseStartTimeoutSeconds";
const IDLE: &str = "idleTimeoutSeconds";

/// The values of the spec in seconds; None if the key is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// `timeoutSeconds`. 0 counts as left out.
    pub request: Option<u32>,
    /// `responseStartTimeoutSeconds`. 0 removes this limit.
    pub response_start: Option<u32>,
    /// `idleTimeoutSeconds`. 0 removes this limit.
    pub idle: Option<u32>,
}

/// A revision's three timeouts. `request` and `response_start` count from the arrival of the
/// request, `idle` counts from the latest byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The limit for the whole request, with its wait for a replica (`timeoutSeconds`).
    pub request: Duration,
    /// The longest time until the worker's first byte (`responseStartTimeoutSeconds`).
    pub response_start: Option<Duration>,
    /// The longest time between two bytes of the worker (`idleTimeoutSeconds`).
    pub idle: Option<Duration>,
    /// Whether `response_start` is Knative's default, because the manifest has none. Such a limit
    /// ends a request whose worker sends nothing for so long.
    pub response_start_is_default: bool,
}

/// The timeouts, and the remarks about the fields.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub timeouts: Timeouts,
    /// Reasons for which a cluster refuses the Service.
    pub mistakes: Vec<Remark>,
    pub warnings: Vec<Remark>,
}

/// A remark about one field of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    pub field: &'static str,
    pub reason: String,
    pub help: String,
}

/// Reads the timeouts of a revision with this `spec`, as written and as resolved by Knative.
pub(super) fn read(spec: &Mapping<'_>, defaults: &Defaults, report: &mut Report) -> (Written, Timeouts) {
    let mut number = |field: &str| {
        // Knative keeps the value in 32 bits with a sign.
        let number = spec.number(field, 0..=i32::MAX.unsigned_abs(), report);
        // A value that cannot be read was already reported. It counts as 0, which leads to no
        // further remark about a default.
        number.or_else(|| spec.has(field).then_some(0))
    };
    let written = Written {
        request: number(REQUEST).filter(|seconds| *seconds > 0),
        response_start: number(RESPONSE_START),
        idle: number(IDLE),
    };
    let Resolved { timeouts, mistakes, warnings } = written.resolve(defaults);
    for Remark { field, reason, help } in mistakes {
        report.mistake(&spec.path.key(field), reason, help);
    }
    for Remark { field, reason, help } in warnings {
        report.warning(&spec.path.key(field), reason, help);
    }
    (written, timeouts)
}

impl Written {
    /// Resolves the fields as Knative does in a cluster with these defaults.
    pub fn resolve(self, defaults: &Defaults) -> Resolved {
        let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
        let request = self.request.unwrap_or(defaults.timeout);
        match defaults.timeout_max {
            Some(most) if request > most => mistakes.push(Remark {
                field: REQUEST,
                reason: format!(
                    "{request} is more than the cluster's max-revision-timeout-seconds of {most}"
                ),
                help: format!(
                    "write at most {most}, or raise max-revision-timeout-seconds in config-defaults"
                ),
            }),
            None if request > TIMEOUT_MAX => warnings.push(Remark {
                field: REQUEST,
                reason: format!(
                    "a cluster refuses more than {TIMEOUT_MAX}, unless its config-defaults allow more"
                ),
                help: "raise max-revision-timeout-seconds in its config-defaults".to_owned(),
            }),
            _ => {}
        }
        for (field, seconds) in [(RESPONSE_START, self.response_start), (IDLE, self.idle)] {
            if let Some(seconds) = seconds.filter(|seconds| *seconds > request) {
                mistakes.push(Remark {
                    field,
                    reason: format!("{seconds} is more than the timeoutSeconds of {request}"),
                    help: format!("write 0..{request}; 0 removes this limit"),
                });
            }
        }
        // A missing key gets the cluster's value if that is below timeoutSeconds. An explicit 0
        // removes the limit.
        let or_default = |default: u32| (default != 0 && default < request).then_some(default);
        let default = or_default(defaults.response_start_timeout.unwrap_or(defaults.timeout));
        if let (None, Some(seconds)) = (self.response_start, default) {
            warnings.push(Remark {
                field: RESPONSE_START,
                reason: format!(
                    "responseStartTimeoutSeconds is left out, so Knative sets {seconds}: a request whose worker sends nothing for that time is ended"
                ),
                help: "write `responseStartTimeoutSeconds: 0`, so that only timeoutSeconds limits the request".to_owned(),
            });
        }
        let span = |seconds: Option<u32>| {
            seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.into()))
        };
        let timeouts = Timeouts {
            request: Duration::from_secs(request.into()),
            response_start: span(self.response_start.or(default)),
            idle: span(self.idle.or_else(|| or_default(defaults.idle_timeout))),
            response_start_is_default: self.response_start.is_none() && default.is_some(),
        };
        Resolved { timeouts, mistakes, warnings }
    }
}
