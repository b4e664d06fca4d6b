//! The consumers of one session, as one stream of deliveries.

use std::pin::pin;

use futures_util::future::try_join_all;
use futures_util::stream::{self, BoxStream, SelectAll, StreamExt};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};

use crate::connect::rabbitmq::{Error, answer, table};

/// The consumers of a channel. See [`window`](super::window) for the reason why there are several.
pub(super) struct Consumers {
    channel: Channel,
    queue: ShortString,
    /// The arguments of each consumer.
    arguments: FieldTable,
    first: ShortString,
    further: Vec<ShortString>,
    streams: SelectAll<BoxStream<'static, Arrival>>,
}

/// A delivery, or the end of a consumer.
pub(super) enum Arrival {
    /// `is_further` is false for the first consumer.
    Delivery {
        delivery: Box<lapin::message::Delivery>,
        is_further: bool,
    },
    Failed(lapin::Error),
    /// The consumer was cancelled, by the broker or by us.
    Ended(ShortString),
}

impl Consumers {
    /// Starts the first consumer, with the prefetch that the channel has.
    pub(super) async fn start(channel: &Channel, queue: &str, arguments: FieldTable) -> Result<Self, Error> {
        let queue = table::short("queue name", queue)?;
        let consumer = consume(channel, &queue, &arguments).await?;
        let (channel, first) = (channel.clone(), consumer.tag());
        let streams = SelectAll::from_iter([arrivals(consumer, false)]);
        Ok(Consumers { channel, queue, arguments, first, further: Vec::new(), streams })
    }

    /// Starts one more consumer.
    pub(super) async fn add(&mut self, prefetch: u16) -> Result<(), Error> {
        self.limit(prefetch).await?;
        let consumer = consume(&self.channel, &self.queue, &self.arguments).await?;
        self.further.push(consumer.tag());
        self.streams.push(arrivals(consumer, true));
        Ok(())
    }

    /// Returns the number of consumers.
    pub(super) fn count(&self) -> u32 {
        1 + u32::try_from(self.further.len()).unwrap_or(u32::MAX - 1)
    }

    /// Returns the next arrival. Cancel safe.
    pub(super) async fn next(&mut self) -> Arrival {
        match self.streams.next().await {
            Some(arrival) => arrival,
            // Each stream says that it ended. After that no more comes.
            None => Arrival::Ended(self.first.clone()),
        }
    }

    /// Cancels the further consumers. Passes on everything that arrives meanwhile, because lapin
    /// would keep it.
    pub(super) async fn cancel_further(&mut self, pass: impl FnMut(Arrival)) -> Result<(), Error> {
        let tags = std::mem::take(&mut self.further);
        self.cancel(tags, pass).await
    }

    /// Cancels all consumers.
    pub(super) async fn cancel_all(&mut self, pass: impl FnMut(Arrival)) -> Result<(), Error> {
        let mut tags = std::mem::take(&mut self.further);
        tags.push(self.first.clone());
        self.cancel(tags, pass).await
    }

    /// Cancels all consumers, and starts one that replaces them. RabbitMQ 3.10 hands items to the
    /// next single active consumer only when a consumer starts or an item is settled, so the new
    /// consumer starts after the cancel.
    pub(super) async fn replace_all(
        &mut self,
        prefetch: u16,
        pass: impl FnMut(Arrival),
    ) -> Result<(), Error> {
        self.cancel_all(pass).await?;
        self.limit(prefetch).await?;
        let consumer = consume(&self.channel, &self.queue, &self.arguments).await?;
        self.first = consumer.tag();
        self.streams.push(arrivals(consumer, false));
        Ok(())
    }

    /// Sets the prefetch of the consumers that start from now on.
    async fn limit(&mut self, prefetch: u16) -> Result<(), Error> {
        let limit = self.channel.basic_qos(prefetch, BasicQosOptions { global: false });
        answer("basic.qos", limit).await
    }

    async fn cancel(&mut self, tags: Vec<ShortString>, mut pass: impl FnMut(Arrival)) -> Result<(), Error> {
        let channel = self.channel.clone();
        let cancels = tags.iter().map(|tag| channel.basic_cancel(tag.clone(), BasicCancelOptions::default()));
        let mut cancelling = pin!(try_join_all(cancels));
        // The broker's answer follows all deliveries that it sent before; then the stream ends.
        let ending = async {
            let (mut open, mut is_answered) = (tags.len(), false);
            while open > 0 || !is_answered {
                tokio::select! {
                    // The requests leave only when this is polled, however many items arrive.
                    biased;
                    answered = &mut cancelling, if !is_answered => {
                        answered?;
                        is_answered = true;
                    }
                    arrival = self.streams.next(), if open > 0 => match arrival {
                        Some(Arrival::Ended(tag)) if tags.contains(&tag) => open -= 1,
                        Some(arrival) => pass(arrival),
                        // Every stream has ended.
                        None => open = 0,
                    },
                }
            }
            Ok(())
        };
        answer("basic.cancel", ending).await
    }
}

async fn consume(channel: &Channel, queue: &ShortString, arguments: &FieldTable) -> Result<Consumer, Error> {
    let options = BasicConsumeOptions::default();
    let consuming = channel.basic_consume(queue.clone(), "".into(), options, arguments.clone());
    answer("basic.consume", consuming).await
}

fn arrivals(consumer: Consumer, is_further: bool) -> BoxStream<'static, Arrival> {
    let end = Arrival::Ended(consumer.tag());
    let arrivals = consumer.map(move |arrived| match arrived {
        Ok(delivery) => Arrival::Delivery { delivery: Box::new(delivery), is_further },
        Err(error) => Arrival::Failed(error),
    });
    arrivals.chain(stream::iter([end])).boxed()
}
