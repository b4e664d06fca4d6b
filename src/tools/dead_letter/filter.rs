//! Which dead letters are meant.

use std::time::{Duration, SystemTime};

use regex::bytes::{Regex, RegexBuilder};

use super::Facts;
use crate::event::Message;

/// All conditions that are set must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub ids: Vec<glob::Pattern>,
    pub reasons: Vec<String>,
    pub codes: Vec<u16>,
    pub older: Option<Duration>,
    pub newer: Option<Duration>,
    pub body: Option<Regex>,
}

impl Filter {
    pub fn matches(&self, facts: &Facts, letter: &Message) -> bool {
        let age = facts.age(SystemTime::now());
        let is_older = |limit: Duration| age.is_some_and(|age| age >= limit.as_secs_f64());
        let is_newer = |limit: Duration| age.is_some_and(|age| age < limit.as_secs_f64());
        let has_reason = |reason: &String| facts.reason.as_ref() == Some(reason);
        (self.ids.is_empty() || self.ids.iter().any(|pattern| pattern.matches(&facts.id)))
            && (self.reasons.is_empty() || self.reasons.iter().any(has_reason))
            && (self.codes.is_empty() || facts.code.is_some_and(|code| self.codes.contains(&code)))
            && self.older.is_none_or(is_older)
            && self.newer.is_none_or(is_newer)
            && self.body.as_ref().is_none_or(|regex| regex.is_match(&letter.body))
    }

    /// Whether every letter is meant.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
            && self.reasons.is_empty()
            && self.codes.is_empty()
            && self.older.is_none()
            && self.newer.is_none()
            && self.body.is_none()
    }
}

/// # Errors
/// Returns the reason if it is not a regular expression.
pub fn regex(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).unicode(false).size_limit(1 << 20).build().map_err(|error| error.to_string())
}
