//! The rules of the core, one by one. The models and the simulation check that nothing wrong
//! happens; these tests check that the right thing happens. Most of them answer a mutant that
//! survived.

mod arrivals;
mod attempts;
mod bed;
mod breaker;
mod claims;
mod copies;
mod drains;
mod numbers;
mod orphans;
mod people;
mod writes;
