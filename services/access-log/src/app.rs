//! The composition root: which parts the service has. It has no logic of its own.

use messaging::{
    Collector,
    topology::{Service, Subscription},
};
use process::Process;
use web::Readiness;

use crate::{Config, events::StoreLines, http, metrics, partitions};

/// The service's name: its queue and its broker user.
pub const NAME: &str = "access-log";

/// Puts one process of the service together; it listens, but does not work yet. Nothing has to be reachable.
///
/// # Errors
/// When a setting cannot be used, or the address cannot be listened on.
pub async fn build(config: Config) -> anyhow::Result<Process> {
    metrics::describe();
    let mut process = Process::new(NAME, &config.process)?.migrations(sqlx::migrate!());
    partitions::keep(&mut process, config.access_log_retention_days)?;
    let storing = process.outbox("collector", config.process.connections.consumer)?;
    process.collect(Collector::new(NAME, process.broker(), &storing, StoreLines));
    let requests = process.outbox("http", config.process.connections.http)?;
    let routes = http::routes(config.jwks.verifier(), requests);
    process.serve(config.process.http.clone(), http::document(), Readiness::new(), routes)?;
    Ok(process)
}

/// What this service needs of the broker: all lines.
///
/// # Errors
/// Never.
pub async fn topology() -> anyhow::Result<Service> {
    Ok(Service { name: NAME.to_owned(), subscriptions: vec![Subscription::logs(NAME)] })
}
