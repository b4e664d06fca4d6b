//! One metric over one window: a ring of buckets, each a second wide, and the two ways to average
//! it.

use super::exponent;

/// How the buckets of a window become one number (annotation `metric-aggregation-algorithm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// The plain mean of the seconds with data.
    Linear,
    /// Newer seconds weigh more; the weights of a whole window sum up to 0.9999.
    WeightedExponential,
}

/// The values of the last `window` seconds. Values of one second are added up, because several
/// activators each report their own share.
#[derive(Clone, Debug)]
pub struct Buckets {
    /// Indexed by the Unix second modulo the length.
    ring: Vec<f64>,
    aggregation: Aggregation,
    /// The weight of the newest second; only for [`Aggregation::WeightedExponential`].
    smoothing: f64,
    total: f64,
    /// The first second of the data in the window, and the last second that was written.
    span: Option<(i64, i64)>,
}

impl Buckets {
    /// `window` in seconds, at least one.
    pub fn new(window: usize, aggregation: Aggregation) -> Self {
        let window = window.max(1);
        Buckets { ring: vec![0.0; window], aggregation, smoothing: smoothing(window), total: 0.0, span: None }
    }

    /// Adds `value` to the bucket of `second`. Drops a value that is older than the window.
    pub fn record(&mut self, second: i64, value: f64) {
        match self.span {
            None => self.restart(second),
            Some((_, last)) if second == last => {}
            Some((_, last)) if second + self.window() <= last => return,
            Some((first, last)) if second < last => self.span = Some((first.min(second), last)),
            Some((_, last)) if second - last >= self.window() => self.restart(second),
            Some((first, last)) => {
                for skipped in last + 1..=second {
                    let bucket = self.index(skipped);
                    self.total -= std::mem::take(&mut self.ring[bucket]);
                }
                self.span = Some((first, second));
            }
        }
        let bucket = self.index(second);
        self.ring[bucket] += value;
        self.total += value;
    }

    /// The average as of `now`, a Unix second.
    pub fn average(&self, now: i64) -> f64 {
        match (self.span, self.aggregation) {
            (None, _) => 0.0,
            (Some((first, last)), Aggregation::Linear) => self.linear(first, last, now),
            (Some((_, last)), Aggregation::WeightedExponential) => self.weighted(last, now),
        }
    }

    /// Whether nothing was written for longer than the window.
    pub fn is_empty(&self, now: i64) -> bool {
        self.span.is_none_or(|(_, last)| now - last > self.window())
    }

    /// Silence shortens the window instead of counting as zeros: after ten requests end at once,
    /// the average stays ten until the window has passed. The real autoscaler does the same.
    fn linear(&self, first: i64, last: i64, now: i64) -> f64 {
        let silent = now - last;
        if silent >= self.window() {
            return 0.0;
        }
        let mut sum = self.total;
        for outdated in last + 1..=now {
            sum -= self.ring[self.index(outdated)];
        }
        let seconds = (last - first + 1).min(self.window() - silent.max(0));
        round_to_millionths(sum / seconds as f64)
    }

    fn weighted(&self, last: i64, now: i64) -> f64 {
        if now - last > self.window() {
            return 0.0;
        }
        let silent = (now - last).max(0);
        let decay = 1.0 - self.smoothing;
        let mut weight = self.smoothing * exponent::power(decay, silent.unsigned_abs());
        let mut sum = 0.0;
        for age in 0..self.window() - silent {
            sum += self.ring[self.index(last - age)] * weight;
            weight *= decay;
        }
        sum
    }

    fn restart(&mut self, second: i64) {
        self.ring.fill(0.0);
        self.total = 0.0;
        self.span = Some((second, second));
    }

    fn window(&self) -> i64 {
        self.ring.len() as i64
    }

    fn index(&self, second: i64) -> usize {
        second.rem_euclid(self.window()) as usize
    }
}

/// Returns the weight of the newest of `buckets` seconds. All weights add up to 0.9999, and the
/// newest has at least a fifth.
fn smoothing(buckets: usize) -> f64 {
    // The weight that is left for older seconds. It is a literal because Go computes it exactly
    // from constants, and `1.0 - 0.9999` in floats gives another value.
    const REST: f64 = 0.0001;
    (1.0 - exponent::root(REST, buckets)).max(0.2)
}

fn round_to_millionths(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_second_are_added_and_silence_shortens_the_window() {
        let mut buckets = Buckets::new(6, Aggregation::Linear);
        buckets.record(100, 4.0);
        buckets.record(101, 2.0);
        buckets.record(101, 3.0);
        assert_eq!(buckets.average(101), 4.5);
        assert_eq!(buckets.average(105), 4.5, "four silent seconds leave the two that were seen");
        assert_eq!(buckets.average(106), 5.0, "the first of them has left the window");
        assert_eq!(buckets.average(107), 0.0);
        assert!(!buckets.is_empty(107));
        assert!(buckets.is_empty(108));
    }

    #[test]
    fn a_late_value_counts_inside_the_window_only() {
        let mut buckets = Buckets::new(6, Aggregation::Linear);
        buckets.record(100, 6.0);
        buckets.record(98, 3.0);
        assert_eq!(buckets.average(100), 3.0, "nine over the three seconds 98 to 100");
        buckets.record(94, 50.0);
        assert_eq!(buckets.average(100), 3.0);
        buckets.record(120, 7.0);
        assert_eq!(buckets.average(120), 7.0, "nothing is left of the older data");
    }

    #[test]
    fn a_steady_value_is_its_own_weighted_average() {
        let mut buckets = Buckets::new(10, Aggregation::WeightedExponential);
        for second in 0..10 {
            buckets.record(second, 1.0);
        }
        assert!((buckets.average(9) - 0.9999).abs() < 1e-12);
        assert!(buckets.average(12) < buckets.average(9));
    }
}
