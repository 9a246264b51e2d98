//! The composition root: which parts one process of the service has. It has no logic of its own.

use std::{sync::Arc, time::Duration};

use messaging::topology::Service;
use process::Process;
use web::Readiness;

use crate::{
    Config, charge, events, give_back, http, metrics, payment,
    provider::{Provider, Simulated},
};

/// The service's name: its queue, its broker user, and the head of the events it announces.
pub const NAME: &str = "payments";
/// How often the payments that wait are counted.
const MEASURE_PERIOD: Duration = Duration::from_secs(15);

/// Puts the service together, with the simulated provider. Nothing has to be reachable yet. Needs a tokio runtime.
///
/// # Errors
/// When a setting is wrong, or the port is taken.
pub async fn build(config: Config) -> anyhow::Result<Process> {
    let process = Process::new(NAME, &config.process)?;
    // A stranger: it has the service's database, and nothing else of it.
    let provider = Simulated::new(process.pool("provider", 6)?, config.provider.simulated());
    with_provider(process, config, provider)
}

/// As [`build`], with another provider, which is made from the simulated one.
///
/// # Errors
/// As [`build`].
pub async fn build_with<P: Provider>(config: Config, provider: impl FnOnce(Simulated) -> P) -> anyhow::Result<Process> {
    let process = Process::new(NAME, &config.process)?;
    let simulated = Simulated::new(process.pool("provider", 6)?, config.provider.simulated());
    with_provider(process, config, provider(simulated))
}

fn with_provider(process: Process, config: Config, provider: impl Provider) -> anyhow::Result<Process> {
    metrics::describe();
    let mut process = process.migrations(sqlx::migrate!());
    let provider = Arc::new(provider);

    let connections = &config.process.connections;
    process.consume(events::consumer(process.broker(), &process.outbox("consumer", connections.consumer)?));
    let (charges, refunds) =
        (process.outbox("charge worker", connections.worker)?, process.outbox("give back worker", connections.worker)?);
    process.work(charge::worker(&charges, Arc::clone(&provider), &config.provider));
    process.work(give_back::worker(&refunds, provider, &config.provider));

    let pool = process.pool("housekeeping", 1)?;
    process.every("payments that wait are counted", MEASURE_PERIOD, move || {
        let pool = pool.clone();
        async move {
            metrics::waiting(&payment::waiting(&mut *pool.acquire().await?).await?);
            Ok::<_, sqlx::Error>(())
        }
    });

    let routes = http::routes(config.jwks.verifier(), process.outbox("http", connections.http)?);
    process.serve(config.process.http, http::openapi(), Readiness::new(), routes)?;
    Ok(process)
}

/// What this service's handlers need of the broker. Nothing is asked.
///
/// # Errors
/// See [`process::topology`].
pub async fn topology() -> anyhow::Result<Service> {
    process::topology(NAME, events::consumer).await
}
