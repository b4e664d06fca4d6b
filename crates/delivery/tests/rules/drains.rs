//! The planned stop, for an item in each state.

use crate::bed::{Bed, FAILED, ITEM, delivery, identity, outline};
use longhaul_delivery::lease::HAND_OVER;
use longhaul_delivery::{
    ClaimId, Command, Epoch, Input, ItemId, Outcome, Outline, Settlement, Targets, Written,
};

const RETURN: Settlement = Settlement::Return;

#[test]
fn a_drain_returns_the_items_that_wait() {
    let mut bed = Bed::with(|policy| policy.targets = Targets { dead_letter: true, ..Targets::default() });
    bed.receive(1, 1, None, false);
    bed.complete(ITEM, Outcome::Rejected);
    bed.tell(Input::Written { item: ITEM, written: Written::Failed });
    bed.receive(1, 2, None, false);
    bed.complete(ItemId(2), FAILED);
    bed.receive(1, 3, Some(7), false);
    bed.receive(1, 4, Some(7), false);
    bed.tell(Input::Received(Outline { ask_peers: true, ..outline(1, 5) }));
    bed.tell(Input::Drain);
    assert_eq!(
        bed.settled(),
        [(1, RETURN), (2, RETURN), (4, RETURN)],
        "the third runs, the fifth is asked for"
    );
    bed.tell(Input::Drain);
    assert!(bed.effects.is_empty(), "a second drain changes nothing");
    assert_eq!(bed.core.stats().running, 1);
    bed.complete(ItemId(3), Outcome::Done);
    bed.tell(Input::PeersAnswered { item: ItemId(5), handed: None });
    assert_eq!(bed.settled(), [(5, RETURN)]);
    for tag in 1..=5 {
        assert!(!bed.core.is_empty(), "{tag}");
        bed.tell(Input::Settled { delivery: delivery(1, tag), stale: false });
    }
    assert!(bed.core.is_empty());
}

#[test]
fn a_drain_returns_held_items() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    bed.complete(ITEM, Outcome::Rejected);
    bed.tell(Input::Drain);
    assert_eq!(bed.settled(), [(1, RETURN)]);
}

/// RabbitMQ hands the deliveries of a lost session over again: certainly those that were never
/// settled, and perhaps others before the next session is up.
#[test]
fn a_drain_keeps_results_that_rabbitmq_may_ask_for() {
    // A result that no ack was sent for.
    let owed = |change: fn(&mut longhaul_delivery::Policy)| {
        let mut bed = Bed::with(change);
        bed.receive(1, 1, None, false);
        bed.reconnect(1);
        bed.complete(ITEM, Outcome::Done);
        bed.tell(Input::Drain);
        bed.core.poll_timeout()
    };
    assert_eq!(owed(|policy| policy.prefetched = true), Some(HAND_OVER));
    assert_eq!(owed(|policy| policy.peers = true), Some(HAND_OVER));
    assert_eq!(owed(|_| {}), None);

    // A result whose ack may be lost.
    let settled = |is_connected: bool| {
        let mut bed = Bed::rabbitmq();
        bed.receive(1, 1, None, false);
        bed.complete(ITEM, Outcome::Done);
        bed.tell(Input::SessionLost(Epoch(1)));
        if is_connected {
            bed.tell(Input::SessionUp(Epoch(2)));
        }
        bed.tell(Input::Drain);
        bed.core.poll_timeout()
    };
    assert_eq!(settled(false), Some(HAND_OVER), "the next session may bring it");
    assert_eq!(settled(true), None, "the session is up, so it would be here");
}

#[test]
fn a_claim_goes_on_in_a_drain() {
    let mut bed = Bed::with(|policy| policy.peers = true);
    bed.receive(1, 1, None, false);
    bed.tell(Input::SessionLost(Epoch(1)));
    bed.tell(Input::Drain);
    bed.tell(Input::Claim { claim: ClaimId(1), identity: identity(1) });
    assert!(!bed.core.is_empty());
    bed.complete(ITEM, Outcome::Done);
    bed.tell(Input::ClaimFetched { claim: ClaimId(1) });
    assert!(bed.core.is_empty(), "the other replica has the result");
    bed.wait();
    assert!(bed.did(&Command::EndClaim { claim: ClaimId(1) }));
}
