//! Checks the other replicas: their addresses and the secret that they share.

use url::Url;

use super::Context;
use super::kafka::is_host_and_port;
use crate::config::path::Path;
use crate::config::types::{Admin, Peers, Tls};
use crate::config::units::Span;

impl Context<'_> {
    pub(super) fn peers(&mut self, peers: &Peers, admin: &Admin, path: &Path) {
        if peers.dns.as_deref().is_some_and(|name| name.contains("://") || !is_host_and_port(name)) {
            let help =
                "write a name and the port of `admin.listen`, such as longhaul-headless.default.svc:9090";
            self.report.mistake(&path.key("dns"), "this is not `host:port`", help);
        }
        for (index, address) in peers.addresses.iter().enumerate() {
            if !is_base_address(address) {
                let reason = "this is not the address of an admin server";
                let help = "write http:// or https://, the host and the port, such as http://10.0.0.7:9090";
                self.report.mistake(&path.key("addresses").item(index), reason, help);
            }
        }
        self.tls(&peers.tls, &path.key("tls"));
        if peers.tls == Tls::default() && self.report.is_given(&path.key("tls")) && peers.dns.is_some() {
            let reason =
                "this has no effect: without a file in it the addresses of `dns` are asked without TLS";
            self.report.warning(&path.key("tls"), reason, "add `ca_file:`");
        }
        self.token(peers.token.as_ref(), &path.key("token"));
        let own = Path::default().key("admin");
        if peers.token.is_none() && admin.token.is_none() {
            self.report.mistake(
                &own.key("token"),
                "the key `token` is missing: replicas (`peers`) hand results only to those that know it",
                "add `token: \"${env:LONGHAUL_TOKEN}\"`, the same in all replicas, here or under `peers:`",
            );
        }
        if admin.listen.is_none() {
            self.report.mistake(
                &own.key("listen"),
                "the key `listen` is missing: the other replicas (`peers`) ask at the admin server",
                "add `listen: 0.0.0.0:9090`",
            );
        }
        self.range(&path.key("timeout"), peers.timeout, Span::from_millis(100), Span::from_secs(30));
    }
}

/// Whether the address is a scheme, a host and a port, and nothing more.
fn is_base_address(address: &str) -> bool {
    Url::parse(address).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.path() == "/"
            && url.query().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    })
}
