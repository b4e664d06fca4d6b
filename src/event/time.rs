//! Reads times that are numbers. Clients disagree on the unit, although the protocols specify it.

use chrono::{DateTime, Datelike, Utc};

/// The last second of the year 9999, the last year of RFC 3339.
const LAST_SECOND: u64 = 253_402_300_799;
/// The first second of the year 2200. If a number is read in a smaller unit than specified, the
/// result must be before this.
const PLAUSIBLE: u64 = 7_258_118_400;

/// Reads seconds since the Unix epoch, AMQP's unit. A number beyond the year 9999 is read as
/// milliseconds, else microseconds, else nanoseconds, if that gives a plausible time.
pub(super) fn from_unix(number: u64) -> Option<DateTime<Utc>> {
    if number <= LAST_SECOND {
        return DateTime::from_timestamp(i64::try_from(number).ok()?, 0);
    }
    smaller(number, &[1_000, 1_000_000, 1_000_000_000])
}

/// Reads milliseconds since the Unix epoch, Kafka's unit; else a smaller unit.
pub(super) fn from_unix_millis(number: i64) -> Option<DateTime<Utc>> {
    match u64::try_from(number) {
        Ok(number) if number / 1_000 > LAST_SECOND => smaller(number, &[1_000_000, 1_000_000_000]),
        _ => DateTime::from_timestamp_millis(number).and_then(in_calendar),
    }
}

/// Returns the time if RFC 3339 can write it.
pub(super) fn in_calendar(time: DateTime<Utc>) -> Option<DateTime<Utc>> {
    (0..=9999).contains(&time.year()).then_some(time)
}

fn smaller(number: u64, units: &[u64]) -> Option<DateTime<Utc>> {
    let unit = units.iter().find(|unit| number / **unit < PLAUSIBLE)?;
    let nanos = (number % unit) * (1_000_000_000 / unit);
    DateTime::from_timestamp(i64::try_from(number / unit).ok()?, u32::try_from(nanos).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_recognised() {
        let text = |time: Option<DateTime<Utc>>| time.map(|time| time.to_rfc3339());
        let wanted = Some("2023-11-14T22:13:20+00:00".to_owned());
        assert_eq!(text(from_unix(1_700_000_000)), wanted);
        assert_eq!(text(from_unix(1_700_000_000_000)), wanted);
        assert_eq!(text(from_unix(1_700_000_000_000_000)), wanted);
        assert_eq!(text(from_unix(1_700_000_000_000_000_000)), wanted);
        assert_eq!(text(from_unix_millis(1_700_000_000_000)), wanted);
        assert_eq!(text(from_unix_millis(1_700_000_000_000_000)), wanted);
        assert_eq!(text(from_unix(1_700_000_000_123)), Some("2023-11-14T22:13:20.123+00:00".to_owned()));
        assert_eq!(text(from_unix(LAST_SECOND)), Some("9999-12-31T23:59:59+00:00".to_owned()));
        assert_eq!(text(from_unix_millis(-1)), Some("1969-12-31T23:59:59.999+00:00".to_owned()));
        assert_eq!(
            (from_unix(u64::MAX), from_unix_millis(i64::MAX), from_unix_millis(i64::MIN)),
            (None, None, None)
        );
    }
}
