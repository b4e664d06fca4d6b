//! The times at which items arrive.

use std::time::Duration;

use super::random::{Purpose, Random};

/// One part of the load. A scenario adds up all of its parts.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// This many items at the start: a backlog.
    Backlog(usize),
    /// Items at these times after the start.
    Times(Vec<Duration>),
    /// Independent arrivals at a mean rate, as from many producers.
    Rate { per_second: f64, lasting: Duration },
    /// `count` items at `first`, and again after each `every`, until `lasting` is over.
    Bursts { count: usize, every: Duration, lasting: Duration },
}

/// The most items of one plan. Each costs a few bytes and about a microsecond.
pub const ITEMS_MAX: usize = 10_000_000;

/// More than [`ITEMS_MAX`] items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the load has more than {ITEMS_MAX} items")]
pub struct TooMany;

/// Returns all arrivals of `parts`, in order.
///
/// # Errors
/// There are more items than a plan may have.
pub fn times(parts: &[Arrivals], random: Random) -> Result<Vec<Duration>, TooMany> {
    let mut all = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        part.append(&mut all, random, index as u64)?;
    }
    // A stable sort would change nothing: equal times are the same.
    all.sort();
    Ok(all)
}

impl Arrivals {
    /// Returns the number of items; for a rate, the expected number.
    pub fn about(&self) -> usize {
        match self {
            Arrivals::Backlog(count) => *count,
            Arrivals::Times(times) => times.len(),
            Arrivals::Rate { per_second, lasting } => (per_second * lasting.as_secs_f64()) as usize,
            Arrivals::Bursts { count, every, lasting } => {
                let bursts = lasting.as_nanos().div_ceil(every.as_nanos().max(1)).max(1);
                count.saturating_mul(usize::try_from(bursts).unwrap_or(usize::MAX))
            }
        }
    }

    fn append(&self, all: &mut Vec<Duration>, random: Random, part: u64) -> Result<(), TooMany> {
        let mut add = |count: usize, at: Duration| {
            if count > ITEMS_MAX - all.len() {
                return Err(TooMany);
            }
            all.resize(all.len() + count, at);
            Ok(())
        };
        match self {
            Arrivals::Backlog(count) => add(*count, Duration::ZERO),
            Arrivals::Times(times) => times.iter().try_for_each(|at| add(1, *at)),
            Arrivals::Bursts { count, every, lasting } => {
                let mut at = Duration::ZERO;
                loop {
                    add(*count, at)?;
                    at = at.saturating_add((*every).max(Duration::from_nanos(1)));
                    if at >= *lasting {
                        return Ok(());
                    }
                }
            }
            Arrivals::Rate { per_second, lasting } => {
                let mut at = 0.0;
                for n in 0.. {
                    // The time between two arrivals of a Poisson process.
                    let unit = random.unit(Purpose::Arrival, [part, n]);
                    at += -(1.0 - unit).ln() / per_second;
                    if at >= lasting.as_secs_f64() {
                        break;
                    }
                    add(1, Duration::from_secs_f64(at))?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn parts_add_up_in_order_of_time() {
        let parts = [
            Arrivals::Times(vec![5 * SECOND, SECOND]),
            Arrivals::Bursts { count: 2, every: 4 * SECOND, lasting: 8 * SECOND },
            Arrivals::Backlog(1),
        ];
        let seconds: Vec<u64> =
            times(&parts, Random::new(1)).unwrap().iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [0, 0, 0, 1, 4, 4, 5]);
        assert_eq!(
            times(&[Arrivals::Backlog(ITEMS_MAX), Arrivals::Backlog(1)], Random::new(1)),
            Err(TooMany)
        );
    }

    #[test]
    fn a_rate_gives_about_as_many_as_it_says() {
        let parts = [Arrivals::Rate { per_second: 2.0, lasting: 5_000 * SECOND }];
        let count = times(&parts, Random::new(1)).unwrap().len();
        assert!((9_700..10_300).contains(&count), "{count}");
    }
}
