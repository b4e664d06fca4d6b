//! The message of a request: a CloudEvent as it is, or plain data.

use axum::http::HeaderMap;
use bytes::Bytes;
use percent_encoding::percent_decode_str;

use super::value;
use crate::event::{Value, own};
use crate::publish::{Broker, Outgoing};
use crate::tools::draft::Draft;

/// The longest id, in bytes. AMQP's property `message_id` holds no more.
const ID_MAX: usize = 255;

pub struct Item {
    pub id: String,
    pub outgoing: Outgoing,
}

/// # Errors
/// Returns the reason if the request is a CloudEvent with a defect, or its id cannot be used.
pub fn read(headers: &HeaderMap, body: Bytes, broker: Broker) -> Result<Item, String> {
    let content_type = value(headers, "content-type").unwrap_or("application/octet-stream").to_owned();
    let is_structured = content_type.to_ascii_lowercase().starts_with("application/cloudevents");
    let mut attributes: Vec<(String, String)> = Vec::new();
    let id = if is_structured {
        structured_id(&content_type, &body)?
    } else if headers.contains_key("ce-specversion") {
        for (name, text) in headers {
            let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
            let text = text.to_str().map_err(|_| format!("the header ce-{name} is not text"))?;
            let text = percent_decode_str(text)
                .decode_utf8()
                .map_err(|_| format!("the header ce-{name} is not UTF-8"))?;
            attributes.push((name.to_owned(), text.into_owned()));
        }
        for required in ["specversion", "id", "source", "type"] {
            if !attributes.iter().any(|(name, text)| name == required && !text.is_empty()) {
                return Err(format!("the CloudEvent has no attribute {required}"));
            }
        }
        attributes.iter().find(|(name, _)| name == "id").map(|(_, id)| id.clone()).unwrap_or_default()
    } else {
        let named = value(headers, own::ID).or_else(|| value(headers, "idempotency-key"));
        named.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
    };
    if id.is_empty() || id.len() > ID_MAX || id.chars().any(char::is_control) {
        return Err(format!("the id is empty, longer than {ID_MAX} bytes, or has a control character"));
    }
    let trace = ["traceparent", "tracestate"].into_iter();
    let trace =
        trace.filter_map(|name| Some((name.to_owned(), Value::Text(value(headers, name)?.to_owned()))));
    let draft = Draft {
        body,
        id: id.clone(),
        content_type,
        headers: trace.collect(),
        is_event: is_structured || !attributes.is_empty(),
        attributes,
        key: value(headers, "ce-partitionkey").unwrap_or(&id).to_owned(),
    };
    Ok(Item { id, outgoing: draft.outgoing(broker) })
}

fn structured_id(content_type: &str, body: &Bytes) -> Result<String, String> {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind != "application/cloudevents+json" {
        return Err(format!("{kind} is not supported; send one CloudEvent as application/cloudevents+json"));
    }
    let json: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| format!("the CloudEvent is not JSON: {error}"))?;
    for required in ["specversion", "id", "source", "type"] {
        if json[required].as_str().is_none_or(str::is_empty) {
            return Err(format!("the CloudEvent has no attribute {required}"));
        }
    }
    Ok(json["id"].as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair =
            |&(name, value): &(&'static str, &'static str)| (name.parse().unwrap(), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn events_and_plain_data() {
        let event =
            headers(&[("ce-specversion", "1.0"), ("ce-id", "a%20b"), ("ce-source", "/s"), ("ce-type", "t")]);
        let item = read(&event, "x".into(), Broker::Kafka).unwrap();
        assert_eq!(item.id, "a b");
        assert!(item.outgoing.headers.contains(&("ce_type".to_owned(), Value::Text("t".to_owned()))));
        let item = read(&headers(&[("idempotency-key", "k")]), "x".into(), Broker::Rabbitmq).unwrap();
        assert_eq!(item.outgoing.properties.message_id.as_deref(), Some("k"));
        let structured = headers(&[("content-type", "application/cloudevents+json; charset=utf-8")]);
        let body = r#"{"specversion": "1.0", "id": "i", "source": "/s", "type": "t"}"#;
        assert_eq!(read(&structured, body.into(), Broker::Kafka).unwrap().id, "i");
        for (headers, body) in [
            (headers(&[("ce-specversion", "1.0")]), "x"),
            (structured, "{}"),
            (headers(&[("content-type", "application/cloudevents-batch+json")]), "[]"),
        ] {
            assert!(read(&headers, body.into(), Broker::Kafka).is_err(), "{body}");
        }
    }
}
