//! A database for one test.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool};

use crate::{engine, fresh_name, orphaned};

/// A fresh database, owned by the superuser of the test engine.
#[derive(Debug)]
pub struct Database {
    /// Its address.
    pub url: String,
    /// A small pool on it.
    pub pool: PgPool,
    name: String,
}

impl Database {
    /// Makes a database, and sweeps up those of processes that are gone.
    pub async fn create() -> Self {
        let server = engine("TEST_DATABASE_URL");
        let name = fresh_name();
        let mut admin = PgConnection::connect(&server).await.expect("the test database engine answers");
        sweep(&mut admin).await;
        admin
            .execute(AssertSqlSafe(format!("create database {name}")))
            .await
            .expect("the test engine's user may create databases");
        let url = format!("{}/{name}", server.rsplit_once('/').map_or(server.as_str(), |(base, _)| base));
        let pool = messaging::pool::connect_lazy(&url, "test", 20).expect("a database address");
        Self { url, pool, name }
    }

    /// Ends every connection to the database but the asking one, as an administrator would.
    pub async fn terminate_backends(&self) -> i64 {
        let mut admin = PgConnection::connect(&engine("TEST_DATABASE_URL")).await.expect("the engine answers");
        sqlx::query_scalar(
            "select count(*) from (select pg_terminate_backend(pid) from pg_stat_activity where datname = $1) as ended",
        )
        .bind(&self.name)
        .fetch_one(&mut admin)
        .await
        .expect("a superuser may terminate backends")
    }

    /// Lets nobody in, and throws everybody out; or lets them in again.
    pub async fn set_available(&self, available: bool) {
        let mut admin = PgConnection::connect(&engine("TEST_DATABASE_URL")).await.expect("the engine answers");
        // A connection limit does not bind superusers; this does.
        admin
            .execute(AssertSqlSafe(format!("alter database {} allow_connections {available}", self.name)))
            .await
            .expect("a superuser may close a database");
        if !available {
            self.terminate_backends().await;
        }
    }
}

async fn sweep(admin: &mut PgConnection) {
    let names: Vec<String> = sqlx::query_scalar("select datname from pg_database where datname like 'test\\_%'")
        .fetch_all(&mut *admin)
        .await
        .unwrap_or_default();
    for name in names.iter().filter(|name| orphaned(name)).take(4) {
        // Another test may sweep the same one.
        let _ = admin.execute(AssertSqlSafe(format!("drop database if exists {name} with (force)"))).await;
    }
}
