//! Makes faults between a broker, the bridge and the service. Each test names the result of a
//! common alternative.

mod clock;
mod configuration;
mod order;
mod peers;
mod rabbitmq;
mod retries;
