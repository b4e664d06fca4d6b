//! A body with `{n}` for the number of the message, and `{column}` for a value of a CSV row. `{{`
//! and `}}` stand for the braces themselves, so that JSON can be written.

use std::str::FromStr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Number,
    Column(String),
}

impl Template {
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first column that is not among these.
    pub fn unknown(&self, names: &[String]) -> Option<&str> {
        self.parts.iter().find_map(|part| match part {
            Part::Column(name) if !names.contains(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// # Errors
    /// Returns the reason if a column is named and there is none.
    pub fn fill(&self, number: u64, row: Option<(&[String], &[String])>) -> Result<String, String> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Number => filled.push_str(&number.to_string()),
                Part::Column(name) => {
                    let value =
                        row.and_then(|(names, values)| values.get(names.iter().position(|its| its == name)?));
                    filled
                        .push_str(value.ok_or_else(|| {
                            format!("the template names {{{name}}}, which is not a column")
                        })?);
                }
            }
        }
        Ok(filled)
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars().peekable();
        while let Some(next) = rest.next() {
            match next {
                '{' | '}' if rest.peek() == Some(&next) => {
                    rest.next();
                    literal.push(next);
                }
                '{' => {
                    let mut name = String::new();
                    loop {
                        match rest.next() {
                            Some('}') => break,
                            Some(inside) if inside != '{' && inside != '"' => name.push(inside),
                            _ => return Err(BRACES.to_owned()),
                        }
                    }
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                    parts.push(match name.trim() {
                        "" => return Err(BRACES.to_owned()),
                        "n" => Part::Number,
                        column => Part::Column(column.to_owned()),
                    });
                }
                '}' => return Err(BRACES.to_owned()),
                other => literal.push(other),
            }
        }
        parts.push(Part::Text(literal));
        Ok(Template { text: text.to_owned(), parts })
    }
}

const BRACES: &str =
    "`{n}` is the number and `{column}` a value of the row; write `{{` and `}}` for the braces of JSON";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_columns_and_braces() {
        let fill = |text: &str| {
            let names = ["a".to_owned()];
            text.parse::<Template>().and_then(|it| it.fill(7, Some((&names, &["x".to_owned()]))))
        };
        assert_eq!(fill(r#"{{"n": {n}, "a": "{a}"}}"#).unwrap(), r#"{"n": 7, "a": "x"}"#);
        for wrong in [r#"{"n": 1}"#, "{", "}", "{}", "{b}", "{n"] {
            assert!(fill(wrong).is_err(), "{wrong}");
        }
    }
}
