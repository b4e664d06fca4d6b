//! Reads the readiness probe.

use std::time::Duration;

use super::container::Port;
use super::tree::{Field, Mapping};
use longhaul_places::report::Report;

/// The condition for a ready replica. It is always checked at the replica's own port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub check: Check,
    pub initial_delay: Duration,
    /// `None` means Knative's own fast probing: the manifest's period is 0 or left out.
    pub period: Option<Duration>,
    pub timeout: Duration,
    /// How many answers in a row make it ready; at least 1.
    pub success_threshold: u32,
    /// How many failures in a row make one that was ready unready; at least 1.
    pub failure_threshold: u32,
}

/// The question to the replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    Tcp,
    Http { path: String, headers: Vec<(String, String)> },
    Exec { command: Vec<String> },
}

impl Default for Probe {
    /// Returns Knative's own probe, for a manifest without one.
    fn default() -> Self {
        Probe {
            check: Check::Tcp,
            initial_delay: Duration::ZERO,
            period: None,
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold: 3,
        }
    }
}

const HANDLERS: [&str; 4] = ["httpGet", "tcpSocket", "exec", "grpc"];
const FIELDS: [&str; 9] = [
    "httpGet",
    "tcpSocket",
    "exec",
    "grpc",
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
];

pub fn read(container: &Mapping<'_>, port: &Port, report: &mut Report) -> Probe {
    let Some(probe) = container.mapping("readinessProbe", report) else { return Probe::default() };
    probe.only(&FIELDS, report);
    let most = i32::MAX.unsigned_abs();
    let mut number = |key: &str, least: u32| probe.number(key, least..=most, report);
    let period = number("periodSeconds", 0).filter(|seconds| *seconds > 0);
    let initial_delay = number("initialDelaySeconds", 0).unwrap_or(0);
    let timeout = number("timeoutSeconds", 0).unwrap_or(0).max(1);
    let success_threshold = number("successThreshold", 0).unwrap_or(0).max(1);
    let failure_threshold = number("failureThreshold", 0).unwrap_or(0);
    if period.is_none() && failure_threshold > 0 {
        let path = probe.path.key("failureThreshold");
        report.mistake(
            &path,
            "Knative refuses it without a periodSeconds",
            "add periodSeconds, or leave it out",
        );
    }
    if period.is_none() && probe.has("timeoutSeconds") && timeout > 1 {
        let path = probe.path.key("timeoutSeconds");
        report.mistake(
            &path,
            "Knative refuses it without a periodSeconds",
            "add periodSeconds, or leave it out",
        );
    }
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    Probe {
        check: check(&probe, port, report).unwrap_or(Check::Tcp),
        initial_delay: seconds(initial_delay),
        period: period.map(seconds),
        timeout: seconds(timeout),
        success_threshold,
        failure_threshold: if failure_threshold == 0 { 3 } else { failure_threshold },
    }
}

fn check(probe: &Mapping<'_>, port: &Port, report: &mut Report) -> Option<Check> {
    let mut given = HANDLERS.into_iter().filter(|key| probe.has(key));
    let handler = given.next()?;
    if given.next().is_some() {
        report.mistake(
            &probe.path,
            "a probe has one of httpGet, tcpSocket, exec and grpc",
            "keep one of them",
        );
        return None;
    }
    let mapping = probe.mapping(handler, report)?;
    match handler {
        "httpGet" => {
            mapping.only(&["path", "port", "scheme", "host", "httpHeaders"], report);
            check_port(mapping.field("port"), port, report);
            if mapping.text("scheme", report).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
                let path = mapping.path.key("scheme");
                report.mistake(
                    &path,
                    "HTTPS to the worker is not supported here",
                    "write HTTP or leave it out",
                );
            }
            let path = mapping.text("path", report).unwrap_or_default();
            let path = if path.starts_with('/') { path } else { format!("/{path}") };
            let headers = mapping.list("httpHeaders", report);
            let headers = headers.iter().filter_map(|item| {
                let header = item.mapping(report)?;
                Some((
                    header.required_text("name", report)?,
                    header.text("value", report).unwrap_or_default(),
                ))
            });
            Some(Check::Http { headers: headers.collect(), path })
        }
        "tcpSocket" => {
            mapping.only(&["port", "host"], report);
            check_port(mapping.field("port"), port, report);
            Some(Check::Tcp)
        }
        "exec" => {
            mapping.only(&["command"], report);
            let command = mapping.texts("command", report);
            if command.is_empty() {
                report.mistake(&mapping.path, "the command is missing", "add `command: [program, argument]`");
                return None;
            }
            Some(Check::Exec { command })
        }
        _ => {
            let help = "write httpGet, tcpSocket or exec";
            report.mistake(&mapping.path, "gRPC to the worker is not supported here", help);
            None
        }
    }
}

/// Checks the port of a probe. Each replica has a port of its own here, so the manifest can only
/// name the container's: by its number, its name, or 0.
fn check_port(given: Option<Field<'_>>, port: &Port, report: &mut Report) {
    let Some(given) = given else { return };
    let fits = if given.is_number() {
        given.number(0..=65535, report).is_none_or(|number| number == 0 || number == u32::from(port.number))
    } else {
        given.text(report).is_none_or(|name| Some(&name) == port.name.as_ref())
    };
    if !fits {
        let help = format!("write {}, the container's, or leave it out", port.number);
        report.mistake(&given.path, "a replica has only the container's port here", help);
    }
}
