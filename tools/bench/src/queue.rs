//! The broker seen from outside: what is in a queue, taken out without anything of ours, in the order in which it comes.

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{BasicConsumeOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// As long as nothing comes for this time, nothing more will.
const SILENCE: Duration = Duration::from_secs(20);
/// Something that comes twice comes soon.
const SURPLUS: Duration = Duration::from_millis(200);

/// A message that was in a queue.
pub(crate) struct Seen {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) seq: i64,
    pub(crate) at: Instant,
}

/// A connection as administrator.
pub(crate) async fn connect(url: &str) -> Result<Connection> {
    Ok(Connection::connect(url, ConnectionProperties::default()).await?)
}

/// A channel that confirms.
pub(crate) async fn confirming(connection: &Connection) -> Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// A queue like those of the services: durable, quorum.
pub(crate) async fn declare(channel: &Channel, name: &str) -> Result<()> {
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), durable, quorum).await?;
    Ok(())
}

/// Persistent, with what both sides carry: id, key and number.
pub(crate) fn properties(id: &str, key: &str, seq: i64) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("x-key".into(), AMQPValue::LongString(key.into()));
    headers.insert("x-seq".into(), AMQPValue::LongLongInt(seq));
    BasicProperties::default().with_message_id(id.into()).with_delivery_mode(2).with_headers(headers)
}

pub(crate) fn read(delivery: &Delivery) -> Result<Seen> {
    let headers = delivery.properties.headers().clone().unwrap_or_default();
    let key = match headers.inner().get("x-key") {
        Some(AMQPValue::LongString(key)) => String::from_utf8_lossy(key.as_bytes()).into_owned(),
        _ => anyhow::bail!("a message without a key"),
    };
    let seq = match headers.inner().get("x-seq") {
        Some(AMQPValue::LongLongInt(seq)) => *seq,
        _ => anyhow::bail!("a message without a number"),
    };
    let id = delivery.properties.message_id().as_ref().context("a message without an id")?.to_string();
    Ok(Seen { id, key, seq, at: Instant::now() })
}

/// Takes what comes.
pub(crate) struct Reader {
    deliveries: Consumer,
    /// Closed when it is dropped.
    _channel: Channel,
    _connection: Connection,
}

impl Reader {
    pub(crate) async fn open(url: &str, queue: &str) -> Result<Self> {
        let connection = connect(url).await?;
        let channel = connection.create_channel().await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let deliveries = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
        Ok(Self { deliveries, _channel: channel, _connection: connection })
    }

    /// As many, and what comes beyond them.
    pub(crate) async fn take(mut self, count: usize) -> Result<Vec<Seen>> {
        let mut seen = self.next(count).await?;
        while let Some(one) = self.within(SURPLUS).await? {
            seen.push(one);
        }
        Ok(seen)
    }

    /// The next ones, so many.
    pub(crate) async fn next(&mut self, count: usize) -> Result<Vec<Seen>> {
        let mut seen = Vec::with_capacity(count);
        while seen.len() < count
            && let Some(one) = self.within(SILENCE).await?
        {
            seen.push(one);
        }
        Ok(seen)
    }

    async fn within(&mut self, patience: Duration) -> Result<Option<Seen>> {
        match timeout(patience, self.deliveries.next()).await {
            Ok(Some(delivery)) => read(&delivery?).map(Some),
            Ok(None) => anyhow::bail!("the queue is gone"),
            Err(_) => Ok(None),
        }
    }
}

/// Takes everything out of a queue that holds so many.
pub(crate) async fn empty(url: &str, queue: &str, count: usize) -> Result<Vec<Seen>> {
    let seen = Reader::open(url, queue).await?.take(count).await?;
    ensure!(!seen.is_empty() || count == 0, "nothing comes out of {queue}");
    Ok(seen)
}
