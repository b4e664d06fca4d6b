//! `longhaul worker` through its small binary: outcomes, stops, and nothing left behind.

mod ends;
mod input;
mod serve;
mod shim;
mod stops;
