//! Hides values that may be secrets although their place takes no secret.
//!
//! A person who writes `sasl.password` one level too high, `headers:` as a list, or a password into
//! `sink.url` must not find it in the output of a check, which often goes into the log of a build.
//! So such values are hidden before anything is compared with the schema.

use crate::report::Report;
use crate::yaml::{Content, Node};

/// Parts of names that suggest a secret.
const NAMES: [&str; 11] = [
    "pass",
    "secret",
    "token",
    "credential",
    "authorization",
    "apikey",
    "privatekey",
    "accesskey",
    "sasl.jaas",
    "cookie",
    "connectionstring",
];

/// Schemes of the HTTP header `Authorization`.
const SCHEMES: [&str; 2] = ["bearer ", "basic "];

/// Hides every such value below the node.
pub(super) fn hide(node: &Node, report: &mut Report) {
    match &node.content {
        Content::Scalar { text, .. } if holds_credentials(text) => report.hide(node.range),
        Content::Scalar { .. } => {}
        Content::List(items) => items.iter().for_each(|item| hide(item, report)),
        Content::Map(entries) => {
            for entry in entries {
                if names_secret(&entry.key) {
                    report.hide(entry.value.range);
                }
                if holds_credentials(&entry.key) {
                    report.hide(entry.key_range);
                }
                hide(&entry.value, report);
            }
        }
    }
}

fn names_secret(key: &str) -> bool {
    let plain: String =
        key.to_lowercase().chars().filter(|letter| !matches!(letter, '-' | '_' | ' ')).collect();
    NAMES.iter().any(|name| plain.contains(name))
}

/// Whether the text is a URL with a user or a password, or the value of `Authorization`.
fn holds_credentials(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    // The last `@` counts, because a password may contain one by mistake.
    let has_user = text.rsplit_once('@').is_some_and(|(before, _)| before.contains(':'));
    has_user || SCHEMES.iter().any(|scheme| lower.contains(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_the_name_of_their_key_or_by_their_form() {
        for key in
            ["password", "sasl.password", "ssl.key.password", "token", "Api-Key", "api_key", "Authorization"]
        {
            assert!(names_secret(key), "{key}");
        }
        for key in ["queue", "key", "cert_file", "sasl.username", "max_in_flight", "order"] {
            assert!(!names_secret(key), "{key}");
        }
        for text in [
            "amqp://u:p@mq",
            "http://u@h",
            "https://u:p/q#r@h",
            "Bearer abc",
            "x: Basic abc",
            "u:p@kafka:9092",
        ] {
            assert!(holds_credentials(text), "{text}");
        }
        for text in ["amqp://mq/vhost", "ann@example.com", "30s", "bearer"] {
            assert!(!holds_credentials(text), "{text}");
        }
    }
}
