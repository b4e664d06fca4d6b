//! Counts the dead letters and replies that lead from one message to the next.
//!
//! A target may lead back to its source in a way that no check of the file can see, for example
//! through a binding of an exchange or through other pipelines. Each round would run the item
//! again, without end. So each such message carries the count of the messages before it.
//!
//! A producer can set the same headers. A high count would keep its item from the dead letter. So
//! each count has a message authentication code, and a bridge believes only the counts of its own
//! key. It passes the counts of other keys on, so that a loop through several bridges also ends:
//! each of them finds its own count.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::PublishError;
use crate::event::{Message, Value, own};

/// The most dead letters and replies that may lead from one message to the next. Only a target that
/// leads back to its source makes more.
///
/// An item with more hops than this gets no reply. Its dead letter is one more hop, because the
/// dead letters may go elsewhere.
const MOST: u32 = 16;
/// The most counts of other keys that are passed on. The oldest counts are dropped first.
const OTHERS: usize = 4;
/// The most characters of a count with its key and code.
const LONGEST: usize = 56;

/// The key of the counts. All pipelines of a process have the same one.
#[derive(Clone)]
pub struct HopsKey {
    key: [u8; 32],
    /// Tells the counts of this key from others.
    name: String,
}

/// The count on a message that an item leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hops {
    count: u32,
    /// This count and those of other keys, each as `name:count:code`.
    counts: String,
}

impl HopsKey {
    /// Derives the key from a secret that producers do not have.
    pub fn derived(secret: &str) -> Self {
        let key = code(secret.as_bytes(), &[b"longhaul hops"]);
        let name = hex(&code(&key, &[b"name"])[..4]);
        HopsKey { key, name }
    }

    /// Returns the count on a dead letter of this item.
    ///
    /// # Errors
    /// The item has gone through so many hops that the dead letter would come back too.
    pub fn of_dead_letter(&self, item: &Message) -> Result<Hops, PublishError> {
        self.next(item, MOST + 1, "dead_letter")
    }

    /// Returns the count on a reply to this item.
    ///
    /// # Errors
    /// The item has gone through so many hops that the reply would come back too.
    pub fn of_reply(&self, item: &Message) -> Result<Hops, PublishError> {
        self.next(item, MOST, "reply")
    }

    fn next(&self, item: &Message, most: u32, target: &str) -> Result<Hops, PublishError> {
        let hops = self.hops(item);
        if hops >= most {
            return Err(PublishError::impossible(format!(
                "the item went through {hops} dead letters and replies, so the target of {target} seems to lead back \
                 to the source (perhaps through a binding of its exchange or through other pipelines); write to a \
                 place that no pipeline reads, and remove the header {} from the item to let it go through again",
                own::HOPS_SEAL
            )));
        }
        let count = hops + 1;
        let is_other = |entry: &&str| entry.len() <= LONGEST && self.of_this_key(entry).is_none();
        let others: Vec<&str> = counts(item).filter(is_other).collect();
        let kept = &others[others.len().saturating_sub(OTHERS)..];
        let own = format!("{}:{count}:{}", self.name, self.code(count));
        let counts = kept.iter().copied().chain([own.as_str()]).collect::<Vec<_>>().join(" ");
        Ok(Hops { count, counts })
    }

    /// Returns the number of dead letters and replies that led to this message, by the counts of
    /// this key.
    fn hops(&self, item: &Message) -> u32 {
        let is_sealed = |(count, code): &(u32, &str)| *code == self.code(*count);
        let sealed = counts(item).filter_map(|entry| self.of_this_key(entry)).filter(is_sealed);
        sealed.map(|(count, _)| count).max().unwrap_or(0)
    }

    /// Returns the count and the code of an entry that bears the name of this key.
    fn of_this_key<'a>(&self, entry: &'a str) -> Option<(u32, &'a str)> {
        let (count, code) = entry.strip_prefix(self.name.as_str())?.strip_prefix(':')?.split_once(':')?;
        Some((count.parse().ok()?, code))
    }

    fn code(&self, count: u32) -> String {
        hex(&code(&self.key, &[b"count", &count.to_be_bytes()])[..16])
    }
}

impl std::fmt::Debug for HopsKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HopsKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Hops {
    /// Returns the headers of the message. The first one is for people.
    pub(super) fn headers(&self) -> [(String, Value); 2] {
        [
            (own::HOPS.to_owned(), Value::Int(self.count.into())),
            (own::HOPS_SEAL.to_owned(), Value::Text(self.counts.clone())),
        ]
    }
}

fn counts(item: &Message) -> impl Iterator<Item = &str> {
    let text = item.header(own::HOPS_SEAL).and_then(Value::as_text);
    text.unwrap_or_default().split_ascii_whitespace()
}

/// Returns the message authentication code over these parts.
pub(crate) fn code(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // A key of any length is allowed.
    let Ok(mut code) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        code.update(&(part.len() as u64).to_be_bytes());
        code.update(part);
    }
    code.finalize().into_bytes().into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Origin, RabbitmqOrigin};

    fn item(headers: Vec<(String, Value)>) -> Message {
        Message { body: "body".into(), headers, origin: Origin::Rabbitmq(RabbitmqOrigin::default()) }
    }

    fn after(hops: &Hops) -> Message {
        item(hops.headers().into())
    }

    fn with_counts(counts: &str) -> Message {
        item(vec![
            (own::HOPS.to_owned(), Value::Int(99)),
            (own::HOPS_SEAL.to_owned(), Value::Text(counts.to_owned())),
        ])
    }

    #[test]
    fn a_loop_ends_after_seventeen_hops() {
        let key = HopsKey::derived("secret");
        let mut present = item(Vec::new());
        for hop in 1..=17 {
            assert_eq!(key.of_reply(&present).is_ok(), hop <= 16, "{hop}");
            let hops = key.of_dead_letter(&present).unwrap();
            assert_eq!(hops.count, hop);
            present = after(&hops);
        }
        let error = key.of_dead_letter(&present).unwrap_err();
        assert!(!error.is_transient() && error.what.contains("went through 17"), "{error}");
    }

    /// The letters go round between two bridges that do not know each other's secret.
    #[test]
    fn a_loop_through_two_bridges_ends() {
        let keys = [HopsKey::derived("one"), HopsKey::derived("two")];
        let (mut present, mut rounds) = (item(Vec::new()), 0);
        while let Ok(hops) = keys[rounds % 2].of_dead_letter(&present) {
            present = after(&hops);
            rounds += 1;
        }
        assert_eq!(rounds, 34);
    }

    #[test]
    fn a_count_of_a_producer_does_not_count() {
        let key = HopsKey::derived("secret");
        let genuine = key.of_dead_letter(&with_counts("")).unwrap();
        let code = genuine.counts.rsplit(':').next().unwrap().to_owned();
        let forged = [
            String::new(),
            "17".to_owned(),
            format!("{}:17:{}", key.name, "0".repeat(32)),
            // The code of another count.
            format!("{}:17:{code}", key.name),
            format!("{}:-1:{code} ::: {}", key.name, "x".repeat(10_000)),
            "a:1:b ".repeat(1000),
        ];
        for counts in forged {
            let hops = key.of_dead_letter(&with_counts(&counts)).unwrap();
            assert_eq!(hops.count, 1, "{counts}");
            assert!(hops.counts.len() <= (OTHERS + 1) * (LONGEST + 1), "{counts}");
        }
        assert_eq!(key.of_dead_letter(&after(&genuine)).unwrap().count, 2);
    }
}
