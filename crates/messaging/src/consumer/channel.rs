//! One life of a channel: subscribes, deals the deliveries out to lanes by key, and ends in order.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use chrono::Utc;
use failpoints::without;
use futures_util::StreamExt as _;
use lapin::{
    Channel,
    message::Delivery,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Consumer, Envelope, Error,
    broker::REQUEST_TIMEOUT,
    consumer::{End, acks::Acks, lane::Lane},
};

/// A delivery on its way through a lane.
pub(super) struct Message {
    pub(super) tag: u64,
    pub(super) redelivered: bool,
    /// What is wrong with the envelope, if anything; then it holds what could be salvaged.
    pub(super) malformed: Option<String>,
    pub(super) envelope: Envelope,
    pub(super) payload: Vec<u8>,
}

impl Message {
    pub(super) fn read(delivery: Delivery) -> Self {
        let (envelope, malformed) = match Envelope::read(&delivery.properties) {
            Ok(envelope) => (envelope, None),
            Err(reason) => (Envelope::salvage(&delivery.properties, &delivery.data), Some(reason)),
        };
        Self {
            tag: delivery.delivery_tag,
            redelivered: delivery.redelivered,
            malformed,
            envelope,
            payload: delivery.data,
        }
    }
}

/// A subscribed channel.
pub(crate) struct Life<'a> {
    consumer: &'a Consumer,
    channel: Channel,
    deliveries: lapin::Consumer,
}

impl Consumer {
    /// A replay of everything also brings what this consumer has no handler for. That leaves no trace: should there be a handler one day, it is to
    /// get it.
    fn never_asked_for(&self, Message { malformed, envelope, .. }: &Message) -> bool {
        malformed.is_none() && envelope.replayed && !self.handlers.contains_key(envelope.event_type.as_str())
    }
}

impl<'a> Life<'a> {
    pub(super) async fn begin(consumer: &'a Consumer, queue: &str) -> Result<Self, Error> {
        let channel = consumer.broker.consume_channel().await?;
        let subscribed = async {
            channel.basic_qos(consumer.options.prefetch, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions { no_ack: without("manual-ack"), ..BasicConsumeOptions::default() };
            channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
        };
        let deliveries = timeout(REQUEST_TIMEOUT, subscribed)
            .await
            .map_err(|_| Error::Unconfirmed("the broker does not answer basic.consume".into()))??;
        Ok(Self { consumer, channel, deliveries })
    }

    /// Runs until the channel is lost or `stop`. What is in hand is finished in both cases; after a loss its acknowledgements go nowhere,
    /// and the inbox absorbs what comes again. Nothing is cancelled first: the standby would get the successors of what is in hand.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> End {
        let acks = Arc::new(Acks::new(self.channel.clone()));
        let ending = Arc::new(AtomicBool::new(false));
        let mut workers = JoinSet::new();
        let lanes: Vec<_> = (0..self.consumer.options.lanes.max(1))
            .map(|_| {
                let (sender, receiver) = mpsc::channel(usize::from(self.consumer.options.prefetch).max(1));
                let lane = Lane {
                    consumer: self.consumer.clone(),
                    acks: Arc::clone(&acks),
                    ending: Arc::clone(&ending),
                    stop: stop.clone(),
                };
                workers.spawn(lane.run(receiver));
                sender
            })
            .collect();

        let end = loop {
            let delivery = tokio::select! {
                () = stop.cancelled() => break End::Stopped,
                delivery = self.deliveries.next() => delivery,
                // A lane ends only when it is told to, or by a bug.
                Some(_) = workers.join_next() => break End::Lost("a lane ended".into()),
            };
            match delivery {
                Some(Ok(delivery)) => {
                    self.count(&delivery);
                    let message = Message::read(delivery);
                    if !without("manual-ack") {
                        acks.received(message.tag);
                    }
                    if without("ack-after-commit") {
                        acks.done([message.tag]).await;
                    }
                    if self.consumer.never_asked_for(&message) {
                        acks.done([message.tag]).await;
                        continue;
                    }
                    let key = if without("key-lanes") { &message.tag.to_string() } else { &message.envelope.key };
                    let lane = spread(key, lanes.len());
                    // A lane holds as much as may be in hand, so this does not wait.
                    if lanes[lane].send(message).await.is_err() {
                        break End::Lost("a lane ended".into());
                    }
                }
                Some(Err(error)) => break End::Lost(error.to_string()),
                None if self.channel.status().connected() => {
                    break End::Lost("the broker cancelled the consumer".into());
                }
                None => break End::Lost("the channel was closed".into()),
            }
        };
        ending.store(true, Ordering::Release);
        drop(lanes);
        if without("drain") {
            workers.abort_all();
        }
        if without("ack-life") {
            workers.detach_all();
        }
        while workers.join_next().await.is_some() {}
        if self.channel.status().connected() {
            let _ = timeout(REQUEST_TIMEOUT, self.channel.close(200, "done".into())).await;
        }
        end
    }
}

impl Life<'_> {
    /// What was handed out before spent time in another hand: only the first delivery tells how long the way was.
    fn count(&self, delivery: &Delivery) {
        let meters = self.consumer.meters();
        meters.received.increment(1);
        if delivery.redelivered {
            meters.redelivered.increment(1);
        } else if let Some(sent_at) = Envelope::sent_at(&delivery.properties) {
            meters.transit.record((Utc::now() - sent_at).to_std().unwrap_or_default().as_secs_f64());
        }
    }
}

/// The lane of a key inside this process.
fn spread(key: &str, lanes: usize) -> usize {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::try_from(hasher.finish() % lanes as u64).unwrap_or_default()
}
