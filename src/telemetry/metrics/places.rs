//! Metrics of each queue and of each assigned partition.
//!
//! Partitions come and go with the assignments of the group, so their samples are made at each
//! scrape from the latest report of the source. Their number is bounded: beyond
//! [`PARTITIONS_MAX`] a pipeline shows one sample for each topic, and beyond that one for all.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::Row;
use super::labels::Labels;

/// Samples that one pipeline has of each metric here.
const PARTITIONS_MAX: usize = 500;

/// The value of a label that stands for several topics or partitions.
pub(super) const ALL: &str = "all";

const LAG: &str = "kafka_lag_records";
const HEAD_AGE: &str = "kafka_partition_head_age";
const PROGRESS: &str = "last_progress_timestamp";

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "longhaul_kafka_lag_records",
        kind: "gauge",
        labels: &["pipeline", "topic", "partition"],
        help: "Records from the first unfinished one to the end of the log, as Kafka's tools count the lag",
    },
    Row {
        name: "longhaul_kafka_partition_head_age_seconds",
        kind: "gauge",
        labels: &["pipeline", "topic", "partition"],
        help: "Age of the record that holds up the committed offset, since it was received; 0 without one",
    },
    Row {
        name: "longhaul_last_progress_timestamp_seconds",
        kind: "gauge",
        labels: &["pipeline", "queue", "topic", "partition"],
        help: "When this queue or partition last handed an item over or took a settle, since the Unix epoch",
    },
];

/// An assigned partition, as its source sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    pub topic: Arc<str>,
    pub partition: i32,
    /// The offset of the first unfinished record, if a record was read.
    pub unfinished_from: Option<i64>,
    /// Records from the first unfinished one to the end of the log, if the end is known.
    pub lag: Option<u64>,
    /// The age of the oldest unfinished record in hand; zero without one.
    pub head_age: Duration,
    /// When it last handed a record over, or took a commit.
    pub progress: Option<SystemTime>,
}

#[derive(Debug, Default)]
pub(super) struct Places(Mutex<BTreeMap<String, OfPipeline>>);

#[derive(Debug, Default)]
struct OfPipeline {
    queue: Option<(String, SystemTime)>,
    partitions: Vec<PartitionState>,
}

/// The values of one sample.
#[derive(Clone, Copy, Debug, Default)]
struct Values {
    lag: Option<i64>,
    head_age: Option<i64>,
    progress: Option<i64>,
}

/// The name of a metric, its unit, and its value.
type Metric = (&'static str, Option<Unit>, fn(Values) -> Option<i64>);

impl Places {
    pub fn queue_progressed(&self, pipeline: &str, queue: &str) {
        let now = SystemTime::now();
        let mut all = self.lock();
        match all.get_mut(pipeline).map(|of| &mut of.queue) {
            Some(Some((known, at))) if known == queue => *at = now,
            _ => all.entry(pipeline.to_owned()).or_default().queue = Some((queue.to_owned(), now)),
        }
    }

    pub fn set_partitions(&self, pipeline: &str, partitions: Vec<PartitionState>) {
        self.lock().entry(pipeline.to_owned()).or_default().partitions = partitions;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, OfPipeline>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfPipeline {
    /// The samples: queue, topic, partition and values.
    fn samples(&self) -> Vec<([String; 3], Values)> {
        let queue = self.queue.iter().map(|(queue, at)| {
            let values = Values { progress: Some(seconds(*at)), ..Values::default() };
            ([queue.clone(), String::new(), String::new()], values)
        });
        let partition = |one: &PartitionState| (one.topic.to_string(), one.partition.to_string());
        let topic = |one: &PartitionState| (one.topic.to_string(), ALL.to_owned());
        let whole = |_: &PartitionState| (ALL.to_owned(), ALL.to_owned());
        let mut places = self.merged(partition);
        if places.len() > PARTITIONS_MAX {
            places = self.merged(topic);
        }
        if places.len() > PARTITIONS_MAX {
            places = self.merged(whole);
        }
        let partitions = places
            .into_iter()
            .map(|((topic, partition), values)| ([String::new(), topic, partition], values));
        queue.chain(partitions).collect()
    }

    /// The partitions, with one sample for all that have the same key.
    fn merged(
        &self,
        key: impl Fn(&PartitionState) -> (String, String),
    ) -> BTreeMap<(String, String), Values> {
        let mut merged: BTreeMap<_, Values> = BTreeMap::new();
        for one in &self.partitions {
            let values = merged.entry(key(one)).or_default();
            let lag = one.lag.map(|lag| i64::try_from(lag).unwrap_or(i64::MAX));
            // The sum of those whose end is known.
            values.lag = lag.map(|lag| lag.saturating_add(values.lag.unwrap_or(0))).or(values.lag);
            let age = i64::try_from(one.head_age.as_secs()).unwrap_or(i64::MAX);
            values.head_age = values.head_age.max(Some(age));
            values.progress = values.progress.max(one.progress.map(seconds));
        }
        merged
    }
}

impl Collector for Places {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.lock();
        let samples: Vec<_> = all
            .iter()
            .flat_map(|(pipeline, of)| {
                of.samples().into_iter().map(move |(place, values)| (pipeline, place, values))
            })
            .collect();
        let metrics: [Metric; 3] = [
            (LAG, None, |values| values.lag),
            (HEAD_AGE, Some(Unit::Seconds), |values| values.head_age),
            (PROGRESS, Some(Unit::Seconds), |values| values.progress),
        ];
        for ((name, unit, value), row) in metrics.into_iter().zip(ROWS) {
            let mut with_value = samples
                .iter()
                .filter_map(|(pipeline, place, values)| Some((pipeline, place, value(*values)?)))
                .peekable();
            if with_value.peek().is_none() {
                continue;
            }
            let help = format!("{}.", row.help);
            let mut metric = encoder.encode_descriptor(name, &help, unit.as_ref(), MetricType::Gauge)?;
            for (pipeline, [queue, topic, partition], value) in with_value {
                let labels = match name {
                    PROGRESS => {
                        Labels::new(pipeline, [("queue", queue), ("topic", topic), ("partition", partition)])
                    }
                    _ => Labels::new(pipeline, [("topic", topic), ("partition", partition)]),
                };
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

/// Seconds since the Unix epoch.
fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(topics: usize, partitions: i32) -> OfPipeline {
        let partition = |topic: usize, partition| PartitionState {
            topic: format!("t{topic}").into(),
            partition,
            unfinished_from: Some(4),
            lag: Some(2),
            head_age: Duration::from_secs(u64::try_from(partition).unwrap()),
            progress: None,
        };
        let all = (0..topics).flat_map(|topic| (0..partitions).map(move |number| partition(topic, number)));
        OfPipeline { queue: None, partitions: all.collect() }
    }

    #[test]
    fn three_hundred_partitions_have_a_sample_each_and_more_share_them() {
        let samples = of(1, 300).samples();
        assert_eq!(samples.len(), 300);
        let samples = of(3, 300).samples();
        let ([_, topic, partition], values) = &samples[0];
        assert_eq!((samples.len(), topic.as_str(), partition.as_str()), (3, "t0", ALL));
        assert_eq!((values.lag, values.head_age, values.progress), (Some(600), Some(299), None));
        let samples = of(600, 1).samples();
        assert_eq!((samples.len(), samples[0].0[1].as_str(), samples[0].1.lag), (1, ALL, Some(1200)));
    }
}
