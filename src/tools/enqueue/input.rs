//! The inputs of `enqueue`: lines, rows, files, or a template that is repeated. They are read as a
//! stream, so that their size does not matter.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::template::Template;
use crate::tools::Failure;

/// The largest body. A broker refuses far less.
const BODY_MAX: u64 = 128 * 1024 * 1024;

/// The input, and how its parts become bodies.
#[derive(Clone, Debug)]
pub enum Input {
    /// One JSON document on each line; `-` is standard input.
    JsonLines(PathBuf),
    /// One message for each row. The body is a JSON object of the columns, or the template.
    Csv { file: PathBuf, delimiter: u8, template: Option<Template> },
    /// One message for each file.
    Files(String),
    /// The template, this many times.
    Count(u64, Template),
    /// One message for each line of standard input, as it is.
    Lines,
}

/// One body with its place in the input.
#[derive(Clone, Debug)]
pub struct Raw {
    /// The number of the message, from 0.
    pub number: u64,
    /// The place for people: `line 7`, or a path.
    pub place: String,
    pub body: Bytes,
    /// The names and the values of a CSV row.
    pub columns: Option<(Arc<[String]>, Vec<String>)>,
    pub file: Option<String>,
    pub content_type: Option<&'static str>,
}

/// A part of the input that makes no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    pub number: u64,
    pub place: String,
    pub reason: String,
}

pub type Entries = Box<dyn Iterator<Item = Result<Raw, Bad>> + Send>;

impl Input {
    /// Whether the input can be read a second time.
    pub fn is_repeatable(&self) -> bool {
        match self {
            Input::JsonLines(file) | Input::Csv { file, .. } => {
                file.as_os_str() != "-" && std::fs::metadata(file).is_ok_and(|it| it.is_file())
            }
            Input::Files(_) | Input::Count(..) => true,
            Input::Lines => false,
        }
    }

    /// The input in words; two different inputs have different words.
    pub fn shown(&self) -> String {
        match self {
            Input::JsonLines(file) => format!("json-lines {}", file.display()),
            Input::Csv { file, .. } => format!("csv {}", file.display()),
            Input::Files(pattern) => format!("files {pattern}"),
            Input::Count(count, template) => format!("count {count} {}", template.text()),
            Input::Lines => "standard input".to_owned(),
        }
    }

    /// # Errors
    /// Returns an error if a file cannot be opened, or a header or a pattern cannot be read.
    pub fn open(&self) -> Result<Entries, Failure> {
        match self {
            Input::JsonLines(file) => Ok(Box::new(Lines::new(reader(file)?, true))),
            Input::Lines => Ok(Box::new(Lines::new(Box::new(BufReader::new(io::stdin())), false))),
            Input::Csv { file, delimiter, template } => rows(file, *delimiter, template.clone()),
            Input::Files(pattern) => files(pattern),
            Input::Count(count, template) => {
                let template = template.clone();
                Ok(Box::new((0..*count).map(move |number| {
                    let bad = |reason| Bad { number, place: format!("number {}", number + 1), reason };
                    let body = template.fill(number + 1, None).map_err(bad)?;
                    Ok(Raw {
                        number,
                        place: format!("number {}", number + 1),
                        body: body.into(),
                        ..Raw::empty()
                    })
                })))
            }
        }
    }
}

impl Raw {
    fn empty() -> Self {
        Raw {
            number: 0,
            place: String::new(),
            body: Bytes::new(),
            columns: None,
            file: None,
            content_type: None,
        }
    }
}

fn reader(file: &Path) -> Result<Box<dyn BufRead + Send>, Failure> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let opened = File::open(file).and_then(|opened| {
        if opened.metadata()?.is_dir() { Err(io::Error::other("it is a folder")) } else { Ok(opened) }
    });
    let opened = opened.map_err(|error| {
        Failure::usage(format!("{} cannot be read: {error}", file.display()), "name a readable file")
    })?;
    Ok(Box::new(BufReader::new(opened)))
}

struct Lines {
    reader: Box<dyn BufRead + Send>,
    are_json: bool,
    line: u64,
    number: u64,
    is_over: bool,
}

