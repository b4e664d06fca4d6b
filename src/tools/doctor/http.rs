//! RabbitMQ's management API, for the facts that AMQP does not show.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value as Json;

use crate::connect::http;
use crate::tools::place::Rabbitmq;

/// A firewall may drop the packets to this port.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Stands for the virtual host. No queue or exchange has such a name.
const VHOST: &str = "\0";

/// A queue as the management API shows it.
pub enum Known {
    Queue(Box<Json>),
    /// The reason why it is not known.
    Not(String),
}

/// Asks for a queue, with the user of the AMQP address.
pub async fn queue(place: &Rabbitmq, queue: &str, management: Option<&str>) -> Known {
    match ask(place, &["queues", VHOST, queue], management).await {
        Ok(json) => Known::Queue(Box::new(json)),
        Err(reason) => Known::Not(reason),
    }
}

/// Whether anything is bound to the exchange; `None` if it is not known.
pub async fn has_bindings(place: &Rabbitmq, exchange: &str, management: Option<&str>) -> Option<bool> {
    let path = ["exchanges", VHOST, exchange, "bindings", "source"];
    let bindings = ask(place, &path, management).await.ok()?;
    Some(!bindings.as_array()?.is_empty())
}

/// `path` is below `/api`; [`VHOST`] in it stands for the virtual host.
async fn ask(place: &Rabbitmq, path: &[&str], management: Option<&str>) -> Result<Json, String> {
    let url = place.url.resolve().map_err(|error| error.to_string())?;
    let url = url::Url::parse(&url).map_err(|_| "the address cannot be read".to_owned())?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let vhost = match url.path() {
        "" => "/".to_owned(),
        path => decoded(&path[1..]),
    };
    let base = match management {
        Some(base) => base.trim_end_matches('/').to_owned(),
        None if url.scheme() == "amqps" => format!("https://{}:15671", url.host_str().unwrap_or_default()),
        None => format!("http://{}:15672", url.host_str().unwrap_or_default()),
    };
    let part = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let parts = path.iter().map(|one| part(if *one == VHOST { &vhost } else { one }));
    let address = format!("{base}/api/{}", parts.collect::<Vec<_>>().join("/"));
    let (user, password) = match (url.username(), url.password()) {
        ("", None) => ("guest".to_owned(), "guest".to_owned()),
        (user, password) => (decoded(user), decoded(password.unwrap_or_default())),
    };
    let client = http::builder().timeout(TIMEOUT).build().map_err(|error| error.to_string())?;
    let asked = client.get(&address).basic_auth(user, Some(password)).send().await;
    let base = http::shown_text(&base).trim_end_matches('/').to_owned();
    let answer = asked.map_err(|_| format!("{base} does not answer"))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("{base} answers {status}"));
    }
    let text = answer.text().await.map_err(|_| format!("{base} does not finish its answer"))?;
    serde_json::from_str(&text).map_err(|_| format!("{base} is not RabbitMQ's management API"))
}
