//! The one integration binary: a module for each concern, so that everything links once.

mod contract;
mod kafka;
mod kpa;
mod manifests;
mod rabbitmq;
mod support;