impl Lines {
    fn new(reader: Box<dyn BufRead + Send>, are_json: bool) -> Self {
        Lines { reader, are_json, line: 0, number: 0, is_over: false }
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.reader.by_ref().take(BODY_MAX + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.len() as u64 > BODY_MAX {
            return Err(io::Error::other(format!("it is longer than {BODY_MAX} bytes")));
        }
        self.line += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if self.line == 1 && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        Ok(Some(line))
    }
}

impl Iterator for Lines {
    type Item = Result<Raw, Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        loop {
            let number = self.number;
            let line = match self.read() {
                Ok(Some(line)) => line,
                Ok(None) => return None,
                Err(error) => {
                    self.is_over = true;
                    let place = format!("line {}", self.line + 1);
                    return Some(Err(Bad { number, place, reason: format!("cannot be read: {error}") }));
                }
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            self.number += 1;
            let place = format!("line {}", self.line);
            if self.are_json
                && let Err(error) = serde_json::from_slice::<&serde_json::value::RawValue>(&line)
            {
                return Some(Err(Bad { number, place, reason: format!("is not JSON: {error}") }));
            }
            let content_type = self.are_json.then_some("application/json");
            return Some(Ok(Raw { number, place, body: line.into(), content_type, ..Raw::empty() }));
        }
    }
}

fn rows(file: &Path, delimiter: u8, template: Option<Template>) -> Result<Entries, Failure> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(reader(file)?);
    let wrong = |what: String, help: &str| Failure::usage(format!("{}: {what}", file.display()), help);
    let headers = reader.headers().map_err(|error| {
        wrong(
            format!("the first row cannot be read: {error}"),
            "write the names of the columns there, in UTF-8",
        )
    })?;
    let names: Arc<[String]> = headers
        .iter()
        .enumerate()
        .map(|(index, name)| if index == 0 { name.trim_start_matches('\u{feff}') } else { name })
        .map(|name| name.trim().to_owned())
        .collect();
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() && names.len() > 1 {
            return Err(wrong(format!("column {} has no name", index + 1), "write a name in the first row"));
        }
        if names[..index].contains(name) {
            return Err(wrong(
                format!("two columns are called {name}"),
                "give each column a name of its own",
            ));
        }
    }
    if let Some(unknown) = template.as_ref().and_then(|template| template.unknown(&names)) {
        let help = format!("use one of: {}", names.join(", "));
        return Err(wrong(format!("the template names a column {unknown} that does not exist"), &help));
    }
    let mut number = 0;
    Ok(Box::new(reader.into_records().map(move |record| {
        let this = number;
        number += 1;
        let record = record.map_err(|error| {
            let line = error
                .position()
                .map_or_else(|| format!("row {}", this + 1), |at| format!("line {}", at.line()));
            Bad { number: this, place: line, reason: format!("is not a row: {}", reason(&error)) }
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        let place = format!("line {line}");
        let values: Vec<String> = record.iter().map(str::to_owned).collect();
        let (body, content_type) = match &template {
            Some(template) => {
                let filled = template.fill(this + 1, Some((&names, &values)));
                (filled.map_err(|reason| Bad { number: this, place: place.clone(), reason })?, None)
            }
            None => {
                let object: serde_json::Map<String, serde_json::Value> =
                    names.iter().cloned().zip(values.iter().cloned().map(Into::into)).collect();
                (serde_json::Value::Object(object).to_string(), Some("application/json"))
            }
        };
        let columns = Some((names.clone(), values));
        Ok(Raw { number: this, place, body: body.into(), columns, content_type, ..Raw::empty() })
    })))
}

/// The crate's own text repeats the place.
fn reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("it has {len} fields, and the first row has {expected_len}")
        }
        csv::ErrorKind::Utf8 { err, .. } => format!("field {} is not UTF-8", err.field() + 1),
        _ => error.to_string(),
    }
}

