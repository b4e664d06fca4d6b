//! One session: a connection, a channel and its consumers, from the first delivery to the loss or
//! the close.
//!
//! One loop does all the work, so that frames are written in the order of the decisions. The loop
//! never waits for room in the bridge while there are settles to write. It reads no delivery while
//! another one waits for room. lapin's own buffer has no bound, so the prefetch bounds it.

mod fit;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{try_join, try_join3};
use lapin::Channel;
use lapin::types::FieldTable;
use tokio::sync::mpsc;

use super::consumers::{Arrival, Consumers};
use super::limit::Limit;
use super::message::Reader;
use super::others::{Others, Shared};
use super::settle::Settler;
use super::single::Suspicion;
use super::topology::Kind;
use super::window::Window;
use super::{Intake, Port, Problems, Settings, backlog, topology};
use crate::connect::rabbitmq::{Connection, Error, answer, table};
use crate::delivery::{Epoch, Settlement};
use crate::event::Value;
use crate::source::{Command, Delivery, SourceEvent};

/// The number of commands taken at once. Acks among them may share a frame.
const COMMANDS_AT_ONCE: usize = 256;
/// The interval of the checks whether the channel is closed. They are needed while no consumer is
/// read, because the end of a consumer would show it.
const LOOK: Duration = Duration::from_secs(1);
/// The bound of the wait for the reason of a failed settle. The reason is there at once, or never
/// arrives.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(1);
/// The bound of a question about other consumers. A delivery waits for the answer.
const COUNT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest ack timeout. RabbitMQ keeps it in a timer, which has a limit.
const ACK_TIMEOUT_MAX: Duration = Duration::from_secs(45 * 24 * 3600);

pub(super) struct Session {
    connection: Connection,
    subscription: Subscription,
}

/// The consuming channel and its unsettled deliveries.
struct Subscription {
    epoch: Epoch,
    channel: Channel,
    consumers: Consumers,
    window: Window,
    suspicion: Suspicion,
    settler: Settler,
    reader: Reader,
    others: Arc<Others>,
    /// The channel for questions about the queue.
    asking: Channel,
    /// The deliveries that wait for room in the bridge.
    waiting: VecDeque<Delivery>,
    /// Whether the session has consumers to read deliveries from.
    reading: bool,
    /// The intake for deliveries from now on. A delivery that arrived while the intake was open may
    /// be returned at once.
    intake: Intake,
}

/// The end of a session.
pub(super) enum Ended {
    /// The bridge ended the session.
    Closed,
    Lost {
        error: Error,
        /// The intake of the next session.
        intake: Intake,
    },
}

/// The reason why the loop ended.
enum Left {
    Close,
    Lost(Error),
}

impl Session {
    /// Opens a session. `kind` is the type of the queue, if it is known already.
    pub(super) async fn open(
        settings: &Settings,
        epoch: Epoch,
        intake: Intake,
        kind: &mut Option<Kind>,
        others: &Arc<Others>,
        problems: &mut Problems,
    ) -> Result<Session, Error> {
        let connection = settings.connection.connect_to_consume().await?;
        let window = Window::new(settings.max_in_flight, fit::held_bytes(settings, intake, others));
        match Self::subscribe(&connection, settings, window.total(), kind, others, problems).await {
            Ok((channel, consumers, asking)) => {
                problems.solved();
                problems.send(SourceEvent::Connected(true));
                tracing::info!(%epoch, queue = settings.queue, "Session with RabbitMQ is up");
                problems.send(SourceEvent::Up { epoch });
                let limit = Limit::of(settings.declare.as_ref(), settings.delivery_limit);
                let settler = Settler::new(epoch, channel.clone(), settings.max_in_flight, intake);
                let reader = Reader::new(epoch, &settings.queue, limit, &connection);
                let subscription = Subscription {
                    epoch,
                    channel,
                    consumers,
                    window,
                    suspicion: Suspicion::default(),
                    settler,
                    reader,
                    others: Arc::clone(others),
                    asking,
                    waiting: VecDeque::new(),
                    reading: true,
                    intake,
                };
                Ok(Session { connection, subscription })
            }
            Err(error) => {
                connection.close().await;
                Err(error)
            }
        }
    }

