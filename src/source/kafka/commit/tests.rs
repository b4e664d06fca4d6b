use super::*;

fn part(partition: i32, offset: i64) -> Part {
    Part { epoch: Epoch(1), topic: "t".into(), partition, offset, change: 1 }
}

fn entry(partition: i32, offset: i64) -> Entry {
    Entry { topic: "t".into(), partition, offset, metadata: Vec::new(), error: None }
}

#[test]
fn first_change_goes_soon_and_the_next_ones_wait_for_the_interval() {
    let start = Instant::now();
    let mut committer = Committer::default();
    assert_eq!(committer.due(), None);
    committer.touch(start);
    committer.touch(start + GATHER / 2);
    assert_eq!(committer.due(), Some(start + GATHER));
    committer.sent(vec![part(0, 1)], start + GATHER);
    committer.answered(&[entry(0, 1)]).unwrap();
    committer.succeeded();
    assert!(committer.is_settled());
    committer.touch(start + GATHER);
    assert_eq!(committer.due(), Some(start + GATHER + INTERVAL));
}

#[test]
fn only_one_is_under_way() {
    let start = Instant::now();
    let mut committer = Committer::default();
    committer.sent(vec![part(0, 1)], start);
    committer.touch(start);
    assert_eq!(committer.due(), Some(start + PATIENCE));
    assert!(!committer.is_settled());
}

#[test]
fn answers_to_commits_on_the_side_are_not_mistaken_for_ours() {
    let mut committer = Committer::default();
    committer.sent(vec![part(0, 1), part(1, 5)], Instant::now());
    assert_eq!(committer.answered(&[entry(0, 1)]), None);
    assert_eq!(committer.answered(&[entry(0, 1), entry(1, 6)]), None);
    assert_eq!(committer.answered(&[entry(1, 5), entry(0, 1)]).unwrap().len(), 2);
    assert_eq!(committer.answered(&[entry(1, 5), entry(0, 1)]), None);
}

#[test]
fn failures_back_off_and_stay_dirty() {
    let start = Instant::now();
    let mut committer = Committer::default();
    let mut waits = Vec::new();
    for _ in 0..8 {
        committer.sent(vec![part(0, 1)], start);
        committer.failed(start);
        assert!(!committer.is_settled());
        waits.push(committer.due().unwrap() - start);
    }
    assert!(waits.is_sorted() && waits[0] <= INTERVAL && waits[7] == LONGEST_BACKOFF, "{waits:?}");
    committer.hurry();
    assert!(committer.due().unwrap() <= start);
}

/// A partition whose commit is refused waits for its own time, and delays no other.
#[test]
fn a_refused_partition_delays_no_other() {
    let start = Instant::now();
    let mut committer = Committer::default();
    committer.sent(vec![part(0, 1), part(1, 1)], start);
    committer.answered(&[entry(0, 1), entry(1, 1)]).unwrap();
    committer.refused_until(Some(start + LONGEST_BACKOFF));
    committer.succeeded();
    assert!(committer.is_settled());
    assert_eq!(committer.due(), Some(start + LONGEST_BACKOFF));
    committer.touch(start);
    assert_eq!(committer.due(), Some(start + INTERVAL));
}
