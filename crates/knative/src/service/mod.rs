//! One service as arithmetic: requests, the queue in front of its replicas, and the replicas that
//! come and go by Knative's own rules. No clock and no I/O; [`serve`](super::serve) runs it with
//! processes and sockets, a plan in virtual time.

mod pool;
mod revision;

pub use pool::{Changes, Full, Phases, Pool, ReplicaId, Starts, Ticket};
pub use revision::{Counts, Revision};
