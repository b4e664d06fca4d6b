//! Puts text from outside on one line of the log, without control characters and with a bounded
//! length.
//!
//! Broker errors, worker answers and ids come from outside. A newline in them could forge a log
//! line, and an escape sequence could change the text on a terminal.

use std::fmt::{self, Write};

/// Characters that are kept of a field.
pub(super) const FIELD_MAX: usize = 1024;

/// Characters that are kept of a message. Ours are short; those of libraries hold outside text.
pub(super) const MESSAGE_MAX: usize = 2048;

/// Passes text on up to a number of characters, and escapes those that a terminal or a line reader
/// acts on.
pub(super) struct Escaped<W> {
    inner: W,
    left: usize,
    is_cut: bool,
}

impl<W: Write> Escaped<W> {
    pub fn new(inner: W, limit: usize) -> Self {
        Escaped { inner, left: limit, is_cut: false }
    }
}

impl<W: Write> Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.is_cut {
                return Ok(());
            }
            if self.left == 0 {
                self.is_cut = true;
                return self.inner.write_char('…');
            }
            self.left -= 1;
            match character {
                '\n' => self.inner.write_str("\\n")?,
                '\r' => self.inner.write_str("\\r")?,
                '\t' => self.inner.write_str("\\t")?,
                _ if is_active(character) => write!(self.inner, "\\u{{{:x}}}", u32::from(character))?,
                _ => self.inner.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// Formats a value as one word: in quotes if it has spaces or could be taken for another field.
pub(super) fn word(value: &dyn fmt::Debug) -> String {
    let mut text = String::new();
    // Writing to a string never fails.
    let _ = write!(Escaped::new(&mut text, FIELD_MAX), "{value:?}");
    let is_word = !text.is_empty() && !text.contains([' ', '=', '"', '\\']);
    if is_word || is_quoted(&text) { text } else { format!("\"{}\"", text.replace('"', "'")) }
}

/// Whether the text is one quoted string, as `Debug` writes it. A cut one has no closing quote.
fn is_quoted(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix(['"', '…'])) else {
        return false;
    };
    let mut is_escaped = false;
    inner.chars().all(|character| {
        let is_end = character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        !is_end
    })
}

/// Control characters, line separators, and marks that change the direction of the text.
fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands for a value that is logged with `%value`.
    struct Shown(&'static str);

    impl fmt::Debug for Shown {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0)
        }
    }

    #[test]
    fn outside_text_stays_on_its_line_and_in_its_field() {
        for (value, expected) in [
            (Shown("plain"), "plain"),
            (Shown("two words"), "\"two words\""),
            (Shown(""), "\"\""),
            (Shown("a\nINFO longhaul: forged"), "\"a\\nINFO longhaul: forged\""),
            (Shown("a\r\u{1b}[2Kb"), "\"a\\r\\u{1b}[2Kb\""),
            (Shown("x level=ERROR"), "\"x level=ERROR\""),
            (Shown("say \"no\" now"), "\"say 'no' now\""),
            (Shown("abc\u{202e}def\u{2028}\u{85}"), "\"abc\\u{202e}def\\u{2028}\\u{85}\""),
            (Shown("\"a\" level=\"ERROR\""), "\"'a' level='ERROR'\""),
            (Shown("größe"), "größe"),
        ] {
            assert_eq!(word(&value), expected);
        }
        assert_eq!(word(&"quoted \"text\"\n"), r#""quoted \"text\"\n""#);
        assert_eq!((word(&7), word(&Some(1)).as_str()), ("7".to_owned(), "Some(1)"));
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = word(&"ä".repeat(5000));
        assert_eq!(long.chars().count(), FIELD_MAX + 1);
        assert!(long.ends_with('…'));
    }
}
