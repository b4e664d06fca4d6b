//! Checks every interleaving of a small world around the real dispatcher: three items (two alike
//! byte for byte), three attempts, two session losses, a dead-letter write that fails once, and a
//! drain at any point. Time only moves to the next timer.

#![allow(clippy::print_stdout, reason = "the size of the world is worth seeing")]

mod world;

use std::time::Duration;

use longhaul_delivery::lease::LONGEST_SILENCE;
use longhaul_delivery::{Bounds, OnFailed, OnUnknown, Outcome, Policy, Retry, Targets};
use stateright::{Checker, HasDiscoveries, Model, Property};
use world::{Setting, Step, World};

struct Small(Setting);

impl Model for Small {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.0.clone())]
    }

    fn actions(&self, state: &World, actions: &mut Vec<Step>) {
        if state.broken.is_none() {
            actions.extend(state.steps());
        }
    }

    fn next_state(&self, state: &World, step: Step) -> Option<World> {
        let mut next = state.clone();
        next.take(step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is broken", |_, world: &World| world.broken.is_none()),
            Property::always("an end is a good end", |_, world: &World| {
                !world.steps().is_empty() || world.is_settled()
            }),
            Property::sometimes("all items get done", |_, world: &World| world.all_gone()),
            Property::sometimes("a drain leaves items behind", |_, world: &World| {
                world.steps().is_empty() && !world.all_gone()
            }),
        ]
    }
}

fn policy() -> Policy {
    let second = Duration::from_secs(1);
    // The wait is so short that jitter makes no difference. Worlds that differ only in their jitter
    // are then the same world.
    let moment = Duration::from_nanos(1);
    Policy {
        max_in_flight: 2,
        retry: Retry {
            attempts: 3,
            backoff: moment,
            backoff_max: moment,
            unknown_backoff: moment,
            worker_time_budget: second * 1000,
            not_started_for: second * 1000,
            interruptions: 2,
        },
        on_unknown: OnUnknown::Retry,
        on_failed: OnFailed::Hold,
        targets: Targets { dead_letter: true, ..Targets::default() },
        give_up_after: None,
        prefetched: true,
        peers: false,
        limit_step: Duration::ZERO,
        start_every: Duration::ZERO,
        breaker_failures: 3,
        breaker_open: second,
        bounds: Bounds {
            item_bytes: 10,
            held_bytes: 100,
            held_max: 5,
            orphans_max: 10,
            orphan_age: Duration::MAX,
        },
        seed: 0,
    }
}

