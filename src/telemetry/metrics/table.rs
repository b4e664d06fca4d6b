//! The table of the metrics of pipelines and of the program. An entry is the field, its type, the
//! name without prefix and `_total`, the unit if the name ends with one, the labels if they are not
//! only `pipeline`, and the help.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::labels::Labels;
use super::pipeline::Labelled as LabelledOfPipeline;
use super::{Families, Row};

/// Upper bounds of the duration buckets, in seconds: from a tenth of a second to a day.
const DURATION_BUCKETS: [f64; 14] =
    [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0, 86_400.0];

macro_rules! register {
    ($registry:ident, $name:literal, $help:literal, $metric:expr) => {
        $registry.register($name, $help, $metric)
    };
    ($registry:ident, $name:literal, $help:literal, $metric:expr, $unit:ident) => {
        $registry.register_with_unit($name, $help, Unit::$unit, $metric)
    };
}

macro_rules! kind {
    (Counter) => {
        "counter"
    };
    (Gauge) => {
        "gauge"
    };
    (Histogram) => {
        "histogram"
    };
}

macro_rules! total {
    (Counter) => {
        "_total"
    };
    ($other:ident) => {
        ""
    };
}

macro_rules! family {
    (Histogram) => {
        Family<Labels, Histogram, fn() -> Histogram>
    };
    ($other:ident) => {
        Family<Labels, $other>
    };
}

macro_rules! new_family {
    (Histogram) => {
        Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS))
    };
    ($other:ident) => {
        Family::default()
    };
}