fn files(pattern: &str) -> Result<Entries, Failure> {
    let paths = glob::glob(pattern).map_err(|error| {
        Failure::usage(
            format!("the pattern {pattern} cannot be read: {error}"),
            "quote it: --files 'scans/**/*.tif'",
        )
    })?;
    // Folders are left out. A path that cannot be looked at stays, and is reported.
    let paths: Vec<Result<PathBuf, glob::GlobError>> =
        paths.filter(|path| path.as_ref().map_or(true, |path| !path.is_dir())).collect();
    if paths.is_empty() {
        return Err(Failure::usage(
            format!("no file matches {pattern}"),
            "check the folder, and quote the pattern so that the shell does not expand it",
        ));
    }
    Ok(Box::new(paths.into_iter().zip(0..).map(|(path, number)| {
        let path = path.map_err(|error| Bad {
            number,
            place: error.path().display().to_string(),
            reason: format!("cannot be read: {}", error.error()),
        })?;
        let place = path.display().to_string();
        let bad = |reason: String| Bad { number, place: place.clone(), reason };
        let read = || -> io::Result<Vec<u8>> {
            let mut body = Vec::new();
            if !std::fs::metadata(&path)?.is_file() {
                return Err(io::Error::other("it is not an ordinary file"));
            }
            File::open(&path)?.take(BODY_MAX + 1).read_to_end(&mut body)?;
            Ok(body)
        };
        let body = read().map_err(|error| bad(format!("cannot be read: {error}")))?;
        if body.len() as u64 > BODY_MAX {
            return Err(bad(format!("is longer than {BODY_MAX} bytes")));
        }
        let file = path.to_str().ok_or_else(|| bad("has a name that is not UTF-8".to_owned()))?.to_owned();
        let content_type = content_type(&path);
        let file = Some(file);
        Ok(Raw { number, place, body: body.into(), file, content_type, columns: None })
    })))
}

fn content_type(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "json" => "application/json",
        "txt" | "log" | "md" => "text/plain",
        "csv" => "text/csv",
        "xml" => "application/xml",
        "html" | "htm" => "text/html",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "tif" | "tiff" => "image/tiff",
        "mp4" => "video/mp4",
        "zip" => "application/zip",
        _ => "application/octet-stream",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(input: &Input) -> Vec<Result<(String, String), String>> {
        let shown = |entry: Result<Raw, Bad>| match entry {
            Ok(raw) => Ok((raw.place, String::from_utf8_lossy(&raw.body).into_owned())),
            Err(bad) => Err(format!("{} {}", bad.place, bad.reason)),
        };
        input.open().unwrap().map(shown).collect()
    }

    fn file(text: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn lines_with_blanks_marks_and_mistakes() {
        let file = file(b"\xef\xbb\xbf{\"a\": 1}\r\n\n  \nnope\n[2]");
        let found = entries(&Input::JsonLines(file.path().to_owned()));
        assert_eq!(found[0], Ok(("line 1".into(), "{\"a\": 1}".into())));
        assert!(found[1].as_ref().unwrap_err().starts_with("line 4 is not JSON"), "{found:?}");
        assert_eq!(found[2], Ok(("line 5".into(), "[2]".into())));
    }

    #[test]
    fn rows_become_objects_or_follow_the_template() {
        let file = file(b"id;name\n1;\"a;b\"\n2\n3;c\n");
        let input = |template: Option<&str>| Input::Csv {
            file: file.path().to_owned(),
            delimiter: b';',
            template: template.map(|text| text.parse().unwrap()),
        };
        let found = entries(&input(None));
        assert_eq!(found[0], Ok(("line 2".into(), r#"{"id":"1","name":"a;b"}"#.into())));
        assert_eq!(found[1], Err("line 3 is not a row: it has 1 fields, and the first row has 2".into()));
        assert_eq!(entries(&input(Some("{n}: {name}")))[2], Ok(("line 4".into(), "3: c".into())));
        let error = input(Some("{nam}")).open().err().unwrap();
        assert!(error.what.contains("nam") && error.help.contains("id, name"), "{error:?}");
    }

    #[test]
    fn a_pattern_without_files_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub.txt")).unwrap();
        let pattern = format!("{}/*.txt", folder.path().display());
        assert!(Input::Files(pattern.clone()).open().is_err());
        std::fs::write(folder.path().join("b.txt"), "B").unwrap();
        std::fs::write(folder.path().join("a.txt"), "A").unwrap();
        let bodies: Vec<String> =
            entries(&Input::Files(pattern)).into_iter().map(|entry| entry.unwrap().1).collect();
        assert_eq!(bodies, ["A", "B"]);
    }
}
