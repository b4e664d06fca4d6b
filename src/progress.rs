//! Reports of workers on their running items: percent, note, log lines, checkpoint and pod.
//!
//! Each attempt has an address of its own, the extension `progressurl` of its event. The address
//! contains a random number, so only the worker of this attempt can report, and only until the
//! attempt ends. A worker may ignore it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::checkpoints::Keeper;

/// Bytes of log lines that are kept for each item.
pub const LOG_BYTES: usize = 64 * 1024;

/// Bytes of all kept log lines together. Items share them equally if there are many.
const LOGS_BYTES: usize = 64 << 20;

/// Bytes of a checkpoint.
pub const CHECKPOINT_BYTES: usize = 4 * 1024;

/// Characters of a note, a log line and a pod's name.
const TEXT_MAX: usize = 1024;

/// The path of a progress address, before its token.
pub const PATH: &str = "/api/v1/progress/";

/// The running attempts of the process, by the tokens in their addresses.
#[derive(Debug, Default)]
pub struct Registry {
    /// The address of the admin server for workers, without a final slash; `None` if workers cannot
    /// reach it. Events then have no `progressurl`.
    base: Option<String>,
    attempts: Mutex<HashMap<String, Arc<Report>>>,
}

/// The reports on one item, over all its attempts.
#[derive(Debug, Default)]
pub struct Report {
    inner: Mutex<Inner>,
    /// Stores the checkpoints beyond this process, if the broker has a place for them.
    keeper: Option<Keeper>,
    /// Wakes the attempt at the first report.
    first_report: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    state: Reported,
    log: VecDeque<String>,
    log_bytes: usize,
    /// When the worker of the present attempt reported last.
    heard: Option<Instant>,
}

/// The latest values that workers reported on an item.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reported {
    /// From 0 to 100.
    pub percent: Option<f64>,
    pub note: Option<String>,
    pub pod: Option<String>,
    /// At most [`CHECKPOINT_BYTES`].
    pub checkpoint: Option<String>,
    /// When a worker reported last.
    pub at: Option<SystemTime>,
}

/// The body of a report.
#[derive(Debug, Default, Deserialize)]
pub struct Post {
    percent: Option<f64>,
    note: Option<String>,
    #[serde(default)]
    log: Vec<String>,
    checkpoint: Option<String>,
    pod: Option<String>,
}

/// A report that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("percent is {0}, and must be between 0 and 100")]
    Percent(String),
    #[error("the checkpoint has {0} bytes, and may have {CHECKPOINT_BYTES}")]
    Checkpoint(usize),
}

/// The address of one attempt. It is valid until the ticket is dropped.
#[derive(Debug)]
pub struct Ticket {
    registry: Arc<Registry>,
    token: String,
    /// The value of the extension `progressurl`.
    pub url: String,
}

impl Registry {
    pub fn new(base: Option<String>) -> Self {
        let base = base.map(|base| base.trim_end_matches('/').to_owned());
        Registry { base, attempts: Mutex::default() }
    }

    /// Whether workers can report.
    pub fn is_reachable(&self) -> bool {
        self.base.is_some()
    }

    /// Makes the address of a new attempt, whose worker writes into `report`. Returns `None` if
    /// workers cannot reach the admin server.
    pub fn open(self: &Arc<Self>, report: &Arc<Report>) -> Option<Ticket> {
        let base = self.base.as_ref()?;
        let token = uuid::Uuid::new_v4().simple().to_string();
        let url = format!("{base}{PATH}{token}");
        lock(&self.attempts).insert(token.clone(), report.clone());
        Some(Ticket { registry: self.clone(), token, url })
    }

    /// The report of the attempt with this token, while it runs.
    pub fn of(&self, token: &str) -> Option<Arc<Report>> {
        lock(&self.attempts).get(token).cloned()
    }

    /// Bytes of log lines that each running item may keep now.
    pub fn log_bytes(&self) -> usize {
        log_share(lock(&self.attempts).len())
    }
}

/// Bytes of log lines that each of so many items may keep.
pub fn log_share(items: usize) -> usize {
    LOG_BYTES.min(LOGS_BYTES / items.max(1))
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.registry.attempts).remove(&self.token);
    }
}

impl Report {
    /// A report that starts with the checkpoint of an earlier attempt, if there is one.
    pub fn new(checkpoint: Option<String>, keeper: Option<Keeper>) -> Self {
        let state = Reported { checkpoint, ..Reported::default() };
        Report { inner: Mutex::new(Inner { state, ..Inner::default() }), keeper, first_report: Notify::new() }
    }

    /// A new attempt starts: it has made no progress, and may run in another pod.
    pub fn begin(&self) {
        let mut inner = self.inner();
        let checkpoint = inner.state.checkpoint.take();
        inner.state = Reported { checkpoint, ..Reported::default() };
        inner.heard = None;
    }

