//! Whether a partition is read on, and the reason if it is not.
//!
//! A consumer does not get records that belong to an open transaction, nor any record behind them.
//! Ordinary transactions end soon, and the place where they hold reading up moves on. One that does
//! not move for [`PATIENCE`] is reported. Some producers keep their transactions open for minutes
//! as a rule, so each transaction that did end doubles the patience beyond its own length.
//!
//! Records that are in the log, may be read, and still do not come are reported too. librdkafka
//! gives no error for some damaged batches and asks for them again without end.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;

use super::record::Place;
use super::thread::Worker;
use crate::telemetry::ProblemKind;

/// A problem must be visible within 10 s. The ends of the logs are two seconds old at most.
const PATIENCE: Duration = Duration::from_secs(6);
/// The patience with transactions never grows beyond this.
const MOST_PATIENCE: Duration = Duration::from_secs(3600);
const INTERVAL: Duration = Duration::from_secs(1);

const TRANSACTION_HELP: &str = "see whether its producer runs; the broker aborts the transaction when the producer's transaction.timeout.ms is over, and `kafka-transactions.sh find-hanging` and `abort` end one that stays";
const FETCH_HELP: &str = "see the broker's log for this partition; a damaged batch, or one larger than receive.message.max.bytes, looks like this; moving the group's committed offset behind it passes over it";

/// Where a partition is read and where its log ends.
#[derive(Debug, Default)]
pub struct Progress {
    /// The end of the log as a consumer sees it: before the first record of an open transaction.
    readable_to: i64,
    /// The end of the log with all records.
    written_to: i64,
    /// The present wait and its start.
    wait: Option<(Wait, Instant)>,
    /// The longest wait for a transaction that has ended.
    longest: Duration,
    /// The wait that was reported.
    reported: Option<Wait>,
}

/// The reason why nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// An open transaction begins at this offset.
    Transaction(i64),
    /// The record at this offset does not come.
    Fetch(i64),
}

/// What to report after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    New(Wait),
    Solved,
}

impl Progress {
    pub fn readable_to(&self) -> i64 {
        self.readable_to
    }

    pub fn log_is_readable_to(&mut self, end: i64) {
        self.readable_to = end;
    }

    pub fn log_is_written_to(&mut self, end: i64) {
        self.written_to = end;
    }

    /// The end of the log, with the records of open transactions.
    pub fn log_end(&self) -> i64 {
        self.written_to.max(self.readable_to)
    }

    /// Everything below `polled_to` was polled. `is_fetched` is false while nothing is to be
    /// fetched.
    pub fn look(&mut self, polled_to: i64, is_fetched: bool, now: Instant) -> Option<Report> {
        let wait = if polled_to < self.readable_to {
            is_fetched.then_some(Wait::Fetch(polled_to))
        } else {
            (self.readable_to < self.written_to).then_some(Wait::Transaction(self.readable_to))
        };
        if self.wait.map(|(known, _)| known) != wait {
            if let Some((Wait::Transaction(_), since)) = self.wait {
                self.longest = self.longest.max(now.saturating_duration_since(since));
            }
            self.wait = wait.map(|wait| (wait, now));
        }
        let due = self.wait.filter(|(wait, since)| {
            let patience = match wait {
                Wait::Transaction(_) => (2 * self.longest).clamp(PATIENCE, MOST_PATIENCE),
                Wait::Fetch(_) => PATIENCE,
            };
            now.saturating_duration_since(*since) >= patience
        });
        let due = due.map(|(wait, _)| wait);
        if due == self.reported {
            return None;
        }
        self.reported = due;
        Some(due.map_or(Report::Solved, Report::New))
    }
}

