//! Runs `longhaul serve` as a program, with workers as processes.

mod leaks;
mod replicas;
mod statuses;
mod support;
mod worker;
