//! Takes items from a RabbitMQ queue, in one session after another.
//!
//! The supervisor opens the sessions, each with a new epoch, and waits between them. [`session`]
//! contains the life of one session. A session ends with its channel. The broker then requeues
//! every delivery that it has not seen settled. So no state of a session is worth keeping, and a
//! new connection repairs every fault.

mod acks;
mod backlog;
mod consumers;
mod limit;
mod message;
mod others;
mod problems;
mod session;
mod settle;
mod single;
mod topology;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::mpsc;

use super::{Command, Delivery, Link, Settled, SourceError, SourceEvent};
use crate::config::{Declare, RabbitmqSource};
use crate::connect::rabbitmq::{self, Error};
use crate::delivery::Epoch;
use others::Others;
use problems::Problems;
use session::{Ended, Session};
use topology::Kind;

/// After a session of at least this length, the next wait is the shortest one again. A shorter
/// session may have been ended by the item that comes first again. Each such round counts against a
/// delivery limit.
const SOUND_SESSION: Duration = Duration::from_secs(30);

/// The wait after bytes that lapin cannot read. Every session that meets such bytes returns its
/// items, and each return counts against their delivery limit. The default of RabbitMQ 4 is 20, so
/// quick retries would make the queue drop them.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(300);

/// The queue to consume, and the options of the consumer.
#[derive(Clone, Debug)]
pub struct Settings {
    pub connection: rabbitmq::Settings,
    pub queue: String,
    /// The queue to create. Without it, longhaul waits for a missing queue.
    pub declare: Option<Declare>,
    /// The largest number of unsettled deliveries.
    pub max_in_flight: u16,
    /// The memory of unsettled deliveries, in bytes. Without it, only their number is bounded.
    pub held_bytes: Option<u64>,
    /// The number of returns that the queue allows, if it is known.
    pub delivery_limit: Option<u32>,
    /// The longest time that an item may stay unsettled. Only some brokers take this from the
    /// consumer.
    pub ack_timeout: Duration,
    /// The wait after bytes that lapin cannot read.
    pub unreadable_pause: Duration,
    /// Whether the replicas ask each other about redelivered items.
    pub peers: bool,
}

/// A consumer of one queue.
#[derive(Clone)]
pub struct Source {
    settings: Settings,
    epoch: Epoch,
    /// The latest epoch of this source and its clones.
    epochs: Arc<AtomicU64>,
    intake: Intake,
    /// The type of the queue. It is kept while the queue is known to be the same.
    kind: Option<Kind>,
    others: Arc<Others>,
    /// Whether the last session met bytes that lapin cannot read. The next sessions then take one
    /// item at a time, until a session was long enough.
    careful: bool,
}

/// The link without its commands. The supervisor also answers commands while there is no session.
struct Port {
    deliveries: mpsc::Sender<Delivery>,
    events: mpsc::UnboundedSender<SourceEvent>,
    commands: mpsc::UnboundedReceiver<Command>,
}

/// The purpose of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    Open,
    /// The session takes the items that were in hand before and come again. It keeps all other
    /// deliveries until its end: a returned delivery would come again at once, and each return
    /// counts against its delivery limit.
    OnlyReturns,
}

/// The bridge's wish for a source that has no session.
#[derive(PartialEq, Eq)]
enum Told {
    StopIntake,
    Close,
}

impl Settings {
    /// Creates a source. The broker's management shows `name`. `url` makes the AMQP URI again for
    /// each connection.
    pub fn new(config: &RabbitmqSource, url: rabbitmq::Url, max_in_flight: u32, name: &str) -> Self {
        Settings {
            connection: rabbitmq::Settings { url, tls: config.tls.clone(), name: name.to_owned() },
            queue: config.queue.clone(),
            declare: config.declare.clone(),
            delivery_limit: config.delivery_limit,
            ack_timeout: Duration::from_secs(30 * 60),
            unreadable_pause: UNREADABLE_PAUSE,
            peers: false,
            held_bytes: None,
            // Zero would mean "no bound" to RabbitMQ.
            max_in_flight: u16::try_from(max_in_flight).unwrap_or(u16::MAX).max(1),
        }
    }
}

impl Source {
    pub fn new(settings: Settings) -> Self {
        let (epoch, epochs, others) = (Epoch(0), Arc::default(), Arc::default());
        Source { settings, epoch, epochs, intake: Intake::Open, kind: None, others, careful: false }
    }

