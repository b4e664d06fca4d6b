//! Knative's behaviour on this machine.

pub mod duration;
pub mod hellotest;
pub mod kpa;
pub mod manifest;
pub mod serve;
pub mod service;
