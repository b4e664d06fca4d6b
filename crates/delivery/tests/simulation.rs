//! Ten thousand seeded walks through worlds larger than the model's: more items, all outcomes,
//! every policy, any order of returns. `LONGHAUL_SIMULATIONS` sets the number of walks,
//! `LONGHAUL_SEED` repeats a single one.

mod world;

use std::time::Duration;

use longhaul_delivery::lease::LONGEST_SILENCE;
use longhaul_delivery::{Bounds, OnFailed, OnUnknown, Outcome, Policy, Retry, Targets};
use world::{Setting, Step, World};

/// The most steps of a walk. A longer one never ends.
const STEPS_MAX: usize = 20_000;

#[test]
fn seeded_walks_break_nothing_and_come_to_an_end() {
    walk_all(setting);
}

/// Few items are copied many times. A copy may exist although its confirm was lost, and an old
/// delivery although the item is done.
#[test]
fn copies_of_copies_break_nothing() {
    walk_all(|rng| {
        let items = rng.usize(1..3);
        let policy = Policy { prefetched: true, breaker_failures: 0, ..policy(rng) };
        let targets = Targets { reply: false, ..policy.targets };
        Setting {
            policy: policy.with_targets(targets),
            classes: (0..items).collect(),
            unique: false,
            keys: vec![None; items],
            prefetch: Some(rng.usize(1..6)),
            outcomes: vec![Outcome::Done],
            losses: rng.u32(2..8),
            write_faults: rng.u32(2..8),
            near_limit: Some(1),
            claims: 0,
            releases: 0,
            stucks: 0,
            acts: 0,
            checkpoints: rng.bool(),
            ..setting(rng)
        }
    });
}

fn walk_all(setting: impl Fn(&mut fastrand::Rng) -> Setting + Copy + std::panic::RefUnwindSafe) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("LONGHAUL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LONGHAUL_SIMULATIONS").unwrap_or(10_000),
    };
    for seed in seeds {
        if let Err(failure) = walk(seed, setting) {
            panic!("seed {seed}: {failure}\nrun it again with LONGHAUL_SEED={seed}");
        }
    }
}

fn walk(seed: u64, setting: impl Fn(&mut fastrand::Rng) -> Setting) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let setting = setting(&mut rng);
    let mut world = World::new(setting.clone());
    let patience = rng.u32(1..16);
    let mut taken = Vec::new();
    for _ in 0..STEPS_MAX {
        let steps = world.steps();
        let Some(step) = choose(&steps, patience, &mut rng) else { break };
        taken.push(step);
        if take(&mut world, step).is_some() {
            return Err(shrunk(&setting, taken, |world| world.broken.clone()));
        }
    }
    if choose(&world.steps(), patience, &mut rng).is_some() {
        return Err(format!("it did not end within {STEPS_MAX} steps"));
    }
    if is_stuck(&world) {
        return Err(shrunk(&setting, taken, |world| {
            is_stuck(world).then(|| "it stopped with work left".to_owned())
        }));
    }
    Ok(())
}

/// Whether no step is possible although work is left. A held item waits for a person, and the items
/// behind it may wait with it.
fn is_stuck(world: &World) -> bool {
    let is_over = world.steps().iter().all(|step| *step == Step::Drain);
    is_over && !world.is_settled() && world.core.stats().held_live == 0
}

/// Takes a step. Returns the fault, if it shows one; an invariant of the core panics.
fn take(world: &mut World, step: Step) -> Option<String> {
    let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.take(step)));
    if let Err(panic) = taken {
        let text = panic.downcast_ref::<String>().cloned();
        world.broken.get_or_insert(text.unwrap_or_else(|| "the core panicked".to_owned()));
    }
    world.broken.clone()
}

/// Removes steps while the rest still shows a fault, and describes the shortest list.
fn shrunk(setting: &Setting, mut steps: Vec<Step>, fault: impl Fn(&World) -> Option<String>) -> String {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut chunk = steps.len().div_ceil(2);
    while chunk > 0 {
        let mut start = 0;
        while start < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(start..(start + chunk).min(steps.len()));
            if replay(setting, &fewer, &fault).is_some() { steps = fewer } else { start += chunk }
        }
        chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
    }
    std::panic::set_hook(hook);
    let fault = replay(setting, &steps, &fault).unwrap_or_else(|| "it does not show again".to_owned());
    let list: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
    format!("{fault}\nin {setting:?}\nafter {} steps:\n{}", steps.len(), list.join("\n"))
}

/// Takes the steps that are possible, and returns the fault.
fn replay(setting: &Setting, steps: &[Step], fault: impl Fn(&World) -> Option<String>) -> Option<String> {
    let mut world = World::new(setting.clone());
    for step in steps {
        if world.steps().contains(step) && take(&mut world, *step).is_some() {
            return world.broken;
        }
    }
    fault(&world)
}

