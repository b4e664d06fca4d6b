//! Writes numbers for people.

use std::time::Duration;

/// A duration to about three digits: `14.2 s`, `12 min 30 s`, `3 h 05 min`, `7 d 0 h`.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let whole = (duration.as_secs_f64()).round() as u64;
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..86400 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

pub fn plural(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}
