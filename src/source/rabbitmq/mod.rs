//! Items from a RabbitMQ queue, over one session after another.
//!
//! The supervisor here opens sessions, each with a new epoch, and waits between them; [`session`] is the life of one.
//! A session ends with its channel: the broker then gives back everything that it has not seen settled, so nothing of
//! a session is worth keeping, and a new connection repairs everything.

mod acks;
mod backlog;
mod limit;
mod message;
mod others;
mod problems;
mod session;
mod settle;
mod topology;

use std::sync::Arc;
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

/// A session that lasted this long was a sound one: the next wait starts from the shortest again. A shorter one may
/// have been ended by the very item that comes first again, and each round counts against a delivery limit.
const SOUND_SESSION: Duration = Duration::from_secs(30);

/// After bytes that lapin cannot read. Every session that meets them returns its items, and each return counts against
/// their delivery limit: at 20, the default of RabbitMQ 4, quick retries would have them dropped.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(300);

/// What to consume, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    pub connection: rabbitmq::Settings,
    pub queue: String,
    /// Create the queue; without it a missing queue is waited for.
    pub declare: Option<Declare>,
    /// The prefetch: more is never unsettled.
    pub max_in_flight: u16,
    /// How many returns the queue allows, where that is known.
    pub delivery_limit: Option<u32>,
    /// How long an item may stay unsettled, for the brokers that take a consumer's word for it.
    pub ack_timeout: Duration,
    /// The replicas ask each other about redelivered items.
    pub peers: bool,
}

/// A consumer of one queue.
pub struct Source {
    settings: Settings,
    epoch: Epoch,
    intake: Intake,
    /// Of the queue, while it is known to be the same queue.
    kind: Option<Kind>,
    others: Arc<Others>,
    /// The last session met bytes that lapin cannot read: one item at a time until a session was sound.
    careful: bool,
}

/// The link without its commands, which are also answered while there is no session.
struct Port {
    deliveries: mpsc::Sender<Delivery>,
    events: mpsc::UnboundedSender<SourceEvent>,
    commands: mpsc::UnboundedReceiver<Command>,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    Open,
    /// For what was in hand before, and comes again. Whatever else comes is not given back before the session's end: it would
    /// come at once again, and each time count against its delivery limit.
    OnlyReturns,
}

/// What the bridge wants of a source that has no session.
#[derive(PartialEq, Eq)]
enum Told {
    StopIntake,
    Close,
}

impl Settings {
    /// `name` is shown by the broker's management; `url` makes the AMQP URI again for each connection.
    pub fn new(config: &RabbitmqSource, url: rabbitmq::Url, max_in_flight: u32, name: &str) -> Self {
        Settings {
            connection: rabbitmq::Settings { url, tls: config.tls.clone(), name: name.to_owned() },
            queue: config.queue.clone(),
            declare: config.declare.clone(),
            delivery_limit: config.delivery_limit,
            ack_timeout: Duration::from_secs(30 * 60),
            peers: false,
            // Zero would mean "no bound" to RabbitMQ.
            max_in_flight: u16::try_from(max_in_flight).unwrap_or(u16::MAX).max(1),
        }
    }
}

impl Source {
    pub fn new(settings: Settings) -> Self {
        let (epoch, others) = (Epoch(0), Arc::default());
        Source { settings, epoch, intake: Intake::Open, kind: None, others, careful: false }
    }

    /// Opens the next session.
    ///
    /// # Errors
    /// Faults that only another configuration file solves.
    async fn open(&mut self, problems: &mut Problems) -> Result<Option<Session>, SourceError> {
        let mut settings = self.settings.clone();
        if self.careful {
            settings.max_in_flight = 1;
        }
        let epoch = Epoch(self.epoch.0 + 1);
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
            // Maybe it was deleted, and the next one of this name is of another type.
            self.kind = None;
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
                    // What runs on can only be acked in a session in which it is handed over again.
                    self.intake = Intake::OnlyReturns;
                    continue;
                }
                opened = self.open(&mut problems) => opened?,
            };
            let (mut closing, mut least) = (None, Duration::ZERO);
            if let Some(session) = opened {
                self.epoch = session.epoch();
                let began = Instant::now();
                let (ended, connection) = session.run(&mut port, &self.settings).await;
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
                    least = UNREADABLE_PAUSE;
                }
                closing = Some(connection);
            }
            let wait = waits.next().unwrap_or_default().max(least);
            let pause = async {
                // What is left of the old session must go before the broker hands its items over again.
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

/// 200 ms at first, doubled up to 5 s, each longer by up to its own length, for ever.
fn waits() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
        .build()
}

/// Answers commands while there is no session, until one of them is about the source itself.
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
            Some(Command::Settle { id, .. }) => {
                let _ = events.send(SourceEvent::Settled { id, settled: Settled::Stale });
            }
            Some(Command::Note { .. } | Command::Prove { .. } | Command::LeaveToOthers) => {}
        }
    }
}
