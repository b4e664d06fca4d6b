//! `longhaul migrate`: converts manifests of other tools, and reports what becomes of each value.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{exit, init};
use crate::migrate::{self, Fate, File, Line, Migration};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The manifest, which may hold several documents; `-` is standard input.
    #[arg(short = 'f', long = "file", env = "LONGHAUL_FILE", value_name = "FILE")]
    file: PathBuf,
    /// The folder for the configuration and the manifests; no file in it is replaced. Without it
    /// the configuration goes to standard output. The report goes to standard error.
    #[arg(short, long, env = "LONGHAUL_OUTPUT", value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Print files and report as JSON on standard output.
    #[arg(long, env = "LONGHAUL_JSON", conflicts_with = "output")]
    json: bool,
}

/// A manifest is never this large.
const INPUT_BYTES: u64 = 16 * 1024 * 1024;

/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let is_input = options.file.as_os_str() == "-";
    let name = if is_input { "standard input".to_owned() } else { options.file.display().to_string() };
    let text = match read(&options.file, is_input) {
        Ok(text) => text,
        Err(error) => {
            exit::say(
                err,
                &format!("{name} cannot be read: {error}"),
                "name a text file of at most 16 MiB with -f",
            )?;
            return Ok(exit::USAGE);
        }
    };
    let migration = match migrate::migrate(&name, &text) {
        Ok(migration) => migration,
        Err(mistakes) => {
            writeln!(err, "{mistakes}")?;
            return Ok(exit::CONFIG);
        }
    };
    if options.json {
        writeln!(out, "{}", json(&migration))?;
        return Ok(exit::OK);
    }
    if let Some(folder) = &options.output {
        if let Err((file, error)) = write(folder, &migration.files) {
            exit::say(err, &format!("{} cannot be written: {error}", file.display()), init::hint(&error))?;
            return Ok(exit::USAGE);
        }
    } else {
        for file in migration.files.iter().filter(|file| file.path.ends_with("longhaul.yaml")) {
            write!(out, "{}", file.text)?;
        }
    }
    report(&name, &migration.report, err)?;
    if let Some(folder) = &options.output {
        let (folder, count) = (folder.display(), migration.files.len());
        writeln!(
            err,
            "{folder}: {count} files\n  read {folder}/longhaul.yaml, then: kubectl apply -k {folder}"
        )?;
    }
    Ok(exit::OK)
}

fn read(file: &Path, is_input: bool) -> io::Result<String> {
    let mut text = String::new();
    if is_input {
        io::stdin().lock().take(INPUT_BYTES).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(file)?.take(INPUT_BYTES).read_to_string(&mut text)?;
    }
    Ok(text)
}

/// Writes all files, or none if one of them exists.
fn write(folder: &Path, files: &[File]) -> Result<(), (PathBuf, io::Error)> {
    for file in files {
        let path = folder.join(&file.path);
        if path.exists() {
            return Err((path, io::ErrorKind::AlreadyExists.into()));
        }
    }
    for file in files {
        let path = folder.join(&file.path);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|error| (parent.to_owned(), error))?;
        init::create(&path, &file.text).map_err(|error| (path, error))?;
    }
    Ok(())
}

fn report(name: &str, lines: &[Line], err: &mut dyn Write) -> io::Result<()> {
    for Line { line, column, path, fate, text } in lines {
        let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
        writeln!(err, "{name}:{line}:{column}: {fate}: {path}{text}")?;
    }
    let fates = [Fate::Carries, Fate::Improves, Fate::Changes, Fate::Without];
    let counts =
        fates.map(|fate| format!("{} {fate}", lines.iter().filter(|line| line.fate == fate).count()));
    writeln!(err, "{name}: {}", counts.join(", "))
}

fn json(migration: &Migration) -> serde_json::Value {
    let files: serde_json::Map<_, _> =
        migration.files.iter().map(|file| (file.path.clone(), file.text.clone().into())).collect();
    let line = |line: &Line| {
        serde_json::json!({
            "line": line.line, "column": line.column, "path": line.path, "fate": line.fate.to_string(), "text": line.text,
        })
    };
    serde_json::json!({ "files": files, "report": migration.report.iter().map(line).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "kind: KafkaSource\napiVersion: sources.knative.dev/v1\nmetadata: { name: orders }\nspec:\n  bootstrapServers: [kafka:9092]\n  topics: [orders]\n  sink: { uri: http://worker }\n";

    fn migrate(text: &str, output: Option<&Path>, json: bool) -> (u8, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("source.yaml");
        std::fs::write(&file, text).unwrap();
        let options = Options { file, output: output.map(Path::to_owned), json };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&options, &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn the_configuration_goes_to_standard_output_and_the_report_to_standard_error() {
        let (code, out, err) = migrate(SOURCE, None, false);
        assert_eq!(code, 0, "{err}");
        assert!(out.contains("topics: [\"orders\"]"), "{out}");
        assert!(err.contains("source.yaml:6:3: carries over: spec.topics: source.kafka.topics\n"), "{err}");
        assert!(err.lines().last().unwrap().contains(" carries over, "), "{err}");
        let json: serde_json::Value = serde_json::from_str(&migrate(SOURCE, None, true).1).unwrap();
        assert!(json["files"]["kustomization.yaml"].is_string() && json["report"][0]["fate"].is_string());
    }

    #[test]
    fn nothing_in_the_folder_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("new");
        assert_eq!(migrate(SOURCE, Some(&target), false).0, 0);
        assert!(target.join("base/bridge.yaml").exists() && target.join("longhaul.yaml").exists());
        let (code, _, err) = migrate(SOURCE, Some(&target), false);
        assert_eq!(code, 64);
        assert!(err.contains("help: remove it"), "{err}");
    }

    #[test]
    fn a_file_that_cannot_be_converted_says_where_and_why() {
        let (code, _, err) = migrate("kind: Service\n", None, false);
        assert_eq!(code, 78);
        assert!(
            err.contains(":1:1: nothing in this file can be converted") && err.contains("RabbitmqSource"),
            "{err}"
        );
        let (code, _, err) = migrate(
            "kind: KafkaSource\napiVersion: sources.knative.dev/v1\nspec:\n  topics: [a]\n",
            None,
            false,
        );
        assert_eq!(code, 78);
        assert!(err.contains(":3:1: spec.bootstrapServers: `bootstrapServers` is missing"), "{err}");
        assert!(migrate("a: [", None, false).2.contains("this is not valid YAML"));
    }
}
