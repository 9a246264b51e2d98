//! A Postgres pool with the settings that this crate relies on.

use std::{str::FromStr as _, time::Duration};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tracing::log::LevelFilter;

use crate::error::{Verdict, database_verdict};

/// How long a transaction may sit idle before the server ends it: a process that stopped must not hold locks, nor a snapshot, for ever.
const IDLE_IN_TRANSACTION: &str = "60s";

/// A connection that was used so recently is taken to be there: under load that is every one. Should it not be, its user gets an error, as when it
/// had been lost a moment later.
const TRUSTED: Duration = Duration::from_millis(10);

/// Makes a pool without connecting yet: connections are opened when they are needed, so a service can start before its database.
///
/// `name` is shown in `pg_stat_activity`. Use separate pools for requests and for the relay and the consumers, so that neither starves the other.
pub fn connect_lazy(url: &str, name: &str, max_connections: u32) -> Result<PgPool, sqlx::Error> {
    use sqlx::{ConnectOptions as _, Connection as _};
    let options = PgConnectOptions::from_str(url)?
        .application_name(name)
        .options([("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION)])
        .log_statements(LevelFilter::Trace);
    Ok(PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(Duration::from_secs(5))
        // sqlx would ask each connection before each use whether it is there, which is a round trip for each transaction.
        .test_before_acquire(false)
        .before_acquire(|conn, meta| {
            Box::pin(async move {
                if meta.idle_for > TRUSTED {
                    conn.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options))
}

/// Whether the same request can work in a moment: the database is gone, restarting, closed or out of connections, or two transactions were in
/// each other's way. (PostgreSQL documentation, appendix A; a database that takes no connections is 55000.)
pub fn is_unreachable(error: &sqlx::Error) -> bool {
    match database_verdict(error) {
        Verdict::Unavailable | Verdict::Again => true,
        Verdict::Retry | Verdict::Reject => {
            matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("55000"))
        }
    }
}
