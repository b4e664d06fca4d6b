//! `longhaul version`: the version, and the parts that this build has.

use std::io::{self, Write};

use crate::config::Features;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Print JSON.
    #[arg(long, env = "LONGHAUL_JSON")]
    json: bool,
}

/// # Errors
/// If `out` cannot be written.
pub fn print(options: &Options, out: &mut dyn Write) -> io::Result<()> {
    if options.json {
        return writeln!(out, "{}", facts());
    }
    let Features { kafka, kafka_tls, guard } = Features::BUILD;
    let parts = match (kafka, kafka_tls) {
        (true, true) => "RabbitMQ, Kafka with TLS and SASL",
        (true, false) => "RabbitMQ, Kafka without TLS",
        (false, _) => "RabbitMQ",
    };
    let guard = if guard { ", guard" } else { "" };
    writeln!(out, "longhaul {} ({parts}{guard})", env!("CARGO_PKG_VERSION"))
}

/// The version and the build as JSON.
pub fn facts() -> serde_json::Value {
    let Features { kafka, kafka_tls, guard } = Features::BUILD;
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "features": { "rabbitmq": true, "kafka": kafka, "kafka_tls": kafka_tls, "guard": guard },
        "os": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
    })
}
