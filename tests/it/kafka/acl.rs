//! Permissions of users, in Kafka's own protocol, because the client library has no calls for them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::support::Broker;

const CREATE: i16 = 30;
const DELETE: i16 = 31;

/// A kind of resource, and a permission.
#[derive(Clone, Copy)]
pub enum Resource {
    Topic = 2,
    Group = 3,
}

#[derive(Clone, Copy)]
pub enum Operation {
    Read = 3,
    Write = 4,
    Describe = 8,
}

/// The user that `tests/brokers` creates.
const USER: &str = "User:tester";
const LITERAL: u8 = 3;
const ALLOW: u8 = 3;

pub fn allow(broker: &Broker, resource: Resource, name: &str, operation: Operation) {
    change(broker, CREATE, resource, name, operation);
}

pub fn forbid(broker: &Broker, resource: Resource, name: &str, operation: Operation) {
    change(broker, DELETE, resource, name, operation);
}

/// The two requests have the same fields. The broker must be reached as a super user.
fn change(broker: &Broker, key: i16, resource: Resource, name: &str, operation: Operation) {
    let text = |text: &str| [&(text.len() as i16).to_be_bytes()[..], text.as_bytes()].concat();
    let mut request = Vec::new();
    request.extend(key.to_be_bytes());
    request.extend(1_i16.to_be_bytes());
    request.extend(7_i32.to_be_bytes());
    request.extend(text("acl"));
    request.extend(1_i32.to_be_bytes());
    request.push(resource as u8);
    request.extend(text(name));
    request.push(LITERAL);
    request.extend(text(USER));
    request.extend(text("*"));
    request.extend([operation as u8, ALLOW]);
    let mut stream = TcpStream::connect(&broker.bootstrap).unwrap();
    stream.write_all(&(request.len() as i32).to_be_bytes()).unwrap();
    stream.write_all(&request).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    // Correlation, throttle time and the number of results, then the first result's error.
    assert_eq!(answer[12..14], [0, 0], "{answer:?}");
}
