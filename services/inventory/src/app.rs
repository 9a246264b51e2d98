//! The composition root: which parts the service has. It has no logic of its own.

use messaging::topology::Service;
use process::Process;
use web::Readiness;

use crate::{
    Config,
    events::{self, Rules},
    http, metrics,
};

/// The service's name: its queue, its broker user, and the head of the events it announces.
pub const NAME: &str = "inventory";

/// Puts one process of the service together; it listens, but does not work yet. Nothing has to be reachable.
///
/// # Errors
/// When a setting cannot be used, or the address cannot be listened on.
pub async fn build(config: Config) -> anyhow::Result<Process> {
    metrics::describe();
    let mut process = Process::new(NAME, &config.process)?.migrations(sqlx::migrate!()).idempotency()?;
    let outbox = process.outbox("consumer", config.process.connections.consumer)?;
    process.consume(events::consumer(process.broker(), &outbox, config.rules()));
    let requests = process.outbox("http", config.process.connections.http)?;
    let routes = http::routes(config.jwks.verifier(), requests);
    process.serve(config.process.http.clone(), http::document(), Readiness::new(), routes)?;
    Ok(process)
}

/// What this service's handlers need of the broker. Asks neither broker nor database; needs a tokio runtime.
///
/// # Errors
/// See [`process::topology`].
pub async fn topology() -> anyhow::Result<Service> {
    process::topology(NAME, |broker, outbox| events::consumer(broker, outbox, Rules::default())).await
}
