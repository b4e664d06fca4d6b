//! Checks without a write whether a target exists and accepts writes.
//!
//! AMQP has no method that asks for the permission to write. But RabbitMQ checks the permission
//! before it reads the expiration of a message. So a message whose expiration is not a number is
//! refused for its expiration only if the write is permitted. Such a message is never written.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ExchangeKind};
use tokio::time::Instant;

use super::{Link, Publisher, never};
use crate::connect::rabbitmq::{Error, answer, table};
use crate::publish::PublishError;

/// An expiration that is not a number of milliseconds.
const NO_EXPIRATION: &str = "longhaul-probe";

/// A permission that was found is checked again after this time. Each check leaves an error in the
/// broker's log.
const PERMISSION_AGE: Duration = Duration::from_secs(600);

impl Publisher {
    pub(super) async fn check(&self) -> Result<(), PublishError> {
        let found = self.check_place().await;
        let permitted = self.permitted().take().filter(|_| found.is_ok());
        found?;
        self.is_checked.store(true, Ordering::Relaxed);
        let permitted = match permitted.filter(|at| at.elapsed() < PERMISSION_AGE) {
            Some(at) => at,
            None => {
                let link = self.link().await.map_err(|error| self.later(&error))?;
                self.check_permission(&link).await.map_err(|error| self.later(&error))?;
                Instant::now()
            }
        };
        *self.permitted() = Some(permitted);
        Ok(())
    }

    fn permitted(&self) -> MutexGuard<'_, Option<Instant>> {
        self.permitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks whether the queue or exchange exists. A queue of ours may be missing; if it exists,
    /// it must have our arguments.
    pub(super) async fn check_place(&self) -> Result<(), PublishError> {
        let link = self.link().await.map_err(|error| self.later(&error))?;
        let found = if self.exchange.is_empty() {
            self.find_queue(&link).await
        } else {
            self.find_exchange(&link).await
        };
        match (found, &self.declare) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(arguments)) => match self.declare_again(&link, arguments.clone()).await {
                Err(error) if error.code() == Some(406) => Err(never(format!(
                    "the queue {} exists already, with other arguments ({error}): delete it when it is empty, or choose \
                     another name for retry.queue",
                    self.routing_key
                ))),
                other => other.map_err(|error| self.later(&error)),
            },
            (Err(error), Some(_)) if error.code() == Some(404) => Ok(()),
            // This user may only write. The write itself shows whether the queue exists.
            (Err(error), None) if error.code() == Some(403) => Ok(()),
            (Err(error), _) => Err(self.later(&error)),
        }
    }

    async fn find_queue(&self, link: &Link) -> Result<(), Error> {
        let channel = link.connection.channel().await?;
        let name = table::short("queue name", &self.routing_key)?;
        let passive = QueueDeclareOptions::default().passive();
        answer("queue.declare", channel.queue_declare(name, passive, FieldTable::default())).await?;
        answer("channel.close", channel.close(200, "OK".into())).await
    }

    async fn find_exchange(&self, link: &Link) -> Result<(), Error> {
        let channel = link.connection.channel().await?;
        let name = table::short("exchange name", &self.exchange)?;
        let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let asking = channel.exchange_declare(name, ExchangeKind::Direct, passive, FieldTable::default());
        answer("exchange.declare", asking).await?;
        answer("channel.close", channel.close(200, "OK".into())).await
    }

    async fn declare_again(&self, link: &Link, arguments: FieldTable) -> Result<(), Error> {
        let channel = link.connection.channel().await?;
        let name = table::short("queue name", &self.routing_key)?;
        let declaring = channel.queue_declare(name, QueueDeclareOptions::durable(), arguments);
        answer("queue.declare", declaring).await?;
        answer("channel.close", channel.close(200, "OK".into())).await
    }

    async fn check_permission(&self, link: &Link) -> Result<(), Error> {
        // A broker other than RabbitMQ may accept such a message.
        if link.connection.server().product.as_deref() != Some("RabbitMQ") {
            return Ok(());
        }
        let channel = link.connection.channel().await?;
        answer("confirm.select", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let (exchange, key) =
            (table::short("exchange name", &self.exchange)?, table::short("routing key", &self.routing_key)?);
        let properties = BasicProperties::default().with_expiration(NO_EXPIRATION.into());
        let publishing = async {
            let options = BasicPublishOptions::default();
            channel.basic_publish(exchange, key, options, b"", properties).await?.await
        };
        match answer("a refused publish", publishing).await {
            Err(error) if error.code() == Some(406) => Ok(()),
            other => other.map(drop),
        }
    }
}
