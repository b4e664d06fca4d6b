//! A queue or a topic that a command reads or writes, from a URL or from the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::Failure;
use crate::config::{self, Secret, Tls};
#[cfg(feature = "kafka")]
use crate::connect::kafka::Cluster;
use crate::connect::rabbitmq;
use crate::publish::{self, Publisher};

#[cfg(not(feature = "kafka"))]
const NO_KAFKA: &str = "use a build with the feature `kafka`";

/// A queue or a topic. The name is absent if only the broker is known.
#[derive(Clone, Debug)]
pub enum Place {
    Rabbitmq(Rabbitmq),
    Kafka(Kafka),
}

/// A RabbitMQ broker, and a queue or an exchange in it.
#[derive(Clone, Debug)]
pub struct Rabbitmq {
    pub url: Secret,
    pub tls: Tls,
    pub queue: Option<String>,
    pub exchange: Option<String>,
    pub routing_key: Option<String>,
}

/// A Kafka cluster and a topic in it.
#[derive(Clone, Debug)]
pub struct Kafka {
    pub servers: Vec<String>,
    pub options: BTreeMap<String, Secret>,
    pub topic: Option<String>,
}

impl Place {
    /// Reads `amqp://host[/vhost]/queue` or `kafka://host:port[,host:port]/topic`. Without the last
    /// part only the broker is named; a virtual host alone ends with a slash.
    ///
    /// # Errors
    /// Returns an error for a text of another form. It does not show the password.
    pub fn parse(text: &str, options: &BTreeMap<String, Secret>) -> Result<Place, Failure> {
        let unreadable = |error: &dyn std::fmt::Display| {
            Failure::usage(
                format!("the address cannot be read: {error}"),
                "set the variable, or correct the path",
            )
        };
        let secret: Secret = text.parse().map_err(|error| unreadable(&error))?;
        let text = secret.resolve().map_err(|error| unreadable(&error))?;
        if let Some(rest) = text.strip_prefix("kafka://") {
            let (servers, topic) = rest.split_once('/').unwrap_or((rest, ""));
            let servers: Vec<String> =
                servers.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect();
            let is_address = |server: &String| {
                server.rsplit_once(':').is_some_and(|(host, port)| {
                    !host.is_empty() && !host.contains('@') && port.parse::<u16>().is_ok()
                })
            };
            if servers.is_empty() || !servers.iter().all(is_address) || topic.contains('/') {
                return Err(wrong_kafka());
            }
            let topic = Some(topic).filter(|topic| !topic.is_empty()).map(str::to_owned);
            return Ok(Place::Kafka(Kafka { servers, options: options.clone(), topic }));
        }
        if !text.starts_with("amqp://") && !text.starts_with("amqps://") {
            return Err(Failure::usage(
                "the address begins with none of amqp://, amqps:// and kafka://",
                "write amqp://user:password@host/queue or kafka://host:9092/topic",
            ));
        }
        if !options.is_empty() {
            return Err(Failure::usage(
                "--option is for Kafka only",
                "leave it out for an address that begins with amqp",
            ));
        }
        rabbitmq(&text)
    }

    /// The queue or topic that the pipeline takes its items from.
    ///
    /// # Errors
    /// Returns an error if the pipeline reads several topics.
    pub fn source(pipeline: &config::Pipeline) -> Result<Place, Failure> {
        if let Some(source) = &pipeline.source.rabbitmq {
            return Ok(Place::Rabbitmq(Rabbitmq {
                url: source.url.clone(),
                tls: source.tls.clone(),
                queue: Some(source.queue.clone()),
                exchange: None,
                routing_key: None,
            }));
        }
        let Some(source) = &pipeline.source.kafka else {
            return Err(Failure::config("the pipeline has no source", "write `rabbitmq` or `kafka` there"));
        };
        let topic = match source.topics.as_slice() {
            [topic] if !topic.starts_with('^') => Some(topic.clone()),
            _ => None,
        };
        Ok(Place::Kafka(Kafka {
            servers: source.bootstrap_servers.clone(),
            options: source.options.clone(),
            topic,
        }))
    }

    /// The queue or topic of the pipeline's dead letters.
    ///
    /// # Errors
    /// Returns an error if there is none in a broker.
    pub fn dead_letters(pipeline: &config::Pipeline) -> Result<Place, Failure> {
        let name = &pipeline.name;
        let Some(target) = &pipeline.dead_letter else {
            return Err(Failure::config(
                format!("the pipeline {name} has no dead_letter"),
                "name the queue or topic with --from",
            ));
        };
        if target.http.is_some() {
            return Err(Failure::config(
                format!("the dead letters of the pipeline {name} go to a service over HTTP"),
                "ask that service for them; only a queue or a topic can be read",
            ));
        }
        Place::target(pipeline, target.rabbitmq.as_ref(), target.kafka.as_ref())
    }

