//! longhaul turns a RabbitMQ queue or a Kafka topic into long HTTP requests to a Knative Service,
//! one item per replica. docs/guarantees.md has its guarantees. This page is the map of the code,
//! in reading order.
//!
//! * [`delivery`]: the pure core, which decides about each item. Start here.
//! * [`bridge`]: the async shell around the core, one task for each pipeline.
//! * [`source`], [`sink`], [`publish`]: the sources of items, the services that they go to, and the
//!   targets of failed items.
//! * [`checkpoints`]: the checkpoints of workers in a compacted Kafka topic.
//! * [`event`]: converts a broker's message to a CloudEvent.
//! * [`connect`]: connections to brokers and servers.
//! * [`peers`]: the other replicas of this bridge, and the items that they run.
//! * [`guard`]: marks busy pods, so that Kubernetes removes idle ones first.
//! * [`config`], [`telemetry`], [`admin`]: the configuration, the log and metrics, and the admin
//!   server.
//! * [`knative`], a crate of its own: Knative's arithmetic, and a local service that is scaled by
//!   it.
//! * [`plan`]: runs the core and the arithmetic in virtual time, to forecast how a backlog is
//!   worked off.
//! * [`worker`]: the other side of the request: runs any program as a worker. It uses no other
//!   module of longhaul.
//! * [`tools`]: the work of the commands around a bridge: enqueue, dead letters, the doctor.
//! * [`migrate`]: converts manifests of other tools to a configuration.
//! * [`app`]: builds and runs all parts; [`cli`]: the commands.
//!
//! The crate `longhaul-places` reads YAML and knows the place of each mistake; [`config`] uses it.
//!
//! `tests/architecture` checks the allowed dependencies between modules.

pub mod admin;
pub mod api;
pub mod app;
pub mod bridge;
pub mod checkpoints;
pub mod cli;
pub mod config;
pub mod connect;
pub use longhaul_delivery as delivery;
pub mod event;
pub mod guard;
pub mod migrate;
pub mod peers;
pub mod plan;
pub mod progress;
pub mod publish;
pub mod sink;
pub mod source;
pub mod telemetry;
pub mod tools;
pub mod view;
pub mod worker;

pub use longhaul_knative as knative;
