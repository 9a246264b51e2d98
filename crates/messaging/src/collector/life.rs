//! One life of a collector's channel: takes what is ready, has it stored, acknowledges it with `multiple`, and ends in order.

use failpoints::{hit, without};
use futures_util::StreamExt as _;
use lapin::{
    Channel,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    Collector, Error, HandlerError,
    broker::REQUEST_TIMEOUT,
    consumer::{End, Subscriber},
    error::Verdict,
    health::Health,
    meters,
    retry::RECONNECT,
};

/// A subscribed channel.
pub(crate) struct Life {
    channel: Channel,
    deliveries: lapin::Consumer,
}

/// A line as it came.
pub(super) struct Raw {
    pub(super) service: String,
    pub(super) event_type: String,
    pub(super) payload: Vec<u8>,
}

impl Raw {
    fn read(delivery: Delivery) -> Self {
        let event_type = delivery.properties.kind().as_ref().map(|kind| kind.as_str().to_owned()).unwrap_or_default();
        // Not a property or a field: the routing key is what the broker has looked at.
        Self { service: delivery.routing_key.as_str().to_owned(), event_type, payload: delivery.data }
    }
}

/// Told to stop before it was stored: it goes back to the broker.
struct Stopped;

impl Subscriber for Collector {
    type Life<'a> = Life;

    fn name(&self) -> &'static str {
        self.name
    }

    fn health(&self) -> (&Health, String) {
        (&self.outbox.shared.health, self.part())
    }

    async fn begin<'a>(&'a self, queue: &'a str) -> Result<Life, Error> {
        let channel = self.broker.consume_channel().await?;
        let subscribed = async {
            // One batch in hand, and the next one on its way.
            let prefetch = self.options.batch.saturating_mul(2).max(1);
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await
        };
        let deliveries = timeout(REQUEST_TIMEOUT, subscribed)
            .await
            .map_err(|_| Error::Unconfirmed("the broker does not answer basic.consume".into()))??;
        Ok(Life { channel, deliveries })
    }

    async fn live<'a>(&'a self, mut life: Life, stop: &'a CancellationToken) -> End {
        let end = loop {
            let Some(next) = stop.run_until_cancelled(life.deliveries.next()).await else { break End::Stopped };
            let (lines, last) = match self.take(next, &mut life, stop).await {
                Ok(taken) => taken,
                // What was taken is not acknowledged, so it comes again.
                Err(reason) => break End::Lost(reason),
            };
            if without("collector-ack") {
                life.acknowledge(last).await;
            }
            match self.settle(&lines, stop).await {
                Ok(()) => life.acknowledge(last).await,
                Err(Stopped) => break End::Stopped,
            }
        };
        if life.channel.status().connected() {
            let _ = timeout(REQUEST_TIMEOUT, life.channel.close(200, "done".into())).await;
        }
        end
    }
}

/// What the stream of deliveries says.
type Next = Option<lapin::Result<Delivery>>;

impl Collector {
    /// The first line and what comes after it within a moment, without what cannot be read; and the tag of the last one. Or why the channel is lost.
    async fn take(&self, first: Next, life: &mut Life, stop: &CancellationToken) -> Result<(Vec<Raw>, u64), String> {
        let until = Instant::now() + self.options.linger;
        let (mut next, mut lines, mut taken) = (first, Vec::new(), 0);
        loop {
            let delivery = match next {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the channel was closed, or the consumer cancelled".to_owned()),
            };
            let last = delivery.delivery_tag;
            taken += 1;
            let line = Raw::read(delivery);
            if self.handler.is_readable(&line) {
                lines.push(line);
            } else {
                self.dropped_because("unreadable");
            }
            if taken >= self.options.batch.max(1) || stop.is_cancelled() {
                return Ok((lines, last));
            }
            // What is ready is taken even when the moment is over.
            match timeout_at(until, life.deliveries.next()).await {
                Ok(following) => next = following,
                Err(_elapsed) => return Ok((lines, last)),
            }
        }
    }

    /// Has lines stored, together if that works. Returns when nothing is left to be done for any of them.
    async fn settle(&self, lines: &[Raw], stop: &CancellationToken) -> Result<(), Stopped> {
        if lines.is_empty() {
            return Ok(());
        }
        metrics::histogram!("messaging_log_batch_lines", "consumer" => self.name).record(lines.len() as f64);
        let Err(error) = self.store_patiently(lines, self.options.attempts, stop).await? else { return Ok(()) };
        if lines.len() > 1 {
            warn!(error = error.message(), lines = lines.len(), "lines of the log cannot be stored together");
            for line in lines.chunks(1) {
                if let Err(error) = self.store_patiently(line, 1, stop).await? {
                    self.give_up(&error);
                }
            }
        } else {
            self.give_up(&error);
        }
        Ok(())
    }

    /// Tries as long as the database is away, and a few times when it is there. The inner error is final.
    async fn store_patiently(
        &self,
        lines: &[Raw],
        attempts: u32,
        stop: &CancellationToken,
    ) -> Result<Result<(), HandlerError>, Stopped> {
        let (mut tries, mut waits) = (0, 0);
        loop {
            let error = match self.store(lines).await {
                Ok(()) => {
                    metrics::counter!("messaging_log_collected_total", "consumer" => self.name)
                        .increment(lines.len() as u64);
                    // Whoever waited, perhaps with the same lines in another batch.
                    meters::consumer_paused(self.name, false);
                    self.outbox.shared.health.set(&self.part(), Ok(format!("subscribed to {}", self.name)));
                    return Ok(Ok(()));
                }
                Err(error) => error,
            };
            match error.verdict() {
                Verdict::Reject => return Ok(Err(error)),
                Verdict::Retry | Verdict::Again => {
                    tries += 1;
                    if tries >= attempts {
                        return Ok(Err(error));
                    }
                }
                Verdict::Unavailable => {}
            }
            waits += 1;
            let delay = RECONNECT.delay(waits);
            warn!(error = error.message(), ?delay, "lines of the log are not stored; the broker keeps them");
            meters::consumer_paused(self.name, true);
            self.outbox.shared.health.set(&self.part(), Err(format!("paused: {}", error.message())));
            if stop.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                return Err(Stopped);
            }
        }
    }

    fn give_up(&self, error: &HandlerError) {
        error!(error = error.message(), "a line of the log cannot be stored, and is dropped");
        self.dropped_because("failed");
    }
}

impl Life {
    /// Everything up to here is committed. A failed acknowledgement does no harm: the lines come again and are known.
    async fn acknowledge(&self, tag: u64) {
        let acknowledge = async {
            hit("collector.before_ack").await?;
            self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await
        };
        if acknowledge.await.is_err() {
            // On a channel that lives on, the broker would wait for it, and nobody would tell it.
            let _ = self.channel.close(200, "an acknowledgement failed".into()).await;
        }
    }
}