/// Chooses any step, but a drain only rarely: otherwise most walks would end before anything
/// happens. If only a drain is possible, the walk is over. A request ends at every `patience`th
/// chance, so that in some walks many events happen while it runs.
fn choose(steps: &[Step], patience: u32, rng: &mut fastrand::Rng) -> Option<Step> {
    let mut others: Vec<Step> = steps.iter().copied().filter(|step| *step != Step::Drain).collect();
    let may_drain = others.len() < steps.len();
    let ends_none = |step: &Step| !matches!(step, Step::Complete(..));
    if rng.u32(..patience) != 0 && others.iter().any(ends_none) {
        others.retain(ends_none);
    }
    if may_drain && !others.is_empty() && rng.u32(..200) == 0 {
        return Some(Step::Drain);
    }
    rng.choice(others)
}

fn setting(rng: &mut fastrand::Rng) -> Setting {
    let items = rng.usize(1..12);
    let unique = rng.bool();
    let classes =
        (0..items).map(|index| if unique { index } else { rng.usize(0..items.div_ceil(2)) }).collect();
    let ordered = unique && rng.bool();
    let keys = (0..items).map(|_| ordered.then(|| u128::from(rng.u8(0..3)))).collect();
    let all = [
        Outcome::Done,
        Outcome::Failed { retry_after: None },
        Outcome::Failed { retry_after: Some(Duration::from_secs(30)) },
        Outcome::NotStarted { retry_after: None },
        Outcome::Rejected,
        Outcome::Unknown,
        Outcome::Misconfigured,
        Outcome::Interrupted,
        Outcome::Unreadable,
        Outcome::Stalled,
    ];
    let near_limit = (!unique && rng.bool()).then(|| rng.u32(1..4));
    let checkpoints = !unique && rng.bool();
    let policy = Policy { prefetched: !unique, ..policy(rng) };
    let targets = Targets { park: !unique && rng.bool(), ..policy.targets };
    Setting {
        policy: policy.with_targets(targets),
        classes,
        unique,
        any_order: !unique && rng.bool(),
        prefetch: (!unique).then(|| rng.usize(1..6)),
        keys,
        outcomes: all[..rng.usize(1..=all.len())].to_vec(),
        failures: rng.u32(0..40),
        losses: rng.u32(0..6),
        write_faults: rng.u32(0..6),
        may_drain: rng.bool(),
        near_limit,
        // With both, one item could become two: an item that is handed over does not know its copy.
        claims: if near_limit.is_some() || checkpoints { 0 } else { rng.u32(0..4) },
        lost_answers: rng.u32(0..4),
        silence: LONGEST_SILENCE,
        // Only Kafka gives sessions back as planned, and only its records can be stuck.
        releases: if unique { rng.u32(0..4) } else { 0 },
        stucks: if unique { rng.u32(0..4) } else { 0 },
        acts: if rng.bool() { rng.u32(0..8) } else { 0 },
        checkpoints,
        undecodable: if unique { rng.usize(0..3) } else { 0 },
    }
}

fn policy(rng: &mut fastrand::Rng) -> Policy {
    let seconds = |rng: &mut fastrand::Rng, most| Duration::from_secs(rng.u64(1..most));
    let on_failed = [OnFailed::Hold, OnFailed::Drop];
    let on_unknown = [OnUnknown::Retry, OnUnknown::DeadLetter, OnUnknown::Hold];
    Policy {
        max_in_flight: rng.u32(1..6),
        retry: Retry {
            attempts: rng.u32(1..5),
            backoff: seconds(rng, 20),
            backoff_max: seconds(rng, 600),
            unknown_backoff: seconds(rng, 60),
            worker_time_budget: seconds(rng, 20),
            not_started_for: seconds(rng, 200),
            interruptions: rng.u32(0..3),
        },
        on_unknown: on_unknown[rng.usize(..3)],
        on_failed: on_failed[rng.usize(..2)],
        targets: Targets { dead_letter: rng.u32(..3) == 0, reply: rng.bool(), park: false },
        give_up_after: rng.bool().then(|| seconds(rng, 100)),
        prefetched: false,
        peers: rng.bool(),
        limit_step: seconds(rng, 5) - Duration::from_secs(1),
        start_every: if rng.u8(0..4) == 0 { seconds(rng, 5) } else { Duration::ZERO },
        breaker_failures: rng.u32(0..6),
        breaker_open: seconds(rng, 100),
        bounds: Bounds {
            item_bytes: 10,
            held_bytes: rng.u64(1..100),
            held_max: rng.u32(1..6),
            orphans_max: 1_000,
            orphan_age: Duration::MAX,
        },
        seed: rng.u128(..),
    }
}
