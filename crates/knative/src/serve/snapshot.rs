//! The state of a service at one moment, for display.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// The whole state, as `GET /replicas` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// The wanted number of replicas, after the scale bounds.
    pub desired: u32,
    pub ready: u32,
    /// Whether the autoscaler panics: it then follows the short window, and does not scale down.
    pub panic: bool,
    /// Mean requests in flight over the stable window, at the last decision.
    pub stable_average: f64,
    pub panic_average: f64,
    /// Requests that wait for a replica.
    pub queued: usize,
    pub replicas: Vec<Replica>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Replica {
    pub name: String,
    pub state: State,
    /// The time since its start.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Duration,
    /// The oldest running item: the event's id, or else the method and path.
    pub item: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Starting,
    Ready,
    /// Its worker has ended, and will be started again after a pause.
    Crashed,
    /// It takes no new request, and will end.
    Terminating,
}

/// Passing time alone does not count as a change.
impl PartialEq for Replica {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.state == other.state && self.item == other.item
    }
}

fn seconds<S: Serializer>(age: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((age.as_secs_f64() * 10.0).round() / 10.0)
}
