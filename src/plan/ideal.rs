//! Computes the time that no service can beat.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::random::Random;
use super::requests::item_key;
use super::scenario::Scenario;

/// Returns the time at which the last item is done under ideal conditions: a replica is ready for
/// every request, no attempt fails, and only `max_in_flight` delays an item. Items run in order of
/// arrival, each as long as in the forecast.
pub fn time(scenario: &Scenario, arrivals: &[Duration], random: Random) -> Duration {
    let slots = scenario.bridge.in_flight().max(1) as usize;
    let bridges = u64::from(scenario.bridge.replicas.max(1));
    let mut ends: BinaryHeap<Reverse<Duration>> = BinaryHeap::with_capacity(slots.min(arrivals.len()) + 1);
    let mut last = Duration::ZERO;
    for (index, arrived) in (0..).zip(arrivals) {
        let free =
            if ends.len() < slots { Duration::ZERO } else { ends.pop().map_or(Duration::ZERO, |end| end.0) };
        let item = item_key((index % bridges) as usize, index / bridges + 1);
        let end = free.max(*arrived).saturating_add(scenario.load.durations.draw(random, item, 1));
        last = last.max(end);
        ends.push(Reverse(end));
    }
    last
}
