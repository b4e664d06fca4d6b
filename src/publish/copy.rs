//! Copies of an item for its own queue: written again before the broker's delivery limit takes it, or parked until its
//! next attempt is due.
//!
//! A copy is the message as it was, with headers of ours: the name of the item, the attempts made so far, which the
//! broker's own count of returns does not survive, and the mark by which the bridge knows its own copies.
//!
//! * The broker's bookkeeping is left out. RabbitMQ takes an `x-death` that it reads for its own, sees a cycle in the second
//!   trip through a parking queue, and drops the message without a word.
//! * `CC` and `BCC` are left out: they have had their effect.
//! * Priority is kept. The expiration starts again with each copy that goes back at once; a parked copy has none, because
//!   the wait would end early and the broker removes it at the end of the wait anyway.

use std::sync::Arc;
use std::time::Duration;

use super::{Outgoing, Publisher, is_bookkeeping};
use crate::delivery::Mark;
use crate::event::{Message, Origin, Properties, Value, own};

/// Where copies go.
#[derive(Clone)]
pub struct Copies {
    /// Back to the queue that the item came from.
    pub queue: Arc<dyn Publisher>,
    /// Where waits are parked, by length, shortest first; empty where they are spent in memory.
    pub parked: Vec<(Duration, Arc<dyn Publisher>)>,
}

/// Whether the copy is parked, and not put back to be handed over at once.
#[derive(Clone, Copy, Debug)]
pub struct Parked(pub bool);

impl Copies {
    /// The place from which an item comes back after `delay` or the next longer step, else after the longest.
    pub fn parked_for(&self, delay: Duration) -> Option<&Arc<dyn Publisher>> {
        let step = self.parked.iter().find(|(step, _)| *step >= delay);
        step.or(self.parked.last()).map(|(_, publisher)| publisher)
    }
}

/// The message to write.
pub fn copy(message: &Message, name: &str, mark: Mark, attempts: u32, parked: Parked) -> Outgoing {
    // The original's own name stays part of the content, even where it is not the name of the item.
    let original = if message.header(own::COPY).is_some() { own::COPIED_ID } else { own::ID };
    let original = message.header(original).cloned();
    let is_replaced = |name: &str| {
        [own::ID, own::ATTEMPTS, own::COPY, own::COPIED_ID].iter().any(|ours| name.eq_ignore_ascii_case(ours))
    };
    let is_kept = |name: &str| !is_replaced(name) && !is_bookkeeping(name) && !matches!(name, "CC" | "BCC");
    let mut headers: Vec<(String, Value)> =
        message.headers.iter().filter(|(name, _)| is_kept(name)).cloned().collect();
    headers.push((own::ID.to_owned(), Value::Text(name.to_owned())));
    headers.push((own::ATTEMPTS.to_owned(), Value::Int(attempts.into())));
    headers.push((own::COPY.to_owned(), Value::Text(mark.to_string())));
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

/// The steps of a wait that starts at `first` and doubles up to `most`.
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
        let rewritten = copy(&message, "name", Mark([1; 16]), 2, Parked(false));
        let headers = vec![
            ("own".to_owned(), Value::Bool(true)),
            ("longhaul-id".to_owned(), Value::Text("name".into())),
            ("longhaul-attempts".to_owned(), Value::Int(2)),
            ("longhaul-copy".to_owned(), Value::Text("01".repeat(16))),
            ("longhaul-copied-id".to_owned(), Value::Text("producer's".into())),
        ];
        assert_eq!((rewritten.headers, &rewritten.body[..]), (headers, &b"body"[..]));
        assert_eq!(rewritten.properties.expiration.as_deref(), Some("5"));
        assert_eq!(copy(&message, "name", Mark([1; 16]), 2, Parked(true)).properties.expiration, None);
    }
}
