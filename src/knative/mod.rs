//! Knative's behaviour on this machine.
