//! The connections to the database, as numbers: how many there may be, are there, and are in use, for each purpose. How long somebody waited for
//! one is not among them: sqlx does not tell. A pool whose connections are all in use is one that somebody may be waiting for.

use sqlx::PgPool;
use telemetry::AtScrape;

/// Measures a pool at each scrape, as long as what is returned is kept.
pub(crate) fn measure(purpose: &str, pool: &PgPool) -> AtScrape {
    use metrics::{describe_gauge, gauge};
    describe_gauge!("db_pool_max_connections", "Connections to the database that a pool may have.");
    describe_gauge!("db_pool_connections", "Connections to the database that a pool has, idle and in use.");
    describe_gauge!("db_pool_idle_connections", "Connections to the database that nobody uses.");
    describe_gauge!("db_pool_used_connections", "Connections to the database that are in use.");
    let (purpose, pool) = (purpose.to_owned(), pool.clone());
    let gauge = move |name: &'static str| gauge!(name, "pool" => purpose.clone());
    let [max, size, idle, used] =
        ["db_pool_max_connections", "db_pool_connections", "db_pool_idle_connections", "db_pool_used_connections"]
            .map(gauge);
    telemetry::at_scrape(move || {
        // Read one after the other: between them a connection may come back.
        let (connections, free) = (pool.size(), u32::try_from(pool.num_idle()).unwrap_or(u32::MAX));
        max.set(f64::from(pool.options().get_max_connections()));
        size.set(f64::from(connections));
        idle.set(f64::from(free.min(connections)));
        used.set(f64::from(connections.saturating_sub(free)));
    })
}
