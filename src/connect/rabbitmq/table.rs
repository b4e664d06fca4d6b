//! Converts AMQP field tables and properties to and from types that are independent of the broker.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable, ShortString};

use crate::event::{Exact, Message, Origin, Properties, RabbitmqOrigin, Value};

/// A name or property that AMQP cannot hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {bytes} bytes long, and AMQP allows 255")]
pub struct TooLong {
    pub what: String,
    pub bytes: usize,
}

/// Converts a value. [`amqp_value`] makes the same type again. A long string becomes text if it is
/// UTF-8.
pub fn value(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(it) => Value::Bool(*it),
        AMQPValue::ShortShortInt(it) => Value::Exact(Exact::Int8(*it)),
        AMQPValue::ShortShortUInt(it) => Value::Exact(Exact::UInt8(*it)),
        AMQPValue::ShortInt(it) => Value::Exact(Exact::Int16(*it)),
        AMQPValue::ShortUInt(it) => Value::Exact(Exact::UInt16(*it)),
        AMQPValue::LongInt(it) => Value::Exact(Exact::Int32(*it)),
        AMQPValue::LongUInt(it) => Value::Exact(Exact::UInt32(*it)),
        AMQPValue::LongLongInt(it) => Value::Int(*it),
        AMQPValue::Float(it) => Value::Exact(Exact::Float32(*it)),
        AMQPValue::Double(it) => Value::Float(*it),
        AMQPValue::DecimalValue(it) => Value::Exact(Exact::Decimal { scale: it.scale, value: it.value }),
        AMQPValue::ShortString(it) => Value::Text(it.to_string()),
        AMQPValue::LongString(it) => match std::str::from_utf8(it.as_bytes()) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Exact(Exact::LongString(it.as_bytes().to_vec().into())),
        },
        AMQPValue::ByteArray(it) => Value::Bytes(it.as_slice().to_vec().into()),
        AMQPValue::Timestamp(it) => Value::Timestamp(*it),
        AMQPValue::FieldArray(it) => Value::List(it.as_slice().iter().map(self::value).collect()),
        AMQPValue::FieldTable(it) => Value::Table(headers(it)),
        AMQPValue::Void => Value::Null,
    }
}

pub fn headers(table: &FieldTable) -> Vec<(String, Value)> {
    table.inner().iter().map(|(name, it)| (name.to_string(), value(it))).collect()
}

pub fn amqp_value(value: &Value) -> Result<AMQPValue, TooLong> {
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(it) => AMQPValue::Boolean(*it),
        Value::Int(it) => AMQPValue::LongLongInt(*it),
        Value::Float(it) => AMQPValue::Double(*it),
        Value::Text(it) => AMQPValue::LongString(it.as_str().into()),
        Value::Bytes(it) => AMQPValue::ByteArray(ByteArray::from(it.to_vec())),
        Value::Timestamp(it) => AMQPValue::Timestamp(*it),
        Value::List(it) => {
            let values: Result<Vec<_>, _> = it.iter().map(amqp_value).collect();
            AMQPValue::FieldArray(FieldArray::from(values?))
        }
        Value::Table(it) => AMQPValue::FieldTable(table(it)?),
        Value::Exact(it) => exact(it),
    })
}

fn exact(value: &Exact) -> AMQPValue {
    match value {
        Exact::Int8(it) => AMQPValue::ShortShortInt(*it),
        Exact::UInt8(it) => AMQPValue::ShortShortUInt(*it),
        Exact::Int16(it) => AMQPValue::ShortInt(*it),
        Exact::UInt16(it) => AMQPValue::ShortUInt(*it),
        Exact::Int32(it) => AMQPValue::LongInt(*it),
        Exact::UInt32(it) => AMQPValue::LongUInt(*it),
        Exact::Float32(it) => AMQPValue::Float(*it),
        Exact::Decimal { scale, value } => {
            AMQPValue::DecimalValue(DecimalValue { scale: *scale, value: *value })
        }
        Exact::LongString(it) => AMQPValue::LongString(it.to_vec().into()),
    }
}

