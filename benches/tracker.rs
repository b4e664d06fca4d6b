//! The cost of the tracker for each record: one record is received and one at random is completed.
//! One core; the bound is 20 ns for the pair.
//!
//! ```text
//! cargo bench --bench tracker
//! ```

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use longhaul::source::kafka::metadata;
use longhaul::source::kafka::tracker::Tracker;

/// Few enough that random completions never fill the map.
const MANY: usize = 5000;

const LOG: metadata::Log = metadata::Log { id: u128::MAX, is_replacement: true };

/// The number of completions drawn in advance, so that the measured loop draws no random number.
const DRAWS: usize = 1 << 16;

/// A tracker with `in_flight` records, and the order in which to complete them.
struct Load {
    tracker: Tracker,
    in_flight: Vec<i64>,
    draws: Vec<u16>,
    next: i64,
    turn: usize,
}

impl Load {
    fn new(in_flight: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        let mut tracker = Tracker::new(0);
        let offsets: Vec<i64> = (0..in_flight as i64).collect();
        for &offset in &offsets {
            tracker.receive(offset);
        }
        let draws = (0..DRAWS).map(|_| random.u16(..in_flight as u16)).collect();
        Load { tracker, next: in_flight as i64, in_flight: offsets, draws, turn: 0 }
    }

    /// Completes a random record and receives another, as the poll thread does. The oldest record
    /// is drawn long before the window reaches its limit, so the next one is always admitted.
    fn turn(&mut self) {
        let slot = usize::from(self.draws[self.turn % DRAWS]);
        self.turn += 1;
        let done = std::mem::replace(&mut self.in_flight[slot], self.next);
        black_box(self.tracker.complete(done));
        assert!(self.tracker.admits(self.next));
        black_box(self.tracker.receive(self.next));
        self.next += 1;
    }
}

fn tracker(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tracker");
    group.throughput(Throughput::Elements(1));
    for in_flight in [20, 200, MANY] {
        let mut load = Load::new(in_flight);
        group.bench_function(format!("receive and complete, {in_flight} in flight"), |bencher| {
            bencher.iter(|| load.turn());
        });
    }
    group.finish();
}

/// Measures the snapshot. A commit makes one for each changed partition, at most five times a
/// second.
fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    let mut load = Load::new(MANY);
    for _ in 0..100_000 {
        load.turn();
    }
    group.bench_function("snapshot and encode, 5000 in flight", |bencher| {
        bencher.iter(|| metadata::encode(LOG, &black_box(&load.tracker).snapshot(), metadata::CHARACTERS));
    });
    let mut stuck = Tracker::new(0);
    for offset in 0..1_000_000 {
        stuck.receive(offset);
        if offset > 0 {
            stuck.complete(offset);
        }
    }
    group.bench_function("snapshot and encode, 10^6 done behind one", |bencher| {
        bencher.iter(|| metadata::encode(LOG, &black_box(&stuck).snapshot(), metadata::CHARACTERS));
    });
    group.finish();
}

criterion_group!(benches, tracker, commit);
criterion_main!(benches);
