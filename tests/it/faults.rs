//! Faults between a broker, the bridge and the service, each with the result that today's tools
//! give.

mod clock;
mod configuration;
mod order;
mod peers;
mod rabbitmq;
mod retries;
