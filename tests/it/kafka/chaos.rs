//! A group whose members join, leave and die all the time: nothing is lost, and every record that
//! runs twice was in the hands of a member that was killed, or finished within its last commit
//! interval.
//!
//! ```text
//! LONGHAUL_TEST_CHAOS_RECORDS=100000 LONGHAUL_TEST_CHAOS_SEEDS=1,2,3,4,5 \
//!     cargo test --test it kafka::chaos -- --nocapture
//! ```
//! takes six minutes for each seed.

mod worker;

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::task::JoinSet;

use super::support::{Broker, PATIENCE};
use crate::support::eventually;
use crate::support::process::Longhaul;
use worker::Worker;

const MEMBERS: usize = 6;
const FEWEST: usize = 3;
const PARTITIONS: i32 = 24;
const MAX_IN_FLIGHT: usize = 8;
/// Records written per second: as many as the group can process while half of the members are away.
const RATE: usize = 300;
const BETWEEN_ACTIONS: Duration = Duration::from_secs(5);
/// The time in which finished records may be uncommitted: a commit interval, and the time to gather
/// and write the commit.
const COMMIT_INTERVAL: Duration = Duration::from_millis(250);
/// More records that may be uncommitted if a member dies while the group waits for another dead
/// one: its work until it stopped taking records. The sum over twenty kills stays below this.
const IN_A_REBALANCE: usize = 40;
const MANY_KILLS: usize = 20;

