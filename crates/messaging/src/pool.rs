//! A Postgres pool with the settings that this crate relies on.

use std::{
    io,
    str::FromStr as _,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use failpoints::without;
use sqlx::{
    PgPool,
    error::DatabaseError,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::{Instant, timeout};
use tracing::{log::LevelFilter, warn};

use crate::{
    error::{Verdict, database_verdict},
    retry::RECONNECT,
};

/// How long a transaction may sit idle before the server ends it: a process that stopped must not hold locks, nor a snapshot, for ever.
const IDLE_IN_TRANSACTION: &str = "60s";

/// What a session is begun with. The server finds out within a minute when a client has vanished, and a session whose client has given up
/// does not go on waiting for a lock.
const SESSION: [(&str, &str); 5] = [
    ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION),
    ("client_connection_check_interval", "10s"),
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];

/// How long a migration waits for a lock. Everybody else who needs the table, as the release before this one does, waits behind it, and a dump or a
/// report may keep it for hours: so the migration steps back, and tries again.
const MIGRATION_LOCK_TIMEOUT: &str = "2s";

/// How long the database may take for an answer before the connection counts as lost. A server that has vanished, with its address moved to
/// another machine perhaps, says nothing: whoever waits for it waits for ever, because nothing is on its way that TCP would miss.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// How long a connection of a pool is waited for.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that has been idle, or comes back, is asked whether it is there, and answers at once or never.
const PING_DEADLINE: Duration = Duration::from_secs(2);

/// When an answer was last waited for in vain, or a transaction could not begin. Connections that are older go with the one that it was: they lead to the
/// same place.
static VANISHED: Mutex<Option<Instant>> = Mutex::new(None);

/// A connection that was used so recently is taken to be there: under load that is every one. Should it not be, its user gets an error, as when it
/// had been lost a moment later.
const TRUSTED: Duration = Duration::from_millis(10);

/// When the database last answered anybody, in milliseconds from [`BEGINNING`] on.
static HEARD_AT: AtomicU64 = AtomicU64::new(0);
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Makes a pool without connecting yet: connections are opened when they are needed, so a service can start before its database.
///
/// `name` is shown in `pg_stat_activity`. Use separate pools for requests and for the relay and the consumers, so that neither starves the other.
pub fn connect_lazy(url: &str, name: &str, max_connections: u32) -> Result<PgPool, sqlx::Error> {
    use sqlx::{ConnectOptions as _, Connection as _};
    let options =
        PgConnectOptions::from_str(url)?.application_name(name).options(SESSION).log_statements(LevelFilter::Trace);
    Ok(PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // sqlx would ask each connection before each use whether it is there, which is a round trip for each transaction.
        .test_before_acquire(false)
        .before_acquire(|conn, meta| {
            Box::pin(async move {
                if is_doubtful(meta.age) {
                    return Ok(false);
                }
                if meta.idle_for > TRUSTED {
                    match timeout(PING_DEADLINE, conn.ping()).await {
                        Ok(answer) => answer.map(|()| heard())?,
                        Err(_) if without("answer-deadline") => {}
                        Err(_) => {
                            doubt(PING_DEADLINE);
                            return Ok(false);
                        }
                    }
                }
                Ok(true)
            })
        })
        // sqlx asks each connection that comes back whether it is there, without an end: from one that leads nowhere it would wait until TCP gives
        // up, a quarter of an hour, and its place in the pool would be taken for so long. So it is asked here before, with an end, unless its last
        // user has finished and the database answered somebody just now: one question is a round trip, and two are two, for each transaction.
        .after_release(|conn, meta| {
            Box::pin(async move {
                if is_doubtful(meta.age) {
                    return Ok(false);
                }
                // A transaction that was dropped has its ROLLBACK in the buffer.
                let finished = !conn.should_flush();
                if without("answer-deadline") || finished && was_heard() {
                    return Ok(true);
                }
                // No answer says nothing of the other connections: it may be at work still on what nobody waits for any more.
                timeout(PING_DEADLINE, conn.ping()).await.map_or(Ok(false), |answer| answer.map(|()| true))
            })
        })
        .connect_lazy_with(options))
}

/// A pool of one connection to the same database, for what keeps it. The pool itself must not be short of it: an ear that leads nowhere cannot be
/// given back, because whoever drops it waits for an answer.
pub(crate) fn beside(pool: &PgPool) -> PgPool {
    let options = PgConnectOptions::clone(&pool.connect_options());
    PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT).connect_lazy_with(options)
}

