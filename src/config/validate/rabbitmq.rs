//! RabbitMQ: the URI, the queue to declare, where to publish.

use std::borrow::Cow;

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
                    "the key `url` is missing: the source is Kafka, so there is no RabbitMQ to take it from",
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

    /// No reason quotes any part of the URI: everything in it may come from a secret.
    fn amqp_url(&mut self, secret: &Secret, tls: &Tls, path: &Path) {
        // One that does not resolve is reported already.
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

fn parse(text: &str) -> Result<Url, (&'static str, &'static str)> {
    const FORM: &str = "write amqp://user:password@host:5672/vhost";
    let uri = Url::parse(text).map_err(|_| {
        ("this is no URI", "write amqp://user:password@host:5672/vhost, with /, @, : and % of a password as %2F, %40, %3A and %25")
    })?;
    if !matches!(uri.scheme(), "amqp" | "amqps") {
        return Err(("the URI starts with neither `amqp://` nor `amqps://`", FORM));
    }
    match uri.host() {
        None | Some(Host::Domain("")) => return Err(("the URI names no host", FORM)),
        // The AMQP client takes such a host for localhost without a word (amq-protocol-uri 10.6).
        Some(Host::Ipv6(_)) => {
            return Err(("an IPv6 address is not supported here", "use a host name that resolves to it"));
        }
        Some(Host::Domain(_) | Host::Ipv4(_)) => {}
    }
    let fits = |(key, value): (Cow<'_, str>, Cow<'_, str>)| match &*key {
        "heartbeat" | "channel_max" => value.parse::<u16>().is_ok(),
        "frame_max" => value.parse::<u32>().is_ok(),
        "connection_timeout" => value.parse::<u64>().is_ok(),
        _ => true,
    };
    if !uri.query_pairs().all(fits) {
        return Err(("a number behind the `?` is none, or too large", "write it as in ?heartbeat=60"));
    }
    Ok(uri)
}
