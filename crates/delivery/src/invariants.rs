//! The invariants that hold after every input. They are written once; the model, the simulation and
//! every debug build check them.

use std::fmt;

use super::dispatcher::Dispatcher;
use super::item::{Doing, Left, Place};

/// An invariant that does not hold: its name, and the observation.
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

/// Checks the state alone. Rules that need history (no ack without its reason, no second run) are
/// checked by the harnesses that keep one.
///
/// # Errors
/// The first invariant that does not hold.
pub fn check(dispatcher: &Dispatcher) -> Result<(), Broken> {
    let counts = dispatcher.items.counts();
    let policy = &dispatcher.policy;
    require("indexes", dispatcher.items.is_consistent(), || format!("{:?}", dispatcher.items))?;
    require("G2-slots", counts.running <= policy.max_in_flight, || {
        format!("{} requests are open, {} are allowed", counts.running, policy.max_in_flight)
    })?;
    require("G9-orphans", counts.decided <= policy.bounds.orphans_max, || {
        format!("{} orphans are kept, {} are allowed", counts.decided, policy.bounds.orphans_max)
    })?;
    for (id, item) in dispatcher.items.iter() {
        let seen = || format!("{id:?} {item:?}");
        match &item.place {
            Place::Live { delivery, doing, .. } => {
                require("G7-live", dispatcher.sessions.contains_key(&delivery.epoch), seen)?;
                let is_idle = matches!(doing, Doing::Ready | Doing::Waiting { .. });
                require("G4-nothing-idle-in-drain", !(dispatcher.draining && is_idle), seen)?;
            }
            Place::Orphan { doing, keep } => {
                require("G3-orphan-can-return", !item.expected.is_empty(), seen)?;
                require("orphan-does-not-repeat-writes", !matches!(doing, Left::WriteWait { .. }), seen)?;
                require("only-decisions-age", keep.until.is_none() || item.is_decided(), seen)?;
            }
            Place::Claimed { doing, .. } => {
                require("claimed-is-undecided", !matches!(doing, Left::Decided(_)), seen)?;
            }
            Place::Handed { .. } => {}
        }
    }
    for delivery in dispatcher.spares.keys() {
        require("G7-spare", dispatcher.sessions.contains_key(&delivery.epoch), || {
            format!("{delivery} is of a lost session")
        })?;
    }
    Ok(())
}

fn require(id: &'static str, holds: bool, seen: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken { id, seen: seen() }) }
}
