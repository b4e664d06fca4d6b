//! What must hold after every input. Written once; the model check, the simulation and every debug
//! build call it.

use std::fmt;

use super::dispatcher::Dispatcher;
use super::item::{Phase, Rewrite};
use super::protocol::Time;

/// An invariant that does not hold: its id, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub id: &'static str,
    pub seen: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.id, self.seen)
    }
}

/// Checks the state alone. What needs history (no ack without its reason, no second run) is checked
/// by the harnesses that keep one.
///
/// # Errors
/// The first invariant that does not hold.
pub fn check(dispatcher: &Dispatcher) -> Result<(), Broken> {
    let count =
        |wanted: fn(Phase) -> bool| dispatcher.items.values().filter(|item| wanted(item.phase)).count();
    let running = count(|phase| phase == Phase::Running);
    let is_running_orphan =
        |item: &&super::item::Item| item.phase == Phase::Running && item.delivery.is_none();
    let running_orphans = dispatcher.items.values().filter(is_running_orphan).count();
    let held = count(|phase| matches!(phase, Phase::Held { .. }));
    let pending = count(|phase| matches!(phase, Phase::Pending { .. }));
    let in_hand = dispatcher.items.values().filter(|item| item.weighs());
    let acked = count(|phase| phase == Phase::Acked);
    let bytes: u64 = in_hand.map(|item| item.bytes).sum();

    require("G2-slots", running <= dispatcher.policy.max_in_flight as usize, || {
        format!("{running} requests at once, {} allowed", dispatcher.policy.max_in_flight)
    })?;
    let counters = (
        dispatcher.running as usize,
        dispatcher.running_orphans as usize,
        dispatcher.held as usize,
        dispatcher.pending as usize,
        dispatcher.acked as usize,
        dispatcher.bytes,
    );
    let found = (running, running_orphans, held, pending, acked, bytes);
    require("counters", counters == found, || format!("counted {counters:?}, found {found:?}"))?;
    require("G9-orphans", pending <= dispatcher.policy.bounds.orphans_max as usize, || {
        format!("{pending} orphans kept, {} allowed", dispatcher.policy.bounds.orphans_max)
    })?;
    for (delivery, id) in &dispatcher.deliveries {
        let item = dispatcher.items.get(id);
        require("G7-live", dispatcher.live.contains(&delivery.epoch), || {
            format!("{delivery} is of a lost session")
        })?;
        require("one-delivery", item.is_some_and(|item| item.delivery == Some(*delivery)), || {
            format!("{delivery} and {id:?} don't name each other")
        })?;
    }
    for (id, item) in &dispatcher.items {
        let listed = dispatcher.orphans.get(&item.identity).is_some_and(|orphans| orphans.contains(id));
        require("G3-orphan", listed == (item.delivery.is_none() && item.claim.is_none()), || {
            format!("{id:?} {item:?} listed: {listed}")
        })?;
        let waits = matches!(item.phase, Phase::Pending { .. });
        require("pending-has-no-delivery", !waits || item.delivery.is_none(), || format!("{id:?} {item:?}"))?;
        let idle_in_drain = dispatcher.draining
            && item.rewrite != Rewrite::Writing
            && matches!(item.phase, Phase::Ready | Phase::Waiting { .. });
        require("G4-nothing-idle-in-drain", !idle_in_drain, || format!("{id:?} {item:?}"))?;
    }
    for (name, id) in &dispatcher.named {
        require("named", dispatcher.items.contains_key(id), || {
            format!("{name} is the name of {id:?}, which is gone")
        })?;
    }
    let never = dispatcher.timers.iter().find(|(time, _)| *time == Time::MAX);
    require("timers-come", never.is_none(), || format!("{never:?} waits for a time that never comes"))?;
    for id in &dispatcher.ready {
        let ready = dispatcher.items.get(id).is_some_and(|item| item.phase == Phase::Ready);
        require("ready", ready, || format!("{id:?} is in the queue and not ready"))?;
        let ends = dispatcher.items.get(id).is_some_and(|item| dispatcher.is_ending(item));
        require("nothing-starts-in-an-ending-session", !ends, || format!("{id:?} is in the queue"))?;
    }
    Ok(())
}

fn require(id: &'static str, holds: bool, seen: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken { id, seen: seen() }) }
}
