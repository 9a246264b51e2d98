//! The composition root: which parts a process of this service has, and what each works with. It has no logic of its own.

use std::time::Duration;

use actix_web::web::Data;
use chrono::TimeDelta;
use messaging::topology::Service;
use process::Process;
use web::Readiness;

use crate::{
    Config, events, http, metrics, order,
    progress::{Deadlines, Progress},
    watch::{self, Watch},
};

/// The service's name: its queue, its broker user, and the head of the events it announces.
pub const NAME: &str = "orders";

/// How often the orders that wait for somebody are counted.
const MEASURE_PERIOD: Duration = Duration::from_secs(5);

/// Puts a process together and binds its port. Nothing has to be reachable yet. Needs a tokio runtime.
///
/// # Errors
/// When a setting is not valid, or the address cannot be listened on.
pub async fn build(config: Config) -> anyhow::Result<Process> {
    metrics::describe();
    let mut process = Process::new(NAME, &config.process)?.migrations(sqlx::migrate!()).idempotency()?;
    let watch = Watch::new(config.streams.max_streams.into(), config.streams.max_streams_per_customer);
    let progress = Progress::new(deadlines(&config), watch.clone());

    let connections = &config.process.connections;
    process.consume(events::consumer(process.broker(), &process.outbox("consumer", connections.consumer)?, &progress));
    let (eye, pool) = (watch.clone(), process.pool("watch", 1)?);
    process.every("changes of watched orders", watch::POLL, move || {
        let (eye, pool) = (eye.clone(), pool.clone());
        async move { eye.look(&pool).await }
    });

    let pool = process.pool("housekeeping", 1)?;
    process.every("orders that wait are counted", MEASURE_PERIOD, move || {
        let pool = pool.clone();
        async move {
            metrics::open(&order::open(&mut *pool.acquire().await?).await?);
            Ok::<_, sqlx::Error>(())
        }
    });

    let state = http::State {
        outbox: process.outbox("http", connections.http)?,
        progress,
        watch,
        streams: config.streams.clone(),
        limits: config.limits,
        stop: process.stop(),
    };
    let routes = http::routes(config.jwks.verifier(), Data::new(state));
    process.serve(config.process.http.clone(), http::openapi(), Readiness::new(), routes)?;
    Ok(process)
}

/// What the handlers need of the broker. Neither broker nor database is asked.
///
/// # Errors
/// Only if the placeholder for the database cannot be made.
pub async fn topology() -> anyhow::Result<Service> {
    let never = Deadlines { placed: TimeDelta::MAX, reserved: TimeDelta::MAX, paid: TimeDelta::MAX };
    let progress = Progress::new(never, Watch::new(0, 0));
    process::topology(NAME, |broker, outbox| events::consumer(broker, outbox, &progress)).await
}

fn deadlines(config: &Config) -> Deadlines {
    // Settings are bounded far below what does not fit.
    let delta = |duration: Duration| TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
    Deadlines {
        placed: delta(config.deadlines.stock_deadline_seconds),
        reserved: delta(config.deadlines.payment_deadline_seconds),
        paid: delta(config.deadlines.commit_deadline_seconds),
    }
}
