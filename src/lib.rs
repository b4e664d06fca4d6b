//! longhaul turns a RabbitMQ queue or a Kafka topic into long HTTP requests to a Knative Service, one
//! item a replica. README.md says what it promises; this is the map of the code, in reading order.
//!
//! * [`delivery`]: the pure core that decides what happens to each item. Start here.
//! * [`bridge`]: the async shell around it: one task a pipeline, the core's hands and ears.
//! * [`source`], [`sink`], [`publish`]: where items come from, where they go, where failed ones end.
//! * [`event`]: from a broker's message to a CloudEvent.
//! * [`connect`]: how brokers and servers are reached.
//! * [`peers`]: other replicas of this bridge, and what runs there.
//! * [`config`], [`telemetry`], [`admin`]: what people write and what they see.
//! * [`knative`], a crate of its own: Knative's arithmetic, and a service that is scaled by it on this machine.
//! * [`plan`]: the core and the arithmetic in virtual time: what a backlog will do.
//! * [`worker`]: the other side: any program as a worker. It uses nothing else of longhaul.
//! * [`app`]: puts all of it together; [`cli`]: the commands.
//!
//! The crate `longhaul-places` reads YAML and knows the place of each mistake; [`config`] stands on it.
//!
//! Who may know whom is checked by `tests/architecture`.

pub mod admin;
pub mod app;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod connect;
pub use longhaul_delivery as delivery;
pub mod event;
pub mod peers;
pub mod plan;
pub mod publish;
pub mod sink;
pub mod source;
pub mod telemetry;
pub mod worker;

pub use longhaul_knative as knative;
