//! The least way from one process to an effect in another one: a confirmed publish to a quorum queue, a delivery, one insert, one commit.

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions},
    types::FieldTable,
};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{limit::relay::QUEUE, ours::thing, queue, scene::Scene};

/// The path, ready.
pub(crate) struct Path {
    channel: Channel,
    /// Closed when it is dropped.
    _receiving: Channel,
    done: mpsc::Receiver<()>,
    _task: JoinSet<Result<()>>,
    _connections: [Connection; 2],
}

impl Path {
    pub(crate) async fn open(scene: &Scene) -> Result<Self> {
        let url = &scene.stage.vhost.amqp_url;
        let (publishing, consuming) = (queue::connect(url).await?, queue::connect(url).await?);
        let channel = queue::confirming(&publishing).await?;
        queue::declare(&channel, QUEUE).await?;
        let receiving = consuming.create_channel().await?;
        let mut deliveries = receiving
            .basic_consume(QUEUE.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await?;
        let (sender, done) = mpsc::channel(1);
        let pool = scene.plain_pool(1).await?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Some(delivery) = deliveries.next().await {
                let delivery = delivery?;
                thing(&mut *pool.acquire().await?, std::str::from_utf8(&delivery.data)?, 1).await?;
                delivery.ack(BasicAckOptions::default()).await?;
                if sender.send(()).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        Ok(Self { channel, _receiving: receiving, done, _task: task, _connections: [publishing, consuming] })
    }

    /// Publishes and waits for the confirm. The effect comes when it comes.
    pub(crate) async fn publish(&self, id: &str) -> Result<()> {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm = self.channel.basic_publish("".into(), QUEUE.into(), options, id.as_bytes(), properties).await?;
        ensure!(confirm.await?.is_ack(), "the broker refused a message");
        Ok(())
    }

    /// What was published last is done with, its acknowledgement included.
    pub(crate) async fn rest(&mut self) -> Result<()> {
        self.done.recv().await.context("the consumer of the limit ended")
    }
}
