//! Checks RabbitMQ: the URI, the queue to declare, the targets.

mod loops;

use std::collections::HashSet;

use url::{Host, Url};

use super::Context;
use crate::config::path::Path;
use crate::config::secret::Secret;
use crate::config::types::{Declare, Pipeline, RabbitmqSource, RabbitmqTarget, Tls};

impl Context<'_> {
    pub(super) fn rabbitmq_source(&mut self, source: &RabbitmqSource, path: &Path) {
        self.amqp_url(&source.url, &source.tls, path);
        self.tls(&source.tls, &path.key("tls"));
        if let Some(declare) = &source.declare {
            self.declare(declare, &path.key("declare"));
        }
    }

    pub(super) fn rabbitmq_target(&mut self, target: &RabbitmqTarget, pipeline: &Pipeline, path: &Path) {
        match &target.url {
            Some(url) => self.amqp_url(url, &target.tls, path),
            None if pipeline.source.kafka.is_some() && pipeline.source.rabbitmq.is_none() => {
                self.report.mistake(
                    &path.key("url"),
                    "the key `url` is missing: the source is Kafka, so it cannot be taken from there",
                    "add `url: \"amqp://…\"`",
                )
            }
            None => {}
        }
        self.tls(&target.tls, &path.key("tls"));
        if target.queue.is_some() && target.routing_key.is_some() {
            self.report.mistake(
                &path.key("routing_key"),
                "a `queue` is written to by its name, so a routing key has no use here",
                "remove it, or name the `exchange` in place of the `queue`",
            );
        }
    }

    /// Checks the URI. A reason quotes no part of it, because any part may come from a secret.
    fn amqp_url(&mut self, secret: &Secret, tls: &Tls, path: &Path) {
        // A secret that does not resolve is already reported.
        let Ok(text) = secret.resolve_with(self.env) else { return };
        let at = path.key("url");
        let uri = match parse(&text) {
            Ok(uri) => uri,
            Err((reason, help)) => return self.report.mistake(&at, reason, help),
        };
        if uri.path() == "/" {
            self.report.warning(
                &at,
                "the URI ends with `/`, which names the virtual host with the empty name",
                "remove the `/` for the default virtual host, or name one behind it",
            );
        }
        if uri.query_pairs().any(|(key, value)| key == "heartbeat" && value == "0") {
            self.report.warning(
                &at,
                "without heartbeats a connection that falls silent is never noticed, so that 10 s are used",
                "write a number of seconds from 1 to 60, or remove `heartbeat`",
            );
        }
        if uri.scheme() == "amqp" && *tls != Tls::default() {
            self.report.warning(
                &path.key("tls"),
                "certificates have no effect with `amqp://`",
                "use `amqps://`",
            );
        }
    }

    fn declare(&mut self, declare: &Declare, path: &Path) {
        let arguments = path.key("arguments");
        if declare.arguments.contains_key("x-queue-type") {
            let help = "remove it, and write `type:` beside `arguments:`";
            self.report.mistake(&arguments.key("x-queue-type"), "the key `type` says this", help);
        }
        if declare.arguments.get("x-delivery-limit").is_some_and(|limit| limit.as_i64() == Some(-1)) {
            self.report.warning(
                &arguments.key("x-delivery-limit"),
                "-1 means no limit from RabbitMQ 4.0 on; before, the queue drops an item at its first return",
                "make sure that the server is 4.0 or later, or write a large number such as 1000000",
            );
        }
    }
}

/// The reason why a URI is refused, and the help.
type Refusal = (&'static str, &'static str);

fn parse(text: &str) -> Result<Url, Refusal> {
    const FORM: &str = "write amqp://user:password@host:5672/vhost";
    const ESCAPES: &str = "write /, ?, #, @, : and % of a user name, password or virtual host as %2F, %3F, %23, %40, %3A and %25";
    if text.chars().any(|character| character.is_ascii_control() || character == ' ') {
        return Err(("the URI contains a space or a control character", "write it as %20, %0A and so on"));
    }
    let uri = Url::parse(text).map_err(|_| {
        ("this is not a URI", "write amqp://user:password@host:5672/vhost, with /, @, : and % of a password as %2F, %40, %3A and %25")
    })?;
    if !matches!(uri.scheme(), "amqp" | "amqps") {
        return Err(("the URI starts with neither `amqp://` nor `amqps://`", FORM));
    }
    if matches!(uri.host(), None | Some(Host::Domain(""))) {
        return Err(("the URI names no host", FORM));
    }
    // A password with one of these characters ends the authority early: the user becomes the host,
    // and digits a port.
    if uri.fragment().is_some() {
        return Err(("everything from the `#` on is not part of the address", ESCAPES));
    }
    if uri.path().contains('@') || uri.query().is_some_and(|query| query.contains('@')) {
        return Err((
            "an `@` behind the first `/` or `?` is not the end of a user name and password",
            ESCAPES,
        ));
    }
    let parts = [uri.username(), uri.password().unwrap_or_default(), uri.path()];
    if parts.into_iter().any(|part| decoded(part).is_none()) {
        return Err((
            "a `%` is not followed by two hexadecimal digits, or what it stands for is not UTF-8",
            ESCAPES,
        ));
    }
    parameters(&uri)?;
    Ok(uri)
}

fn parameters(uri: &Url) -> Result<(), Refusal> {
    const NUMBER: &str = "a number behind the `?` is not one, or out of range";
    let mut seen = HashSet::new();
    for (key, value) in uri.query_pairs() {
        let (fits, help) = match &*key {
            "heartbeat" => (value.parse::<u16>().is_ok(), "write it as in ?heartbeat=60"),
            "connection_timeout" => {
                (value.parse::<u64>().is_ok(), "write milliseconds, as in ?connection_timeout=10000")
            }
            // 0 means unlimited in AMQP, and one session opens several channels.
            "channel_max" => (
                value.parse::<u16>().is_ok_and(|count| count == 0 || count >= 8),
                "write at least ?channel_max=8, or remove it",
            ),
            // The lower bound is AMQP's smallest frame; the upper one limits the memory of a
            // connection.
            "frame_max" => (
                value.parse::<u32>().is_ok_and(|bytes| bytes == 0 || (4096..=1 << 20).contains(&bytes)),
                "write bytes from 4096 to 1048576, as in ?frame_max=131072, or remove it",
            ),
            "auth_mechanism" => {
                const KNOWN: [&str; 5] = ["plain", "amqplain", "external", "anonymous", "rabbit-cr-demo"];
                if !KNOWN.contains(&&*value.to_lowercase()) {
                    return Err((
                        "the `auth_mechanism` is unknown",
                        "write plain, amqplain, external or anonymous",
                    ));
                }
                (true, "")
            }
            "cacertfile"
            | "certfile"
            | "keyfile"
            | "verify"
            | "fail_if_no_peer_cert"
            | "server_name_indication" => {
                return Err((
                    "a parameter behind the `?` has no effect",
                    "name certificates under `tls:` beside `url:`; the server's certificate is always checked",
                ));
            }
            _ => {
                return Err((
                    "a parameter behind the `?` is unknown",
                    "remove it; known are heartbeat, connection_timeout, channel_max, frame_max and auth_mechanism",
                ));
            }
        };
        if !fits {
            return Err((NUMBER, help));
        }
        if !seen.insert(key) {
            return Err(("a parameter behind the `?` is given twice", "keep one of the two"));
        }
    }
    Ok(())
}

/// Decodes percent-encoding; `None` if it is damaged.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}