/// Makes three things from one list: the metric families, their rows of the table, and the metrics
/// of one pipeline.
macro_rules! pipeline_metrics {
    ($($(#[$comment:meta])* $field:ident: $type:ident $name:literal $(($unit:ident $suffix:literal))? $help:literal;)*) => {
        /// The metrics with only the label `pipeline`.
        #[derive(Default)]
        pub(super) struct Plain {
            $($field: family!($type),)*
        }

        pub(super) const PLAIN: &[Row] = &[$(Row {
            name: concat!("longhaul_", $name $(, "_", $suffix)?, total!($type)),
            kind: kind!($type),
            labels: &["pipeline"],
            help: $help,
        },)*];

        /// The metrics of one pipeline.
        pub struct PipelineMetrics {
            $($(#[$comment])* pub $field: $type,)*
            pub(super) labelled: LabelledOfPipeline,
        }

        impl Plain {
            pub fn register(&self, registry: &mut Registry) {
                $(register!(registry, $name, $help, self.$field.clone() $(, $unit)?);)*
            }
        }

        impl PipelineMetrics {
            /// Makes all metrics of a pipeline, first at zero.
            pub(super) fn of(pipeline: &str, families: &Families) -> Self {
                let labels = Labels::new(pipeline, []);
                PipelineMetrics {
                    $($field: families.plain.$field.get_or_create_owned(&labels),)*
                    labelled: LabelledOfPipeline::new(pipeline, families),
                }
            }
        }
    };
}

/// Makes two things from one list: the metric families, and their rows of the table.
macro_rules! labelled_metrics {
    ($($field:ident: $type:ident $name:literal $(($unit:ident $suffix:literal))? [$($label:literal)*] $help:literal;)*) => {
        /// The metrics with other labels.
        pub(super) struct Labelled {
            $(pub $field: family!($type),)*
        }

        pub(super) const LABELLED: &[Row] = &[$(Row {
            name: concat!("longhaul_", $name $(, "_", $suffix)?, total!($type)),
            kind: kind!($type),
            labels: &[$($label),*],
            help: $help,
        },)*];

        impl Labelled {
            pub fn register(&self, registry: &mut Registry) {
                $(register!(registry, $name, $help, self.$field.clone() $(, $unit)?);)*
            }
        }

        impl Default for Labelled {
            fn default() -> Self {
                Labelled { $($field: new_family!($type),)* }
            }
        }
    };
}

pipeline_metrics! {
    received: Counter "items_received" "Deliveries taken from the broker";
    in_flight: Gauge "items_in_flight" "Open requests";
    in_flight_limit: Gauge "items_in_flight_limit" "Working limit of open requests, at most max_in_flight";
    held: Gauge "items_held" "Items that failed for good and are held";
    replies: Counter "replies_written" "Confirmed replies";
    write_failures: Counter "write_failures" "Dead letters, replies and copies that were not confirmed";
    redeliveries: Counter "redeliveries" "Deliveries that the broker made before";
    adopted: Counter "adopted" "Redeliveries that found their own request or result";
    rewritten: Counter "items_rewritten" "Copies written before the queue's delivery limit";
    /// Results that other replicas handed to this one.
    taken_over: Counter "results_taken_over" "Results that other replicas handed to this one";
    /// Results that this replica handed to others.
    handed_over: Counter "results_handed_over" "Results that this replica handed to others";
    parked: Counter "items_parked" "Waits for a retry in the broker";
    orphans: Gauge "orphans" "Results kept for a redelivery";
    orphans_expired: Counter "orphans_expired" "Results that no redelivery came for";
    stale_settles: Counter "stale_settles" "Settles of a session that was already lost";
    blocked_by_key: Gauge "items_blocked_by_key" "Items that wait for another one with the same key";
    breaker_open: Gauge "breaker_open" "1 while the breaker is not closed";
    sessions_lost: Counter "sessions_lost" "Broker sessions that ended";
    backlog: Gauge "backlog_items" "Items in the broker that were not delivered yet";
    connected: Gauge "broker_connected" "1 while the broker is connected";
    last_success: Gauge "last_success_timestamp" (Seconds "seconds") "Time of the latest item done, since the Unix epoch; 0 before the first";
    oldest_attempt: Gauge "oldest_attempt_start_timestamp" (Seconds "seconds") "Start of the oldest open request, since the Unix epoch; 0 without one";
    oldest_wait: Gauge "oldest_wait_start_timestamp" (Seconds "seconds") "Start of the longest wait of an item in hand without an open request, since the Unix epoch; 0 without one";
    message_bytes: Gauge "messages_in_hand" (Bytes "bytes") "Memory of the messages and answers in hand, which limits.held_bytes bounds";
    max_in_flight: Gauge "max_in_flight" "Configured bound of open requests";
    paused: Gauge "pipeline_paused" "1 while a person has paused the pipeline";
    draining: Gauge "pipeline_draining" "1 while the pipeline drains, and after that";
    retries: Counter "items_retried" "Waits for a further attempt, in hand or in the broker";
    replicas: Gauge "replicas" "Addresses of this bridge that `peers` finds, its own included; 1 without `peers`";
    pods: Gauge "worker_pods" "Worker pods that reported a running item";
    kafka_head_age: Gauge "kafka_head_age" (Seconds "seconds") "Age of the oldest record that holds up a committed offset";
    kafka_partitions_paused: Gauge "kafka_partitions_paused" "Partitions that a person has paused";
    kafka_partitions_full: Gauge "kafka_partitions_full" "Partitions that take in nothing new, because a commit can name no more unfinished records";
}

labelled_metrics! {
    attempts: Counter "attempts" ["pipeline" "outcome" "code"] "Ended requests by outcome and status code";
    duration: Histogram "attempt_duration" (Seconds "seconds") ["pipeline" "outcome"] "Time from the start of a request to its end";
    enqueue_to_done: Histogram "enqueue_to_done" (Seconds "seconds") ["pipeline"] "Time from the timestamp of an item's message, or else the time of its event, to the item's success";
    items: Gauge "items" ["pipeline" "state"] "Items in hand by state, as in the item list";
    finished: Counter "items_finished" ["pipeline" "end"] "Items that ended here, by their last state, as in the item list";
    bindings: Gauge "limit_binding" ["pipeline" "binding"] "1 for the bound that keeps further items from starting now";
    breaker: Gauge "breaker_state" ["pipeline" "breaker"] "1 for the present state of the breaker";
    settled: Counter "items_settled" ["pipeline" "how"] "Deliveries settled with the broker";
    dead_lettered: Counter "items_dead_lettered" ["pipeline" "reason"] "Confirmed dead letters by reason";
    ready: Gauge "pipeline_ready" ["pipeline"] "1 while the pipeline is ready";
    problems: Gauge "problems" ["pipeline" "kind"] "Reasons why the pipeline is not ready, by kind, as in /readyz";
    info: Gauge "pipeline_info" ["pipeline" "source" "sink"] "Always 1, with the queue or the topics, and the address of the service";
    intake_answers: Counter "intake_answers" ["code"] "Answers of `intake:` to items, by status code";
    trace_sent: Counter "trace_records_sent" ["signal"] "Spans and log records that the receiver of traces took";
    trace_dropped: Counter "trace_records_dropped" ["signal"] "Spans and log records that were dropped, because the receiver of traces was away or slow";
    guard_marked: Gauge "guard_pods_marked" [] "Busy pods that carry a mark of this bridge";
    guard_writes: Counter "guard_writes" ["write"] "Marks that the guard has written or removed; a renewal is a mark";
    guard_failures: Counter "guard_failures" ["failure"] "Writes and watches of the guard that did not succeed";
    build: Gauge "build_info" ["version" "kafka"] "Always 1, with the version of longhaul";
}
