use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the log lines that `emit` writes.
fn logged(format: LogFormat, filter: &str, emit: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = subscriber(format, &filter.parse().unwrap(), false, move || writer.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, emit);
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// A broker's text, a worker's answer or an id may hold anything. This one tries to forge eight
/// lines.
const FORGED: &str = "x\n2026-11-30T12:00:00Z  INFO longhaul: All items are done\r\u{1b}[2J\u{2028}\u{85}";

fn emit_forged() {
    let error = io::Error::other(FORGED);
    let span = tracing::info_span!("pipeline", name = FORGED);
    let _entered = span.enter();
    tracing::warn!(%error, id = FORGED, answer = ?FORGED, shown = %FORGED, "The broker refused: {FORGED}");
}

#[test]
fn outside_text_forges_no_line() {
    let text = logged(LogFormat::Text, "info", emit_forged);
    assert_eq!(text.lines().count(), 1, "{text}");
    let has_active =
        |text: &str| text.trim_end_matches('\n').chars().any(|one| one.is_control() || one == '\u{2028}');
    assert!(!has_active(&text), "{text:?}");
    let json = logged(LogFormat::Json, "info", emit_forged);
    assert_eq!(json.trim_end_matches('\n').split('\n').count(), 1, "{json}");
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((value["id"].as_str(), value["error"].as_str()), (Some(FORGED), Some(FORGED)));
}

#[test]
fn a_line_has_the_fields_of_its_event_and_of_its_span() {
    let emit = || {
        let span = tracing::info_span!("pipeline", pipeline = "thumbnails");
        let _entered = span.enter();
        tracing::info!(id = "item 1", attempt = 2_u32, is_last = false, "Item failed");
    };
    let text = logged(LogFormat::Text, "info", emit);
    assert!(text.contains("Item failed id=\"item 1\" attempt=2 is_last=false"), "{text}");
    assert!(text.contains("pipeline=\"thumbnails\""), "{text}");
    let json: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, "info", emit)).unwrap();
    assert_eq!(
        (json["pipeline"].as_str(), json["message"].as_str()),
        (Some("thumbnails"), Some("Item failed"))
    );
    assert_eq!((json["attempt"].as_u64(), json["is_last"].as_bool()), (Some(2), Some(false)));
    assert_eq!(json["level"], "INFO");
    assert!(json["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{json}");
}

#[test]
fn long_values_are_cut() {
    let emit = || tracing::info!(answer = "y".repeat(100_000), "{}", "z".repeat(100_000));
    for format in [LogFormat::Text, LogFormat::Json] {
        let line = logged(format, "info", emit);
        assert!(line.len() < 4000, "{} bytes", line.len());
    }
}

#[test]
fn a_filter_that_would_silence_everything_is_refused_with_the_levels() {
    for wrong in
        ["verbose", "", "info,verbose", "longhaul", "longhaul=verbose", "=debug", "warning", "info,,debug"]
    {
        let refused = wrong.parse::<LogFilter>().unwrap_err();
        assert!(refused.contains("off, error, warn, info, debug, trace"), "{wrong}: {refused}");
    }
    for right in
        ["info", "DEBUG", "off", "warn,longhaul=debug", "longhaul::bridge=trace", "info, lapin=debug"]
    {
        assert!(right.parse::<LogFilter>().is_ok(), "{right}");
    }
}

#[test]
fn a_filter_for_one_part_does_not_silence_the_others() {
    let emit = || {
        tracing::info!(target: "longhaul::bridge", "Shown");
        tracing::debug!(target: "longhaul::bridge", "Hidden");
        tracing::debug!(target: "lapin", "Detail");
    };
    let text = logged(LogFormat::Text, "lapin=debug", emit);
    assert!(text.contains("Shown") && text.contains("Detail") && !text.contains("Hidden"), "{text}");
    assert_eq!(logged(LogFormat::Text, "off", emit), "");
}