    async fn subscribe(
        connection: &Connection,
        settings: &Settings,
        prefetch: u16,
        kind: &mut Option<Kind>,
        others: &Others,
        problems: &mut Problems,
    ) -> Result<(Channel, Consumers, Channel), Error> {
        topology::check_limit(connection, settings.declare.as_ref())?;
        // Each step is a round trip to the broker, so the steps run side by side.
        let (asking, questioner, channel) = try_join3(
            topology::ensure(connection, settings, problems),
            topology::questioner(connection, *kind),
            topology::limited_channel(connection, prefetch),
        )
        .await?;
        others.set_own(0);
        let question = others.question();
        let (count, kind) = try_join(
            backlog::count(&asking, &settings.queue),
            topology::kind(questioner.as_ref(), kind, &settings.queue),
        )
        .await?;
        others.counted(question, count.consumers, &settings.queue);
        if kind == Kind::Stream {
            return Err(Error::Stream(settings.queue.clone()));
        }
        // From 4.3 on, a quorum queue takes the longest unsettled time from its consumer. Older
        // versions ignore this argument, and other queues refuse it.
        let is_told = connection.server().is_at_least(4, 3) && matches!(kind, Kind::Quorum | Kind::Unknown);
        let arguments = ack_timeout(settings.ack_timeout)?;
        let arguments = if is_told { arguments } else { FieldTable::default() };
        others.begin_change();
        let (channel, consumers) = match Consumers::start(&channel, &settings.queue, arguments).await {
            Err(error) if error.code() == Some(406) && error.to_string().contains("x-consumer-timeout") => {
                let channel = topology::limited_channel(connection, prefetch).await?;
                let consumers = Consumers::start(&channel, &settings.queue, FieldTable::default()).await?;
                (channel, consumers)
            }
            consumers => (channel, consumers?),
        };
        others.set_own(1);
        Ok((channel, consumers, asking))
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.subscription.epoch
    }

    /// Runs to the end. If the session was lost, returns the connection for the caller to close,
    /// because the caller must report the loss first.
    pub(super) async fn run(
        mut self,
        port: &mut Port,
        settings: &Settings,
        problems: &mut Problems,
    ) -> (Ended, Connection) {
        let others = Arc::clone(&self.subscription.others);
        let left = tokio::select! {
            left = self.subscription.work(port, settings) => left,
            never = backlog::watch(&self.connection, &settings.queue, &others, problems) => match never {},
        };
        let ended = match left {
            Left::Lost(error) => Ended::Lost { error, intake: self.subscription.intake },
            Left::Close => {
                if let Err(error) = self.subscription.goodbye(&port.events).await {
                    let (epoch, queue) = (self.epoch(), &settings.queue);
                    tracing::warn!(%epoch, queue, %error, "The last settles are not confirmed; their items may come again");
                }
                Ended::Closed
            }
        };
        (ended, self.connection)
    }
}

impl Subscription {
    async fn work(&mut self, port: &mut Port, settings: &Settings) -> Left {
        let mut commands = Vec::with_capacity(COMMANDS_AT_ONCE);
        loop {
            tokio::select! {
                biased;
                Some(written) = self.settler.written() => match written {
                    Ok(answers) => answers.into_iter().for_each(|answer| drop(port.events.send(answer))),
                    Err(error) => return Left::Lost(self.cause(error).await),
                },
                count = port.commands.recv_many(&mut commands, COMMANDS_AT_ONCE) => {
                    if count == 0 {
                        return Left::Close;
                    }
                    if let Some(left) = self.obey(commands.drain(..), port, settings).await {
                        return left;
                    }
                }
                room = port.deliveries.reserve(), if self.may_send() => {
                    let Ok(room) = room else { return Left::Close };
                    if let Some(delivery) = self.waiting.pop_front() {
                        room.send(delivery);
                    }
                }
                () = tokio::time::sleep(LOOK), if !self.reading || !self.waiting.is_empty() => {
                    if !self.channel.status().connected() {
                        return Left::Lost(Error::Closed);
                    }
                }
                arrival = self.consumers.next(), if self.reading && self.waiting.is_empty() => {
                    if let Some(left) = self.read(arrival, port, settings).await {
                        return left;
                    }
                }
                // After the arrivals, because one of them may refute the suspicion.
                () = self.suspicion.due(), if self.reading && self.waiting.is_empty() => {
                    if let Err(error) = self.examine(settings).await {
                        return Left::Lost(error);
                    }
                }
            }
        }
    }

    /// Hands over the deliveries that have arrived, until the bridge has no more room.
    async fn read(&mut self, arrival: Arrival, port: &Port, settings: &Settings) -> Option<Left> {
        let mut arrival = arrival;
        loop {
            let delivery = match arrival {
                Arrival::Delivery { delivery, is_further } => {
                    if is_further {
                        self.suspicion.refute();
                    }
                    self.reader.delivery(*delivery)
                }
                Arrival::Failed(error) => return Some(Left::Lost(error.into())),
                Arrival::Ended(_) => return Some(Left::Lost(Error::Cancelled)),
            };
            let delivery = self.received(settings, delivery).await;
            self.waiting.push_back(delivery);
            while self.may_send()
                && let Ok(room) = port.deliveries.try_reserve()
                && let Some(delivery) = self.waiting.pop_front()
            {
                room.send(delivery);
            }
            if let Err(error) = self.fit(settings).await {
                return Some(Left::Lost(error));
            }
            if !self.waiting.is_empty() {
                return None;
            }
            arrival = self.consumers.next().now_or_never()?;
        }
    }

    /// Whether a delivery waits that the bridge may have.
    fn may_send(&self) -> bool {
        !self.waiting.is_empty() && !self.window.is_full(self.waiting.len())
    }