/// Converts headers. AMQP has each name once, so the last value of a repeated name stays.
pub fn table(headers: &[(String, Value)]) -> Result<FieldTable, TooLong> {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(short(&format!("header name {name:.20}…"), name)?, amqp_value(value)?);
    }
    Ok(table)
}

/// Returns the bytes that the table takes in a frame, or a little more.
pub fn size(table: &FieldTable) -> usize {
    fn of(value: &AMQPValue) -> usize {
        5 + match value {
            AMQPValue::LongString(it) => it.len(),
            AMQPValue::ByteArray(it) => it.len(),
            AMQPValue::ShortString(it) => it.as_str().len(),
            AMQPValue::FieldArray(it) => it.as_slice().iter().map(of).sum(),
            AMQPValue::FieldTable(it) => size(it),
            _ => 8,
        }
    }
    table.inner().iter().map(|(name, value)| 1 + name.as_str().len() + of(value)).sum()
}

pub fn properties(from: &BasicProperties) -> Properties {
    let text = |property: &Option<ShortString>| property.as_ref().map(ShortString::to_string);
    Properties {
        content_type: text(from.content_type()),
        content_encoding: text(from.content_encoding()),
        delivery_mode: *from.delivery_mode(),
        priority: *from.priority(),
        correlation_id: text(from.correlation_id()),
        reply_to: text(from.reply_to()),
        expiration: text(from.expiration()),
        message_id: text(from.message_id()),
        timestamp: *from.timestamp(),
        kind: text(from.kind()),
        user_id: text(from.user_id()),
        app_id: text(from.app_id()),
        cluster_id: text(from.cluster_id()),
    }
}

/// Makes the message of a delivery from this queue.
pub fn message(queue: &str, from: lapin::message::Delivery) -> Message {
    Message {
        // lapin doubles the memory of a body until all frames fit. The unused part goes back.
        body: Bytes::from(from.data.into_boxed_slice()),
        headers: from.properties.headers().as_ref().map(headers).unwrap_or_default(),
        origin: Origin::Rabbitmq(RabbitmqOrigin {
            queue: queue.to_owned(),
            exchange: from.exchange.into(),
            routing_key: from.routing_key.into(),
            properties: properties(&from.properties),
        }),
    }
}

/// Returns a string of at most 255 bytes. lapin's own conversion panics above that.
pub fn short(what: &str, text: &str) -> Result<ShortString, TooLong> {
    ShortString::try_new(text).map_err(|_| TooLong { what: what.to_owned(), bytes: text.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact_values() -> Vec<Value> {
        let values = [
            Exact::Int8(i8::MIN),
            Exact::UInt8(u8::MAX),
            Exact::Int16(i16::MIN),
            Exact::UInt16(u16::MAX),
            Exact::Int32(i32::MIN),
            Exact::UInt32(u32::MAX),
            Exact::Float32(0.1),
            Exact::Decimal { scale: 2, value: u32::MAX },
            Exact::LongString(vec![0xff].into()),
        ];
        values.map(Value::Exact).into()
    }

    #[test]
    fn every_kind_of_value_survives_both_ways() {
        let headers = vec![
            ("bool".to_owned(), Value::Bool(true)),
            ("bytes".to_owned(), Value::Bytes(vec![0xff, 0x00].into())),
            ("float".to_owned(), Value::Float(0.1)),
            ("int".to_owned(), Value::Int(i64::MIN)),
            ("list".to_owned(), Value::List(vec![Value::Null, Value::Text("é".into())])),
            ("narrow".to_owned(), Value::List(exact_values())),
            ("table".to_owned(), Value::Table(vec![("t".to_owned(), Value::Timestamp(u64::MAX))])),
        ];
        let made = table(&headers).unwrap();
        assert_eq!(super::headers(&made), headers);
        assert!(size(&made) > 60);
    }

    #[test]
    fn a_name_that_is_too_long_is_an_error_and_no_panic() {
        let name = "é".repeat(128);
        let error = table(&[(name, Value::Null)]).unwrap_err();
        assert_eq!(error.bytes, 256);
    }
}
