//! Reads values from text, the only form that ConfigMaps and annotations have.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::Problem;
use crate::duration;

/// Reads values by key, keeps the default of an absent key, and notes each value that does not
/// parse.
pub struct Reader<'a> {
    data: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub fn new(data: &'a BTreeMap<String, String>) -> Self {
        Reader { data, problems: Vec::new() }
    }

    pub fn number(&mut self, key: &str, field: &mut f64) {
        self.read(key, field, number);
    }

    pub fn count(&mut self, key: &str, field: &mut u32) {
        self.read(key, field, count);
    }

    pub fn duration(&mut self, key: &str, field: &mut Duration) {
        self.read(key, field, |text| duration::parse(text).map_err(|error| error.to_string()));
    }

    pub fn flag(&mut self, key: &str, field: &mut bool) {
        self.read(key, field, flag);
    }

    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn read<T>(&mut self, key: &str, field: &mut T, parse: impl FnOnce(&str) -> Result<T, String>) {
        match self.data.get(key).map(|text| parse(text)) {
            None => {}
            Some(Ok(value)) => *field = value,
            Some(Err(reason)) => self.problems.push(Problem::new(key, reason)),
        }
    }
}

/// Reads a finite number. NaN and infinities, which Go and Rust both parse, would make every later
/// comparison false.
pub fn number(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|n: &f64| n.is_finite()).ok_or_else(|| format!("{text:?} is not a number"))
}

/// Reads a number of replicas: 0 to 2147483647, the range of a Deployment's `replicas`.
pub fn count(text: &str) -> Result<u32, String> {
    text.parse::<i32>()
        .ok()
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(|| format!("{text:?} is not a whole number in 0..{}", i32::MAX))
}

/// Reads the spellings of Go's `strconv.ParseBool`.
pub fn flag(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}