    /// Takes a worker's report. At most `log_bytes` of its log lines are kept.
    ///
    /// # Errors
    /// If a value is out of its range. Nothing of the report is taken then.
    pub fn take(&self, post: Post, log_bytes: usize) -> Result<(), Refused> {
        if let Some(percent) = post.percent.filter(|percent| !(0.0..=100.0).contains(percent)) {
            return Err(Refused::Percent(percent.to_string()));
        }
        if let Some(checkpoint) = post.checkpoint.as_ref().filter(|text| text.len() > CHECKPOINT_BYTES) {
            return Err(Refused::Checkpoint(checkpoint.len()));
        }
        if let (Some(keeper), Some(checkpoint)) = (&self.keeper, &post.checkpoint) {
            keeper.keep(checkpoint);
        }
        let mut inner = self.inner();
        let state = &mut inner.state;
        state.percent = post.percent.or(state.percent);
        state.note = post.note.map(|note| shortened(&note)).or_else(|| state.note.take());
        state.pod = post.pod.map(|pod| shortened(&pod)).or_else(|| state.pod.take());
        state.checkpoint = post.checkpoint.or_else(|| state.checkpoint.take());
        state.at = Some(SystemTime::now());
        inner.heard = Some(Instant::now());
        post.log.iter().for_each(|line| inner.add(shortened(line)));
        inner.trim(log_bytes);
        self.first_report.notify_one();
        Ok(())
    }

    /// Forgets the oldest log lines beyond this number of bytes.
    pub fn trim(&self, log_bytes: usize) {
        self.inner().trim(log_bytes);
    }

    /// Takes the checkpoint of an answer. One that is too long is ignored.
    pub fn keep_checkpoint(&self, checkpoint: String) {
        if checkpoint.len() <= CHECKPOINT_BYTES {
            if let Some(keeper) = &self.keeper {
                keeper.keep(&checkpoint);
            }
            self.inner().state.checkpoint = Some(checkpoint);
        }
    }

    /// The latest checkpoint.
    pub fn checkpoint(&self) -> Option<String> {
        self.inner().state.checkpoint.clone()
    }

    /// The pod of the present attempt, if its worker reported it.
    pub fn pod(&self) -> Option<String> {
        self.inner().state.pod.clone()
    }

    pub fn reported(&self) -> Reported {
        self.inner().state.clone()
    }

    /// Returns when the worker of the present attempt reported last. Waits for its first report.
    pub async fn heard(&self) -> Instant {
        loop {
            if let Some(heard) = self.inner().heard {
                return heard;
            }
            // A notification of an earlier report only repeats the look.
            self.first_report.notified().await;
        }
    }

    pub fn log(&self) -> Vec<String> {
        self.inner().log.iter().cloned().collect()
    }

    /// The memory of the report, in bytes.
    pub fn bytes(&self) -> usize {
        let inner = self.inner();
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let state = &inner.state;
        size_of::<Report>() + inner.log_bytes + text(&state.note) + text(&state.pod) + text(&state.checkpoint)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    fn add(&mut self, line: String) {
        self.log_bytes += line.len() + size_of::<String>();
        self.log.push_back(line);
    }

    fn trim(&mut self, most: usize) {
        while self.log_bytes > most {
            let Some(oldest) = self.log.pop_front() else { break };
            self.log_bytes -= oldest.len() + size_of::<String>();
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(json: &str) -> Post {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_address_is_valid_for_one_attempt_and_the_checkpoint_goes_to_the_next() {
        let registry = Arc::new(Registry::new(Some("http://bridge:9090/".to_owned())));
        let report = Arc::new(Report::default());
        let ticket = registry.open(&report).unwrap();
        let token = ticket.url.strip_prefix("http://bridge:9090/api/v1/progress/").unwrap().to_owned();
        let found = registry.of(&token).unwrap();
        found.take(post(r#"{"percent": 40, "note": "half", "pod": "w-1", "checkpoint": "7"}"#), 100).unwrap();
        found.take(post(r#"{"percent": 50}"#), 100).unwrap();
        let state = report.reported();
        assert_eq!((state.percent, state.note.as_deref()), (Some(50.0), Some("half")));
        drop(ticket);
        assert!(registry.of(&token).is_none());
        report.begin();
        let state = report.reported();
        assert_eq!((state.percent, state.pod, state.checkpoint.as_deref()), (None, None, Some("7")));
    }

    /// A report of an earlier attempt is not one of the present attempt.
    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_heard_from_its_own_first_report_on() {
        let report = Report::default();
        let is_heard =
            async || tokio::time::timeout(std::time::Duration::from_secs(1), report.heard()).await.is_ok();
        assert!(!is_heard().await);
        report.take(post("{}"), 0).unwrap();
        report.take(post("{}"), 0).unwrap();
        assert!(is_heard().await);
        report.begin();
        assert!(!is_heard().await);
        report.take(post("{}"), 0).unwrap();
        assert!(is_heard().await);
    }

    #[test]
    fn without_an_address_for_workers_there_is_no_ticket() {
        assert!(Arc::new(Registry::new(None)).open(&Arc::default()).is_none());
    }

    #[test]
    fn a_report_is_bounded_and_a_wrong_one_changes_nothing() {
        let report = Report::default();
        let refused = |json: &str| report.take(post(json), 1_000).unwrap_err();
        assert_eq!(refused(r#"{"percent": 101, "note": "x"}"#), Refused::Percent("101".to_owned()));
        let long = format!(r#"{{"checkpoint": "{}"}}"#, "x".repeat(CHECKPOINT_BYTES + 1));
        assert_eq!(refused(&long), Refused::Checkpoint(CHECKPOINT_BYTES + 1));
        assert_eq!(report.reported(), Reported::default());
        let lines: Vec<String> = (0..100).map(|number| format!("line {number}")).collect();
        report.take(Post { log: lines, ..Post::default() }, 1_000).unwrap();
        assert_eq!(report.log().last().unwrap(), "line 99");
        assert!(report.bytes() < 2_000, "{}", report.bytes());
    }
}
