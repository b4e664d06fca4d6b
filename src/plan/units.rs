//! Writes numbers for programs.

use std::time::Duration;

use serde::Serializer;

/// Writes seconds to the millisecond; a forecast is not more exact than that.
pub fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(rounded(duration.as_secs_f64()))
}

/// Rounds to the thousandth.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
