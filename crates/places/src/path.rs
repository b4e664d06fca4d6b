//! The place of a value in the configuration: `pipelines[0].sink.timeout`.

use std::borrow::Cow;
use std::fmt;

/// Keys and indices from the root. The empty path is the whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Key(String),
    Item(usize),
}

impl Path {
    pub fn key(&self, name: &str) -> Path {
        self.with(Step::Key(name.to_owned()))
    }

    pub fn item(&self, index: usize) -> Path {
        self.with(Step::Item(index))
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    fn with(&self, step: Step) -> Path {
        let mut steps = self.0.clone();
        steps.push(step);
        Path(steps)
    }

    /// Returns the path itself, then each path that contains it, up to the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Path> {
        (0..=self.0.len()).rev().map(|length| Path(self.0[..length].to_vec()))
    }

    /// Whether the paths are equal, or one contains the other.
    pub fn overlaps(&self, other: &Path) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| mine == theirs)
    }
}

fn push_key(text: &mut String, name: &str) {
    if !text.is_empty() {
        text.push('.');
    }
    let shown = shown(name);
    let simple = shown == name && !name.is_empty() && !name.contains('.');
    if simple { text.push_str(name) } else { text.push_str(&format!("{shown:?}")) }
}

/// Returns the part of a key that may be shown. Without a space after the colon, as in
/// `{ token:"x" }`, the key is `token:"x"`, and its value must stay hidden.
pub fn shown(key: &str) -> Cow<'_, str> {
    match key.find(|letter: char| !letter.is_alphanumeric() && !"_-./$<>".contains(letter)) {
        Some(end) => Cow::Owned(format!("{}…", &key[..end])),
        None => Cow::Borrowed(key),
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for step in &self.0 {
            match step {
                Step::Key(name) => push_key(&mut text, name),
                Step::Item(index) => text.push_str(&format!("[{index}]")),
            }
        }
        formatter.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_the_file() {
        let options = Path::default().key("pipelines").item(2).key("options");
        let path = options.key("enable.auto.commit");
        assert_eq!(path.to_string(), "pipelines[2].options.\"enable.auto.commit\"");
        assert_eq!(options.key("token:\"x\"").to_string(), "pipelines[2].options.\"token…\"");
        assert_eq!(path.ancestors().count(), 5);
        assert!(path.overlaps(&options) && options.overlaps(&path));
        assert!(!path.overlaps(&options.key("other")));
    }
}