    /// Opens the next session.
    ///
    /// # Errors
    /// Returns faults that only a change of the configuration fixes.
    async fn open(&mut self, problems: &mut Problems) -> Result<Option<Session>, SourceError> {
        let mut settings = self.settings.clone();
        if self.careful {
            settings.max_in_flight = 1;
        }
        let epoch = Epoch(self.epochs.fetch_add(1, Ordering::Relaxed) + 1);
        let opening = Session::open(&settings, epoch, self.intake, &mut self.kind, &self.others, problems);
        let error = match opening.await {
            Ok(session) => return Ok(Some(session)),
            Err(error) => error,
        };
        self.kind = None;
        problems.raise(&error);
        if error.is_final() {
            let what = format!("cannot consume queue {}: {error}", settings.queue);
            return Err(SourceError { what, hint: error.refusal().help.to_owned() });
        }
        tracing::debug!(%error, queue = settings.queue, "No session with RabbitMQ, trying again");
        Ok(None)
    }

    fn lost(&mut self, error: &Error, problems: &mut Problems) {
        let (epoch, queue) = (self.epoch, &self.settings.queue);
        tracing::warn!(%epoch, queue, %error, "Session with RabbitMQ lost, connecting again");
        problems.send(SourceEvent::Lost { epoch, reason: error.to_string() });
        problems.send(SourceEvent::Connected(false));
        self.others.lost(error);
        if error.is_unreadable() {
            problems.raise(error);
            self.careful = true;
        }
        if matches!(error, Error::Cancelled) {
            // The queue may have been deleted. The next queue of this name may have another type.
            self.kind = None;
            self.others.forget_single();
        }
    }
}

impl super::Source for Source {
    async fn run(mut self, link: Link) -> Result<(), SourceError> {
        let mut port = Port { deliveries: link.deliveries, events: link.events, commands: link.commands };
        let mut problems = Problems::new(&self.settings.queue, port.events.clone());
        let mut waits = waits();
        loop {
            let opened = tokio::select! {
                biased;
                told = told(&mut port.commands, &port.events) => {
                    if told == Told::Close {
                        return Ok(());
                    }
                    // A running item can only be acked in a session in which the broker hands it
                    // over again.
                    self.intake = Intake::OnlyReturns;
                    continue;
                }
                opened = self.open(&mut problems) => opened?,
            };
            let (mut closing, mut least) = (None, Duration::ZERO);
            if let Some(session) = opened {
                self.epoch = session.epoch();
                let began = Instant::now();
                let (ended, connection) = session.run(&mut port, &self.settings, &mut problems).await;
                let Ended::Lost { error, intake } = ended else {
                    connection.close().await;
                    return Ok(());
                };
                self.intake = intake;
                if began.elapsed() >= SOUND_SESSION {
                    waits = self::waits();
                    self.careful = false;
                }
                self.lost(&error, &mut problems);
                if error.is_unreadable() {
                    least = self.settings.unreadable_pause;
                }
                closing = Some(connection);
            }
            let wait = waits.next().unwrap_or_default().max(least);
            let pause = async {
                // The rest of the old session must end before the broker hands its items over
                // again.
                if let Some(connection) = closing {
                    connection.close().await;
                }
                tokio::time::sleep(wait).await;
            };
            tokio::select! {
                biased;
                told = told(&mut port.commands, &port.events) => {
                    if told == Told::Close {
                        return Ok(());
                    }
                    self.intake = Intake::OnlyReturns;
                }
                () = pause => {}
            }
        }
    }
}

/// Returns the waits between sessions: 200 ms at first, doubled up to 5 s, each longer by up to its
/// own length, without end.
fn waits() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
        .build()
}

/// Answers commands while there is no session, until a command concerns the source itself.
async fn told(
    commands: &mut mpsc::UnboundedReceiver<Command>,
    events: &mpsc::UnboundedSender<SourceEvent>,
) -> Told {
    loop {
        match commands.recv().await {
            None | Some(Command::Close) => return Told::Close,
            Some(Command::StopIntake) => {
                let _ = events.send(SourceEvent::IntakeStopped);
                return Told::StopIntake;
            }
            Some(Command::Settle { delivery, .. }) => {
                let _ = events.send(SourceEvent::Settled { delivery, settled: Settled::Stale });
            }
            Some(
                Command::Note { .. }
                | Command::Prove { .. }
                | Command::StartFrom(_)
                | Command::LeaveToOthers
                | Command::PausePartition { .. }
                | Command::SkipUndecodable { .. },
            ) => {}
        }
    }
}
