use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::*;
use crate::delivery::LogId;
use crate::publish::PublishError;

/// A topic in memory: the latest value of each key.
#[derive(Default)]
struct Topic {
    records: Mutex<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    writes: Mutex<Vec<Instant>>,
    is_missing: std::sync::atomic::AtomicBool,
}

impl Topic {
    fn texts(&self) -> Vec<String> {
        let records = self.records.lock().unwrap();
        records.values().flatten().map(|value| String::from_utf8(value.clone()).unwrap()).collect()
    }

    fn writes(&self) -> usize {
        self.writes.lock().unwrap().len()
    }

    fn set_missing(&self, is_missing: bool) {
        self.is_missing.store(is_missing, std::sync::atomic::Ordering::Relaxed);
    }

    fn is_missing(&self) -> bool {
        self.is_missing.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Publisher for Topic {
    fn publish(
        &self,
        outgoing: Outgoing,
    ) -> Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + '_>> {
        Box::pin(async move {
            self.writes.lock().unwrap().push(Instant::now());
            if self.is_missing() {
                return Err(PublishError::transient("no topic"));
            }
            let value = (!outgoing.is_null).then(|| outgoing.body.to_vec());
            self.records.lock().unwrap().insert(outgoing.key.unwrap().to_vec(), value);
            Ok(())
        })
    }
}

impl Reader for Topic {
    fn read(
        &self,
        mut collection: Collection,
    ) -> Pin<Box<dyn Future<Output = Result<Collection, String>> + Send + '_>> {
        Box::pin(async move {
            if self.is_missing() {
                return Err("no topic".to_owned());
            }
            let records = self.records.lock().unwrap();
            records.iter().for_each(|(key, value)| collection.take(key, value.as_deref()));
            Ok(collection)
        })
    }
}

/// A process with a store. It ends when it is dropped.
struct Process {
    store: Arc<Store>,
    status: Arc<Status>,
    _stop: oneshot::Sender<()>,
}

impl Process {
    fn start(topic: &Arc<Topic>) -> Self {
        let status = Arc::new(Status::new("p"));
        let store = Arc::new(Store::new("group", topic.clone(), topic.clone(), status.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let running = store.clone();
        tokio::spawn(async move {
            tokio::select! { () = running.run() => {}, _ = stopped => {} }
        });
        Process { store, status, _stop: stop }
    }

    fn keeper(&self, offset: i64, content: u8) -> Keeper {
        let identity = Identity::Record {
            log: LogId(7),
            topic: "t".into(),
            partition: 0,
            offset,
            content: Digest([content; 16]),
        };
        self.store.keeper(&identity).unwrap()
    }

    fn has_problem(&self) -> bool {
        self.status.reasons().iter().any(|reason| reason.subject.starts_with("checkpoints"))
    }
}

fn partition() -> Partition {
    Partition { topic: "t".into(), number: 0, log: 7 }
}

#[tokio::test(start_paused = true)]
async fn the_latest_checkpoint_comes_back_and_ends_with_its_item() {
    let topic = Arc::new(Topic::default());
    let first = Process::start(&topic);
    for number in 0..100 {
        first.keeper(5, 1).keep(&format!("row {number}"));
        first.keeper(6, 1).keep("other");
        sleep(Duration::from_millis(100)).await;
    }
    // The first write is immediate. The others keep the interval, and equal ones are left out.
    assert!((9..=12).contains(&topic.writes()), "{}", topic.writes());
    first.keeper(6, 1).ended(true);
    first.store.flush(Duration::from_secs(1)).await;
    drop(first);

    let second = Process::start(&topic);
    second.store.load(partition(), 0).await;
    assert_eq!(second.keeper(5, 1).stored().as_deref(), Some("row 99"));
    assert_eq!(second.keeper(5, 2).stored(), None, "another item at the same place");
    assert_eq!(second.keeper(6, 1).stored(), None);
    drop(second);

    let third = Process::start(&topic);
    third.store.load(partition(), 6).await;
    assert_eq!(third.keeper(5, 1).stored(), None, "the record has ended without its process");
    third.store.flush(Duration::from_secs(1)).await;
    assert!(topic.texts().is_empty(), "{:?}", topic.texts());
}

#[tokio::test(start_paused = true)]
async fn a_later_checkpoint_of_another_replica_counts() {
    let topic = Arc::new(Topic::default());
    let (first, second) = (Process::start(&topic), Process::start(&topic));
    first.keeper(5, 1).keep("row 1");
    first.keeper(6, 1).keep("row 1");
    first.store.flush(Duration::from_secs(1)).await;
    second.keeper(5, 1).keep("row 2");
    second.store.flush(Duration::from_secs(1)).await;
    // The partition comes back without having been forgotten.
    first.store.load(partition(), 0).await;
    assert_eq!(first.keeper(5, 1).stored().as_deref(), Some("row 2"));
    first.keeper(5, 1).left();
    first.keeper(6, 1).keep("row 3");
    first.keeper(6, 1).left();
    first.store.flush(Duration::from_secs(1)).await;
    assert_eq!((first.keeper(5, 1).stored(), first.keeper(6, 1).stored()), (None, None), "not kept here");
    assert!(topic.texts().iter().any(|text| text.contains("row 3")), "but in the topic");
}

#[tokio::test(start_paused = true)]
async fn a_missing_topic_delays_items_for_a_bounded_time_and_is_reported() {
    let topic = Arc::new(Topic::default());
    topic.set_missing(true);
    let process = Process::start(&topic);
    let began = Instant::now();
    process.store.load(partition(), 0).await;
    assert!((LOAD_TIMEOUT..LOAD_TIMEOUT + RETRY).contains(&began.elapsed()));
    assert!(process.has_problem());
    process.keeper(5, 1).keep("row 1");
    for offset in 0..table::SLOTS_MAX as i64 + 1000 {
        process.keeper(offset + 10, 1).ended(true);
    }
    sleep(Duration::from_secs(20)).await;
    topic.set_missing(false);
    sleep(Duration::from_secs(20)).await;
    assert!(!process.has_problem(), "{:?}", process.status.reasons());
    assert!(topic.texts()[0].contains("row 1"));
    assert!(topic.records.lock().unwrap().len() <= table::SLOTS_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_leaves_takes_its_stored_checkpoints_along() {
    let topic = Arc::new(Topic::default());
    let process = Process::start(&topic);
    let keeper = process.keeper(5, 1);
    keeper.keep("row 1");
    sleep(Duration::from_millis(10)).await;
    keeper.keep("row 2");
    process.store.forget(&partition());
    sleep(Duration::from_millis(10)).await;
    assert!(topic.texts()[0].contains("row 2"), "the latest one is written at once");
    process.store.forget(&partition());
    assert_eq!(keeper.stored(), None);
    keeper.ended(true);
    process.store.flush(Duration::from_secs(1)).await;
    assert!(topic.texts().is_empty(), "a running item ends here all the same");
    let unknown = Identity::Record {
        log: LogId(0),
        topic: "t".into(),
        partition: 0,
        offset: 1,
        content: Digest([1; 16]),
    };
    assert!(process.store.keeper(&unknown).is_none(), "its log could be any");
}