    /// A target of the pipeline. The keys that it omits are those of the source.
    ///
    /// # Errors
    /// Returns an error if the target names no broker.
    pub fn target(
        pipeline: &config::Pipeline,
        rabbitmq: Option<&config::RabbitmqTarget>,
        kafka: Option<&config::KafkaTarget>,
    ) -> Result<Place, Failure> {
        if let Some(target) = rabbitmq {
            let Some((url, tls)) = target.broker(pipeline.source.rabbitmq.as_ref()) else {
                return Err(Failure::config("the RabbitMQ target has no url", "write `url` there"));
            };
            return Ok(Place::Rabbitmq(Rabbitmq {
                url: url.clone(),
                tls: tls.clone(),
                queue: target.queue.clone(),
                exchange: target.exchange.clone(),
                routing_key: target.routing_key.clone(),
            }));
        }
        let Some(target) = kafka else {
            return Err(Failure::config("the target names no broker", "write `rabbitmq` or `kafka` there"));
        };
        let source = pipeline.source.kafka.as_ref();
        Ok(Place::Kafka(Kafka {
            servers: target.servers(source).to_vec(),
            options: target.all_options(source),
            topic: Some(target.topic.clone()),
        }))
    }

    /// A publisher of confirmed writes to the place.
    ///
    /// # Errors
    /// Returns an error if the place has no name, or an option is wrong.
    pub fn publisher(&self) -> Result<Arc<dyn Publisher>, Failure> {
        match self {
            Place::Rabbitmq(place) => {
                if place.queue.is_none() && place.exchange.is_none() {
                    return Err(nameless("queue", "amqp://host/queue"));
                }
                let target = config::RabbitmqTarget {
                    queue: place.queue.clone(),
                    exchange: place.exchange.clone(),
                    routing_key: place.routing_key.clone(),
                    ..config::RabbitmqTarget::default()
                };
                Ok(Arc::new(publish::rabbitmq::Publisher::new(place.connection("publish"), &target)))
            }
            #[cfg(feature = "kafka")]
            Place::Kafka(place) => {
                let topic =
                    place.topic.as_ref().ok_or_else(|| nameless("topic", "kafka://host:9092/topic"))?;
                let publisher = publish::kafka::Publisher::new(&place.cluster()?, topic)
                    .map_err(|error| Failure::config(error.to_string(), "correct the option"))?;
                Ok(Arc::new(publisher))
            }
            #[cfg(not(feature = "kafka"))]
            Place::Kafka(_) => Err(Failure::usage("this build has no Kafka", NO_KAFKA)),
        }
    }

    /// The same broker with another queue or topic.
    #[must_use]
    pub fn named(&self, name: &str) -> Place {
        let name = Some(name.to_owned());
        match self {
            Place::Rabbitmq(place) => {
                Place::Rabbitmq(Rabbitmq { queue: name, exchange: None, routing_key: None, ..place.clone() })
            }
            Place::Kafka(place) => Place::Kafka(Kafka { topic: name, ..place.clone() }),
        }
    }

    /// The name of the queue or topic.
    pub fn name(&self) -> Option<&str> {
        match self {
            Place::Rabbitmq(place) => place.queue.as_deref().or(place.exchange.as_deref()),
            Place::Kafka(place) => place.topic.as_deref(),
        }
    }

    pub fn broker(&self) -> publish::Broker {
        match self {
            Place::Rabbitmq(_) => publish::Broker::Rabbitmq,
            Place::Kafka(_) => publish::Broker::Kafka,
        }
    }

    /// The broker's address and the name, without user, password and options.
    pub fn address(&self) -> String {
        match self {
            Place::Rabbitmq(place) => {
                let url = place.url.resolve().ok().and_then(|url| url::Url::parse(&url).ok());
                let host = url.as_ref().and_then(url::Url::host_str).unwrap_or("?");
                let port =
                    url.as_ref().and_then(url::Url::port).map(|port| format!(":{port}")).unwrap_or_default();
                let vhost = url.as_ref().map_or("", |url| url.path());
                let vhost =
                    if matches!(vhost.to_ascii_lowercase().as_str(), "" | "/%2f") { "" } else { vhost };
                format!("amqp://{host}{port}{vhost}/{}", self.name().unwrap_or_default())
            }
            Place::Kafka(place) => {
                format!("kafka://{}/{}", place.servers.join(","), self.name().unwrap_or_default())
            }
        }
    }

    /// The place in words, without any secret.
    pub fn shown(&self) -> String {
        match self {
            Place::Rabbitmq(place) => match (&place.queue, &place.exchange) {
                (Some(queue), _) => format!("queue {queue}"),
                (None, Some(exchange)) => format!("exchange {exchange}"),
                (None, None) => "RabbitMQ".to_owned(),
            },
            Place::Kafka(place) => match &place.topic {
                Some(topic) => format!("topic {topic}"),
                None => "Kafka".to_owned(),
            },
        }
    }
}

