//! Reads the variables `OTEL_*` of the OpenTelemetry specification. The library ignores a value
//! that it does not know; here such a value is an error, so that nobody waits for traces in vain.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;

use super::TracesError;
use crate::config::Env;

/// The largest queue. A span takes some kilobytes.
const QUEUE_MAX: usize = 65_536;

/// The settings of the traces.
#[derive(Debug)]
pub(super) struct Settings {
    /// The address for spans.
    pub spans: String,
    /// The address for log records, if they are sent.
    pub records: Option<String>,
    pub sampler: Sampler,
    /// Spans that may wait to be sent, and records of ended attempts.
    pub queue: usize,
    /// Spans or records of one request.
    pub batch: usize,
    /// How long a span waits for others.
    pub delay: Duration,
    /// The limit of one request.
    pub timeout: Duration,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Whether the variables leave the name of the service to us.
    pub is_unnamed: bool,
}

/// Returns the settings, or `None` if the traces are off.
///
/// # Errors
/// A variable has a value that cannot be used.
pub(super) fn read(env: Env<'_>) -> Result<Option<Settings>, TracesError> {
    let env = |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let base = env("OTEL_EXPORTER_OTLP_ENDPOINT");
    let own = |signal: &str| env(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"));
    let with = |path: &str| base.as_ref().map(|base| format!("{}/v1/{path}", base.trim_end_matches('/')));
    let Some(spans) = own("TRACES").or_else(|| with("traces")) else { return Ok(None) };
    let is_disabled = env("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if is_disabled || !is_exported(&env, "OTEL_TRACES_EXPORTER")? {
        return Ok(None);
    }
    let has_records = is_exported(&env, "OTEL_LOGS_EXPORTER")?;
    let records = own("LOGS").or_else(|| with("logs")).filter(|_| has_records);
    for name in ["", "TRACES_", "LOGS_"] {
        check_protocol(&env, &format!("OTEL_EXPORTER_OTLP_{name}PROTOCOL"))?;
        let compression = format!("OTEL_EXPORTER_OTLP_{name}COMPRESSION");
        if let Some(value) = env(&compression).filter(|value| value != "gzip") {
            return Err(refused(&compression, &value, "gzip is the only compression; leave it out for none"));
        }
        check_headers(&env, &format!("OTEL_EXPORTER_OTLP_{name}HEADERS"))?;
    }
    if let Some(list) = env("OTEL_PROPAGATORS")
        && !list.split(',').any(|name| name.trim() == "tracecontext")
    {
        return Err(refused(
            "OTEL_PROPAGATORS",
            &list,
            "longhaul reads and writes tracecontext only; name it",
        ));
    }
    let file = |name: &str| {
        let own = env(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"));
        own.or_else(|| env(&format!("OTEL_EXPORTER_OTLP_{name}"))).map(PathBuf::from)
    };
    let attributes = env("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let is_named = attributes.split(',').any(|pair| pair.trim_start().starts_with("service.name="));
    let timeout = number(&env, "OTEL_EXPORTER_OTLP_TIMEOUT", 10_000)?;
    let queue = number(&env, "OTEL_BSP_MAX_QUEUE_SIZE", 2048)?.clamp(1, QUEUE_MAX);
    Ok(Some(Settings {
        spans,
        records,
        sampler: sampler(&env)?,
        queue,
        batch: number(&env, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?.clamp(1, queue),
        delay: milliseconds(number(&env, "OTEL_BSP_SCHEDULE_DELAY", 5_000)?),
        timeout: milliseconds(number(&env, "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", timeout)?),
        ca_file: file("CERTIFICATE"),
        cert_file: file("CLIENT_CERTIFICATE"),
        key_file: file("CLIENT_KEY"),
        is_unnamed: env("OTEL_SERVICE_NAME").is_none() && !is_named,
    }))
}

type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

fn refused(variable: &str, value: &str, help: &'static str) -> TracesError {
    TracesError { reason: format!("{variable}: {value:?} is not supported"), help }
}

/// Whether the signal goes to the receiver.
fn is_exported(env: Variables<'_>, variable: &str) -> Result<bool, TracesError> {
    match env(variable).as_deref() {
        None | Some("otlp") => Ok(true),
        Some("none") => Ok(false),
        Some(other) => Err(refused(variable, other, "write otlp, or none for no export")),
    }
}

fn check_protocol(env: Variables<'_>, variable: &str) -> Result<(), TracesError> {
    match env(variable).as_deref() {
        None | Some("http/protobuf") => Ok(()),
        Some(other) => Err(refused(
            variable,
            other,
            "write http/protobuf, and the receiver's port for HTTP: 4318 at most receivers, where 4317 is the \
             port for grpc",
        )),
    }
}

/// The library leaves out a pair that it cannot read, and the receiver then refuses everything. The
/// error shows no part of the variable, because each part may belong to a secret.
fn check_headers(env: Variables<'_>, variable: &str) -> Result<(), TracesError> {
    let list = env(variable).unwrap_or_default();
    let pairs = list.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty());
    for (place, pair) in pairs {
        check_header(pair).map_err(|what| TracesError {
            reason: format!("{variable}: pair {} {what}", place + 1),
            help: "write name=value,name=value; in a value, encode a comma as %2C, a space as %20 and a percent \
                   sign as %25",
        })?;
    }
    Ok(())
}

fn check_header(pair: &str) -> Result<(), &'static str> {
    let (name, value) = pair.split_once('=').ok_or("has no = between name and value")?;
    HeaderName::from_bytes(name.trim().as_bytes())
        .map_err(|_| "has a name that is not the name of a header")?;
    let value = value.trim();
    if value.is_empty() {
        return Err("has no value");
    }
    let is_encoded =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit));
    if !value.split('%').skip(1).all(is_encoded) {
        return Err("has a % without two hexadecimal digits");
    }
    let value = percent_decode_str(value).decode_utf8().map_err(|_| "has a value that is not UTF-8")?;
    HeaderValue::from_str(&value).map_err(|_| "has a value that cannot be a header")?;
    Ok(())
}

