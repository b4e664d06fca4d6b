//! A planned stop: the partitions go to other members.
//!
//! Requests may run for hours after the intake stopped, and nobody else can have a partition as
//! long as we are in the group. So if another replica can be given the results, we leave the group
//! as soon as another member is there: the waiting records are then started elsewhere within
//! seconds, and the running requests continue here without a session. A sole member stays and
//! commits to the end, because nobody would gain by its leaving. A member whose running work would
//! run again elsewhere stays too, since no other replica could ask for it. (Some partitions alone
//! cannot be given up: the group would hand them out to us again.)

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use super::raw::Question;
use super::thread::Worker;

/// How often the group is looked at: a member that joins later is seen as soon.
const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(4);

pub struct Drain {
    members: Question,
    ask_at: Instant,
    has_left: bool,
}

impl Worker {
    /// Begins to look for other members, which may go on with our work.
    pub fn look_for_others(&mut self, now: Instant) {
        if self.drain.is_none() {
            let members = Question::new(&self.consumer);
            self.drain = members.map(|members| Drain { members, ask_at: now, has_left: false });
        }
    }

    /// Leaves the group when another member is there. The revocation that follows is a planned one.
    pub fn leave_to_others(&mut self, now: Instant) {
        let Some(drain) = self.drain.as_mut().filter(|drain| !drain.has_left) else { return };
        if now >= drain.ask_at {
            drain.ask_at = now + INTERVAL;
            drain.members.ask_members(&self.consumer, &self.settings.group, TIMEOUT);
        }
        // The end of a rebalance that is under way shows which members are there.
        if drain.members.members().is_none_or(|members| members < 2) || self.release.is_some() {
            return;
        }
        tracing::info!("Draining: other members of the group take the partitions");
        drain.has_left = true;
        self.consumer.unsubscribe();
    }

    /// When the group is to be looked at again.
    pub fn drain_due(&self) -> Option<Instant> {
        self.drain.as_ref().filter(|drain| !drain.has_left).map(|drain| drain.ask_at)
    }
}
