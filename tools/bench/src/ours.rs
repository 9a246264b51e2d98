//! Our side: relays and a consumer as services run them, each with connections of its own.

pub(crate) mod hops;
pub(crate) mod mail;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use chrono::{TimeDelta, Utc};
use messaging::{
    Broker, BrokerOptions, Consumer, Handler, HandlerError, Outbox, OutboxTransaction, Relay, RelayOptions,
};
use sqlx::PgConnection;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    load,
    scene::{Happened, Noted, SERVICE, Scene},
};

/// A relay and a consumer say how they are.
const PARTS: usize = 2;
const RELAY_CONNECTIONS: u32 = 4;
const CONSUMER_CONNECTIONS: u32 = 8;
/// Shorter than usual, so that relays that start together soon have their fair share.
const LEASE: Duration = Duration::from_secs(6);

/// Parts of a service that run until they are stopped.
pub(crate) struct Running {
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
}

impl Running {
    fn new() -> Self {
        Self { stop: CancellationToken::new(), tasks: JoinSet::new() }
    }

    /// Ends in order.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a part panicked")??;
        }
        Ok(())
    }

    fn relay(&mut self, scene: &Scene, url: &str) -> Result<()> {
        let outbox = Outbox::new(scene.pool(RELAY_CONNECTIONS)?, SERVICE);
        let broker = Broker::connect(BrokerOptions::new(url, SERVICE)?);
        let options = RelayOptions { lease: LEASE, ..RelayOptions::default() };
        let (relay, stop) = (Relay::with_options(&outbox, &broker, options), self.stop.clone());
        self.tasks.spawn(async move {
            relay.run(stop).await?;
            broker.close().await;
            Ok(())
        });
        Ok(())
    }

    fn consumer(&mut self, scene: &Scene) -> Result<()> {
        let outbox = Outbox::new(scene.pool(CONSUMER_CONNECTIONS)?, SERVICE);
        let broker = Broker::connect(BrokerOptions::new(scene.stage.vhost.url_for(SERVICE), SERVICE)?);
        let (consumer, stop) = (Consumer::new(SERVICE, &broker, &outbox).on(WriteThing), self.stop.clone());
        self.tasks.spawn(async move {
            consumer.run(stop).await?;
            broker.close().await;
            Ok(())
        });
        Ok(())
    }
}

/// Writes a row for each event, and says so.
struct WriteThing;

impl Handler<Happened> for WriteThing {
    async fn handle(&self, event: Happened, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        thing(tx, &event.key, event.number).await?;
        tx.publish(&Noted { key: event.key })?;
        Ok(())
    }
}

/// The row that both sides write.
pub(crate) async fn thing(conn: &mut PgConnection, key: &str, number: i64) -> Result<(), sqlx::Error> {
    sqlx::query("insert into thing (id, number) values ($1, $2)").bind(key).bind(number).execute(conn).await?;
    Ok(())
}

/// Relays that hold their lanes, each its share.
pub(crate) async fn relays(scene: &Scene, count: usize) -> Result<Running> {
    relays_by(scene, count, &scene.stage.vhost.url_for(SERVICE)).await
}

/// The same, with the broker at this address.
pub(crate) async fn relays_by(scene: &Scene, count: usize, url: &str) -> Result<Running> {
    let mut running = Running::new();
    for _ in 0..count {
        running.relay(scene, url)?;
    }
    let shared = match count {
        1 => "select count(*) = 16 and count(distinct holder) = 1 from messaging.relay_lane where expires_at > now()",
        _ => {
            "select count(*) = 4 and min(lanes) = 4 and max(lanes) = 4
             from (select count(*) as lanes from messaging.relay_lane where expires_at > now() group by holder) as held"
        }
    };
    scene.until("the relays hold their lanes", shared).await?;
    Ok(running)
}

/// Whether there is nothing pending. By the index: what has gone from the head of the table is still in its pages.
pub(crate) const DRAINED: &str =
    "select not exists (select from (select from messaging.outbox order by lane, position limit 1) as first)";

/// Has events pending and waits until the relays have brought all to the broker. Events per second.
pub(crate) async fn drain(scene: &Scene, events: &[(String, i64)]) -> Result<f64> {
    let begin = scene.pend(events).await?;
    scene.until("everything is published", DRAINED).await?;
    Ok(events.len() as f64 / begin.elapsed().as_secs_f64())
}

/// Brings events into the consumer's queue, as a relay does.
pub(crate) async fn fill(scene: &Scene, events: &[(String, i64)]) -> Result<()> {
    let relays = relays(scene, 1).await?;
    drain(scene, events).await?;
    relays.stop().await
}

/// A consumer takes what is in its queue; effects per second.
pub(crate) async fn consume(scene: &Scene, count: usize) -> Result<f64> {
    let mut running = Running::new();
    let begin = Instant::now();
    running.consumer(scene)?;
    load::until_things(scene, count).await?;
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    running.stop().await?;
    Ok(rate)
}

/// A whole service: a relay and a consumer that share an outbox, as they do in one process.
pub(crate) async fn service(scene: &Scene) -> Result<(Outbox, Running)> {
    let outbox = Outbox::new(scene.pool(RELAY_CONNECTIONS + CONSUMER_CONNECTIONS)?, SERVICE);
    let broker = Broker::connect(BrokerOptions::new(scene.stage.vhost.url_for(SERVICE), SERVICE)?);
    let mut running = Running::new();
    let relay = Relay::new(&outbox, &broker);
    let consumer = Consumer::new(SERVICE, &broker, &outbox).on(WriteThing);
    let stop = running.stop.clone();
    running.tasks.spawn(async move {
        tokio::try_join!(relay.run(stop.clone()), consumer.run(stop))?;
        broker.close().await;
        Ok(())
    });
    until_up(&outbox, PARTS).await?;
    Ok((outbox, running))
}

/// Waits until so many parts of a service say that they are well.
async fn until_up(outbox: &Outbox, parts: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while outbox.health().len() < parts || outbox.health().iter().any(|(_, state)| state.is_err()) {
        anyhow::ensure!(Instant::now() < deadline, "the service does not come up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// One transaction of the business, with one event about it. An order has a deadline, too, as in the shop.
pub(crate) async fn commit(outbox: &Outbox, business: load::Business, key: &str) -> Result<()> {
    let mut tx = outbox.begin().await?;
    load::transact(&mut tx, business, key).await?;
    tx.publish(&Happened::new(key.to_owned(), 1))?;
    if business == load::Business::Order {
        tx.publish_at(&Happened::new(key.to_owned(), 2), Utc::now() + TimeDelta::hours(1))?;
    }
    tx.commit().await?;
    Ok(())
}

/// An outbox as the part of a service has it that takes requests.
pub(crate) fn outbox(scene: &Scene, connections: u32) -> Result<Arc<Outbox>> {
    Ok(Arc::new(Outbox::new(scene.pool(connections)?, SERVICE)))
}
