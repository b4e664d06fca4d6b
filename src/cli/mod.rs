//! The commands. Each prints to the writers that it is given and answers with an exit code.

pub mod check;
pub mod schema;