    async fn obey(
        &mut self,
        commands: impl Iterator<Item = Command>,
        port: &Port,
        settings: &Settings,
    ) -> Option<Left> {
        let mut left = None;
        for command in commands {
            match command {
                Command::Settle { delivery, how } => {
                    if delivery.epoch == self.epoch {
                        self.window.settle(delivery.tag);
                    }
                    if let Some(answer) = self.settler.settle(delivery, how) {
                        let _ = port.events.send(answer);
                    }
                }
                Command::Note { .. }
                | Command::StartFrom(_)
                | Command::LeaveToOthers
                | Command::PausePartition { .. }
                | Command::SkipUndecodable { .. } => {}
                Command::Prove { epoch } => self.settler.prove_alive(epoch),
                Command::StopIntake => {
                    if let Err(error) = self.stop_intake(port, settings).await {
                        left = Some(Left::Lost(error));
                    }
                    let _ = port.events.send(SourceEvent::IntakeStopped);
                }
                Command::Close => left = Some(Left::Close),
            }
        }
        self.settler.flush_if_worth();
        left
    }

    async fn received(&mut self, settings: &Settings, mut delivery: Delivery) -> Delivery {
        let outline = &mut delivery.outline;
        if !settings.peers && !outline.identity.is_unique() {
            let (others, asking) = (&self.others, &self.asking);
            outline.shared = is_shared(others, asking, &settings.queue, outline.redelivered).await;
        }
        self.settler.deliver(outline);
        self.window.deliver(outline.id.tag, outline.kept_bytes);
        delivery
    }

    /// Returns the reason of a failed settle. The failure itself only shows that the channel is
    /// closed; the reason comes through the consumer.
    async fn cause(&mut self, failed: Error) -> Error {
        let verdict = async {
            loop {
                match self.consumers.next().await {
                    Arrival::Delivery { .. } => {}
                    Arrival::Failed(error) => return Some(error),
                    Arrival::Ended(_) => return None,
                }
            }
        };
        match tokio::time::timeout(VERDICT_TIMEOUT, verdict).await {
            Ok(Some(error)) => error.into(),
            Ok(None) | Err(_) => failed,
        }
    }

    /// Cancels the consumers. Deliveries that are on their way still go to the bridge, which may
    /// know their items and returns the others. If the bridge has no room, they are returned here.
    async fn stop_intake(&mut self, port: &Port, settings: &Settings) -> Result<(), Error> {
        if self.intake == Intake::OnlyReturns {
            return Ok(());
        }
        self.intake = Intake::OnlyReturns;
        self.reading = false;
        let (mut late, mut fault) = (Vec::new(), None);
        let cancelled = self.consumers.cancel_all(|arrival| match arrival {
            Arrival::Delivery { delivery, .. } => late.push(delivery),
            Arrival::Failed(error) => fault = Some(Error::from(error)),
            Arrival::Ended(_) => {}
        });
        cancelled.await?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        let mut unseen: Vec<Delivery> = self.waiting.drain(..).collect();
        for delivery in late {
            let delivery = self.reader.delivery(*delivery);
            unseen.push(self.received(settings, delivery).await);
        }
        for delivery in unseen {
            let id = delivery.outline.id;
            if port.deliveries.try_send(delivery).is_err() {
                self.settler.settle(id, Settlement::Return);
            }
        }
        Ok(())
    }

    /// Writes the remaining settles and closes the channel. The broker's answer proves that it has
    /// seen every settle before it.
    async fn goodbye(&mut self, events: &mpsc::UnboundedSender<SourceEvent>) -> Result<(), Error> {
        self.settler.flush();
        while let Some(Ok(answers)) = self.settler.written().await {
            answers.into_iter().for_each(|answer| drop(events.send(answer)));
        }
        answer("channel.close", self.channel.close(200, "OK".into())).await
    }
}

/// Returns whether another consumer may have finished an item of the same identity.
async fn is_shared(others: &Others, asking: &Channel, queue: &str, redelivered: bool) -> bool {
    if redelivered && others.shared() == Shared::Unclear {
        let question = others.question();
        match tokio::time::timeout(COUNT_TIMEOUT, backlog::count(asking, queue)).await {
            Ok(Ok(count)) => others.counted(question, count.consumers, queue),
            Ok(Err(error)) => tracing::debug!(%error, queue, "The number of consumers is unknown"),
            Err(_) => {}
        }
    }
    match others.shared() {
        Shared::Yes => true,
        Shared::No => false,
        Shared::Unclear => redelivered,
    }
}

fn ack_timeout(timeout: Duration) -> Result<FieldTable, Error> {
    let milliseconds = i64::try_from(timeout.min(ACK_TIMEOUT_MAX).as_millis()).unwrap_or(i64::MAX);
    Ok(table::table(&[("x-consumer-timeout".to_owned(), Value::Int(milliseconds))])?)
}
