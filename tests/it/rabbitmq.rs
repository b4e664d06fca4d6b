//! RabbitMQ, where it differs from the other sources.
