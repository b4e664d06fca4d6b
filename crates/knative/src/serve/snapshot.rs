//! The state of a service at one moment, for display.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// The whole of it, as `GET /replicas` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// Replicas that are to be there, after the scale bounds.
    pub desired: u32,
    pub ready: u32,
    /// The autoscaler panics: it follows the short window, and does not scale down.
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
    /// Since its start.
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    pub age: Duration,
    /// The item that it works on: the event's id, or else the method and path. The oldest of
    /// several.
    pub item: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Starting,
    Ready,
    /// Its worker has ended, and is started again after a pause.
    Crashed,
    /// It takes no new request, and ends.
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
