//! `longhaul check`: all mistakes of a configuration file in one run, without a broker.
//!
//! It builds every part that `run` builds, so that it accepts nothing that `run` refuses. With
//! `--connect` it also examines the brokers, the service and the chain of timeouts.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tools::{self, End};
use super::{ConfigFile, exit};
use crate::app::App;
use crate::config::{self, Config, Env, LoadError, process_env};
use crate::tools::doctor::{self, Cluster, Finding, Manifests, Severity};

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    file: ConfigFile,
    /// Also examine the brokers, the service and the chain of timeouts. Nothing is changed; the
    /// service gets two HEAD requests.
    #[arg(long, env = "LONGHAUL_CONNECT")]
    connect: bool,
    /// Manifests for the chain of timeouts: the Knative Service, the ConfigMap config-defaults, and
    /// the Deployments of the bridge, the activator and the ingress. May be repeated.
    #[arg(short = 'f', long = "file", env = "LONGHAUL_FILE", value_name = "FILE", requires = "connect")]
    manifests: Vec<PathBuf>,
    /// The context of kubectl's configuration whose cluster tells the manifests [default: the
    /// current one, unless -f names manifests]
    #[arg(long, env = "LONGHAUL_CONTEXT", value_name = "NAME", requires = "connect")]
    context: Option<String>,
    /// The file of kubectl's configuration [default: $KUBECONFIG, or ~/.kube/config]
    #[arg(long, env = "LONGHAUL_KUBECONFIG", value_name = "FILE", requires = "connect")]
    kubeconfig: Option<PathBuf>,
    /// The longest time that the bridge may be down, for the retention of topics and offsets.
    #[arg(long, env = "LONGHAUL_OUTAGE", default_value = "24h", value_name = "DURATION", value_parser = super::duration)]
    outage: Duration,
    /// RabbitMQ's management API, for policies and members [default: port 15672 of the broker]
    #[arg(long, env = "LONGHAUL_MANAGEMENT", value_name = "URL")]
    management: Option<String>,
    /// Print JSON.
    #[arg(long, env = "LONGHAUL_JSON")]
    json: bool,
}

/// The offline check, and the examination if it is asked for.
///
/// The exit code reflects the worst finding: 0 for none, 1 for a warning, 69 or 78 for an error.
///
/// # Errors
/// If `out` or `err` cannot be written.
pub fn carry_out(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    if !options.connect && !options.json {
        return run(&options.file.path(), out, err, &process_env);
    }
    let file = options.file.path();
    let mut mistakes = Vec::new();
    let (config, code) = offline(&file, &mut mistakes)?;
    let text = String::from_utf8_lossy(&mistakes).into_owned();
    let mut findings = Vec::new();
    if !options.json {
        err.write_all(text.as_bytes())?;
    }
    if let Some(config) = config.filter(|_| options.connect && code == exit::OK) {
        let result = tools::work(async |stop| {
            findings = examine(options, &config, &stop).await?;
            Ok(exit::OK)
        });
        let code = tools::finish(result, err)?;
        if code != exit::OK {
            return Ok(code);
        }
    } else if code != exit::OK && !options.json {
        return Ok(code);
    }
    let code = if code == exit::OK { worst(&findings) } else { code };
    if options.json {
        let json = serde_json::json!({ "file": file, "exit": code, "offline": text, "findings": findings });
        writeln!(out, "{json}")?;
        return Ok(code);
    }
    for finding in &findings {
        show(finding, out)?;
    }
    let count_of = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let counts = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")]
        .map(|(severity, noun)| count(count_of(severity), noun));
    match findings.is_empty() {
        true => writeln!(out, "{}: ok, every connection examined", file.display())?,
        false => writeln!(out, "{}: {}", file.display(), counts.join(", "))?,
    }
    Ok(code)
}

async fn examine(
    options: &Options,
    config: &Config,
    stop: &tokio_util::sync::CancellationToken,
) -> Result<Vec<Finding>, End> {
    let mut manifests = Manifests::read(&options.manifests)?;
    let cluster = Cluster { context: options.context.clone(), kubeconfig: options.kubeconfig.clone() };
    let mut notes = Vec::new();
    if options.manifests.is_empty() || cluster.is_named() {
        notes = doctor::of_cluster(config, &cluster, &mut manifests).await?;
    }
    let examined = doctor::Options {
        outage: options.outage,
        management: options.management.clone(),
        manifests,
        depth: doctor::Depth::Whole,
    };
    tokio::select! {
        findings = doctor::examine(config, &examined, &process_env) => Ok([findings, notes].concat()),
        () = stop.cancelled() => Err(crate::tools::Failure::unavailable("interrupted", "run it again").into()),
    }
}

/// Reads and builds the configuration; the mistakes and warnings go to `err`.
fn offline(file: &Path, err: &mut Vec<u8>) -> io::Result<(Option<Config>, u8)> {
    match config::read(file, &process_env) {
        Ok(loaded) => {
            if !loaded.warnings.list.is_empty() {
                writeln!(err, "{}", loaded.warnings)?;
            }
            let refused = build(&loaded.config, err, &process_env)?;
            let code = if refused > 0 { exit::CONFIG } else { exit::OK };
            Ok((Some(loaded.config), code))
        }
        Err(LoadError::Mistakes(mistakes)) => {
            writeln!(err, "{mistakes}")?;
            Ok((None, exit::CONFIG))
        }
        Err(error @ LoadError::Unreadable { .. }) => {
            writeln!(err, "error: {error}")?;
            Ok((None, exit::CONFIG))
        }
    }
}

fn worst(findings: &[Finding]) -> u8 {
    let errors = || findings.iter().filter(|finding| finding.severity == Severity::Error);
    if errors().any(|finding| !finding.is_unavailable) {
        exit::CONFIG
    } else if errors().next().is_some() {
        exit::UNAVAILABLE
    } else if findings.iter().any(|finding| finding.severity == Severity::Warning) {
        exit::WARNING
    } else {
        exit::OK
    }
}

fn show(finding: &Finding, out: &mut dyn Write) -> io::Result<()> {
    let word = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let pipeline =
        if finding.pipeline.is_empty() { String::new() } else { format!("{}: ", finding.pipeline) };
    writeln!(out, "{word}: {pipeline}{}", finding.fact)?;
    writeln!(out, "  consequence: {}", finding.consequence)?;
    writeln!(out, "  help: {}", finding.fix)
}

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
