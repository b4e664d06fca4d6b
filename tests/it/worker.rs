//! Runs `longhaul worker` through its small binary: outcomes, stops, and no process or file left
//! behind.

mod ends;
mod input;
mod serve;
mod shim;
mod stops;
