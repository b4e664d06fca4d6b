//! Randomness without state: each value is a hash of the seed and of its purpose.
//!
//! With a generator that is read in turn, one changed setting would change the order of events, and
//! so the duration of every item. With a hash an item takes equally long in all scenarios that are
//! compared, and two runs with one seed are equal to the last bit.

/// The purpose of a value, so that values for different purposes are independent.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// The moment within the autoscaler's two seconds at which the first item arrives.
    Phase = 1,
    Arrival = 2,
    Duration = 3,
    Failure = 4,
}

/// A family of values.
#[derive(Clone, Copy, Debug)]
pub struct Random {
    seed: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Random { seed: mix(seed) }
    }

    /// Returns the value for `purpose` and `key`, evenly spread over [0, 1).
    pub fn unit(self, purpose: Purpose, key: [u64; 2]) -> f64 {
        let hash = key.iter().fold(self.seed ^ purpose as u64, |hash, part| mix(hash.wrapping_add(*part)));
        // A double holds 53 bits.
        (mix(hash) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The last step of SplitMix64: neighbouring inputs give unrelated outputs.
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_spread_evenly_and_named_by_all_that_names_them() {
        let random = Random::new(1);
        let mean = (0..10_000).map(|n| random.unit(Purpose::Duration, [n, 1])).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        let one = random.unit(Purpose::Duration, [7, 1]);
        for other in [
            random.unit(Purpose::Duration, [7, 2]),
            random.unit(Purpose::Duration, [8, 1]),
            random.unit(Purpose::Failure, [7, 1]),
            Random::new(2).unit(Purpose::Duration, [7, 1]),
        ] {
            assert_ne!(one, other);
        }
    }
}
