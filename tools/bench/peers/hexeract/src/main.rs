//! Two hops with hexeract; see ../README.md. The library has no inbox: it is a table written in the consumer's transaction.

use std::{env, error::Error, sync::Arc, time::Duration};

use hexeract::{
    bus::{self, BusError, Message, Transport as _},
    bus_rabbitmq::{RabbitMqConnection, RabbitMqTransport, RabbitMqWorkerBuilder},
    core::HandlerContext,
    outbox::{self, Event, OutboxError, OutboxPublisher as _},
    outbox_sql::{PgOutboxPublisher, PgOutboxWorkerBuilder, postgres::ensure_schema},
};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const TABLE: &str = "outbox";
const AT_ONCE: usize = 16;
/// Each takes one event or message after the other.
const WORKERS: usize = 8;

#[derive(Serialize, Deserialize)]
struct Placed {
    order: Uuid,
}

impl Event for Placed {
    const EVENT_TYPE: &'static str = "one";
}

impl Message for Placed {
    const MESSAGE_TYPE: &'static str = "one";
}

#[derive(Serialize, Deserialize)]
struct Noted {
    order: Uuid,
}

impl Event for Noted {
    const EVENT_TYPE: &'static str = "two";
}

impl Message for Noted {
    const MESSAGE_TYPE: &'static str = "two";
}

/// Brings an event into the queue that its type names.
struct ToQueue(Arc<RabbitMqTransport>);

impl<E: Event + Message> outbox::Handler<E> for ToQueue {
    type Error = OutboxError;

    async fn handle(&self, event: E, _: &HandlerContext) -> Result<(), OutboxError> {
        self.0.publish(E::EVENT_TYPE, &event).await.map(drop).map_err(|error| OutboxError::Database(Box::new(error)))
    }
}

struct First(PgPool, PgOutboxPublisher);

impl bus::Handler<Placed> for First {
    type Error = BusError;

    async fn handle(&self, message: Placed, _: &HandlerContext) -> Result<(), BusError> {
        self.note(message.order).await.map_err(BusError::Transport)
    }
}

impl First {
    async fn note(&self, order: Uuid) -> Fallible<()> {
        let mut tx = self.0.begin().await?;
        if is_new(&mut tx, "one", order).await? {
            sqlx::query("insert into first values ($1)").bind(order.to_string()).execute(&mut *tx).await?;
            self.1.publish_in_tx(&mut tx, &Noted { order }).await?;
        }
        Ok(tx.commit().await?)
    }
}

struct Second(PgPool);

impl bus::Handler<Noted> for Second {
    type Error = BusError;

    async fn handle(&self, message: Noted, _: &HandlerContext) -> Result<(), BusError> {
        self.note(message.order).await.map_err(BusError::Transport)
    }
}

impl Second {
    async fn note(&self, order: Uuid) -> Fallible<()> {
        let mut tx = self.0.begin().await?;
        if is_new(&mut tx, "two", order).await? {
            sqlx::query("insert into second values ($1)").bind(order.to_string()).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }
}

async fn is_new(conn: &mut sqlx::PgConnection, hop: &str, order: Uuid) -> Result<bool, sqlx::Error> {
    let noted = sqlx::query("insert into inbox values ($1) on conflict do nothing").bind(format!("{hop} {order}"));
    Ok(noted.execute(conn).await?.rows_affected() == 1)
}

/// Relays and consumers, several of each.
async fn start(parts: &mut JoinSet<Fallible<()>>, pool: &PgPool, amqp_url: &str) -> Fallible<()> {
    let publisher = PgOutboxPublisher::new(pool.clone(), TABLE)?;
    let transport = Arc::new(RabbitMqTransport::new(amqp_url).await?);
    for _ in 0..WORKERS {
        let relay = PgOutboxWorkerBuilder::new(pool.clone())
            .table_name(TABLE)
            .register_handler::<Placed, _>(ToQueue(Arc::clone(&transport)))
            .register_handler::<Noted, _>(ToQueue(Arc::clone(&transport)))
            .batch_size(100)
            .poll_interval(Duration::from_millis(10))
            .build()?;
        parts.spawn(async move { Ok(relay.run(CancellationToken::new()).await?) });
        for queue in ["one", "two"] {
            let consumer = RabbitMqWorkerBuilder::new(RabbitMqConnection::connect(amqp_url).await?)
                .queue(queue)
                .register_handler::<Placed, _>(First(pool.clone(), publisher.clone()))
                .register_handler::<Noted, _>(Second(pool.clone()))
                .prefetch(64)
                .build()?;
            parts.spawn(async move { Ok(consumer.run(CancellationToken::new()).await?) });
        }
    }
    Ok(())
}

async fn place(pool: PgPool, publisher: PgOutboxPublisher, events: usize) -> Fallible<()> {
    for _ in 0..events {
        let (order, mut tx) = (Uuid::now_v7(), pool.begin().await?);
        sqlx::query("insert into placed values ($1)").bind(order.to_string()).execute(&mut *tx).await?;
        publisher.publish_in_tx(&mut tx, &Placed { order }).await?;
        tx.commit().await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let events: usize = env::var("EVENTS")?.parse()?;
    let pool = PgPoolOptions::new().max_connections(48).test_before_acquire(false).connect(&env::var("DATABASE_URL")?).await?;
    ensure_schema(&pool, TABLE).await?;
    sqlx::query("create table inbox (id text primary key)").execute(&pool).await?;
    let mut parts = JoinSet::new();
    start(&mut parts, &pool, &env::var("AMQP_URL")?).await?;
    let begin = Instant::now();
    let (publisher, mut places) = (PgOutboxPublisher::new(pool.clone(), TABLE)?, JoinSet::new());
    for number in 0..AT_ONCE {
        let share = events / AT_ONCE + usize::from(number < events % AT_ONCE);
        places.spawn(place(pool.clone(), publisher.clone(), share));
    }
    while let Some(place) = places.join_next().await {
        place??;
    }
    while sqlx::query_scalar::<_, i64>("select count(*) from second").fetch_one(&pool).await? < i64::try_from(events)? {
        if let Some(ended) = parts.try_join_next() {
            return ended?;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{}", serde_json::json!({ "per_second": events as f64 / begin.elapsed().as_secs_f64() }));
    Ok(())
}
