//! The messages: a queue for each database, somebody who sends, and workers who take.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use lapin::{
    Connection,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions},
    types::FieldTable,
};
use sqlx::PgConnection;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use uuid::Uuid;

use super::{Outgoing, Shop};
use crate::queue;

/// As a consumer of ours has.
const PREFETCH: u16 = 512;
const WORKERS: usize = 4;
/// Messages that are confirmed and deleted together, at most.
const WINDOW: usize = 1_000;
const TABLES: &str = "drop schema if exists bare cascade;
    create schema bare;
    create table bare.inbox (message_id uuid primary key);
    create table bare.outbox (message_id uuid primary key, hop integer not null, order_id uuid not null)";

impl Shop {
    /// A queue, workers and somebody who sends, for each database.
    pub(super) async fn open(
        self: &Arc<Self>,
        parts: &mut JoinSet<Result<()>>,
    ) -> Result<BTreeMap<&'static str, mpsc::Sender<Outgoing>>> {
        let connection = queue::connect(&self.amqp_url).await?;
        let channel = connection.create_channel().await?;
        let mut senders = BTreeMap::new();
        for database in self.databases() {
            queue::declare(&channel, database).await?;
            sqlx::raw_sql(TABLES).execute(&mut self.connect(database).await?).await?;
            let (sender, outgoing) = mpsc::channel(WINDOW);
            let (shop, conn) = (Arc::clone(self), self.connect(database).await?);
            let publishing = queue::connect(&self.amqp_url).await?;
            parts.spawn(async move { shop.send(conn, publishing, outgoing).await });
            senders.insert(database, sender);
        }
        connection.close(200, "done".into()).await?;
        for (database, sender) in &senders {
            self.consume(database, sender, parts).await?;
        }
        Ok(senders)
    }

    /// Publishes what is to be sent, all that there is at once, and deletes what was confirmed.
    async fn send(
        &self,
        mut conn: PgConnection,
        connection: Connection,
        mut outgoing: mpsc::Receiver<Outgoing>,
    ) -> Result<()> {
        let channel = queue::confirming(&connection).await?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let mut window = Vec::new();
        while outgoing.recv_many(&mut window, WINDOW).await > 0 {
            let mut confirms = Vec::with_capacity(window.len());
            for Outgoing { id, hop, order } in &window {
                let to = self.way.get(*hop).context("a hop of the way")?.database;
                let properties = queue::properties(&id.to_string(), &order.to_string(), i64::try_from(*hop)?);
                confirms.push(channel.basic_publish("".into(), to.into(), options, &[7; 128], properties).await?);
            }
            for confirm in confirms {
                ensure!(confirm.await?.is_ack(), "the broker refused a message");
            }
            let ids: Vec<Uuid> = window.drain(..).map(|one| one.id).collect();
            sqlx::query("delete from bare.outbox where message_id = any($1)").bind(&ids).execute(&mut conn).await?;
        }
        Ok(())
    }

    /// Workers, each with a connection of its own, take what comes for a database.
    async fn consume(
        self: &Arc<Self>,
        database: &'static str,
        sender: &mpsc::Sender<Outgoing>,
        parts: &mut JoinSet<Result<()>>,
    ) -> Result<()> {
        let connection = queue::connect(&self.amqp_url).await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let mut deliveries = channel.basic_consume(database.into(), "".into(), options, FieldTable::default()).await?;
        let (incoming, queue) = mpsc::channel::<Delivery>(usize::from(PREFETCH));
        let queue = Arc::new(Mutex::new(queue));
        parts.spawn(async move {
            let _channel = (connection, channel);
            while let Some(delivery) = deliveries.next().await {
                incoming.send(delivery?).await.context("the workers are gone")?;
            }
            anyhow::bail!("a queue is gone")
        });
        for _ in 0..WORKERS {
            let mut conn = self.connect(database).await?;
            let (shop, queue, sender) = (Arc::clone(self), Arc::clone(&queue), sender.clone());
            parts.spawn(async move {
                loop {
                    let Some(delivery) = queue.lock().await.recv().await else { return Ok(()) };
                    let message = queue::read(&delivery)?;
                    let (hop, order) = (usize::try_from(message.seq)?, message.key.parse()?);
                    shop.hop(&mut conn, hop, order, Some(message.id.parse()?), &sender).await?;
                    delivery.ack(BasicAckOptions::default()).await?;
                }
            });
        }
        Ok(())
    }
}