/// Brings a schema up to date. Waits, with backoff and for ever, for a database that is not there yet, or goes away meanwhile, and for tables that
/// somebody reads for long: each migration is a transaction, and is made once.
///
/// # Errors
/// When a migration fails for another reason, or does not fit to those that were made before.
pub async fn migrate(pool: &PgPool, migrations: &Migrator) -> Result<(), MigrateError> {
    let mut failures = 0;
    loop {
        let error = match migrate_once(pool, migrations).await {
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) if may_pass(&error) => error,
            done => return done,
        };
        failures += 1;
        warn!(%error, "the database cannot be brought up to date yet");
        tokio::time::sleep(RECONNECT.delay(failures)).await;
    }
}

/// On a connection that is closed afterwards, with all that is locked on it.
async fn migrate_once(pool: &PgPool, migrations: &Migrator) -> Result<(), MigrateError> {
    let patient = PgConnectOptions::clone(&pool.connect_options()).options([("lock_timeout", MIGRATION_LOCK_TIMEOUT)]);
    let own = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT).connect_lazy_with(patient);
    let done = migrations.run(&own).await;
    own.close().await;
    done
}

fn may_pass(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    // lock_not_available
    code.as_deref() == Some("55P03") || matches!(database_verdict(error), Verdict::Unavailable | Verdict::Again)
}

/// Waits for the database, but no longer than `deadline` ([`ANSWER_DEADLINE`] where nothing else is known). Whatever was asked may have been
/// done all the same. The connections of the process that are older than this are closed, and new ones opened in their place.
///
/// # Errors
/// Those of what was asked; [`sqlx::Error::Io`] with [`io::ErrorKind::TimedOut`] when there was no answer.
pub async fn answered<T, E: From<sqlx::Error>>(
    deadline: Duration,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    if without("answer-deadline") {
        return asked.await;
    }
    tokio::pin!(asked);
    match timeout(deadline, asked.as_mut()).await {
        Ok(answer) => answer,
        Err(_) => {
            // Before its connection goes back to the pool with the end of what was asked.
            doubt(deadline);
            let text = format!("the database did not answer within {deadline:?}; its connections are made anew");
            Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text)).into())
        }
    }
}

/// The database has answered.
pub(crate) fn heard() {
    HEARD_AT.store(since_beginning(), Ordering::Relaxed);
}

fn was_heard() -> bool {
    let at = HEARD_AT.load(Ordering::Relaxed);
    at > 0 && u128::from(since_beginning().saturating_sub(at)) < TRUSTED.as_millis()
}

/// Never 0.
fn since_beginning() -> u64 {
    u64::try_from(BEGINNING.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

fn doubt(waited: Duration) {
    warn!(?waited, "the database does not answer; its connections are made anew");
    replace_all();
}

/// Has connections made anew because one of them is in a state that nobody can use.
pub(crate) fn distrust(error: &dyn DatabaseError) {
    warn!(
        code = error.code().as_deref(),
        error = error.message(),
        "a transaction could not begin; connections are made anew"
    );
    replace_all();
}

fn replace_all() {
    *VANISHED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
}

/// Whether a connection of this age was there when an answer failed to come.
fn is_doubtful(age: Duration) -> bool {
    let vanished = *VANISHED.lock().unwrap_or_else(PoisonError::into_inner);
    vanished.is_some_and(|at| age >= at.elapsed())
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
