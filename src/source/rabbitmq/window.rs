//! Decides how many items the broker may hand over.
//!
//! RabbitMQ counts messages and not bytes, and it does not tell the sizes in a queue. A prefetch of
//! `max_in_flight` would bring thousands of large bodies into memory at once. The prefetch of a
//! consumer never changes, but a channel may have several consumers. So the first consumer of a
//! session takes one item at a time. While the items fit into `limits.held_bytes`, further
//! consumers bring the total up to `max_in_flight`. They are cancelled when the items in hand need
//! more than `limits.held_bytes`. `limits.item_bytes` bounds no item here: a larger item arrives
//! too, and then goes to the dead letter.
//!
//! A queue with a single active consumer hands items to one consumer only, so there the first
//! consumer takes `max_in_flight` items of any size.

use std::collections::BTreeMap;

/// The factor by which one step raises the total at most. A step trusts the sizes that were seen.
const GROWTH: u16 = 4;

pub(super) struct Window {
    /// The most items in hand.
    most: u16,
    /// The prefetch of the first consumer.
    first: u16,
    /// The prefetch of all consumers together.
    total: u16,
    /// The memory of all items in hand.
    held_bytes: u64,
    /// The memory of each unsettled delivery.
    unsettled: BTreeMap<u64, u64>,
    held: u64,
    /// The size of a large item of the recent past.
    large: u64,
}

impl Window {
    /// Creates the window of a session. Without a bound of the memory, the first consumer takes all
    /// items.
    pub(super) fn new(most: u16, held_bytes: Option<u64>) -> Self {
        let first = if held_bytes.is_some() { 1 } else { most };
        let held_bytes = held_bytes.unwrap_or(u64::MAX);
        Window { most, first, total: first, held_bytes, unsettled: BTreeMap::new(), held: 0, large: 0 }
    }

    /// Returns the prefetch of all consumers together.
    pub(super) fn total(&self) -> u16 {
        self.total
    }

    pub(super) fn deliver(&mut self, tag: u64, bytes: u64) {
        self.large = bytes.max(self.large - self.large / 64);
        self.held += bytes;
        self.unsettled.insert(tag, bytes);
    }

    pub(super) fn settle(&mut self, tag: u64) {
        self.held -= self.unsettled.remove(&tag).unwrap_or(0);
    }

    /// Records that the first consumer takes all items now, of any size.
    pub(super) fn take_all(&mut self) {
        (self.first, self.total, self.held_bytes) = (self.most, self.most, u64::MAX);
    }

    /// Whether the bridge has as many items as there are slots. `waiting` is the number of
    /// unsettled deliveries that the bridge does not have yet. The consumer that replaces others
    /// may bring more items than there are slots, because the items of the others do not count
    /// against its prefetch.
    pub(super) fn is_full(&self, waiting: usize) -> bool {
        self.unsettled.len().saturating_sub(waiting) >= usize::from(self.most)
    }

    /// Whether the further consumers must be cancelled.
    pub(super) fn is_over(&self) -> bool {
        self.total > self.first && self.held > self.held_bytes
    }

    /// Returns the prefetch of one more consumer, if the present ones have brought all that they
    /// may and more items fit. Each step but the last makes the total half as large again at least,
    /// so there are few steps.
    pub(super) fn missing(&self) -> Option<u16> {
        let unsettled = u16::try_from(self.unsettled.len()).unwrap_or(u16::MAX);
        if unsettled < self.total || self.total >= self.most {
            return None;
        }
        let rest = self.most.saturating_sub(unsettled);
        let fitting = self.held_bytes.saturating_sub(self.held) / self.large.max(1);
        let more = rest.min(u16::try_from(fitting).unwrap_or(u16::MAX));
        let more = more.min(self.total.saturating_mul(GROWTH - 1));
        (more > 0 && (more == rest || more >= self.total.div_ceil(2))).then_some(more)
    }

    /// Records that one more consumer has this prefetch.
    pub(super) fn grow(&mut self, prefetch: u16) {
        self.total = self.total.saturating_add(prefetch);
    }

    /// Records that only the first consumer is left.
    pub(super) fn shrink(&mut self) {
        self.total = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn window(most: u16, held: u64) -> Window {
        Window::new(most, Some(held * MIB))
    }

    /// Delivers as many items of this size as the consumers take, until they take no more.
    fn fill(window: &mut Window, bytes: u64) -> usize {
        let mut tag = window.unsettled.last_key_value().map_or(0, |(tag, _)| *tag);
        loop {
            while window.unsettled.len() < usize::from(window.total) {
                tag += 1;
                window.deliver(tag, bytes);
            }
            match window.missing() {
                Some(more) => window.grow(more),
                None => return window.unsettled.len(),
            }
        }
    }

    #[test]
    fn small_items_fill_all_slots_in_a_few_steps() {
        let mut window = window(2000, 256);
        assert_eq!((window.total(), window.missing()), (1, None));
        let mut totals = Vec::new();
        for tag in 1.. {
            window.deliver(tag, 1000);
            if let Some(more) = window.missing() {
                window.grow(more);
                totals.push(window.total());
            } else if window.total() == 2000 {
                break;
            }
        }
        assert_eq!(totals, [4, 16, 64, 256, 1024, 2000]);
        assert_eq!(fill(&mut window, 1000), 2000);
    }

    #[test]
    fn a_first_item_above_the_bound_comes_alone() {
        let mut window = window(8, 16);
        assert_eq!(fill(&mut window, 16 * MIB), 1);
        assert!(window.missing().is_none() && !window.is_over());
    }

    #[test]
    fn large_items_fill_the_memory_and_no_more() {
        let mut window = window(2000, 64);
        let count = fill(&mut window, MIB);
        assert!((32..=64).contains(&count) && window.held <= 64 * MIB, "{count}");
    }

    #[test]
    fn large_items_after_small_ones_are_over_the_bound() {
        let mut window = window(100, 64);
        fill(&mut window, 10);
        for tag in 1..=64 {
            assert!(!window.is_over(), "{tag}");
            window.settle(tag);
            window.deliver(100 + tag, MIB);
        }
        assert!(window.is_over());
        window.shrink();
        assert!(!window.is_over() && window.missing().is_none());
        (101..=164).for_each(|tag| window.settle(tag));
        assert_eq!(window.held, 360);
    }

    #[test]
    fn without_bounds_one_consumer_takes_all_items() {
        let mut window = Window::new(100, None);
        assert_eq!((window.total(), window.missing()), (100, None));
        assert_eq!(fill(&mut window, 100 * MIB), 100);
        assert!(!window.is_over());
    }

    /// However the sizes change, the first consumer's share is the only one beyond the bound when
    /// the further consumers are gone.
    #[test]
    fn one_item_is_always_taken() {
        let mut window = window(5, 1);
        assert_eq!(fill(&mut window, 20 * MIB), 1);
        window.settle(1);
        assert_eq!(window.held, 0);
    }
}
