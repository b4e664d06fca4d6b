//! A planned stop: the partitions go to other members.
//!
//! Requests may run for hours after the intake stopped, and while this member is in the group
//! nobody else can have its partitions. So if another replica can take the results over, this
//! member leaves the group as soon as another member is there. The waiting records then start
//! elsewhere within seconds, and the running requests continue here without a session. A sole
//! member stays and commits to the end, because its leaving would help nobody. A member also stays
//! if its running work would run again elsewhere because no other replica could ask for it. (It
//! cannot give up only some of its partitions: the group would assign them to it again.)

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use super::thread::Worker;
use crate::connect::kafka::raw::Question;

/// How often the group's members are asked for, so that a member that joins later is noticed.
const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(4);

pub struct Drain {
    members: Question,
    ask_at: Instant,
    has_left: bool,
}

impl Worker {
    /// Starts to look for other members that can continue the work.
    pub fn look_for_others(&mut self, now: Instant) {
        if self.drain.is_none() {
            let members = Question::new(self.consumer.client());
            self.drain = members.map(|members| Drain { members, ask_at: now, has_left: false });
        }
    }

    /// Leaves the group if another member is there. The revocation that follows is a planned one.
    pub fn leave_to_others(&mut self, now: Instant) {
        let Some(drain) = self.drain.as_mut().filter(|drain| !drain.has_left) else { return };
        if now >= drain.ask_at {
            drain.ask_at = now + INTERVAL;
            drain.members.ask_members(&self.consumer, &self.settings.group, TIMEOUT);
        }
        // During a rebalance the member list may be outdated, so this waits for its end.
        if drain.members.members(Duration::ZERO).is_none_or(|members| members < 2) || self.release.is_some() {
            return;
        }
        tracing::info!("Draining: other members of the group take the partitions");
        drain.has_left = true;
        self.consumer.unsubscribe();
    }

    /// Returns the time of the next look at the group.
    pub fn drain_due(&self) -> Option<Instant> {
        self.drain.as_ref().filter(|drain| !drain.has_left).map(|drain| drain.ask_at)
    }
}
