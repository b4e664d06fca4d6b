//! Finds the addresses of the other replicas.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How old the answer of the name service may be when a question is sent. A replica that just
/// started is missed for at most a second, and has no item to hand over so early.
const FRESH: Duration = Duration::from_secs(1);

/// The most replicas that are asked. A name with more addresses does not name the replicas of a
/// bridge.
const MOST: usize = 100;

/// Finds all replicas, this one included. This replica recognises itself by its name in the answer.
pub enum Discovery {
    /// All addresses of a name, looked up again and again: a headless Service.
    Dns(Dns),
    /// Base addresses such as `http://10.0.0.7:9090`.
    Fixed(Vec<String>),
}

/// A replica's admin server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    /// Scheme, host and port, without a slash at the end. Over TLS the certificate must be for this
    /// host.
    pub base: String,
    /// The host's name, and the address to connect to if a lookup found it.
    pub resolved: Option<(String, SocketAddr)>,
}

/// A name and its addresses at the last lookup.
pub struct Dns {
    /// `host:port`
    name: String,
    tls: bool,
    known: Mutex<Option<Known>>,
}

struct Known {
    addresses: Vec<Address>,
    /// The time of the last lookup, even if it failed.
    asked: Instant,
    has_failed: bool,
}

impl Discovery {
    /// `name` is `host:port`.
    pub fn dns(name: String, tls: bool) -> Self {
        Discovery::Dns(Dns { name, tls, known: Mutex::new(None) })
    }

    /// Returns the replicas. If the name service does not answer `within` that time, the last
    /// answer counts.
    pub(super) async fn addresses(&self, within: Duration) -> Vec<Address> {
        let mut addresses = match self {
            Discovery::Dns(dns) => dns.addresses(within).await,
            Discovery::Fixed(addresses) => addresses.iter().map(|address| Address::fixed(address)).collect(),
        };
        addresses.truncate(MOST);
        addresses
    }
}

impl Address {
    pub(super) fn fixed(base: &str) -> Self {
        Address { base: base.trim_end_matches('/').to_owned(), resolved: None }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.resolved {
            Some((_, socket)) => write!(formatter, "{} at {socket}", self.base),
            None => formatter.write_str(&self.base),
        }
    }
}

impl Dns {
    /// Looks the name up. Many questions at once share one lookup, even one that fails.
    async fn addresses(&self, within: Duration) -> Vec<Address> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.asked.elapsed() < FRESH) {
            return known.addresses.clone();
        }
        let found = match timeout(within, lookup_host(&self.name)).await {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {within:?}")),
        };
        let has_failed = found.is_err();
        let addresses = match found {
            Ok(found) => {
                // The name service may list an address once for each kind of socket.
                let found: BTreeSet<SocketAddr> = found.take(10 * MOST).collect();
                found.into_iter().map(|socket| self.address(socket)).collect()
            }
            Err(error) => {
                let had_failed = known.as_ref().is_some_and(|known| known.has_failed);
                let before = known.take().map(|known| known.addresses).unwrap_or_default();
                // The replicas are counted every few seconds, so only the first failure is told.
                if !had_failed {
                    tracing::warn!(
                        error,
                        name = self.name,
                        addresses = before.len(),
                        "The other replicas cannot be looked up; asking those of the last answer"
                    );
                }
                before
            }
        };
        *known = Some(Known { addresses: addresses.clone(), asked: Instant::now(), has_failed });
        addresses
    }

    fn address(&self, socket: SocketAddr) -> Address {
        if !self.tls {
            return Address::fixed(&format!("http://{socket}"));
        }
        // The certificate must be valid for this name.
        let host = self.name.rsplit_once(':').map_or(self.name.as_str(), |(host, _)| host).to_owned();
        Address { base: format!("https://{}", self.name), resolved: Some((host, socket)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_gives_all_its_addresses_and_is_not_looked_up_again_at_once() {
        for (tls, expected) in
            [(false, "http://127.0.0.1:9090"), (true, "https://localhost:9090 at 127.0.0.1:9090")]
        {
            let discovery = Discovery::dns("localhost:9090".to_owned(), tls);
            let addresses = discovery.addresses(Duration::from_secs(20)).await;
            let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            assert!(shown.contains(&expected.to_owned()), "{shown:?}");
            // The time is too short to ask anybody.
            assert_eq!(discovery.addresses(Duration::ZERO).await, addresses);
        }
    }

    #[tokio::test]
    async fn the_last_answer_stays_while_the_name_service_is_silent() {
        let asked = Instant::now() - FRESH * 2;
        let addresses = vec![Address::fixed("http://10.0.0.7:9090")];
        let known = Known { addresses: addresses.clone(), asked, has_failed: false };
        let name = "longhaul.invalid:9090".to_owned();
        let dns = Dns { name, tls: false, known: Mutex::new(Some(known)) };
        assert_eq!(dns.addresses(Duration::from_secs(20)).await, addresses);
    }
}
