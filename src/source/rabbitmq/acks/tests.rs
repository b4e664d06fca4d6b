use super::*;

/// Returns a state in which tags 1 to `prefetch` are unsettled.
fn out(prefetch: u16) -> Acks {
    let mut acks = Acks::new(prefetch);
    (1..=prefetch.into()).for_each(|tag| acks.deliver(tag));
    acks
}

fn frame(tags: impl IntoIterator<Item = u64>) -> Frame {
    Frame(tags.into_iter().collect())
}

#[test]
fn a_request_left_behind_costs_one_frame() {
    let (mut acks, now) = (out(200), Instant::now());
    for tag in 2..=100 {
        acks.ack(tag, now);
        assert_eq!(acks.worth(now), []);
    }
    assert_eq!(acks.due(), Some(now + PATIENCE));
    acks.ack(1, now + PATIENCE / 2);
    assert_eq!(acks.worth(now + PATIENCE / 2), [frame(1..=100)]);
    assert_eq!(acks.due(), None);
}

#[test]
fn a_request_that_goes_on_holds_others_up_for_a_moment_only() {
    let (mut acks, now) = (out(20), Instant::now());
    for tag in 2..=16 {
        acks.ack(tag, now);
        assert_eq!((acks.worth(now), acks.due()), (vec![], Some(now + LINGER)));
    }
    acks.ack(17, now);
    assert_eq!(acks.worth(now), Vec::from_iter((2..=17).map(|tag| frame([tag]))));
    assert_eq!(acks.due(), None);
}

#[test]
fn the_only_one_goes_at_once() {
    let (mut acks, now) = (out(1), Instant::now());
    acks.ack(1, now);
    assert_eq!(acks.worth(now), [frame([1])]);
}

/// Deliveries arrive nearly in order, and requests end in any order. The broker handles frames as
/// RabbitMQ does.
#[test]
fn every_ack_arrives_and_none_that_nobody_asked_for() {
    for seed in 0..2_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let prefetch = random.u16(1..40);
        let mut acks = Acks::new(prefetch);
        let mut now = Instant::now();
        let (mut last, mut running) = (0, BTreeSet::new());
        // The tags that the broker has handed over and that have not arrived yet.
        let mut underway = BTreeSet::new();
        // The tags that are unsettled at the broker, and those of them that should be acked.
        let (mut broker, mut asked) = (BTreeSet::new(), BTreeSet::new());
        for step in 0..400 {
            while step < 300 && broker.len() < prefetch.into() && random.u8(..8) > 0 {
                last += 1;
                underway.insert(last);
                broker.insert(last);
            }
            while step >= 300 && !underway.is_empty() || underway.len() > random.usize(..4) {
                let arrived = random.choice(underway.iter().copied()).unwrap();
                underway.remove(&arrived);
                acks.deliver(arrived);
                running.insert(arrived);
            }
            now += Duration::from_micros(random.u64(0..2_000));
            if let Some(tag) = random.choice(running.iter().copied()) {
                running.remove(&tag);
                assert!(acks.is_unsettled(tag), "seed {seed}");
                if random.u8(..10) == 0 {
                    acks.give_up(tag);
                    broker.remove(&tag);
                } else {
                    acks.ack(tag, now);
                    asked.insert(tag);
                }
                assert!(!acks.is_unsettled(tag), "seed {seed}");
            }
            let due = acks.due().is_some_and(|due| due <= now);
            for Frame(tags) in if due { acks.all() } else { acks.worth(now) } {
                let last = *tags.last().unwrap();
                let taken =
                    broker.iter().copied().filter(|tag| *tag == last || tags.len() > 1 && *tag < last);
                assert_eq!(taken.collect::<BTreeSet<_>>(), tags, "seed {seed}");
                for tag in tags {
                    broker.remove(&tag);
                    assert!(asked.remove(&tag), "seed {seed}: nobody asked for {tag}");
                }
            }
            assert_eq!(acks.due().is_some(), !asked.is_empty(), "seed {seed}");
        }
        assert!(last >= prefetch.into() && broker.is_empty(), "seed {seed}");
    }
}
