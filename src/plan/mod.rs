//! A forecast for a backlog: the delivery core, Knative's autoscaler and its replicas, run together
//! in virtual time.
//!
//! Nothing of it is a model of its own: [`Dispatcher`](crate::delivery::Dispatcher) decides as it
//! does in the bridge, and [`Revision`](crate::knative::service::Revision) scales as the service
//! does. This module adds time that jumps from one event to the next, a broker's queue, and an
//! account of the events. It reads no clock and no file; one seed gives one result.
//!
//! Read in this order: [`Scenario`] (the question), [`run()`] (one run of it), [`Forecast`]
//! (several, summed up), [`advice`].

pub mod advice;
mod arrivals;
mod curve;
pub mod drawing;
mod durations;
mod error;
mod forecast;
mod ideal;
pub mod json;
mod limit;
mod queue;
mod random;
mod requests;
mod run;
mod scenario;
pub mod text;
mod units;
mod words;
mod world;

pub use arrivals::{Arrivals, ITEMS_MAX};
pub use curve::{Curve, Point};
pub use durations::{Durations, Error as DurationsError, LONGEST};
pub use error::Error;
pub use forecast::{Forecast, Spread};
pub use limit::{Limit, Limits};
pub use queue::Totals;
pub use run::Run;
pub use scenario::{Bridge, Load, ResponseStart, Scenario, Service, Start};
pub use world::run;
