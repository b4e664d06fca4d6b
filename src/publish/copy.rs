//! Copies of an item for its own queue. A copy is written before the broker's delivery limit drops
//! the item, or is parked until the next attempt is due.
//!
//! A copy is the unchanged message with headers of ours: the name of the item, the attempts so far
//! (a copy starts with a new count of returns at the broker), and the mark by which the bridge
//! recognises its own copies.
//!
//! * The broker's own headers are left out. RabbitMQ would take an old `x-death` for its own, see a
//!   cycle on the second trip through a parking queue, and drop the message silently.
//! * `CC` and `BCC` are left out: the broker has carried them out already.
//! * The priority is kept. The expiration starts again with each copy that goes back at once. A
//!   parked copy has none: it could end the wait early, and the broker removes it at the end of the
//!   wait anyway.

use std::sync::Arc;
use std::time::Duration;

use super::{Outgoing, Publisher, is_bookkeeping};
use crate::delivery::Mark;
use crate::event::{Message, Origin, Properties, Value, own};

/// The targets of copies.
#[derive(Clone)]
pub struct Copies {
    /// The queue that the item came from.
    pub queue: Arc<dyn Publisher>,
    /// The parking queues by length of the wait, shortest first. The list is empty if waits are
    /// spent in memory.
    pub parked: Vec<(Duration, Arc<dyn Publisher>)>,
}

/// Whether the copy is parked, or goes back to its queue at once.
#[derive(Clone, Copy, Debug)]
pub struct Parked(pub bool);

impl Copies {
    /// Returns the parking queue with the wait `delay` or the next longer wait; otherwise the
    /// longest.
    pub fn parked_for(&self, delay: Duration) -> Option<&Arc<dyn Publisher>> {
        let step = self.parked.iter().find(|(step, _)| *step >= delay);
        step.or(self.parked.last()).map(|(_, publisher)| publisher)
    }
}

/// Makes the message to write.
pub fn copy(
    message: &Message,
    name: &str,
    mark: Mark,
    seal: &str,
    attempts: u32,
    checkpoint: Option<String>,
    parked: Parked,
) -> Outgoing {
    // The original's own name stays part of the content, even if it is not the name of the item.
    let original = if message.header(own::COPY).is_some() { own::COPIED_ID } else { own::ID };
    let original = message.header(original).cloned();
    let is_first_copy = message.header(own::COPY).is_none();
    let forged = message.header(own::CHECKPOINT).filter(|_| is_first_copy).cloned();
    let is_replaced = |name: &str| {
        [own::ID, own::ATTEMPTS, own::COPY, own::SEAL, own::COPIED_ID, own::CHECKPOINT]
            .iter()
            .any(|ours| name.eq_ignore_ascii_case(ours))
    };
    let is_kept = |name: &str| !is_replaced(name) && !is_bookkeeping(name) && !matches!(name, "CC" | "BCC");
    let mut headers: Vec<(String, Value)> =
        message.headers.iter().filter(|(name, _)| is_kept(name)).cloned().collect();
    headers.push((own::ID.to_owned(), Value::Text(name.to_owned())));
    headers.push((own::ATTEMPTS.to_owned(), Value::Int(attempts.into())));
    headers.push((own::COPY.to_owned(), Value::Text(mark.to_string())));
    headers.push((own::SEAL.to_owned(), Value::Text(seal.to_owned())));
    headers.extend(checkpoint.map(|text| (own::CHECKPOINT.to_owned(), Value::Text(text))));
    headers.extend(forged.map(|value| (own::COPIED_CHECKPOINT.to_owned(), value)));
    headers.extend(original.map(|original| (own::COPIED_ID.to_owned(), original)));
    let mut properties = match &message.origin {
        Origin::Rabbitmq(origin) => origin.properties.clone(),
        Origin::Kafka(_) => Properties::default(),
    };
    if parked.0 {
        properties.expiration = None;
    }
    Outgoing { body: message.body.clone(), headers, properties, ..Outgoing::default() }
}

/// Returns the steps of a wait that starts at `first` and doubles up to `most`.
pub fn steps(first: Duration, most: Duration) -> Vec<Duration> {
    let mut steps = vec![first.min(most)];
    while let Some(last) = steps.last().filter(|last| **last < most && !last.is_zero()) {
        steps.push(last.saturating_mul(2).min(most));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RabbitmqOrigin;

    #[test]
    fn waits_double_up_to_the_longest() {
        let seconds = |list: &[u64]| list.iter().copied().map(Duration::from_secs).collect::<Vec<_>>();
        assert_eq!(steps(Duration::from_secs(10), Duration::from_secs(60)), seconds(&[10, 20, 40, 60]));
        assert_eq!(steps(Duration::from_secs(9), Duration::from_secs(5)), seconds(&[5]));
    }

    #[test]
    fn a_copy_is_the_message_with_a_name_and_a_count() {
        let properties = Properties {
            message_id: Some("m".into()),
            expiration: Some("5".into()),
            ..Properties::default()
        };
        let message = Message {
            body: "body".into(),
            headers: vec![
                ("own".into(), Value::Bool(true)),
                ("x-delivery-count".into(), Value::Int(18)),
                ("X-Death".into(), Value::List(Vec::new())),
                ("x-first-death-queue".into(), Value::Null),
                ("x-last-death-reason".into(), Value::Null),
                ("x-acquired-count".into(), Value::Int(3)),
                ("CC".into(), Value::List(Vec::new())),
                ("longhaul-attempts".into(), Value::Int(1)),
                ("longhaul-id".into(), Value::Text("producer's".into())),
            ],
            origin: Origin::Rabbitmq(RabbitmqOrigin { properties, ..RabbitmqOrigin::default() }),
        };
        let rewritten = copy(&message, "name", Mark([1; 16]), "seal", 2, None, Parked(false));
        let headers = vec![
            ("own".to_owned(), Value::Bool(true)),
            ("longhaul-id".to_owned(), Value::Text("name".into())),
            ("longhaul-attempts".to_owned(), Value::Int(2)),
            ("longhaul-copy".to_owned(), Value::Text("01".repeat(16))),
            ("longhaul-seal".to_owned(), Value::Text("seal".into())),
            ("longhaul-copied-id".to_owned(), Value::Text("producer's".into())),
        ];
        assert_eq!((rewritten.headers, &rewritten.body[..]), (headers, &b"body"[..]));
        assert_eq!(rewritten.properties.expiration.as_deref(), Some("5"));
        assert_eq!(
            copy(&message, "name", Mark([1; 16]), "seal", 2, None, Parked(true)).properties.expiration,
            None
        );
    }
}
