//! What goes wrong between a broker, the bridge and the service, each with the number that today's tools make of it.

mod clock;
mod configuration;
mod order;
mod peers;
mod rabbitmq;
mod retries;
