//! Lines of librdkafka that come again and again, some of them twenty times a second. Each is
//! passed on at once, and then at growing intervals. Lines that differ in numbers only are the same
//! line.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
/// A line that stays away for this long is new again.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Lines that are remembered.
const LINES: usize = 256;

static LINES_TOLD: LazyLock<Mutex<Repeats>> = LazyLock::new(Mutex::default);

/// Whether this line is to be passed on now.
pub(super) fn is_due(facility: &str, message: &str) -> bool {
    let mut repeats = LINES_TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    repeats.is_due(facility, message, Instant::now())
}

#[derive(Default)]
struct Repeats {
    lines: HashMap<u64, Told>,
}

struct Told {
    at: Instant,
    interval: Duration,
}

impl Repeats {
    fn is_due(&mut self, facility: &str, message: &str, now: Instant) -> bool {
        let mut hasher = DefaultHasher::new();
        facility.hash(&mut hasher);
        let letters = message.split(|letter: char| letter.is_ascii_digit()).filter(|part| !part.is_empty());
        letters.for_each(|part| part.hash(&mut hasher));
        let line = hasher.finish();
        if self.lines.len() >= LINES && !self.lines.contains_key(&line) {
            self.lines.retain(|_, told| now.saturating_duration_since(told.at) < told.interval);
            if self.lines.len() >= LINES {
                self.lines.clear();
            }
        }
        let told = self.lines.entry(line);
        match told {
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(Told { at: now, interval: FIRST });
                true
            }
            std::collections::hash_map::Entry::Occupied(mut known) => {
                let told = known.get_mut();
                let since = now.saturating_duration_since(told.at);
                if since < told.interval {
                    return false;
                }
                let interval = if since >= FORGOTTEN { FIRST } else { (told.interval * 2).min(LONGEST) };
                *told = Told { at: now, interval };
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_at_growing_intervals() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        let told = |repeats: &mut Repeats, tenth: u32| {
            let line = format!("t [{tenth}]: offset reset (at offset {tenth})");
            repeats.is_due("OFFSET", &line, start + tenth * Duration::from_millis(100))
        };
        let times: Vec<u32> = (0..3000).filter(|tenth| told(&mut repeats, *tenth)).collect();
        assert_eq!(times, [0, 100, 300, 700, 1500]);
        assert!(repeats.is_due("OFFSET", "another line", start));
        assert!(told(&mut repeats, 20_000), "it is new again");
        assert!(!told(&mut repeats, 20_050) && told(&mut repeats, 20_100));
    }

    #[test]
    fn lines_are_bounded() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        for line in 0..10 * LINES {
            let name: String = format!("{line:x}").chars().map(|digit| (digit as u8 + 40) as char).collect();
            repeats.is_due("x", &name, now);
            assert!(repeats.lines.len() <= LINES);
        }
    }
}
