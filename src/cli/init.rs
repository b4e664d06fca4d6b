//! `longhaul init`: writes a commented configuration that passes `check`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::exit;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The broker of the items.
    #[arg(long, env = "LONGHAUL_BROKER", value_enum, default_value = "rabbitmq")]
    broker: Broker,
    /// Name of the queue or topic, and of the pipeline.
    #[arg(long, env = "LONGHAUL_QUEUE", default_value = "work", value_parser = queue)]
    queue: String,
    /// The file to write; `-` is standard output. An existing file is never replaced.
    #[arg(short, long, env = "LONGHAUL_OUTPUT", default_value = "longhaul.yaml", value_name = "FILE")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Broker {
    /// A RabbitMQ queue.
    Rabbitmq,
    /// A Kafka topic.
    Kafka,
}

/// The name in the templates that is replaced.
const NAME: &str = "QUEUE";

/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let template = match options.broker {
        Broker::Rabbitmq => include_str!("init/rabbitmq.yaml"),
        Broker::Kafka => include_str!("init/kafka.yaml"),
    };
    let text = template.replace(NAME, &options.queue);
    if options.output.as_os_str() == "-" {
        out.write_all(text.as_bytes())?;
        return Ok(exit::OK);
    }
    match create(&options.output, &text) {
        Ok(()) => {
            let file = options.output.display();
            writeln!(
                out,
                "{file}: written\n  check it:  longhaul check -c {file}\n  run it:    longhaul run -c {file}"
            )?;
            Ok(exit::OK)
        }
        Err(error) => {
            let what = format!("{} cannot be written: {error}", options.output.display());
            exit::say(err, &what, hint(&error))?;
            Ok(exit::USAGE)
        }
    }
}

/// Writes a file that must not exist yet.
pub(super) fn create(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(file)?.write_all(text.as_bytes())
}

pub(super) fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AlreadyExists => "remove it, or name another one with --output; nothing is replaced",
        io::ErrorKind::NotFound => "make the folder first, or name another one with --output",
        _ => "name another place with --output",
    }
}

/// A name that is valid for a queue, for a topic and for a pipeline.
fn queue(text: &str) -> Result<String, String> {
    let is_valid = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    match !text.is_empty()
        && text.len() <= 63
        && text.chars().all(is_valid)
        && !text.starts_with('-')
        && !text.ends_with('-')
    {
        true => Ok(text.to_owned()),
        false => Err("use lower-case letters, digits and `-`; edit the file for another name".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Features, load};

    fn init(broker: Broker, output: &Path) -> (u8, String, String) {
        let options = Options { broker, queue: "films-4k".to_owned(), output: output.to_owned() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&options, &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn each_file_passes_the_check_without_a_warning() {
        for (broker, key) in [(Broker::Rabbitmq, "queue: films-4k"), (Broker::Kafka, "topics: [films-4k]")] {
            let (code, text, _) = init(broker, Path::new("-"));
            assert_eq!(code, 0);
            assert!(
                text.contains(key) && text.contains("films-4k.dead") && !text.contains("work.dead"),
                "{text}"
            );
            let loaded =
                load("f", &text, Features { kafka: true, kafka_tls: false, guard: false }, &|_| None);
            let loaded = loaded.unwrap_or_else(|mistakes| panic!("{mistakes}"));
            assert!(loaded.warnings.list.is_empty(), "{}", loaded.warnings);
        }
    }

    #[test]
    fn an_existing_file_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("longhaul.yaml");
        assert_eq!(init(Broker::Rabbitmq, &file).0, 0);
        let before = std::fs::read_to_string(&file).unwrap();
        let (code, out, err) = init(Broker::Kafka, &file);
        assert_eq!((code, out.as_str()), (64, ""));
        assert!(err.contains("cannot be written") && err.contains("help: remove it"), "{err}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
        assert!(init(Broker::Kafka, &folder.path().join("no/such.yaml")).2.contains("make the folder first"));
    }

    #[test]
    fn a_name_fits_everywhere() {
        assert!(queue("films-4k").is_ok());
        for text in ["", "Films", "a b", "-a", "a-", "a.b"] {
            assert!(queue(text).is_err(), "{text}");
        }
    }
}