impl Rabbitmq {
    pub fn connection(&self, purpose: &str) -> rabbitmq::Settings {
        rabbitmq::Settings {
            url: rabbitmq::address(&self.url),
            tls: self.tls.clone(),
            name: format!("longhaul ({purpose})"),
        }
    }

    /// # Errors
    /// Returns an error if the place is an exchange, or only a broker.
    pub fn queue(&self) -> Result<&str, Failure> {
        self.queue.as_deref().ok_or_else(|| match &self.exchange {
            Some(exchange) => Failure::usage(
                format!("{exchange} is an exchange, and only a queue can be read"),
                "name the queue that is bound to it as amqp://host/queue",
            ),
            None => nameless("queue", "amqp://host/queue"),
        })
    }
}

impl Kafka {
    /// # Errors
    /// Returns an error if a secret in an option cannot be read.
    #[cfg(feature = "kafka")]
    pub fn cluster(&self) -> Result<Cluster, Failure> {
        Cluster::of(&self.servers, &self.options)
            .map_err(|error| Failure::config(error, "set the variable, or make the file readable"))
    }

    /// # Errors
    /// Returns an error if only the cluster is known.
    pub fn topic(&self) -> Result<&str, Failure> {
        self.topic.as_deref().ok_or_else(|| nameless("topic", "kafka://host:9092/topic"))
    }
}

fn nameless(what: &str, form: &str) -> Failure {
    Failure::usage(format!("the address names no {what}"), format!("write it as {form}"))
}

fn wrong_kafka() -> Failure {
    Failure::usage(
        "the address of Kafka cannot be read",
        "write kafka://host:9092/topic, or kafka://one:9092,two:9092/topic; user and password are options (--option)",
    )
}

/// Splits the queue off; the rest is an AMQP URI.
fn rabbitmq(text: &str) -> Result<Place, Failure> {
    let (before, query) = text.split_once('?').map_or((text, None), |(before, query)| (before, Some(query)));
    let wrong = || {
        Failure::usage(
            "the address of RabbitMQ cannot be read",
            "write amqp://user:password@host:5672/vhost/queue, special characters percent-encoded",
        )
    };
    let (scheme, rest) = before.split_once("://").ok_or_else(wrong)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (vhost, queue) = match path.rsplit_once('/') {
        Some((vhost, queue)) => (vhost, queue),
        None => ("%2f", path),
    };
    if authority.is_empty() || vhost.contains('/') || vhost.is_empty() {
        return Err(wrong());
    }
    let queue = percent_decode_str(queue).decode_utf8().map_err(|_| wrong())?.into_owned();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    // The text was expanded already; a password may hold the characters of a placeholder.
    let uri = format!("{scheme}://{authority}/{vhost}{query}").replace("${", "$${");
    let url = uri.parse().map_err(|_| wrong())?;
    url::Url::parse(&uri).map_err(|_| wrong())?;
    Ok(Place::Rabbitmq(Rabbitmq {
        url,
        tls: Tls::default(),
        queue: Some(queue).filter(|queue| !queue.is_empty()),
        exchange: None,
        routing_key: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, Option<String>), String> {
        match Place::parse(text, &BTreeMap::new()).map_err(|error| error.what)? {
            Place::Rabbitmq(place) => Ok((place.url.resolve().unwrap(), place.queue)),
            Place::Kafka(place) => Ok((place.servers.join(","), place.topic)),
        }
    }

    #[test]
    fn addresses_with_and_without_a_name() {
        for (text, address, name) in [
            ("amqp://h/q", "amqp://h/%2f", "q"),
            ("amqp://u:p@h:1/v/q%2Fx?heartbeat=5", "amqp://u:p@h:1/v?heartbeat=5", "q/x"),
            ("amqps://h/%2f/q", "amqps://h/%2f", "q"),
            ("amqp://h", "amqp://h/%2f", ""),
            ("amqp://h/", "amqp://h/%2f", ""),
            ("amqp://h/v/", "amqp://h/v", ""),
            ("kafka://a:1,b:2/t", "a:1,b:2", "t"),
            ("kafka://a:1", "a:1", ""),
        ] {
            let (its_address, its_name) = parse(text).unwrap();
            assert_eq!(
                (its_address.as_str(), its_name.as_deref().unwrap_or_default()),
                (address, name),
                "{text}"
            );
        }
    }

    #[test]
    fn a_wrong_address_is_refused_without_its_password() {
        for text in [
            "",
            "q",
            "http://u:hunter2@h/q",
            "amqp://u:hunter2@h/a/b/c",
            "amqp:///q",
            "kafka://h/t",
            "kafka://u:hunter2@h:1/t",
            "kafka:///t",
            "kafka://h:1/a/b",
            "amqp://u:hunter2@h:port/q",
            "amqp://${hunter2}",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
