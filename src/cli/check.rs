//! `longhaul check`: all mistakes of a configuration file in one run, without a broker.
//!
//! It builds every part that `run` builds, so that it accepts nothing that `run` refuses.

use std::io::{self, Write};
use std::path::Path;

use super::exit;
use crate::app::App;
use crate::config::{self, Config, Env, LoadError};

/// Prints to `out` that the file is right, or to `err` its mistakes and warnings.
///
/// Returns the exit code, 0 or 78. Warnings alone give 0.
///
/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(file: &Path, out: &mut dyn Write, err: &mut dyn Write, env: Env<'_>) -> io::Result<u8> {
    match config::read(file, env) {
        Ok(loaded) => {
            if !loaded.warnings.list.is_empty() {
                writeln!(err, "{}", loaded.warnings)?;
            }
            let refused = build(&loaded.config, err, env)?;
            if refused > 0 {
                writeln!(err, "{}: {}", file.display(), count(refused, "mistake"))?;
                return Ok(exit::CONFIG);
            }
            let pipelines = loaded.config.pipelines.len();
            writeln!(out, "{}: ok, {}", file.display(), count(pipelines, "pipeline"))?;
            Ok(exit::OK)
        }
        Err(LoadError::Mistakes(mistakes)) => {
            writeln!(err, "{mistakes}\n{}: {}", file.display(), count(mistakes.list.len(), "mistake"))?;
            Ok(exit::CONFIG)
        }
        Err(error @ LoadError::Unreadable { .. }) => {
            writeln!(err, "error: {error}")?;
            Ok(exit::CONFIG)
        }
    }
}

/// Builds every part, and returns the number of parts that cannot be built.
fn build(config: &Config, err: &mut dyn Write, env: Env<'_>) -> io::Result<usize> {
    // Some clients need a runtime to be made.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let (refused, lacking) = App::check(config, env);
    for error in &refused {
        exit::say(err, error, error.hint())?;
    }
    // Another machine may have the missing resource, so this is only a warning.
    for error in &lacking {
        writeln!(err, "warning: {error}\n  help: {}", error.hint())?;
    }
    Ok(refused.len())
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &Path) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(file, &mut out, &mut err, &|_| None).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn check_text(text: impl AsRef<[u8]>) -> (u8, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("longhaul.yaml");
        std::fs::write(&file, text).unwrap();
        let (code, out, err) = check(&file);
        let prefix = format!("{}/", folder.path().display());
        (code, out.replace(&prefix, ""), err.replace(&prefix, ""))
    }

    const GOOD: &str = "
pipelines:
  - name: a
    source: { rabbitmq: { url: amqp://localhost, queue: a } }
    sink: { url: http://localhost }
    max_in_flight: 1
";

    #[test]
    fn a_good_file_is_ok_and_warnings_do_not_change_that() {
        let (code, out, err) = check_text(GOOD);
        assert_eq!((code, out.as_str()), (0, "longhaul.yaml: ok, 1 pipeline\n"));
        assert!(err.starts_with("longhaul.yaml:3:5: warning: pipelines[0].dead_letter: "), "{err}");
        let (code, _, err) = check_text(format!("{GOOD}    on_failed: hold\n"));
        assert_eq!((code, err.as_str()), (0, ""));
    }

    #[test]
    fn mistakes_are_listed_and_counted() {
        let (code, out, err) = check_text("pipelines: []\nadmin: { listen: here }\n");
        assert_eq!((code, out.as_str()), (78, ""));
        assert!(err.contains(":1:12: ") && err.contains(":2:18: "), "{err}");
        assert!(err.ends_with("\nlonghaul.yaml: 2 mistakes\n"), "{err}");
    }

    #[test]
    fn an_unreadable_file_says_what_to_do() {
        let (code, out, err) = check(Path::new("/no/such/longhaul.yaml"));
        assert_eq!((code, out.as_str()), (78, ""));
        assert!(
            err.starts_with("error: the configuration file /no/such/longhaul.yaml cannot be read: "),
            "{err}"
        );
        assert!(err.contains("\n  help: create it"), "{err}");
        assert!(check(Path::new("/")).2.contains("this is a folder"));
        let (code, _, err) = check_text(b"pipelines:\n  - n\xff");
        assert_eq!(code, 78);
        assert!(err.starts_with("longhaul.yaml:2:6: this is not UTF-8 text"), "{err}");
    }
}
