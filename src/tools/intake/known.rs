//! The ids that were accepted, the newest of them.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Requests with one id share a turn. Different ids rarely do.
const TURNS: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub digest: [u8; 32],
    /// A write of it was not confirmed.
    pub is_doubtful: bool,
}

/// A bounded map that forgets the oldest id.
pub struct Known {
    most: usize,
    inner: Mutex<Inner>,
    turns: Vec<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    order: VecDeque<String>,
}

impl Known {
    pub fn new(most: usize) -> Self {
        let turns = (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect();
        Known { most, inner: Mutex::default(), turns }
    }

    /// Waits until no other request with this id is being written.
    pub async fn turn(&self, id: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or(0);
        self.turns[index].lock().await
    }

    pub fn get(&self, id: &str) -> Option<Entry> {
        self.inner().entries.get(id).copied()
    }

    pub fn set(&self, id: &str, entry: Entry) {
        let mut inner = self.inner();
        if inner.entries.insert(id.to_owned(), entry).is_none() {
            inner.order.push_back(id.to_owned());
        }
        while inner.order.len() > self.most {
            let Some(oldest) = inner.order.pop_front() else { break };
            inner.entries.remove(&oldest);
        }
    }

    /// Forgets an id that was not written.
    pub fn forget(&self, id: &str) {
        let mut inner = self.inner();
        if inner.entries.remove(id).is_some() {
            inner.order.retain(|other| other != id);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_id_is_forgotten() {
        let known = Known::new(2);
        let entry = |is_doubtful| Entry { digest: [0; 32], is_doubtful };
        for id in ["a", "b", "b", "c"] {
            known.set(id, entry(id == "b"));
        }
        assert_eq!(
            (known.get("a"), known.get("b"), known.get("c")),
            (None, Some(entry(true)), Some(entry(false)))
        );
    }
}
