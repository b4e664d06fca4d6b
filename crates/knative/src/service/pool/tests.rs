use super::*;

fn at(seconds: i64) -> Time {
    Time::from_unix_nanos(seconds * 1_000_000_000)
}

#[test]
fn requests_wait_for_a_cold_start_and_take_one_slot_each() {
    let mut pool = Pool::new(1, Duration::from_secs(2), 2);
    pool.enqueue("first").unwrap();
    pool.enqueue("second").unwrap();
    assert_eq!(pool.enqueue("third"), Err(Full));
    pool.resize(at(0), 1);
    pool.advance(at(1));
    assert_eq!(pool.assign(), None);
    assert_eq!(pool.next_ready(), Some(at(2)));
    pool.advance(at(2));
    let (waiter, replica) = pool.assign().unwrap();
    assert_eq!((waiter, pool.assign()), ("first", None));
    pool.release(replica);
    assert_eq!(pool.assign(), Some(("second", replica)));
}

#[test]
fn a_busy_replica_that_is_taken_down_finishes_and_takes_nothing_new() {
    let mut pool = Pool::new(1, Duration::ZERO, 10);
    pool.resize(at(0), 2);
    pool.advance(at(0));
    pool.enqueue("old").unwrap();
    pool.enqueue("young").unwrap();
    let (_, old) = pool.assign().unwrap();
    let (_, young) = pool.assign().unwrap();
    pool.release(old);
    pool.resize(at(1), 1);
    assert_eq!(
        pool.phases(),
        Phases { starting: 0, ready: 1, terminating: 1 },
        "the youngest goes although it is busy"
    );
    pool.enqueue("next").unwrap();
    assert_eq!(pool.assign(), Some(("next", old)));
    pool.release(young);
    assert_eq!(pool.phases().terminating, 0);
}

#[test]
fn replicas_that_still_start_go_first() {
    let mut pool: Pool<()> = Pool::new(1, Duration::from_secs(1), 10);
    pool.resize(at(0), 1);
    pool.advance(at(1));
    pool.resize(at(1), 3);
    pool.resize(at(1), 1);
    assert_eq!(pool.phases(), Phases { starting: 0, ready: 1, terminating: 0 });
}

#[test]
fn who_leaves_the_queue_is_not_assigned() {
    let mut pool = Pool::new(0, Duration::ZERO, 10);
    let gone = pool.enqueue("gone").unwrap();
    pool.enqueue("stays").unwrap();
    pool.abandon(gone);
    pool.resize(at(0), 1);
    pool.advance(at(0));
    assert_eq!(pool.assign().map(|(waiter, _)| waiter), Some("stays"));
}