impl Worker {
    /// Reports partitions that wait for a transaction, or whose records do not come.
    pub(super) fn look_at_progress(&mut self, now: Instant) {
        if now < self.progress_at {
            return;
        }
        self.progress_at = now + INTERVAL;
        self.look_at_undecodable(now);
        let can_fetch = self.intake.may_poll() && self.health.is_reachable() && self.release.is_none();
        let mut reports = Vec::new();
        for partition in self.sessions.iter_mut() {
            let is_fetched =
                can_fetch && !partition.paused && !partition.holds() && partition.undecodable.is_none();
            let Some(polled_to) = partition.polled_to() else { continue };
            if let Some(report) = partition.progress.look(polled_to, is_fetched, now) {
                reports.push((partition.place.clone(), report, partition.progress.log_end()));
            }
        }
        for (place, report, log_end) in reports {
            let subject = format!("{}/{}", place.topic, place.partition);
            match report {
                Report::Solved => self.solved(ProblemKind::Stalled, &subject),
                Report::New(Wait::Transaction(from)) => {
                    let text = format!(
                        "kafka withholds the records of {subject} from offset {from} on: a producer's transaction there was neither committed nor aborted for more than {} s; the log ends at {log_end}",
                        PATIENCE.as_secs()
                    );
                    self.problem(ProblemKind::Stalled, &subject, text, TRANSACTION_HELP);
                }
                Report::New(Wait::Fetch(offset)) => {
                    let text = format!(
                        "no record of {subject} has come for more than {} s, although the log has records from offset {offset} to {log_end}",
                        PATIENCE.as_secs()
                    );
                    self.problem(ProblemKind::Stalled, &subject, text, FETCH_HELP);
                    self.fetch_again(&place, offset);
                }
            }
        }
    }

    /// Tells librdkafka once more to read this partition: it is known to forget that one was
    /// resumed.
    fn fetch_again(&mut self, place: &Place, offset: i64) {
        let (topic, number) = (&*place.topic, place.partition);
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, number);
        if let Err(error) = self.consumer.resume(&list) {
            tracing::debug!(topic, partition = number, %error, "Could not resume a partition");
        }
        self.seek(topic, number, offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn progress(readable_to: i64, written_to: i64) -> Progress {
        Progress { readable_to, written_to, ..Progress::default() }
    }

    #[test]
    fn a_transaction_that_stays_open_is_reported_once_and_solved_once() {
        let start = Instant::now();
        let mut progress = progress(5, 9);
        assert_eq!(progress.look(5, true, start), None);
        assert_eq!(progress.look(5, true, start + 5 * SECOND), None);
        let told = progress.look(5, true, start + 6 * SECOND);
        assert_eq!(told, Some(Report::New(Wait::Transaction(5))));
        assert_eq!(progress.look(5, true, start + 9 * SECOND), None);
        progress.log_is_readable_to(9);
        assert_eq!(progress.look(5, true, start + 10 * SECOND), Some(Report::Solved));
    }

    #[test]
    fn transactions_that_end_are_not_reported() {
        let start = Instant::now();
        let mut progress = progress(0, 0);
        for round in 0..50 {
            let end = i64::from(round);
            progress.log_is_readable_to(end);
            progress.log_is_written_to(end + 3);
            for second in 0..5 {
                let now = start + (5 * round + second) * SECOND;
                assert_eq!(progress.look(end, true, now), None, "{round}");
            }
        }
    }

    /// A producer that commits once a minute is reported once, and never again.
    #[test]
    fn long_transactions_are_reported_only_until_they_are_known() {
        let start = Instant::now();
        let mut progress = progress(0, 0);
        let mut reports = 0;
        for second in 0..600 {
            let transaction = i64::from(second / 60);
            progress.log_is_readable_to(10 * transaction);
            progress.log_is_written_to(10 * transaction + 5);
            let report = progress.look(10 * transaction, true, start + second * SECOND);
            reports += usize::from(matches!(report, Some(Report::New(_))));
        }
        assert_eq!(reports, 1);
    }

    #[test]
    fn records_that_do_not_come_are_reported_unless_the_partition_is_paused() {
        let start = Instant::now();
        let mut progress = progress(9, 9);
        assert_eq!(progress.look(5, false, start), None);
        assert_eq!(progress.look(5, false, start + 20 * SECOND), None);
        assert_eq!(progress.look(5, true, start + 21 * SECOND), None);
        let told = progress.look(5, true, start + 29 * SECOND);
        assert_eq!(told, Some(Report::New(Wait::Fetch(5))));
        assert_eq!(progress.look(6, true, start + 30 * SECOND), Some(Report::Solved));
        assert_eq!(progress.look(9, true, start + 60 * SECOND), None);
    }
}