fn explore(setting: Setting) {
    let checker =
        Small(setting).checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    println!(
        "{} states, {} of them unique, depth {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
}

/// Two items alike byte for byte, from RabbitMQ. Each test changes the setting that it is about.
fn twins() -> Setting {
    Setting {
        policy: Policy { retry: Retry { attempts: 2, ..policy().retry }, ..policy() },
        classes: vec![0, 0],
        unique: false,
        any_order: false,
        prefetch: Some(2),
        keys: vec![None; 2],
        outcomes: vec![Outcome::Done, Outcome::Failed { retry_after: None }],
        failures: 1,
        losses: 2,
        write_faults: 1,
        may_drain: true,
        near_limit: None,
        claims: 0,
        lost_answers: 0,
        silence: LONGEST_SILENCE,
        releases: 0,
        stucks: 0,
        acts: 0,
        checkpoints: false,
        undecodable: 0,
    }
}

#[test]
fn rabbitmq_twins_two_losses_drain_anywhere() {
    explore(Setting {
        policy: policy(),
        classes: vec![0, 0, 1],
        keys: vec![None; 3],
        failures: 3,
        ..twins()
    });
}

#[test]
fn kafka_one_key_two_losses_drain_anywhere() {
    explore(Setting {
        policy: Policy { prefetched: false, ..policy() },
        classes: vec![0, 1, 2],
        unique: true,
        prefetch: None,
        keys: vec![Some(7), Some(7), None],
        failures: 3,
        ..twins()
    });
}

#[test]
fn copies_near_the_limit_one_loss_drain_anywhere() {
    explore(Setting { losses: 1, near_limit: Some(1), ..twins() });
}

#[test]
fn two_replicas_one_loss_drain_anywhere() {
    let twins = twins();
    explore(Setting {
        policy: Policy { peers: true, ..twins.policy.clone() },
        write_faults: 0,
        losses: 1,
        claims: 2,
        ..twins
    });
}

/// One Kafka record, and other replicas that ask for it.
fn askers(claims: u32, lost_answers: u32) -> Setting {
    let twins = twins();
    Setting {
        policy: Policy { prefetched: false, peers: true, ..twins.policy.clone() },
        classes: vec![0],
        unique: true,
        prefetch: None,
        keys: vec![None],
        losses: 1,
        write_faults: 0,
        claims,
        lost_answers,
        ..twins
    }
}

/// An asker that loses answers asks again, as late as a living one may.
#[test]
fn an_asker_that_loses_answers_gets_its_result() {
    explore(askers(1, 2));
}

/// An asker dies, and the next replica that is handed the item asks for it.
#[test]
fn a_dead_asker_hides_nothing_from_the_next() {
    explore(askers(2, 0));
}

#[test]
fn two_askers_that_die_and_lose_answers_drain_anywhere() {
    explore(askers(2, 2));
}

#[test]
fn kafka_given_back_and_given_up_drain_anywhere() {
    let twins = twins();
    explore(Setting {
        policy: Policy { prefetched: false, give_up_after: Some(Duration::ZERO), ..twins.policy.clone() },
        classes: vec![0, 1],
        unique: true,
        prefetch: None,
        losses: 1,
        releases: 1,
        stucks: 1,
        undecodable: 1,
        ..twins
    });
}

#[test]
fn parked_one_loss_drain_anywhere() {
    let twins = twins();
    let targets = Targets { park: true, ..twins.policy.targets };
    explore(Setting { policy: twins.policy.clone().with_targets(targets), losses: 1, ..twins });
}

/// In a drain, a copy with the checkpoint takes the place of an item that is returned.
#[test]
fn checkpoints_one_loss_drain_anywhere() {
    let twins = twins();
    explore(Setting {
        losses: 1,
        classes: vec![0],
        keys: vec![None],
        failures: 2,
        checkpoints: true,
        ..twins
    });
}

/// A person acts on an item in any of its states, while its session is lost and its copy is
/// written.
#[test]
fn acts_of_people_one_loss_drain_anywhere() {
    let twins = twins();
    explore(Setting { losses: 1, near_limit: Some(1), classes: vec![0], keys: vec![None], acts: 2, ..twins });
}

/// The records of one key wait for its first one. They take no slot away from other keys.
#[test]
fn records_that_wait_for_their_key_leave_room_for_others() {
    use longhaul_delivery::{
        DeliveryId, Digest, Dispatcher, Epoch, Identity, Input, NoRoom, OrderKey, Outline, Time,
    };
    let mut core = Dispatcher::new(Policy { max_in_flight: 2, prefetched: false, ..policy() });
    let mut effects = Vec::new();
    let mut receive = |core: &mut Dispatcher, tag: u64, key: u128| {
        let outline = Outline {
            id: DeliveryId { epoch: Epoch(1), tag },
            identity: Identity::Content(Digest([tag as u8; 16])),
            redelivered: false,
            attempts_before: 0,
            body_bytes: 1,
            kept_bytes: 1,
            order_key: Some(OrderKey(key)),
            near_limit: false,
            ask_peers: false,
            shared: false,
            undecodable: false,
        };
        core.handle(Time::ZERO, Input::Received(outline), &mut effects);
    };
    core.handle(Time::ZERO, Input::SessionUp(Epoch(1)), &mut Vec::new());
    for tag in 0..5 {
        receive(&mut core, tag, 7);
    }
    assert_eq!((core.stats().running, core.stats().blocked_by_key, core.no_room()), (1, 4, None));
    receive(&mut core, 5, 8);
    assert_eq!((core.stats().running, core.no_room()), (2, Some(NoRoom::Slots)));
}
