//! A planned stop: who goes on with the partitions.
//!
//! Requests may run for hours after the intake stopped, and nobody else can have a partition as long as
//! we are in the group. So where another replica can be given the results, we leave the group as soon as
//! another member is there: records that wait are then started elsewhere within seconds, and what runs
//! here goes on without a session. A sole member stays and commits to the end, because nobody would gain
//! by its leaving; so does one whose running work would run again elsewhere, since no other replica could
//! ask for it. (Some partitions alone can't be given up: the group would hand them out to us again.)

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use super::raw::GroupMembers;
use super::thread::Worker;

/// How often the group is looked at: a member that joins later is seen as soon.
const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(4);

pub struct Drain {
    members: GroupMembers,
    ask_at: Instant,
    has_left: bool,
}

impl Worker {
    /// Begins to look for other members, which may go on with our work.
    pub fn look_for_others(&mut self, now: Instant) {
        if self.drain.is_none() {
            let members = GroupMembers::new(&self.consumer);
            self.drain = members.map(|members| Drain { members, ask_at: now, has_left: false });
        }
    }

    /// Leaves the group when another member is there. The revocation that follows is a planned one.
    pub fn leave_to_others(&mut self, now: Instant) {
        let Some(drain) = self.drain.as_mut().filter(|drain| !drain.has_left) else { return };
        if now >= drain.ask_at {
            drain.ask_at = now + INTERVAL;
            drain.members.ask(&self.consumer, &self.settings.group, TIMEOUT);
        }
        // While a rebalance is under way its end says who is there.
        if drain.members.take().is_none_or(|members| members < 2) || self.release.is_some() {
            return;
        }
        tracing::info!("draining: other members of the group go on with the partitions");
        drain.has_left = true;
        self.consumer.unsubscribe();
    }

    /// When the group is to be looked at again.
    pub fn drain_due(&self) -> Option<Instant> {
        self.drain.as_ref().filter(|drain| !drain.has_left).map(|drain| drain.ask_at)
    }
}
