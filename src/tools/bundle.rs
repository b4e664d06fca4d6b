//! The archive of `longhaul debug bundle`: files in memory, cleaned of secrets, as a tar.gz.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::{Config, Secret};

/// The shortest text that is removed as a secret; a shorter one is part of many words.
const SECRET_MIN: usize = 4;

/// The files of an archive.
#[derive(Default)]
pub struct Bundle {
    files: Vec<(String, String)>,
    secrets: Vec<String>,
}

impl Bundle {
    /// A bundle from whose files the secrets of this configuration are removed.
    pub fn of(config: Option<&Config>) -> Self {
        let mut secrets = config.map(secrets).unwrap_or_default();
        // The longest first: a secret may be part of another one.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Bundle { files: Vec::new(), secrets }
    }

    pub fn add(&mut self, name: &str, text: &str) {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret, "…");
        }
        self.files.push((name.to_owned(), text));
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(name, _)| name.as_str())
    }

    /// Writes the archive, which only its owner can read. An existing file stays.
    ///
    /// # Errors
    /// Returns an error if the file exists, or cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        for (name, text) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(now);
            archive.append_data(&mut header, format!("longhaul/{name}"), text.as_bytes())?;
        }
        archive.into_inner()?.finish()?.flush()
    }
}

/// All secrets of a configuration: values, and the passwords in addresses.
fn secrets(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |secret: &Secret| {
        let Ok(text) = secret.resolve() else { return };
        if let Ok(url) = url::Url::parse(&text) {
            let password = url.password().unwrap_or_default();
            let decoded = percent_encoding::percent_decode_str(password).decode_utf8_lossy().into_owned();
            found.extend([password.to_owned(), decoded]);
        } else if let Some((_, token)) = text.split_once(' ') {
            found.push(token.to_owned());
        }
        found.push(text);
    };
    for pipeline in &config.pipelines {
        let source = &pipeline.source;
        source.rabbitmq.iter().for_each(|it| add(&it.url));
        let mut options: Vec<_> = source.kafka.iter().map(|it| &it.options).collect();
        let target = pipeline.dead_letter.as_ref();
        let reply = pipeline.reply.as_ref();
        let queues = target
            .and_then(|it| it.rabbitmq.as_ref())
            .into_iter()
            .chain(reply.and_then(|it| it.rabbitmq.as_ref()));
        queues.filter_map(|it| it.url.as_ref()).for_each(&mut add);
        let topics =
            target.and_then(|it| it.kafka.as_ref()).into_iter().chain(reply.and_then(|it| it.kafka.as_ref()));
        options.extend(topics.map(|it| &it.options));
        let is_secret =
            |name: &str| ["password", "secret", "key", "pem", "oauth"].iter().any(|part| name.contains(part));
        for (_, value) in options.into_iter().flatten().filter(|(name, _)| is_secret(name)) {
            add(value);
        }
        pipeline.sink.headers.values().for_each(&mut add);
        target
            .and_then(|it| it.http.as_ref())
            .into_iter()
            .flat_map(|it| it.headers.values())
            .for_each(&mut add);
    }
    config.admin.token.iter().for_each(&mut add);
    found.retain(|secret| secret.len() >= SECRET_MIN && secret != "guest");
    found
}
