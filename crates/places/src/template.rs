//! Placeholders for environment variables and files in text.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Looks up environment variables. The caller gives it, so that no test touches the process's own
/// environment.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the process's environment. A variable that is not UTF-8 counts as not set.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The largest file. A Kubernetes Secret holds at most 1 MiB, so a larger file was named by
/// mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Text with `${env:NAME}` and `${file:/path}`. `$${` stands for `${`; any other `$` stands for
/// itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Env(String),
    File(PathBuf),
}

/// A placeholder that is not understood. Its text stays hidden, because it may be a password that
/// contains `${`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("a `${{` has no closing `}}`")]
    Unclosed,
    #[error("a `${{…}}` is neither `${{env:NAME}}` nor `${{file:/path}}`")]
    Unknown,
    #[error("a `${{env:…}}` or `${{file:…}}` names nothing")]
    Empty,
}

/// A variable or file of a placeholder that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("the environment variable {0} is not set")]
    Variable(String),
    #[error("the file {} cannot be read: {source}", file.display())]
    File { file: PathBuf, source: io::Error },
}

impl ResolveError {
    /// The help for a person.
    pub fn help(&self) -> String {
        match self {
            ResolveError::Variable(name) => format!("set {name}, or remove ${{env:{name}}}"),
            ResolveError::File { file, source } => match source.kind() {
                io::ErrorKind::NotFound => format!("create {}, or correct the path", file.display()),
                io::ErrorKind::PermissionDenied => {
                    format!("give the user that runs longhaul the right to read {}", file.display())
                }
                _ => format!("make {} a readable text file of at most 1 MiB", file.display()),
            },
        }
    }
}

impl Template {
    /// Whether the text has anything to expand, including an escape.
    pub fn is_in(text: &str) -> bool {
        text.contains("${")
    }

    /// Returns the whole text, with variables and files read now. One newline at the end of a file
    /// is dropped.
    pub fn resolve(&self, env: Env<'_>) -> Result<String, ResolveError> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Env(name) => {
                    text.push_str(&env(name).ok_or_else(|| ResolveError::Variable(name.clone()))?);
                }
                Part::File(file) => {
                    let content =
                        read(file).map_err(|source| ResolveError::File { file: file.clone(), source })?;
                    let line = content.strip_suffix('\n').unwrap_or(&content);
                    text.push_str(line.strip_suffix('\r').unwrap_or(line));
                }
            }
        }
        Ok(text)
    }

    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter_map(|part| match part {
            Part::File(file) => Some(file.as_path()),
            _ => None,
        })
    }
}

fn read(file: &Path) -> io::Result<String> {
    // The check comes before the file is opened, because opening a pipe waits for a writer.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not an ordinary file"));
    }
    let mut content = String::new();
    File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut content)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(content)
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            if let Some(before) = rest[..start].strip_suffix('$') {
                literal.push_str(before);
                literal.push_str("${");
                rest = &rest[start + 2..];
                continue;
            }
            literal.push_str(&rest[..start]);
            let (inside, after) = rest[start + 2..].split_once('}').ok_or(TemplateError::Unclosed)?;
            parts.push(Part::Text(std::mem::take(&mut literal)));
            parts.push(placeholder(inside)?);
            rest = after;
        }
        literal.push_str(rest);
        parts.push(Part::Text(literal));
        Ok(Template(parts))
    }
}

fn placeholder(inside: &str) -> Result<Part, TemplateError> {
    match inside.split_once(':') {
        Some(("env" | "file", "")) => Err(TemplateError::Empty),
        Some(("env", name)) => Ok(Part::Env(name.to_owned())),
        Some(("file", path)) => Ok(Part::File(path.into())),
        _ => Err(TemplateError::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        (name == "USER").then(|| "ann".to_owned())
    }

    #[test]
    fn variables_are_put_in_and_escapes_stay() {
        for (text, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("${env:USER}", "ann"),
            ("a${env:USER}b${env:USER}", "aannbann"),
            ("$${env:USER}", "${env:USER}"),
            ("$$${env:USER}", "$${env:USER}"),
            ("5$ and $HOME", "5$ and $HOME"),
        ] {
            let template: Template = text.parse().unwrap();
            assert_eq!(template.resolve(&env).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn wrong_placeholders_are_refused_without_showing_them() {
        for (text, error) in [
            ("x${env:USER", TemplateError::Unclosed),
            ("${hunter2}", TemplateError::Unknown),
            ("${vault:hunter2}", TemplateError::Unknown),
            ("${env:}", TemplateError::Empty),
        ] {
            assert_eq!(text.parse::<Template>().err(), Some(error), "{text}");
        }
    }

    #[test]
    fn an_error_names_the_variable_or_the_file() {
        let resolve = |text: &str| text.parse::<Template>().unwrap().resolve(&env).unwrap_err();
        assert_eq!(resolve("${env:NOPE}").to_string(), "the environment variable NOPE is not set");
        assert!(resolve("${file:/no/such}").to_string().starts_with("the file /no/such cannot be read: "));
        assert!(resolve("${file:/dev/zero}").to_string().contains("not an ordinary file"));
        assert!(resolve("${file:/}").to_string().contains("not an ordinary file"));
    }
}
