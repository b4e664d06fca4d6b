//! How long the work on an item takes.

use std::sync::Arc;
use std::time::Duration;

use longhaul_places::units::{Span, UnitError};

use super::random::{Purpose, Random};

/// The distribution of the time that one attempt needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Durations {
    Fixed(Duration),
    /// Evenly spread from `middle - spread` to `middle + spread`; `spread` is at most `middle`.
    Spread {
        middle: Duration,
        spread: Duration,
    },
    /// One of the observed durations, each with the same probability; never empty.
    Observed(Arc<[Duration]>),
}

/// The reason why a text is not a distribution.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("{}: {}", .0.reason, .0.help)]
    Duration(UnitError),
    #[error(
        "the spread in {0:?} is larger than the duration, which would make some items take less than no time"
    )]
    SpreadTooWide(String),
    #[error("{0:?} is more than 365 days, the longest that is planned")]
    TooLong(String),
    #[error("no durations: write one on each line, such as 61.5s, or 61.5 for seconds")]
    Empty,
    #[error("line {line}: {error}")]
    Line { line: usize, error: Box<Error> },
}

/// The longest duration in a plan, 365 days. A run visits every tick of the autoscaler, one every
/// two seconds.
pub const LONGEST: Duration = Span::MAX.get();

/// The signs between a duration and its spread; the second is easier to type.
const SIGNS: [&str; 2] = ["±", "+-"];

impl Durations {
    /// Reads `60s`, `60s±20s` or `60s+-20s`.
    ///
    /// # Errors
    /// The text is not a [`Span`], the spread is wider than the duration, or the sum is more than
    /// [`LONGEST`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let Some((middle, spread)) = SIGNS.iter().find_map(|sign| text.split_once(sign)) else {
            return Ok(Durations::Fixed(parse(text.trim())?));
        };
        let (middle, spread) = (parse(middle.trim())?, parse(spread.trim())?);
        if spread > middle {
            return Err(Error::SpreadTooWide(text.to_owned()));
        }
        if middle.saturating_add(spread) > LONGEST {
            return Err(Error::TooLong(text.to_owned()));
        }
        Ok(Durations::Spread { middle, spread })
    }

    /// Reads observed durations, one on each line: `61.5s`, or a bare number of seconds. Empty
    /// lines and those that begin with `#` are left out.
    ///
    /// # Errors
    /// A line is not a [`Span`], or there is none.
    pub fn parse_observed(text: &str) -> Result<Self, Error> {
        let mut observed = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let with_unit = if line.ends_with(|c: char| c.is_ascii_digit()) {
                format!("{line}s")
            } else {
                line.to_owned()
            };
            let at_line = |error| Error::Line { line: index + 1, error: Box::new(error) };
            observed.push(parse(&with_unit).map_err(at_line)?);
        }
        if observed.is_empty() { Err(Error::Empty) } else { Ok(Durations::Observed(observed.into())) }
    }

    /// Returns the duration of an attempt at an item.
    pub fn draw(&self, random: Random, item: u64, attempt: u32) -> Duration {
        let unit = || random.unit(Purpose::Duration, [item, u64::from(attempt)]);
        match self {
            Durations::Fixed(duration) => *duration,
            Durations::Spread { middle, spread } => *middle - *spread + spread.mul_f64(2.0 * unit()),
            Durations::Observed(observed) => {
                let index = (unit() * observed.len() as f64) as usize;
                observed[index.min(observed.len() - 1)]
            }
        }
    }

    /// Returns the longest possible duration.
    pub fn longest(&self) -> Duration {
        match self {
            Durations::Fixed(duration) => *duration,
            Durations::Spread { middle, spread } => *middle + *spread,
            Durations::Observed(observed) => observed.iter().copied().max().unwrap_or_default(),
        }
    }
}

/// Reads one duration, at most [`LONGEST`], which is the longest [`Span`].
fn parse(text: &str) -> Result<Duration, Error> {
    text.parse().map(Span::get).map_err(Error::Duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn reads_fixed_spread_and_observed_durations() {
        assert_eq!(Durations::parse("1m30s"), Ok(Durations::Fixed(90 * SECOND)));
        for text in ["60s±20s", "60s+-20s", "1m ± 20s"] {
            let expected = Durations::Spread { middle: 60 * SECOND, spread: 20 * SECOND };
            assert_eq!(Durations::parse(text), Ok(expected), "{text}");
        }
        assert!(matches!(Durations::parse("10s±20s"), Err(Error::SpreadTooWide(_))));
        assert!(matches!(Durations::parse("60"), Err(Error::Duration(_))));
        let observed = Durations::parse_observed("# seconds\n61.5\n\n2m\n").unwrap();
        assert_eq!(observed, Durations::Observed([Duration::from_millis(61_500), 120 * SECOND].into()));
        assert_eq!(Durations::parse_observed("#\n"), Err(Error::Empty));
        assert_eq!(Durations::parse("8760h"), Ok(Durations::Fixed(LONGEST)));
        assert!(matches!(Durations::parse("8760h1s"), Err(Error::Duration(_))));
        assert!(matches!(Durations::parse("5000h±4000h"), Err(Error::TooLong(_))));
        assert!(matches!(Durations::parse_observed("1\n1e1h\n"), Err(Error::Line { line: 2, .. })));
        assert!(matches!(Durations::parse_observed("1\n9000h\n"), Err(Error::Line { line: 2, .. })));
        assert!(matches!(Durations::parse_observed("1\nx\n"), Err(Error::Line { line: 2, .. })));
    }

    #[test]
    fn draws_lie_in_the_range_and_around_the_middle() {
        let spread = Durations::parse("60s±20s").unwrap();
        let draws: Vec<f64> =
            (0..10_000).map(|item| spread.draw(Random::new(3), item, 1).as_secs_f64()).collect();
        assert!(draws.iter().all(|draw| (40.0..=80.0).contains(draw)));
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean - 60.0).abs() < 0.5, "{mean}");
        assert_eq!(spread.longest(), 80 * SECOND);
    }
}
