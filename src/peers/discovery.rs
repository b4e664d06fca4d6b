//! Where the other replicas are.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How old an answer of the name service may be when a question is put. A replica that just started is then missed for
/// a second at most, and it cannot have been given anything that it could hand over by then.
const FRESH: Duration = Duration::from_secs(1);

/// Replicas that are asked. Far more than anyone runs; a name with more addresses is not ours.
const MOST: usize = 100;

/// Finds the other replicas, and this one among them: it is told apart by its name in the answer.
pub enum Discovery {
    /// All addresses of a name, asked for again and again: a headless Service.
    Dns(Dns),
    /// Base addresses such as `http://10.0.0.7:9090`.
    Fixed(Vec<String>),
}

/// A name and what it meant the last time.
pub struct Dns {
    /// `host:port`
    name: String,
    known: Mutex<Option<Known>>,
}

struct Known {
    addresses: Vec<String>,
    /// When the name service was asked, whether or not it answered.
    asked: Instant,
}

impl Discovery {
    /// `name` is `host:port`.
    pub fn dns(name: String) -> Self {
        Discovery::Dns(Dns { name, known: Mutex::new(None) })
    }

    /// Base addresses, without a slash at the end. Where the name service does not answer `within` that time, those
    /// that it told before.
    pub(super) async fn addresses(&self, within: Duration) -> Vec<String> {
        let mut addresses = match self {
            Discovery::Dns(dns) => dns.addresses(within).await,
            Discovery::Fixed(addresses) => {
                addresses.iter().map(|address| address.trim_end_matches('/').to_owned()).collect()
            }
        };
        addresses.truncate(MOST);
        addresses
    }
}

impl Dns {
    /// Many questions at once are one lookup: the others wait for it, and one that failed is not repeated for each.
    async fn addresses(&self, within: Duration) -> Vec<String> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.asked.elapsed() < FRESH) {
            return known.addresses.clone();
        }
        let found = match timeout(within, lookup_host(&self.name)).await {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {within:?}")),
        };
        let addresses = match found {
            Ok(found) => {
                // Each once: the name service may tell an address for each kind of socket.
                let found: BTreeSet<SocketAddr> = found.collect();
                found.into_iter().map(|address| format!("http://{address}")).collect()
            }
            Err(error) => {
                let before = known.take().map(|known| known.addresses).unwrap_or_default();
                tracing::warn!(
                    error,
                    name = self.name,
                    addresses = before.len(),
                    "The other replicas can't be looked up; asking those that were known before"
                );
                before
            }
        };
        *known = Some(Known { addresses: addresses.clone(), asked: Instant::now() });
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_all_its_addresses_and_is_not_asked_for_again_at_once() {
        let discovery = Discovery::dns("localhost:9090".to_owned());
        let addresses = discovery.addresses(Duration::from_secs(20)).await;
        assert!(addresses.contains(&"http://127.0.0.1:9090".to_owned()), "{addresses:?}");
        // Too short a time to ask anybody.
        assert_eq!(discovery.addresses(Duration::ZERO).await, addresses);
    }

    #[tokio::test]
    async fn what_was_known_stays_while_nobody_answers() {
        let asked = Instant::now() - FRESH * 2;
        let known = Known { addresses: vec!["http://10.0.0.7:9090".to_owned()], asked };
        let dns = Dns { name: "longhaul.invalid:9090".to_owned(), known: Mutex::new(Some(known)) };
        assert_eq!(dns.addresses(Duration::from_secs(20)).await, ["http://10.0.0.7:9090"]);
    }
}
