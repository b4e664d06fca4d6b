//! Items from a RabbitMQ queue, over one session after another.
//!
//! The supervisor here opens sessions, each with a new epoch, and waits between them; [`session`] is the life of one.
//! A session ends with its channel: the broker then gives back everything that it has not seen settled, so nothing of
//! a session is worth keeping, and a new connection is the one way that mends everything.

mod acks;
mod backlog;
mod limit;
mod message;
mod session;
mod settle;
mod topology;

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::mpsc;

use super::{Command, Delivery, Link, Settled, SourceError, SourceEvent};
use crate::config::{Declare, RabbitmqSource};
use crate::connect::rabbitmq::{self, Error};
use crate::delivery::Epoch;
use session::{Ended, Session};

/// A session that lasted this long was a sound one: the next wait starts from the shortest again. A shorter one may
/// have been ended by the very item that comes first again, and each round counts against a delivery limit.
const SOUND_SESSION: Duration = Duration::from_secs(30);

/// After a message that lapin cannot read. Every session that meets it returns its neighbours too, and each return
/// counts against their delivery limit: at 20, the default of RabbitMQ 4, a quick retry would have them dropped.
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
}

/// A consumer of one queue.
pub struct Source {
    settings: Settings,
    epoch: Epoch,
    /// A session came up once, so the configuration is right and every refusal may pass.
    proven: bool,
    complaint: Complaint,
    intake: Intake,
}

/// The link without its commands, which are also answered while there is no session.
struct Port {
    deliveries: mpsc::Sender<Delivery>,
    events: mpsc::UnboundedSender<SourceEvent>,
    commands: mpsc::UnboundedReceiver<Command>,
}

/// The last fault that was logged, so that one that lasts for hours is one line.
#[derive(Default)]
struct Complaint(Option<String>);

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
    /// `name` is shown by the broker's management; `url` makes the AMQP URI anew for each connection.
    pub fn new(config: &RabbitmqSource, url: rabbitmq::Url, max_in_flight: u32, name: &str) -> Self {
        Settings {
            connection: rabbitmq::Settings { url, tls: config.tls.clone(), name: name.to_owned() },
            queue: config.queue.clone(),
            declare: config.declare.clone(),
            delivery_limit: config.delivery_limit,
            // Zero would mean "no bound" to RabbitMQ.
            max_in_flight: u16::try_from(max_in_flight).unwrap_or(u16::MAX).max(1),
        }
    }
}

impl Source {
    pub fn new(settings: Settings) -> Self {
        let (epoch, complaint) = (Epoch(0), Complaint::default());
        Source { settings, epoch, proven: false, complaint, intake: Intake::Open }
    }

    /// Opens the next session, or says why the source must give up.
    async fn open(
        &mut self,
        events: &mpsc::UnboundedSender<SourceEvent>,
    ) -> Result<Option<Session>, SourceError> {
        let epoch = Epoch(self.epoch.0 + 1);
        let error = match Session::open(&self.settings, epoch, self.intake, &mut self.complaint, events).await
        {
            Ok(session) => return Ok(Some(session)),
            Err(error) => error,
        };
        let queue = &self.settings.queue;
        match error.refusal() {
            Some(refusal) if !self.proven => {
                let what = format!("cannot consume queue {queue}: {error}");
                return Err(SourceError { what, hint: refusal.hint.to_owned() });
            }
            Some(refusal) => {
                if self.complaint.is_new(&error) {
                    tracing::error!(%error, queue, hint = refusal.hint, "refused by RabbitMQ; trying again");
                }
            }
            None => {
                if self.complaint.is_new(&error) {
                    tracing::warn!(%error, queue, "no session with RabbitMQ; trying again");
                }
            }
        }
        let _ = events.send(SourceEvent::Connected(false));
        Ok(None)
    }
}

impl super::Source for Source {
    async fn run(mut self, link: Link) -> Result<(), SourceError> {
        let mut port = Port { deliveries: link.deliveries, events: link.events, commands: link.commands };
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
                opened = self.open(&port.events) => opened?,
            };
            let (mut closing, mut least) = (None, Duration::ZERO);
            if let Some(session) = opened {
                self.proven = true;
                self.epoch = session.epoch();
                let began = Instant::now();
                let (ended, connection) = session.run(&mut port, &self.settings).await;
                let Ended::Lost { error, intake } = ended else {
                    connection.close().await;
                    return Ok(());
                };
                self.lost(&error, &port.events);
                self.intake = intake;
                if began.elapsed() >= SOUND_SESSION {
                    waits = self::waits();
                }
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

impl Source {
    fn lost(&mut self, error: &Error, events: &mpsc::UnboundedSender<SourceEvent>) {
        let (epoch, queue) = (self.epoch, &self.settings.queue);
        if error.is_unreadable() {
            let hint =
                "take that message out of the queue with another client; meanwhile the queue is tried rarely";
            tracing::error!(%epoch, queue, %error, hint, "session with RabbitMQ lost to a message that cannot be read");
        } else {
            tracing::warn!(%epoch, queue, %error, "session with RabbitMQ lost; connecting again");
        }
        let _ = events.send(SourceEvent::Lost { epoch, reason: error.to_string() });
        let _ = events.send(SourceEvent::Connected(false));
    }
}

impl Complaint {
    fn is_new(&mut self, fault: &impl ToString) -> bool {
        let fault = Some(fault.to_string());
        let new = self.0 != fault;
        self.0 = fault;
        new
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
