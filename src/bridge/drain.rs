//! The end of a pipeline: a planned stop, a stop that took too long, or a source that gave up.

use std::pin::pin;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::partitions::Partitions;
use super::{Pipeline, Report, TICK, answer, next};
use crate::delivery::{Dispatcher, Input, Policy};
use crate::source::{Command, Link, SourceError, link};

/// The time that a source has to leave its broker after all items are settled.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The time between two questions whether another replica continues, and before the first question.
/// Replicas that are all told to stop learn of it one after the other.
const STAY_INTERVAL: Duration = Duration::from_secs(1);

impl Pipeline {
    /// The process has to end.
    pub(super) fn stop(&mut self) {
        self.deadline = Some(Instant::now() + self.drain_timeout);
        if !self.core.is_draining() {
            self.begin_drain();
        }
    }

    pub(super) fn begin_drain(&mut self) {
        let stats = self.core.stats();
        tracing::info!(
            running = stats.running, timeout = ?self.drain_timeout,
            "Draining: nothing new starts, running requests finish"
        );
        self.status.set_draining();
        self.send(Command::StopIntake);
        self.handle(Input::Drain);
        self.stop_waiting();
        self.end_pauses();
        self.look_for_a_successor();
    }

    /// Leaves the work to the other replicas after one of them says that it continues. If all
    /// replicas are told to stop, each keeps its work to the end: no replica would take a result
    /// over, and the result would be lost.
    fn look_for_a_successor(&mut self) {
        // With RabbitMQ, only the running items are kept from other replicas.
        let Some(peers) = self.peers().filter(|_| !self.core.is_prefetched()) else { return };
        let (shared, commands) = (self.shared.clone(), self.port.commands.clone());
        let asking = async move {
            loop {
                sleep(STAY_INTERVAL).await;
                if peers.somebody_stays(&shared.name).await {
                    // A source that has ended has nothing to leave.
                    let _ = commands.send(Command::LeaveToOthers);
                    return;
                }
            }
        };
        self.tasks.spawn(asking.in_current_span());
    }

    pub(super) fn is_drained(&self) -> bool {
        self.core.is_draining()
            && self.intake_stopped
            && self.core.is_empty()
            && self.port.deliveries.is_empty()
    }

    /// Stays after a drain that a person asked for, until the process ends (false) or a person
    /// wants the pipeline back (true). Meanwhile people can read the record of the finished items.
    pub(super) async fn rest(&mut self, drain: &CancellationToken) -> bool {
        if drain.is_cancelled() {
            return false;
        }
        self.is_at_rest = true;
        self.status.beat();
        tracing::info!("Drained on request: the pipeline stays at rest until somebody resumes it");
        let mut tick = tokio::time::interval(TICK);
        while !self.is_wanted_again {
            tokio::select! {
                _ = drain.cancelled() => return false,
                // The core is empty, so other replicas get the answer at once that nothing runs
                // here.
                Some(question) = next(&mut self.questions) => self.question(question),
                Some(control) = next(&mut self.control) => self.control(control),
                _ = tick.tick() => self.status.beat(),
            }
        }
        true
    }

    /// Prepares a drained pipeline for its next source. Returns the source's end of the link.
    pub(super) fn start_again(&mut self) -> Link {
        tracing::info!("Resumed on request: the pipeline connects to its broker again");
        let (port, link) = link(self.policy.max_in_flight as usize);
        self.port = port;
        // Marks are made from the seed and a number. The next core must not repeat one.
        let seed = uuid::Uuid::new_v4().as_u128();
        self.core = Dispatcher::new(Policy { seed, ..self.policy.clone() });
        self.claims = answer::Claims::default();
        self.partitions = Partitions::default();
        if let Some(asking) = &mut self.asking {
            asking.clear();
        }
        self.works.clear();
        self.requests.clear();
        self.failing_writes.clear();
        // The search for another replica that continues may still run.
        self.tasks.abort_all();
        self.backlog = None;
        self.intake_stopped = false;
        self.is_drained_by_hand = false;
        self.is_at_rest = false;
        self.is_wanted_again = false;
        self.progress = Instant::now();
        self.status.start_again();
        link
    }

    /// Leaves the broker. All items are settled by now, so nothing is lost if this takes too long.
    pub(super) async fn close(
        &mut self,
        source: JoinHandle<Result<(), SourceError>>,
    ) -> Result<Report, SourceError> {
        self.send(Command::Close);
        let mut source = pin!(source);
        match timeout(CLOSE_TIMEOUT, source.as_mut()).await {
            Ok(ended) => self.source_ended(ended),
            Err(_) => {
                tracing::warn!("The broker's client did not close in time; leaving it");
                source.abort();
                Ok(Report { cut: self.forgone })
            }
        }
    }

    /// Cuts the running requests. Their items stay with the broker, unsettled.
    pub(super) async fn cut_short(&mut self, source: JoinHandle<Result<(), SourceError>>) -> Report {
        let cut = self.unfinished();
        tracing::error!(
            cut,
            "The drain timeout has passed: running requests are cut and their items run again elsewhere; raise drain.timeout"
        );
        self.requests.clear();
        self.tasks.abort_all();
        let closed = self.close(source).await;
        if let Err(error) = closed {
            tracing::warn!(%error, "The source ended with an error");
        }
        Report { cut }
    }

    /// Items whose work is not done, and is not in another replica's hands.
    fn unfinished(&self) -> usize {
        self.core.views().count()
    }

    pub(super) fn source_ended(
        &mut self,
        ended: Result<Result<(), SourceError>, JoinError>,
    ) -> Result<Report, SourceError> {
        match ended {
            Ok(Ok(())) => Ok(Report { cut: self.unfinished() + self.forgone }),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(SourceError {
                what: format!("the source's task ended: {error}"),
                hint: "this is a defect of longhaul: please report it with the log".to_owned(),
            }),
        }
    }
}
