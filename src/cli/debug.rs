//! `longhaul debug bundle`: one archive with the facts that a person needs who helps from afar.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tools::{self, End};
use super::{ConfigFile, exit, version};
use crate::config::{self, Config, process_env};
use crate::connect::http;
use crate::tools::Failure;
use crate::tools::bundle::Bundle;
use crate::tools::doctor;

/// The bound of each request to the bridge.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The end of a log file that goes into the archive, in bytes.
const LOG_BYTES: u64 = 4 * 1024 * 1024;
/// The pages of the bridge, and their names in the archive.
const PAGES: [(&str, &str); 4] = [
    ("readyz", "readyz.json"),
    ("metrics", "metrics.txt"),
    ("api/v1/pipelines", "pipelines.json"),
    ("livez", "livez.txt"),
];

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write one archive (tar.gz) for a report: the configuration without secrets, versions, the
    /// state and the metrics of the bridge, the findings of `check --connect`, and the brokers'
    /// objects.
    Bundle(Box<Options>),
}

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    file: ConfigFile,
    /// The archive [default: longhaul-bundle-TIME.tar.gz]
    #[arg(short, long, env = "LONGHAUL_OUTPUT", value_name = "FILE")]
    output: Option<PathBuf>,
    /// The bridge's admin server.
    #[arg(long, env = "LONGHAUL_URL", default_value = "http://127.0.0.1:9090")]
    url: String,
    /// The token of `admin.token`, if one is set.
    #[arg(long, env = "LONGHAUL_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file with log lines of the bridge; its last 4 MiB go into the archive. May be repeated.
    #[arg(long = "log-file", env = "LONGHAUL_LOG_FILE", value_name = "FILE")]
    logs: Vec<PathBuf>,
    /// RabbitMQ's management API [default: port 15672 of the broker]
    #[arg(long, env = "LONGHAUL_MANAGEMENT", value_name = "URL")]
    management: Option<String>,
    /// Ask neither the brokers nor the service.
    #[arg(long, env = "LONGHAUL_OFFLINE")]
    offline: bool,
    /// Print JSON.
    #[arg(long, env = "LONGHAUL_JSON")]
    json: bool,
}

/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(command: Command, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let Command::Bundle(options) = command;
    let result = tools::work(async |_| bundle(&options, out).await);
    tools::finish(result, err)
}

async fn bundle(options: &Options, out: &mut dyn Write) -> Result<u8, End> {
    let path = options.output.clone().unwrap_or_else(|| {
        let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
        PathBuf::from(format!("longhaul-bundle-{now}.tar.gz"))
    });
    let loaded = config::read(&options.file.path(), &process_env);
    let mut bundle = Bundle::of(loaded.as_ref().ok().map(|loaded| &loaded.config));
    let mut missing = Vec::new();
    bundle.add("version.json", &format!("{:#}\n", version::facts()));
    bundle.add("environment.txt", &environment());
    match &loaded {
        Ok(loaded) => {
            bundle.add("configuration.json", &format!("{:#}\n", shown(&loaded.config)));
            bundle.add("warnings.txt", &format!("{}\n", loaded.warnings));
            if !options.offline {
                examine(options, &loaded.config, &mut bundle).await;
            }
        }
        // The text of the mistakes shows no secret.
        Err(error) => bundle.add("configuration-mistakes.txt", &format!("{error}\n")),
    }
    for (page, name) in PAGES {
        match ask(options, page).await {
            Ok(text) => bundle.add(name, &text),
            Err(reason) => missing.push(format!("{name}: {reason}")),
        }
    }
    for (number, log) in options.logs.iter().enumerate() {
        match tail(log) {
            Ok(text) => bundle.add(&format!("log-{}.txt", number + 1), &text),
            Err(error) => missing.push(format!("{}: {error}", log.display())),
        }
    }
    let missing_text: String = missing.iter().map(|line| format!("{line}\n")).collect();
    bundle.add("missing.txt", &missing_text);
    bundle.write(&path).map_err(|error| {
        Failure::unavailable(
            format!("{} cannot be written: {error}", path.display()),
            "name another file with --output; an existing file is not replaced",
        )
    })?;
    let names: Vec<&str> = bundle.names().collect();
    if options.json {
        writeln!(out, "{}", serde_json::json!({ "file": path, "contents": names, "missing": missing }))?;
        return Ok(exit::OK);
    }
    writeln!(out, "{} ({})", path.display(), names.join(", "))?;
    for line in &missing {
        writeln!(out, "  not in it: {line}")?;
    }
    writeln!(out, "Secrets of the configuration were removed. Look through it before you send it.")?;
    Ok(exit::OK)
}

async fn examine(options: &Options, config: &Config, bundle: &mut Bundle) {
    let examined = doctor::Options {
        outage: doctor::OUTAGE,
        management: options.management.clone(),
        ..doctor::Options::default()
    };
    let findings = doctor::examine(config, &examined, &process_env).await;
    let findings = serde_json::to_value(findings).unwrap_or_default();
    bundle.add("findings.json", &format!("{findings:#}\n"));
    let mut topology = Vec::new();
    for pipeline in &config.pipelines {
        topology.push(doctor::topology(pipeline, &examined).await);
    }
    bundle.add("topology.json", &format!("{:#}\n", serde_json::Value::from(topology)));
}

/// The configuration with all defaults. Secrets show as `…`, and queries of addresses are cut.
fn shown(config: &Config) -> serde_json::Value {
    let mut json = serde_json::to_value(config).unwrap_or_default();
    cut_queries(&mut json);
    json
}

fn cut_queries(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) if text.starts_with("http") => {
            if let Some((before, _)) = text.split_once('?') {
                *text = format!("{before}?…");
            }
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(cut_queries),
        serde_json::Value::Object(map) => map.values_mut().for_each(cut_queries),
        _ => {}
    }
}

/// Names only: a value may be a secret.
fn environment() -> String {
    let is_ours =
        |name: &str| ["LONGHAUL_", "K_", "OTEL_", "NAMESPACE"].iter().any(|start| name.starts_with(start));
    let mut names: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| is_ours(name))
        .collect();
    names.sort();
    names.iter().map(|name| format!("{name}\n")).collect()
}

async fn ask(options: &Options, page: &str) -> Result<String, String> {
    let client = http::builder().timeout(TIMEOUT).build().map_err(|error| error.to_string())?;
    let url = format!("{}/{page}", options.url.trim_end_matches('/'));
    let mut request = client.get(&url).header("accept", "application/json, text/plain;q=0.9, */*;q=0.1");
    if let Some(token) = &options.token {
        request = request.bearer_auth(token);
    }
    let answer = request
        .send()
        .await
        .map_err(|_| format!("{} does not answer", http::shown_text(&options.url).trim_end_matches('/')))?;
    let status = answer.status();
    // The text of /readyz matters most when it is not 200.
    if !status.is_success() && page != "readyz" {
        return Err(format!("{} answers {status}", http::shown_text(&url)));
    }
    answer.text().await.map_err(|error| error.without_url().to_string())
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
    let mut text = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
