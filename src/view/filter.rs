//! The filter of a list of items or of a bulk action.

use std::time::Duration;

use longhaul_places::units::Span;

use super::ItemState;

/// Selects items. An empty filter selects all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The states of which the item has one; empty for all.
    pub states: Vec<ItemState>,
    /// The reason of a held or dead-lettered item.
    pub reason: Option<String>,
    /// The least time that the item has been in its present state.
    pub older: Option<Duration>,
    /// A part of the id; `*` stands for any characters, and the pattern then has to match the whole
    /// id.
    pub key: Option<String>,
    /// The whole id.
    pub id: Option<String>,
}

/// A filter that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("{0}")]
    State(String),
    #[error("older={text:?} is not a duration: {reason}: {help}")]
    Older { text: String, reason: String, help: String },
}

impl Filter {
    /// Reads the query parameters `state` (several with commas), `reason`, `older` and `key`.
    ///
    /// # Errors
    /// If a state is not known, or `older` is not a duration.
    pub fn parse(
        state: Option<&str>,
        reason: Option<&str>,
        older: Option<&str>,
        key: Option<&str>,
    ) -> Result<Self, FilterError> {
        let words = state.into_iter().flat_map(|text| text.split(',')).map(str::trim);
        let states: Result<Vec<ItemState>, String> =
            words.filter(|word| !word.is_empty()).map(str::parse).collect();
        let older = older.filter(|text| !text.is_empty()).map(|text| {
            text.parse::<Span>().map(Span::get).map_err(|error| FilterError::Older {
                text: text.to_owned(),
                reason: error.reason.to_string(),
                help: error.help.to_string(),
            })
        });
        let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Filter {
            states: states.map_err(FilterError::State)?,
            reason: given(reason),
            older: older.transpose()?,
            key: given(key),
            id: None,
        })
    }

    /// Returns the filter for the item or items with this id.
    pub fn of_id(id: &str) -> Self {
        Filter { id: Some(id.to_owned()), ..Filter::default() }
    }

    /// Whether it selects an item by its state, its reason and its age in that state.
    pub fn fits(&self, state: ItemState, reason: Option<&str>, age: Duration) -> bool {
        (self.states.is_empty() || self.states.contains(&state))
            && self.reason.as_deref().is_none_or(|wanted| reason == Some(wanted))
            && self.older.is_none_or(|least| age >= least)
    }

    /// Whether the id matters, which costs more to find out than the rest.
    pub fn asks_for_id(&self) -> bool {
        self.key.is_some() || self.id.is_some()
    }

    /// Whether it selects an item by its id.
    pub fn fits_id(&self, id: &str) -> bool {
        self.id.as_deref().is_none_or(|wanted| id == wanted)
            && self.key.as_deref().is_none_or(|pattern| matches(pattern, id))
    }
}

/// Whether the pattern matches: as a part of the text, or with `*` the whole text.
fn matches(pattern: &str, text: &str) -> bool {
    if !pattern.contains('*') {
        return text.contains(pattern);
    }
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(end) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_a_part_or_the_whole() {
        for (pattern, text, expected) in [
            ("04", "f044.csv", true),
            ("f04*", "f044.csv", true),
            ("*04*csv", "f044.csv", true),
            ("*.csv", "f044.csv", true),
            ("*", "", true),
            ("f*4", "f044.csv", false),
            ("a*a", "a", false),
            ("**", "x", true),
            ("x", "f044.csv", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn mistakes_in_a_filter_are_named() {
        assert!(Filter::parse(Some("held,retrying"), None, Some("5m"), None).is_ok());
        let error = Filter::parse(Some("hold"), None, None, None).unwrap_err().to_string();
        assert!(error.contains("\"hold\" is not a state of an item"), "{error}");
        let error = Filter::parse(None, None, Some("5 parsecs"), None).unwrap_err().to_string();
        assert!(error.starts_with("older=\"5 parsecs\" is not a duration"), "{error}");
    }
}
