//! Checks the admin server.

use super::Context;
use crate::config::path::Path;
use crate::config::secret::Secret;
use crate::config::types::Admin;

/// A shorter token gets a warning.
const TOKEN_LENGTH: usize = 16;

/// Tokens from examples, including our own.
const EXAMPLES: [&str; 4] = ["change-me", "changeme", "change_me", "your-token"];

const GENERATE: &str = "make one with `openssl rand -hex 32`, and give it to all replicas";

impl Context<'_> {
    pub(super) fn admin(&mut self, admin: &Admin, path: &Path) {
        if let Some(address) = &admin.listen {
            self.listen(address, 9090, &path.key("listen"));
        }
        if let Some(tls) = &admin.tls {
            let path = path.key("tls");
            self.readable(&path.key("cert_file"), &tls.cert_file);
            self.readable(&path.key("key_file"), &tls.key_file);
        }
        self.token(admin.token.as_ref(), &path.key("token"));
        self.token(admin.read_token.as_ref(), &path.key("read_token"));
        let is_address = |text: &String| {
            let url = url::Url::parse(text).ok();
            url.is_some_and(|url| {
                matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none()
            })
        };
        if admin.url.as_ref().is_some_and(|url| !is_address(url)) {
            let help = "write the scheme, the host and the port, such as http://longhaul.default.svc:9090";
            self.report.mistake(&path.key("url"), "this is not the address of a server", help);
        }
    }

    /// Checks a token that people or other replicas must know.
    pub(super) fn token(&mut self, token: Option<&Secret>, path: &Path) {
        let Some(Ok(token)) = token.map(|token| token.resolve_with(self.env)) else { return };
        if token.trim_end().is_empty() {
            let reason = "the token is empty, so that everybody would know it";
            self.report.mistake(path, reason, "write a token, or remove the key");
        } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let reason = "the token has characters that cannot be sent in a header";
            self.report.mistake(path, reason, "use letters, digits and punctuation, without spaces");
        } else if EXAMPLES.iter().any(|example| token.eq_ignore_ascii_case(example)) {
            let reason = "the token is the one of an example, which everybody knows";
            self.report.mistake(path, reason, GENERATE);
        } else if token.len() < TOKEN_LENGTH {
            let reason = format!("the token has {} characters; a short one can be guessed", token.len());
            self.report.warning(path, reason, GENERATE);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load::{Features, load};

    fn found(token: &str) -> String {
        let text = format!(
            "pipelines:\n- {{ name: a, source: {{ rabbitmq: {{ url: amqp://mq, queue: q }} }}, sink: {{ url: http://s }}, max_in_flight: 1, on_failed: hold }}\nadmin: {{ token: '{token}' }}\n"
        );
        match load("f", &text, Features::BUILD, &|_| None) {
            Ok(loaded) => loaded.warnings.to_string(),
            Err(mistakes) => format!("refused: {mistakes}"),
        }
    }

    #[test]
    fn the_token_of_an_example_is_refused_and_a_short_one_is_warned_about() {
        for example in ["change-me", "CHANGE-ME", "changeme"] {
            assert!(
                found(example).starts_with("refused: f:3:17: admin.token: the token is the one of"),
                "{}",
                found(example)
            );
        }
        assert!(found("fifteen-letters").contains("warning: admin.token: the token has 15 characters"));
        assert_eq!(found("sixteen-letters!"), "");
        assert!(found("\n").starts_with("refused: "));
    }
}
