//! Converts texts: names, durations, quoted values.

use std::time::Duration;

use longhaul_places::Span;

/// Returns a text in double quotes, as YAML and JSON read it. `${` is escaped, because longhaul
/// would expand it.
pub(super) fn quoted(text: &str) -> String {
    expanded(&text.replace("${", "$${"))
}

/// Works like [`quoted`], for a text with placeholders of longhaul.
pub(super) fn expanded(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// Makes the name of a pipeline: lower-case letters, digits and `-`.
pub(super) fn name(text: &str) -> String {
    let mapped = text
        .to_lowercase()
        .replace(|letter: char| !letter.is_ascii_lowercase() && !letter.is_ascii_digit(), "-");
    let trimmed = mapped.trim_matches('-');
    let cut = trimmed.get(..40).unwrap_or(trimmed).trim_end_matches('-');
    if cut.is_empty() { "work".to_owned() } else { cut.to_owned() }
}

/// Reads a duration of Kubernetes, Knative or Go: `PT0.3S`, `P1D`, `1m30s`, `500ms`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if let Ok(span) = text.parse::<Span>() {
        return Some(span.get());
    }
    let upper = text.to_uppercase();
    let (days, time) = upper.strip_prefix('P')?.split_once('D')?;
    let days: u64 = days.parse().ok()?;
    let rest = if time.is_empty() { Duration::ZERO } else { format!("P{time}").parse::<Span>().ok()?.get() };
    Some(Duration::from_secs(days.checked_mul(86_400)?) + rest)
}

/// Removes a `/` without a name behind the host of an AMQP URI. Other programs mean the default
/// virtual host by it; the specification, and longhaul, the virtual host with the empty name.
pub(super) fn default_host(url: &str) -> String {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let is_bare = host.strip_suffix('/').is_some_and(|host| !host.contains('/'));
    if is_bare { url.trim_end_matches('/').to_owned() } else { url.to_owned() }
}

/// Writes a duration as the configuration reads it.
pub(super) fn span(duration: Duration) -> String {
    if duration.subsec_millis() > 0 {
        return format!("{}ms", duration.as_millis());
    }
    let seconds = duration.as_secs();
    match seconds {
        0 => "0s".to_owned(),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

/// Converts `${NAME}` and `${NAME:default}` of Redpanda Connect to `${env:NAME}`. `None` for the
/// default says that there is none.
pub(super) fn interpolated(text: &str) -> (String, Vec<(String, Option<String>)>) {
    let mut result = String::new();
    let mut variables = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        result.push_str(before);
        let inner = after.split_once('}').filter(|(inner, _)| !inner.starts_with('!'));
        let Some((inner, behind)) = inner else {
            result.push_str("$${");
            rest = after;
            continue;
        };
        let (variable, default) = match inner.split_once(':') {
            Some((variable, default)) => (variable, Some(default.to_owned())),
            None => (inner, None),
        };
        result.push_str(&format!("${{env:{variable}}}"));
        variables.push((variable.to_owned(), default));
        rest = behind;
    }
    result.push_str(rest);
    (result, variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_every_tool() {
        for (text, seconds) in [
            ("PT0.3S", 0.3),
            ("PT10M", 600.0),
            ("P1D", 86_400.0),
            ("P1DT1H", 90_000.0),
            ("1m30s", 90.0),
            ("500ms", 0.5),
        ] {
            assert_eq!(duration(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        assert_eq!((duration("soon"), duration("P"), duration("")), (None, None, None));
        let written: Vec<String> =
            [0, 300, 5_000, 90_000, 120_000, 7_200_000].map(Duration::from_millis).map(span).into();
        assert_eq!(written, ["0s", "300ms", "5s", "90s", "2m", "2h"]);
    }

    #[test]
    fn the_default_virtual_host_has_no_slash() {
        let urls = ["amqp://mq:5672/", "amqp://u:p@mq/", "amqp://mq/v", "amqp://mq/v/", "amqp://mq"];
        assert_eq!(
            urls.map(default_host),
            ["amqp://mq:5672", "amqp://u:p@mq", "amqp://mq/v", "amqp://mq/v/", "amqp://mq"]
        );
    }

    #[test]
    fn names_and_placeholders() {
        assert_eq!(["My_Queue.v2", "--", "äé"].map(name), ["my-queue-v2", "work", "work"]);
        assert_eq!(quoted("a ${b} \"c\""), r#""a $${b} \"c\"""#);
        let (text, variables) = interpolated("amqp://${USER}:${PASS:guest}@mq/${! json() }");
        assert_eq!(text, "amqp://${env:USER}:${env:PASS}@mq/$${! json() }");
        assert_eq!(variables, [("USER".into(), None), ("PASS".into(), Some("guest".into()))]);
    }
}