fn number(env: Variables<'_>, variable: &str, default: usize) -> Result<usize, TracesError> {
    let Some(text) = env(variable) else { return Ok(default) };
    text.parse().map_err(|_| refused(variable, &text, "write a whole number; times are in milliseconds"))
}

fn milliseconds(number: usize) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(u64::MAX).clamp(1, 3_600_000))
}

fn sampler(env: Variables<'_>) -> Result<Sampler, TracesError> {
    let ratio = || match env("OTEL_TRACES_SAMPLER_ARG") {
        None => Ok(1.0),
        Some(text) => f64::from_str(&text)
            .ok()
            .filter(|ratio| (0.0..=1.0).contains(ratio))
            .ok_or_else(|| refused("OTEL_TRACES_SAMPLER_ARG", &text, "write a share from 0 to 1")),
    };
    let variable = "OTEL_TRACES_SAMPLER";
    let Some(name) = env(variable) else { return Ok(Sampler::ParentBased(Box::new(Sampler::AlwaysOn))) };
    let root = match name.trim_start_matches("parentbased_") {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatioBased(ratio()?),
        _ => {
            return Err(refused(
                variable,
                &name,
                "write always_on, always_off, traceidratio, or one of them after parentbased_",
            ));
        }
    };
    Ok(if name.starts_with("parentbased_") { Sampler::ParentBased(Box::new(root)) } else { root })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://receiver:4318/");

    fn with(variables: &[(&str, &str)]) -> Result<Option<Settings>, TracesError> {
        read(&|name| variables.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn traces_are_off_without_an_endpoint() {
        for off in [
            &[][..],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            &[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://receiver/logs")],
            &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            &[ON, ("OTEL_SDK_DISABLED", "True")],
            &[ON, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert!(with(off).unwrap().is_none(), "{off:?}");
        }
    }

    #[test]
    fn each_signal_has_its_address() {
        let addresses = |variables: &[(&str, &str)]| {
            let settings = with(variables).unwrap().unwrap();
            (settings.spans, settings.records)
        };
        let (spans, records) = ("http://receiver:4318/v1/traces".to_owned(), "http://receiver:4318/v1/logs");
        assert_eq!(addresses(&[ON]), (spans.clone(), Some(records.to_owned())));
        assert_eq!(addresses(&[ON, ("OTEL_LOGS_EXPORTER", "none")]), (spans, None));
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://other/in");
        assert_eq!(addresses(&[own]), ("http://other/in".to_owned(), None));
        assert_eq!(addresses(&[ON, own]), ("http://other/in".to_owned(), Some(records.to_owned())));
    }

    #[test]
    fn a_value_that_is_not_supported_is_an_error_with_help() {
        for (variable, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_LOGS_EXPORTER", "console"),
            ("OTEL_TRACES_SAMPLER", "parentbased_jaeger_remote"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_PROPAGATORS", "b3"),
        ] {
            let error = with(&[ON, (variable, value)]).unwrap_err();
            assert_eq!(error.to_string(), format!("{variable}: {value:?} is not supported"));
            assert!(!error.help.is_empty());
        }
        let ratio = [ON, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "10")];
        assert!(with(&ratio).unwrap_err().to_string().starts_with("OTEL_TRACES_SAMPLER_ARG"));
    }

    #[test]
    fn a_malformed_header_is_an_error_that_shows_no_value() {
        for variable in ["", "TRACES_", "LOGS_"].map(|name| format!("OTEL_EXPORTER_OTLP_{name}HEADERS")) {
            for right in ["a=b", "a=b,", " api-key = k==, authorization=Basic%20aHVudGVyMg%3D%3D "] {
                assert!(with(&[ON, (&variable, right)]).is_ok(), "{right}");
            }
            for (pair, what) in [
                ("hunter2", "has no ="),
                ("authorization: Bearer hunter2=", "has a name"),
                ("=hunter2", "has a name"),
                ("key=", "has no value"),
                ("key=hunter2%", "has a %"),
                ("key=%2Xhunter2", "has a %"),
                ("key=%e4hunter2", "is not UTF-8"),
                ("key=hunter2%0Ax", "cannot be a header"),
            ] {
                let error = with(&[ON, (&variable, &format!("a=b,{pair}"))]).unwrap_err();
                let text = format!("{error} {}", error.help);
                assert!(text.starts_with(&format!("{variable}: pair 2 ")) && text.contains(what), "{text}");
                assert!(!text.contains("hunter2"), "{text}");
            }
        }
    }
}