fn records() -> usize {
    std::env::var("LONGHAUL_TEST_CHAOS_RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(7_500)
}

fn seeds() -> Vec<u64> {
    let seeds = std::env::var("LONGHAUL_TEST_CHAOS_SEEDS").unwrap_or_else(|_| "1".to_owned());
    seeds.split(',').map(|seed| seed.trim().parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go_and_nothing_is_lost() {
    for seed in seeds() {
        let broker = Broker::real("chaos");
        broker.create_topic(&broker.name, PARTITIONS).await;
        Storm::new(seed, &broker).await.run(&broker).await;
        broker.delete_topic(&broker.name).await;
    }
}

struct Storm {
    seed: u64,
    random: fastrand::Rng,
    worker: Worker,
    members: Vec<Option<Longhaul>>,
    config: String,
    leaving: JoinSet<()>,
    /// The killed members, with the earliest and the latest time of each kill.
    kills: Vec<(usize, Instant, Instant)>,
    joins: usize,
    leaves: usize,
}

impl Storm {
    async fn new(seed: u64, broker: &Broker) -> Self {
        let worker = Worker::start().await;
        let Broker { bootstrap, name } = broker;
        let config = format!(
            "pipelines:\n  - name: chaos\n    \
             source: {{ kafka: {{ bootstrap_servers: [\"{bootstrap}\"], topics: [{name}], group: {name}, session_timeout: 6s }} }}\n    \
             sink: {{ url: \"{}/MEMBER\" }}\n    max_in_flight: {MAX_IN_FLIGHT}\n",
            worker.url
        );
        let mut storm = Storm {
            seed,
            random: fastrand::Rng::with_seed(seed),
            worker,
            members: (0..MEMBERS).map(|_| None).collect(),
            config,
            leaving: JoinSet::new(),
            kills: Vec::new(),
            joins: 0,
            leaves: 0,
        };
        for member in 0..MEMBERS {
            storm.join(member);
        }
        storm
    }

    async fn run(mut self, broker: &Broker) {
        let began = Instant::now();
        let mut written = 0;
        while written < records() {
            let batch = (RATE * BETWEEN_ACTIONS.as_secs() as usize).min(records() - written);
            self.write(broker, batch).await;
            written += batch;
            self.act().await;
        }
        for member in 0..MEMBERS {
            if self.members[member].is_none() {
                self.join(member);
            }
        }
        self.until_done(written).await;
        // A new item still passes after all that.
        broker.produce(&broker.name, 0, ["fresh".to_owned()]).await;
        self.until_done(written + 1).await;
        // A killed member may have finished records without a commit. They run again after the
        // group has reassigned its partitions.
        eventually("all commits", async || unfinished(broker) == 0).await;
        for member in self.members.drain(..).flatten() {
            self.leaving.spawn(member.stop());
        }
        while let Some(left) = self.leaving.join_next().await {
            left.unwrap();
        }
        self.judge(began.elapsed());
        assert_eq!(unfinished(broker), 0, "seed {}: records that are not committed", self.seed);
    }

    /// Writes records to all partitions, spread over the time until the next action.
    async fn write(&mut self, broker: &Broker, count: usize) {
        let producer: FutureProducer = broker.client().set("linger.ms", "5").create().unwrap();
        let mut pace =
            tokio::time::interval(BETWEEN_ACTIONS / (RATE as u32 * BETWEEN_ACTIONS.as_secs() as u32));
        let mut confirmed = Vec::new();
        for _ in 0..count {
            pace.tick().await;
            let partition = self.random.i32(0..PARTITIONS);
            let record = FutureRecord::<str, str>::to(&broker.name).partition(partition).payload("item");
            confirmed.push(producer.send_result(record).unwrap());
        }
        for one in confirmed {
            one.await.unwrap().unwrap();
        }
    }

    async fn act(&mut self) {
        let here: Vec<usize> = (0..MEMBERS).filter(|&member| self.members[member].is_some()).collect();
        let away: Vec<usize> = (0..MEMBERS).filter(|&member| self.members[member].is_none()).collect();
        let joins = here.len() <= FEWEST || (!away.is_empty() && self.random.u8(..3) == 0);
        let member = *self.random.choice(if joins { &away } else { &here }).unwrap();
        if joins {
            self.joins += 1;
            return self.join(member);
        }
        let process = self.members[member].take().unwrap();
        // Two of three kills. A killed member often returns within the session timeout.
        if self.random.u8(..3) > 0 {
            let before = Instant::now();
            process.kill().await;
            self.kills.push((member, before, Instant::now()));
        } else {
            self.leaves += 1;
            self.leaving.spawn(process.stop());
        }
    }

    fn join(&mut self, member: usize) {
        self.members[member] = Some(Longhaul::run(&self.config.replace("MEMBER", &member.to_string())));
    }

    async fn until_done(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.worker.finished() < count {
            assert!(
                Instant::now() < deadline,
                "seed {}: {} of {count} done",
                self.seed,
                self.worker.finished()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn judge(&self, took: Duration) {
        let in_hand: usize = self
            .kills
            .iter()
            .map(|&(member, before, after)| self.worker.in_hand(member, before - COMMIT_INTERVAL, after))
            .sum();
        let few = self.kills.len() < MANY_KILLS;
        let allowed = in_hand + if few { IN_A_REBALANCE } else { 0 };
        let again = self.worker.second_runs();
        let unexplained = self.worker.unexplained(&self.kills, COMMIT_INTERVAL);
        println!(
            "seed {}: {} records in {took:.0?}, {} kills, {} leaves, {} joins: {again} second runs of at most \
             {allowed}, {unexplained} of them in no killed member's hands",
            self.seed,
            self.worker.finished(),
            self.kills.len(),
            self.leaves,
            self.joins,
        );
        assert!(again <= allowed, "seed {}: {again} second runs of at most {allowed}", self.seed);
    }
}

/// Counts the records above the committed offsets. All are done by now, so the maps have no gaps.
fn unfinished(broker: &Broker) -> i64 {
    let consumer: BaseConsumer = broker.client().create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_range(&broker.name, 0, PARTITIONS - 1);
    let committed = consumer.committed_offsets(list, PATIENCE).unwrap();
    let open = committed.elements().into_iter().map(|element| {
        let (start, end) = consumer.fetch_watermarks(&broker.name, element.partition(), PATIENCE).unwrap();
        end - element.offset().to_raw().filter(|&offset| offset >= 0).unwrap_or(start)
    });
    open.sum()
}
