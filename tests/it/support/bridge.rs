//! The bridge's end of a link, driven by hand: it takes deliveries, settles them and watches the
//! events.

use std::collections::VecDeque;
use std::time::Duration;

use longhaul::delivery::{DeliveryId, Epoch, Settlement};
use longhaul::source::{Command, Delivery, Port, Settled, Source, SourceError, SourceEvent, link};
use tokio::task::JoinHandle;

use super::within;

/// A running source and its events so far.
pub struct Bridge {
    port: Port,
    task: JoinHandle<Result<(), SourceError>>,
    /// Events that were read while waiting for another one.
    seen: VecDeque<SourceEvent>,
    /// All session events in order, for checks over the whole run.
    pub history: Vec<SourceEvent>,
}

impl Bridge {
    pub fn start(source: impl Source) -> Self {
        let (port, link) = link(1);
        let task = tokio::spawn(source.run(link));
        Bridge { port, task, seen: VecDeque::new(), history: Vec::new() }
    }

    /// Returns the next delivery of a live session. Events come first, as in the bridge.
    pub async fn delivery(&mut self) -> Delivery {
        within("a delivery", async {
            loop {
                let delivery = self.port.deliveries.recv().await.expect("the source lives");
                self.take_events();
                if !self.lost(delivery.outline.id.epoch) {
                    return delivery;
                }
            }
        })
        .await
    }

    pub async fn deliveries(&mut self, count: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(self.delivery().await);
        }
        taken
    }

    /// Returns the next delivery of a live session, if it comes within this time.
    pub async fn delivery_within(&mut self, time: Duration) -> Option<Delivery> {
        tokio::time::timeout(time, self.delivery()).await.ok()
    }

    /// Asserts that no delivery arrives for a while. Too short a while may hide a fault, but never
    /// reports a false one.
    pub async fn nothing_comes(&mut self) {
        let next = tokio::time::timeout(Duration::from_millis(300), self.port.deliveries.recv()).await;
        assert!(next.is_err(), "nothing may be handed over now, but got {next:?}");
    }

    /// Returns the deliveries that were on their way to the bridge before `IntakeStopped`.
    pub fn leftover(&mut self) -> Vec<Delivery> {
        std::iter::from_fn(|| self.port.deliveries.try_recv().ok()).collect()
    }

    pub fn command(&self, command: Command) {
        self.port.commands.send(command).expect("the source lives");
    }

    pub async fn settle(&mut self, id: DeliveryId, how: Settlement) -> Settled {
        self.command(Command::Settle { delivery: id, how });
        self.event("an answer to a settle", |event| match event {
            SourceEvent::Settled { delivery: of, settled } if *of == id => Some(*settled),
            _ => None,
        })
        .await
    }

    pub async fn up(&mut self) -> Epoch {
        let up = |event: &SourceEvent| match event {
            SourceEvent::Up { epoch } => Some(*epoch),
            _ => None,
        };
        self.event("a session", up).await
    }

    pub async fn loss(&mut self) -> (Epoch, String) {
        let lost = |event: &SourceEvent| match event {
            SourceEvent::Lost { epoch, reason } => Some((*epoch, reason.clone())),
            _ => None,
        };
        self.event("the loss of a session", lost).await
    }

    /// Returns the number of sessions that were lost so far.
    pub fn losses(&mut self) -> usize {
        self.take_events();
        self.history.iter().filter(|event| matches!(event, SourceEvent::Lost { .. })).count()
    }

    /// Waits for the first event, read or not, that `pick` accepts, and removes it.
    pub async fn event<T>(&mut self, what: &str, pick: impl Fn(&SourceEvent) -> Option<T>) -> T {
        within(what, async {
            loop {
                if let Some(index) = self.seen.iter().position(|event| pick(event).is_some()) {
                    let event = self.seen.remove(index).expect("just found");
                    return pick(&event).expect("just picked");
                }
                let event = self.port.events.recv().await.expect("the source lives");
                self.note(event);
            }
        })
        .await
    }

    pub async fn stop_intake(&mut self) {
        self.command(Command::StopIntake);
        self.event("IntakeStopped", |event| (*event == SourceEvent::IntakeStopped).then_some(())).await;
    }

    /// Sends `Close` and waits for the end of `run`.
    pub async fn close(mut self) -> Vec<SourceEvent> {
        self.command(Command::Close);
        let ended = within("the end of run", &mut self.task).await.expect("the source does not panic");
        ended.expect("Close is not an error");
        self.take_events();
        self.history
    }

    /// Waits for a source that gives up.
    pub async fn failure(self) -> SourceError {
        let ended = within("the source to give up", self.task).await.expect("the source does not panic");
        ended.expect_err("the source should have given up")
    }

    fn lost(&self, epoch: Epoch) -> bool {
        let lost = |event: &SourceEvent| matches!(event, SourceEvent::Lost { epoch: of, .. } if *of == epoch);
        self.history.iter().any(lost)
    }

    fn take_events(&mut self) {
        while let Ok(event) = self.port.events.try_recv() {
            self.note(event);
        }
    }

    fn note(&mut self, event: SourceEvent) {
        self.history.push(event.clone());
        self.seen.push_back(event);
    }
}
