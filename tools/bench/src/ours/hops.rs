//! Our side of `peers`: a service that hears its own events, two hops for each transaction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use messaging::{
    Broker, BrokerOptions, Consumer, Event as _, Handler, HandlerError, Outbox, OutboxTransaction, Relay, pool,
    topology::{Feed, Service, Subscription},
};
use sqlx::PgPool;
use testkit::Stage;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use uuid::Uuid;

use super::{CONSUMER_CONNECTIONS, PARTS, RELAY_CONNECTIONS, Running, until_up};
use crate::scene::{Happened, Noted, SERVICE};

const AT_ONCE: usize = 16;
const LOOK: Duration = Duration::from_millis(20);

struct First;

impl Handler<Happened> for First {
    async fn handle(&self, event: Happened, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        sqlx::query("insert into first values ($1)").bind(&event.key).execute(&mut **tx).await?;
        tx.publish(&Noted { key: event.key })?;
        Ok(())
    }
}

struct Second;

impl Handler<Noted> for Second {
    async fn handle(&self, event: Noted, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        sqlx::query("insert into second values ($1)").bind(&event.key).execute(&mut **tx).await?;
        Ok(())
    }
}

/// The service as the broker knows it.
pub(crate) fn topology() -> Service {
    Service {
        name: SERVICE.into(),
        subscriptions: vec![Subscription {
            consumer: SERVICE.into(),
            feed: Feed::Events,
            types: [Happened::TYPE.to_owned(), Noted::TYPE.to_owned()].into(),
            ordered: true,
            partitions: 1,
        }],
    }
}

/// So many transactions and what comes of them, on a stage with that topology; how many a second had their second effect.
pub(crate) async fn run(stage: &Stage, events: usize) -> Result<f64> {
    let pool = pool::connect_lazy(&stage.database.url, SERVICE, RELAY_CONNECTIONS + CONSUMER_CONNECTIONS)?;
    let outbox = Outbox::new(pool, SERVICE);
    let broker = Broker::connect(BrokerOptions::new(stage.vhost.url_for(SERVICE), SERVICE)?);
    let mut running = Running::new();
    let relay = Relay::new(&outbox, &broker);
    let consumer = Consumer::new(SERVICE, &broker, &outbox).on(First).on(Second);
    let stop = running.stop.clone();
    running.tasks.spawn(async move {
        tokio::try_join!(relay.run(stop.clone()), consumer.run(stop))?;
        broker.close().await;
        Ok(())
    });
    until_up(&outbox, PARTS).await?;
    let begin = Instant::now();
    place(&outbox, events).await?;
    until_second(&stage.database.pool, events).await?;
    let rate = events as f64 / begin.elapsed().as_secs_f64();
    running.stop().await?;
    Ok(rate)
}

async fn place(outbox: &Outbox, events: usize) -> Result<()> {
    let (next, mut places) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for _ in 0..AT_ONCE {
        let (outbox, next) = (outbox.clone(), Arc::clone(&next));
        places.spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < events {
                let (key, mut tx) = (Uuid::now_v7().to_string(), outbox.begin().await?);
                sqlx::query("insert into placed values ($1)").bind(&key).execute(&mut *tx).await?;
                tx.publish(&Happened::new(key, 1))?;
                tx.commit().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(place) = places.join_next().await {
        place.context("a transaction panicked")??;
    }
    Ok(())
}

async fn until_second(pool: &PgPool, events: usize) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(600);
    let (begin, events) = (Instant::now(), i64::try_from(events)?);
    while sqlx::query_scalar::<_, i64>("select count(*) from second").fetch_one(pool).await? < events {
        anyhow::ensure!(begin.elapsed() < PATIENCE, "{events} events took longer than {PATIENCE:?}");
        sleep(LOOK).await;
    }
    Ok(())
}
