//! One service as arithmetic: requests, the queue in front of its replicas, and replicas that are
//! scaled by Knative's own rules. It has no clock and no I/O. [`serve`](super::serve) runs it with
//! processes and sockets, a plan runs it in virtual time.

mod pool;
mod revision;

pub use pool::{Changes, Full, Phases, Pool, ReplicaId, Starts, Ticket};
pub use revision::{Counts, Revision};
