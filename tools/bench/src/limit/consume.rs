//! The least consumer with an effect: a plain transaction for each message with its inbox row, its row of the business and its event out,
//! and an acknowledgement each. It keeps no order.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use lapin::{
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::Instant,
};
use uuid::Uuid;

use crate::{limit::relay::QUEUE, load, ours::thing, queue, scene::Scene};

/// As many in hand, and as many transactions at once, as a consumer of ours has.
const PREFETCH: u16 = 512;
const WORKERS: usize = 4;

/// Takes what is in the queue; effects per second.
pub(crate) async fn consume(scene: &Scene, count: usize) -> Result<f64> {
    // One for each: to give one back to a pool costs a round trip.
    let mut connections = Vec::with_capacity(WORKERS);
    for _ in 0..WORKERS {
        connections.push(PgConnection::connect(&scene.stage.database.url).await?);
    }
    let begin = Instant::now();
    let connection = queue::connect(&scene.stage.vhost.amqp_url).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let mut deliveries =
        channel.basic_consume(QUEUE.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
    let (sender, receiver) = mpsc::channel(usize::from(PREFETCH));
    let receiver = Arc::new(Mutex::new(receiver));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(delivery) = deliveries.next().await {
            if sender.send(delivery?).await.is_err() {
                break;
            }
        }
        anyhow::Ok(())
    });
    for mut conn in connections {
        let receiver = Arc::clone(&receiver);
        tasks.spawn(async move {
            loop {
                let Some(delivery) = receiver.lock().await.recv().await else { return Ok(()) };
                handle(&mut conn, &delivery).await?;
                delivery.ack(BasicAckOptions::default()).await?;
            }
        });
    }
    tokio::select! {
        done = load::until_things(scene, count) => done?,
        Some(ended) = tasks.join_next() => ended.context("a worker panicked")??,
    }
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    connection.close(200, "done".into()).await?;
    Ok(rate)
}

async fn handle(conn: &mut PgConnection, delivery: &Delivery) -> Result<()> {
    let message = queue::read(delivery)?;
    let mut tx = conn.begin().await?;
    let fresh = sqlx::query("insert into bare_inbox (message_id) values ($1) on conflict do nothing")
        .bind(message.id.parse::<Uuid>()?)
        .execute(&mut *tx)
        .await?;
    if fresh.rows_affected() == 1 {
        thing(&mut tx, &message.key, message.seq).await?;
        sqlx::query("insert into bare_outbox (message_id, key, seq, payload) values ($1, $2, $3, $4)")
            .bind(Uuid::now_v7())
            .bind(&message.key)
            .bind(message.seq)
            .bind(message.key.as_bytes())
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(())
}
