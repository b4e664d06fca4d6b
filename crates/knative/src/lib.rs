//! Knative's behaviour on this machine: the arithmetic of its autoscaler, its manifests, and a
//! Service that is scaled by that arithmetic.
//!
//! * [`kpa`]: the autoscaler as a pure function of time.
//! * [`service`]: a revision with its replicas and queued requests, also a pure function of time.
//! * [`manifest`]: reads a Service and its ConfigMaps as `kubectl apply` takes them.
//! * [`serve`]: runs one process for each replica, and answers like the activator and the
//!   queue-proxy.
//! * [`hellotest`]: the sample worker.
//!
//! This crate does not know queues, brokers or the bridge.

pub mod duration;
pub mod hellotest;
pub mod kpa;
pub mod manifest;
pub mod serve;
pub mod service;
