//! The only integration binary. It has a module for each concern, so everything links once.

#![allow(clippy::unwrap_used, reason = "a test that panics has said what it has to say")]

mod admin;
mod api;
mod contract;
mod dead_letter;
mod documents;
mod faults;
mod fuzz;
#[cfg(feature = "guard")]
mod guard;
mod kafka;
mod kpa;
mod manifests;
mod memory;
mod observe;
mod operate;
mod page;
mod plan;
mod rabbitmq;
mod reply;
mod run;
mod serve;
mod shell;
mod snapshots;
mod stuck;
mod support;
mod tools;
mod worker;
