//! The net under a consumer: what the broker itself has dead-lettered (an operator's limit or reject) becomes a dead letter in Postgres,
//! where it can be seen and redriven like any other.

use futures_util::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{Consumer, Error, consumer::channel::Message, meters, retry::RECONNECT};

impl Consumer {
    pub(super) async fn supervise_net(&self, stop: &CancellationToken) -> Result<(), Error> {
        let queue = self.subscription().dead_queue();
        let mut failures = 0;
        while !stop.is_cancelled() {
            meters::consumer_up(self.name, &queue, false);
            let ended = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                ended = self.tend_net(&queue) => ended,
            };
            meters::consumer_up(self.name, &queue, false);
            failures = if ended.is_ok() { 1 } else { failures + 1 };
            let delay = RECONNECT.delay(failures);
            if let Err(error) = ended {
                warn!(consumer = self.name, %error, ?delay, "the broker's dead letters cannot be taken in");
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(delay) => {}
            }
        }
        Ok(())
    }

    /// Takes in one message after the other until the channel ends. Being cancelled between the insert and the ack does no harm: the
    /// message is kept once.
    async fn tend_net(&self, queue: &str) -> Result<(), Error> {
        let channel = self.broker.consume_channel().await?;
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let mut deliveries = channel.basic_consume(queue.into(), "".into(), options, Default::default()).await?;
        meters::consumer_up(self.name, queue, true);
        while let Some(delivery) = deliveries.next().await {
            let message = Message::read(delivery?);
            self.bury_in_the_end(&message).await;
            channel.basic_ack(message.tag, BasicAckOptions::default()).await?;
        }
        Ok(())
    }

    /// Not given back to the broker while the database is away: it counts that.
    async fn bury_in_the_end(&self, message: &Message) {
        let mut failures = 0;
        loop {
            let burying = self.bury(message, "the broker gave up on it (an operator's limit or reject)");
            let Err(error) = self.outbox.answered(burying).await else { return };
            failures += 1;
            let delay = RECONNECT.delay(failures);
            warn!(
                consumer = self.name,
                error = error.message(),
                ?delay,
                "a dead letter of the broker cannot be taken in"
            );
            tokio::time::sleep(delay).await;
        }
    }
}
