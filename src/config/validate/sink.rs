//! Checks services: addresses, headers and timeouts.

use std::collections::BTreeMap;

use http::uri::Authority;
use http::{HeaderName, HeaderValue};
use url::Url;

use super::Context;
use crate::config::path::Path;
use crate::config::secret::Secret;
use crate::config::types::{HttpTarget, Sink};
use crate::config::units::Span;

/// Headers that may not be configured, in lower case, and the reasons.
const REFUSED: [(&str, &str, &str); 14] = [
    ("expect", "after a `100 Continue` Knative's queue-proxy turns every failure into 200", "remove it"),
    ("idempotency-key", "Go's proxies in between would send a request again by themselves", "remove it"),
    ("x-idempotency-key", "Go's proxies in between would send a request again by themselves", "remove it"),
    ("k-network-probe", "Knative answers it with 200 and runs nothing", "remove it"),
    ("host", "the key `host` sets this header", "use `host:` beside `url:`"),
    ("content-length", "it follows from the body", "remove it"),
    ("content-type", "it follows from the item", "remove it"),
    ("transfer-encoding", HOP, "remove it"),
    ("connection", HOP, "remove it"),
    ("keep-alive", HOP, "remove it"),
    ("proxy-connection", HOP, "remove it"),
    ("te", HOP, "remove it"),
    ("trailer", HOP, "remove it"),
    ("upgrade", HOP, "remove it"),
];
const HOP: &str = "the connection to the service is longhaul's own, one HTTP/1.1 request at a time";

impl Context<'_> {
    pub(super) fn sink(&mut self, sink: &Sink, path: &Path) {
        self.sink_url(sink.url.as_deref(), &path.key("url"));
        self.host(sink.host.as_deref(), &path.key("host"));
        self.headers(&sink.headers, &path.key("headers"));
        self.tls(&sink.tls, &path.key("tls"));
        let least = Span::from_millis(1);
        self.range(&path.key("timeout"), sink.timeout, least, Span::MAX);
        self.range(&path.key("connect_timeout"), sink.connect_timeout, least, Span::MAX);
        // The kernel counts milliseconds in 32 bits. A day is far below that, and longer than
        // anyone needs.
        self.range(
            &path.key("tcp_user_timeout"),
            sink.tcp_user_timeout,
            Span::from_secs(1),
            Span::from_hours(24),
        );
    }

    /// Checks a service for dead letters.
    pub(super) fn http_target(&mut self, target: &HttpTarget, path: &Path) {
        self.http_url(&target.url, "", &path.key("url"));
        self.host(target.host.as_deref(), &path.key("host"));
        self.headers(&target.headers, &path.key("headers"));
        self.tls(&target.tls, &path.key("tls"));
        self.range(&path.key("timeout"), target.timeout, Span::from_secs(1), Span::from_secs(600));
    }

    fn host(&mut self, host: Option<&str>, path: &Path) {
        if host.is_some_and(|host| host.contains('@') || host.parse::<Authority>().is_err()) {
            let help = "write a host name such as thumbs.default.example.com";
            self.report.mistake(path, "this is not a host name", help);
        }
    }

    fn sink_url(&mut self, url: Option<&str>, path: &Path) {
        let (given, origin) = match url {
            Some(url) => (url.to_owned(), ""),
            None => match (self.env)("K_SINK") {
                Some(url) => (url, "the variable K_SINK: "),
                None => {
                    let reason = "the key `url` is missing, and the variable K_SINK is not set";
                    let help = "add `sink: { url: \"http://…\" }`, or let a SinkBinding set K_SINK";
                    return self.report.mistake(path, reason, help);
                }
            },
        };
        self.http_url(&given, origin, path);
    }

    /// Checks an address. `origin` says where it comes from, if not from the file.
    fn http_url(&mut self, given: &str, origin: &str, path: &Path) {
        const FORM: &str = "write an address such as http://thumbs.default.svc.cluster.local";
        let mut wrong = |reason: &str, help| self.report.mistake(path, format!("{origin}{reason}"), help);
        match Url::parse(given) {
            Err(_) => wrong("this is not a URL", FORM),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                wrong("the URL starts with neither `http://` nor `https://`", FORM);
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                wrong(
                    "a user or password in the URL would be shown in logs",
                    "write `headers: { Authorization: \"Basic ${file:…}\" }` instead",
                );
                self.report.hide_value(path);
            }
            Ok(_) => {}
        }
    }

    fn headers(&mut self, headers: &BTreeMap<String, Secret>, path: &Path) {
        let mut seen = Vec::new();
        for (name, value) in headers {
            let at = path.key(name);
            let Ok(lower) = HeaderName::from_bytes(name.as_bytes()) else {
                let help = "use letters, digits and `-`";
                self.report.mistake(&at, "this cannot be the name of a header", help);
                continue;
            };
            if let Some((_, reason, help)) = REFUSED.iter().find(|(refused, ..)| lower == *refused) {
                self.report.mistake(&at, *reason, *help);
            } else if lower.as_str().starts_with("ce-") {
                let help = "use `event:`, and `event.extensions` for attributes of your own";
                self.report.mistake(&at, "headers with `ce-` are the event's attributes", help);
            } else if seen.contains(&lower) {
                self.report.mistake(&at, "this header is given twice, in other letters", "keep one of them");
            }
            self.header_value(value, &lower, &at);
            seen.push(lower);
        }
    }

    fn header_value(&mut self, value: &Secret, name: &HeaderName, path: &Path) {
        let Ok(value) = value.resolve_with(self.env) else { return };
        if HeaderValue::from_str(&value).is_err() {
            let help = "remove line breaks and control characters, also from files that it names";
            self.report.mistake(path, "this cannot be the value of a header", help);
        }
        if *name == http::header::USER_AGENT && value.starts_with("kube-probe/") {
            let reason = "Knative takes this for a health check, answers 200 and runs nothing";
            self.report.mistake(path, reason, "write another name");
        }
    }
}
