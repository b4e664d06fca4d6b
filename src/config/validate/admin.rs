//! The admin server.

use std::net::SocketAddr;

use super::Context;
use crate::config::path::Path;
use crate::config::secret::Secret;
use crate::config::types::Admin;

impl Context<'_> {
    pub(super) fn admin(&mut self, admin: &Admin, path: &Path) {
        if admin.listen.as_ref().is_some_and(|address| address.parse::<SocketAddr>().is_err()) {
            let mend = "write an IP address and a port, such as 0.0.0.0:9090 or [::1]:9090";
            self.report.mistake(&path.key("listen"), "this is no address to listen on", mend);
        }
        self.token(admin.token.as_ref(), &path.key("token"));
    }

    /// A bearer token.
    pub(super) fn token(&mut self, token: Option<&Secret>, path: &Path) {
        let Some(Ok(token)) = token.map(|token| token.resolve_with(self.env)) else { return };
        if token.is_empty() {
            let reason = "the token is empty, so that anyone would have it";
            self.report.mistake(path, reason, "write a token, or remove the key");
        } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let reason = "the token has characters that cannot stand in a header";
            self.report.mistake(path, reason, "use letters, digits and punctuation, without spaces");
        }
    }
}
