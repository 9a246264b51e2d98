//! A database and a virtual host together, with an outbox and a broker on them.

use messaging::{Broker, BrokerOptions, Outbox, topology::Service};
use sqlx::AssertSqlSafe;

use crate::{Database, Vhost};

/// Where a test of one service plays.
pub struct Stage {
    /// Its database, with the schema `messaging`.
    pub database: Database,
    /// Its virtual host, with the topology.
    pub vhost: Vhost,
    /// An outbox in the database.
    pub outbox: Outbox,
    /// Connected as the service's own broker user.
    pub broker: Broker,
    leftovers: bool,
}

impl Stage {
    /// A stage for a service, among the services whose topology is wanted. The service's own user is always there.
    pub async fn new(service: &'static str, services: &[Service]) -> Self {
        let mut services = services.to_vec();
        if services.iter().all(|other| other.name != service) {
            services.push(Service { name: service.to_owned(), subscriptions: Vec::new() });
        }
        let database = Database::create().await;
        let vhost = Vhost::create(&services).await;
        let outbox = Outbox::new(database.pool.clone(), service);
        outbox.migrate().await.expect("the migrations apply to an empty database");
        let broker = Broker::connect(BrokerOptions::new(vhost.url_for(service), service).expect("an AMQP address"));
        Self { database, vhost, outbox, broker, leftovers: false }
    }

    /// This test leaves pending events or parked messages, on purpose.
    pub fn expect_leftovers(&mut self) {
        self.leftovers = true;
    }

    /// The number that a query returns.
    pub async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.database.pool).await.expect("the query runs")
    }

    /// Runs a statement.
    pub async fn execute(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&self.database.pool).await.expect("the statement runs");
    }
}

impl Drop for Stage {
    /// Fails the test when something is left that it did not expect.
    fn drop(&mut self) {
        if self.leftovers || std::thread::panicking() {
            return;
        }
        let url = self.database.url.clone();
        let look = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                use sqlx::Connection as _;
                let mut conn = sqlx::PgConnection::connect(&url).await.expect("the test's database answers");
                let left: (i64, i64, i64) = sqlx::query_as(
                    "select (select count(*) from messaging.outbox), (select count(*) from messaging.parked),
                            (select count(*) from messaging.job)",
                )
                .fetch_one(&mut conn)
                .await
                .expect("the schema is there");
                left
            })
        };
        // A runtime cannot be started inside another one.
        let (pending, parked, jobs) = std::thread::spawn(look).join().expect("the look does not panic");
        assert!(
            pending + parked + jobs == 0,
            "the test left {pending} pending events, {parked} parked messages and {jobs} jobs"
        );
    }
}
