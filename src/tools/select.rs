//! Finds the pipeline that a command is about.

use super::Failure;
use crate::config::{Config, Pipeline};

/// Returns the pipeline of this name, or the only one.
///
/// # Errors
/// Returns an error that lists the names, if no pipeline has this name, or if there are several
/// and none is named.
pub fn pipeline<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a Pipeline, Failure> {
    let names: Vec<&str> = config.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
    let names = names.join(", ");
    match (name, config.pipelines.as_slice()) {
        (Some(name), all) => all.iter().find(|pipeline| pipeline.name == name).ok_or_else(|| {
            Failure::usage(
                format!("the configuration has no pipeline {name}"),
                format!("name one of: {names}"),
            )
        }),
        (None, [only]) => Ok(only),
        (None, _) => Err(Failure::usage(
            "the configuration has several pipelines",
            format!("name one with --pipeline: {names}"),
        )),
    }
}
