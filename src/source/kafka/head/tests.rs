use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_age_counts_from_the_receipt_and_not_from_becoming_the_head() {
    let start = Instant::now();
    let mut ages = Ages::default();
    ages.note(0, 1, start);
    ages.note(0, 2, start + SECOND);
    assert_eq!(ages.of(0, start + 5 * SECOND), Some(5 * SECOND));
    assert_eq!(ages.of(2, start + 5 * SECOND), None);
    // The first one is done: the second is the head, and as old as it is.
    ages.note(1, 2, start + 6 * SECOND);
    assert_eq!(ages.of(1, start + 6 * SECOND), Some(5 * SECOND));
    ages.note(2, 2, start + 7 * SECOND);
    assert_eq!(ages.of(2, start + 7 * SECOND), None);
}

#[test]
fn a_head_is_reported_once_as_stuck() {
    let start = Instant::now();
    let mut head = Head::default();
    let look = |head: &mut Head, base, now| head.look(base, 10, 5 * SECOND, now).unwrap();
    assert!(!look(&mut head, 0, start).is_newly_stuck);
    let old = look(&mut head, 0, start + 3600 * SECOND);
    assert_eq!((old.age, old.is_newly_stuck), (3600 * SECOND, true));
    assert!(!look(&mut head, 0, start + 3601 * SECOND).is_newly_stuck, "it was reported");
    assert!(look(&mut head, 3, start + 3601 * SECOND).is_newly_stuck, "the next head is as old");
}

#[test]
fn ages_are_bounded_never_overstated_and_off_by_a_fraction() {
    let start = Instant::now();
    let mut ages = Ages::default();
    let seconds = 10_000;
    for second in 0..seconds {
        ages.note(0, i64::from(second) + 1, start + second * SECOND);
        assert!(ages.marks.len() <= MARKS);
    }
    let now = start + seconds * SECOND;
    for received in [0, 5000, 9000] {
        let (true_age, age) = ((seconds - received) * SECOND, ages.of(received.into(), now).unwrap());
        assert!(
            age <= true_age && true_age - age <= true_age / 5 + seconds / 30 * SECOND,
            "{received}: {age:?}"
        );
    }
}

#[test]
fn retention_threatens_old_records_in_a_log_that_it_shortens() {
    assert_eq!(threat(0, 0, 0, 1000), None, "nothing was ever taken");
    assert_eq!(threat(500, 0, 100, 1000), None, "half of the log is older");
    assert_eq!(threat(150, 0, 100, 1000), Some(Threat::Near));
    assert_eq!(threat(99, 0, 100, 1000), Some(Threat::Gone));
    assert_eq!(threat(100, 0, 100, 100), None, "nothing behind it is left either");
}
