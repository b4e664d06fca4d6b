//! A producer that writes AMQP byte by byte, unlike any well-behaved client library.

use std::collections::BTreeSet;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::rabbitmq::address;
use crate::support::within;

pub struct RawProducer {
    stream: TcpStream,
    published: u64,
}

/// A message in its encoded form.
#[derive(Clone, Default)]
pub struct RawMessage {
    pub routing_key: Vec<u8>,
    /// The flags of the properties, and then the properties that are set.
    pub properties: Vec<u8>,
    pub body: Vec<u8>,
}

/// Property flags.
pub const HEADERS: u16 = 0x2000;
pub const MESSAGE_ID: u16 = 0x0080;

pub fn short(bytes: &[u8]) -> Vec<u8> {
    let mut made = vec![u8::try_from(bytes.len()).expect("at most 255 bytes")];
    made.extend(bytes);
    made
}

pub fn long(bytes: &[u8]) -> Vec<u8> {
    let mut made = (bytes.len() as u32).to_be_bytes().to_vec();
    made.extend(bytes);
    made
}

/// Returns `V` inside this many lists (`A`) or tables (`F`).
pub fn nested(kind: u8, levels: usize) -> Vec<u8> {
    // Built from the inside outwards, and so backwards.
    let mut value = vec![b'V'];
    for _ in 0..levels {
        if kind == b'F' {
            value.extend(b"k\x01");
        }
        let length = value.len() as u32;
        value.extend(length.to_be_bytes().iter().rev());
        value.push(kind);
    }
    value.reverse();
    value
}

impl RawProducer {
    pub async fn connect(url: &str) -> Self {
        let opening = async {
            let mut stream = TcpStream::connect(address(url)).await.unwrap();
            stream.write_all(b"AMQP\x00\x00\x09\x01").await.unwrap();
            let mut producer = RawProducer { stream, published: 0 };
            producer.method(&[0, 10, 0, 10]).await;
            let start_ok = [
                &[0, 10, 0, 11, 0, 0, 0, 0][..],
                &short(b"PLAIN"),
                &long(b"\0guest\0guest"),
                &short(b"en_US"),
            ];
            producer.send(1, 0, &start_ok.concat()).await;
            let tune = producer.method(&[0, 10, 0, 30]).await;
            producer.send(1, 0, &[&[0, 10, 0, 31][..], &tune[4..10], &[0, 0]].concat()).await;
            producer.send(1, 0, &[&[0, 10, 0, 40][..], &short(b"/"), &[0, 0]].concat()).await;
            producer.method(&[0, 10, 0, 41]).await;
            producer.send(1, 1, &[0, 20, 0, 10, 0]).await;
            producer.method(&[0, 20, 0, 11]).await;
            producer.send(1, 1, &[0, 85, 0, 10, 0]).await;
            producer.method(&[0, 85, 0, 11]).await;
            producer
        };
        within("a raw connection", opening).await
    }

    /// Publishes to the default exchange, or to another, and awaits the confirm.
    pub async fn publish(&mut self, exchange: &str, message: &RawMessage) {
        self.publish_all(exchange, std::slice::from_ref(message)).await;
    }

    /// Publishes several messages and awaits their confirms.
    pub async fn publish_all(&mut self, exchange: &str, messages: &[RawMessage]) {
        let mut unconfirmed = BTreeSet::new();
        for message in messages {
            self.write(exchange, message).await;
            self.published += 1;
            unconfirmed.insert(self.published);
        }
        while !unconfirmed.is_empty() {
            let ack = within("a confirm", self.method(&[0, 60, 0, 80])).await;
            let tag = u64::from_be_bytes(ack[4..12].try_into().unwrap());
            if ack[12] == 1 {
                unconfirmed.retain(|other| *other > tag);
            }
            unconfirmed.remove(&tag);
        }
    }

    async fn write(&mut self, exchange: &str, message: &RawMessage) {
        let key = short(&message.routing_key);
        let publish = [&[0, 60, 0, 40, 0, 0][..], &short(exchange.as_bytes()), &key, &[0]].concat();
        self.send(1, 1, &publish).await;
        let size = (message.body.len() as u64).to_be_bytes();
        self.send(2, 1, &[&[0, 60, 0, 0][..], &size, &message.properties].concat()).await;
        for part in message.body.chunks(100_000) {
            self.send(3, 1, part).await;
        }
    }

    async fn send(&mut self, kind: u8, channel: u8, payload: &[u8]) {
        let frame = [&[kind, 0, channel][..], &long(payload), &[0xce]].concat();
        self.stream.write_all(&frame).await.unwrap();
    }

    /// Returns the payload of the next method, which must be this one.
    async fn method(&mut self, id: &[u8]) -> Vec<u8> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).await.unwrap();
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; size + 1];
        self.stream.read_exact(&mut payload).await.unwrap();
        payload.pop();
        assert!(payload.starts_with(id), "expected {id:?}, got {:?}", String::from_utf8_lossy(&payload));
        payload
    }
}
