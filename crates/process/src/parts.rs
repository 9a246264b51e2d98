//! Putting a process together: which parts it has, and what each of them works with.

use std::{
    fmt::Display,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_web::web::ServiceConfig;
use anyhow::Context as _;
use futures_util::future::BoxFuture;
use messaging::{
    Broker, BrokerOptions, Collector, Consumer, Logs, Outbox, Relay, Task, Worker,
    pool::{ANSWER_DEADLINE, answered},
    topology::Management,
};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{PgPool, migrate::Migrator};
use telemetry::AtScrape;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;
use web::{BoundServer, HttpOptions, Readiness, Server};

use crate::{BacklogOptions, Options, access_log, pools};

/// Asks for `/readyz` only, so that a rush of requests does not make the process look dead.
const HEALTH_CONNECTIONS: u16 = 2;
/// How often idempotency keys are looked at whose time is over.
const IDEMPOTENCY_PERIOD: Duration = Duration::from_secs(60);

/// One process of a service. It is put together first, then [run](Process::run).
pub struct Process {
    pub(crate) core: Core,
    pub(crate) server: Option<BoundServer>,
    pub(crate) parts: Vec<Part>,
    pub(crate) at_end: Vec<BoxFuture<'static, ()>>,
    pub(crate) stop: CancellationToken,
    /// The sizes of the pools, as long as the process is there.
    pub(crate) measured: Mutex<Vec<AtScrape>>,
    database_url: SecretString,
    /// Requests of one route that are worked on at once.
    route_places: u16,
    backlog: BacklogOptions,
    /// Changes that announce nothing.
    quiet: &'static [&'static str],
}

/// What every process has: a database, a broker, and events between them.
pub(crate) struct Core {
    pub(crate) name: &'static str,
    pub(crate) outbox: Outbox,
    pub(crate) broker: Broker,
    pub(crate) relay: Relay,
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) collectors: Vec<Collector>,
    /// The access log, unless it is switched off.
    pub(crate) logs: Option<Logs>,
    pub(crate) management: Option<Management>,
    migrations: Vec<Migrator>,
    /// Whether the database is up to date.
    prepared: Arc<AtomicBool>,
}

/// What runs beside HTTP and the consumers until the token is cancelled.
pub(crate) type Part = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, anyhow::Result<()>> + Send>;

/// A database that says nothing for a whole period is another machine by now, and would be waited for for ever.
async fn repeat<F, E>(what: &str, period: Duration, stop: &CancellationToken, mut job: impl FnMut() -> F)
where
    F: Future<Output = Result<(), E>>,
    E: From<sqlx::Error> + Display,
{
    let deadline = period.max(ANSWER_DEADLINE);
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = answered(deadline, job()).await {
            tracing::warn!(%error, what, "housekeeping failed, and will be tried again");
        }
    }
}

impl Process {
    /// A process with a relay and nothing else. Nothing has to be reachable yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// When `DATABASE_URL` or `AMQP_URL` is no URL, or there is a [`Contradiction`](crate::Contradiction).
    pub fn new(name: &'static str, options: &Options) -> anyhow::Result<Self> {
        // Fails only if there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let route_places = options.route_places()?;
        let pool = pool(&options.database_url, &format!("{name} relay"), options.connections.relay)?;
        name_database(&pool);
        let measured = Mutex::new(vec![pools::measure("relay", &pool)]);
        let outbox = Outbox::new(pool, name);
        let broker = BrokerOptions::new(options.amqp_url.expose_secret(), name).context("AMQP_URL")?;
        let vhost = broker.vhost().to_owned();
        let management = options
            .rabbitmq_management_url
            .as_ref()
            .map(|url| Management { url: url.expose_secret().to_owned(), vhost });
        let broker = Broker::connect(broker);
        let core = Core {
            name,
            relay: Relay::new(&outbox, &broker),
            outbox,
            logs: (options.access_log_buffer > 0).then(|| Logs::new(&broker, name, options.access_log_buffer.into())),
            broker,
            consumers: Vec::new(),
            collectors: Vec::new(),
            management,
            migrations: Vec::new(),
            prepared: Arc::default(),
        };
        Ok(Self {
            core,
            server: None,
            parts: Vec::new(),
            at_end: Vec::new(),
            stop: CancellationToken::new(),
            measured,
            database_url: options.database_url.clone(),
            route_places,
            backlog: options.backlog.clone(),
            quiet: &[],
        })
    }

    /// The service's own tables.
    #[must_use]
    pub fn migrations(mut self, mut migrations: Migrator) -> Self {
        // While a newer version is deployed, or taken back, this one starts on its tables.
        migrations.set_ignore_missing(true);
        self.core.migrations.push(migrations);
        self
    }

    /// Also keeps idempotency keys: their tables, and forgetting them when their time is over.
    ///
    /// # Errors
    /// When `DATABASE_URL` is no URL.
    pub fn idempotency(mut self) -> anyhow::Result<Self> {
        self = self.migrations(idempotency::migrations());
        let pool = self.pool("idempotency", 1)?;
        self.every("idempotency keys are forgotten", IDEMPOTENCY_PERIOD, move || {
            let pool = pool.clone();
            async move { idempotency::forget_expired(&pool).await }
        });
        Ok(self)
    }

    /// The connection to the broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.core.broker
    }

    /// Cancelled when the process is to stop. What it answers for long, such as a stream of events, ends with it.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Connections to the service's database for one purpose, so that a rush in one place does not starve the others. Never share one
    /// pool between routes and the rest: the runtime of an HTTP worker takes its connections with it when it ends.
    ///
    /// # Errors
    /// When `DATABASE_URL` is no URL.
    pub fn pool(&self, purpose: &str, max_connections: u16) -> anyhow::Result<PgPool> {
        let pool = pool(&self.database_url, &format!("{} {purpose}", self.core.name), max_connections)?;
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).push(pools::measure(purpose, &pool));
        Ok(pool)
    }

    /// The outbox on connections of its own; see [`Process::pool`].
    ///
    /// # Errors
    /// When `DATABASE_URL` is no URL.
    pub fn outbox(&self, purpose: &str, max_connections: u16) -> anyhow::Result<Outbox> {
        Ok(self.core.outbox.on(self.pool(purpose, max_connections)?))
    }

    /// Runs a consumer, once the broker has what it needs.
    pub fn consume(&mut self, consumer: Consumer) {
        consumer.announce();
        self.core.consumers.push(consumer);
    }

    /// Runs a collector of lines of logs, once the broker has what it needs.
    pub fn collect(&mut self, collector: Collector) {
        collector.announce();
        self.core.collectors.push(collector);
    }

    /// Runs a worker.
    pub fn work<T: Task>(&mut self, worker: Worker<T>) {
        self.part(move |stop| async move { worker.run(stop).await.context(T::NAME) });
    }

    /// Does something now and then; what fails, or takes longer than its period, or half a minute if that is longer, is logged and tried again the next time. Every replica does it.
    pub fn every<F, E>(&mut self, what: &'static str, period: Duration, job: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: From<sqlx::Error> + Display + Send,
    {
        self.part(move |stop| async move {
            repeat(what, period, &stop, job).await;
            Ok(())
        });
    }

    /// Runs anything else until its token is cancelled. When it fails, the process ends. It starts when the database is up to date.
    pub fn part<F>(&mut self, part: impl FnOnce(CancellationToken) -> F + Send + 'static)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.parts.push(Box::new(move |stop| Box::pin(part(stop))));
    }

    /// Done at the very end, when everything else is over.
    pub fn at_end(&mut self, last: impl Future<Output = ()> + Send + 'static) {
        self.at_end.push(Box::pin(last));
    }

    /// Names the changes that announce nothing, such as `POST /sessions`: they are taken also while events do not leave.
    #[must_use]
    pub fn quiet(mut self, routes: &'static [&'static str]) -> Self {
        self.quiet = routes;
        self
    }

    /// Takes the port and will serve the routes. To the checks in `readiness` come the database's and messaging's. Every request that is let in
    /// becomes a line of the access log. Changes are not let in while the events of earlier ones do not leave.
    ///
    /// # Errors
    /// When the address cannot be listened on, or a [quiet](Process::quiet) route is not documented.
    pub fn serve(
        &mut self,
        mut options: HttpOptions,
        openapi: OpenApi,
        readiness: Readiness,
        routes: impl Fn(&mut ServiceConfig) + Send + Sync + 'static,
    ) -> anyhow::Result<()> {
        let readiness = self.readiness(readiness)?;
        options.route_places = Some(self.route_places);
        let (outbox, backlog) = (self.core.outbox.clone(), self.backlog.clone());
        let mut server = Server::new(self.core.name, options)
            .openapi(openapi)
            .readiness(readiness)
            .routes(routes)
            .hold_changes(move || backlog.is_exceeded_by(outbox.backlog()), self.quiet);
        if let Some(logs) = &self.core.logs {
            server = server.observe(access_log::observer(logs.clone()));
        }
        self.server = Some(server.bind().context("the address to listen on")?);
        Ok(())
    }

    /// Where HTTP is served; tells the port if any free one was asked for. An unspecified address if nothing is served.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.as_ref().map_or(([0, 0, 0, 0], 0).into(), BoundServer::addr)
    }

    /// Waits for the database and brings it up to date. [`Process::run`] does it, too; call it before only if a part must read the
    /// database to be put together.
    ///
    /// # Errors
    /// When a migration fails.
    pub async fn prepare(&self) -> anyhow::Result<()> {
        self.core.prepare().await
    }

    /// HTTP needs the database and nothing else: without the broker, events wait.
    fn readiness(&self, others: Readiness) -> anyhow::Result<Readiness> {
        let pool = self.pool("health", HEALTH_CONNECTIONS)?;
        let prepared = Arc::clone(&self.core.prepared);
        let (outbox, broker) = (self.core.outbox.clone(), self.core.broker.clone());
        Ok(others
            .required("database", move || {
                let (pool, prepared) = (pool.clone(), prepared.load(Ordering::Acquire));
                async move {
                    sqlx::query("select").execute(&pool).await.map_err(|error| error.to_string())?;
                    prepared.then_some(()).ok_or_else(|| "its migrations are not finished".to_owned())
                }
            })
            .reported("messaging", move || {
                let health = [broker.health(), outbox.health()].concat();
                async move { health.into_iter().map(|(part, state)| (part, state.map(drop))).collect() }
            }))
    }
}

impl Core {
    /// Waits for the database and brings it up to date; the second time it is.
    pub(crate) async fn prepare(&self) -> anyhow::Result<()> {
        if self.prepared.load(Ordering::Acquire) {
            return Ok(());
        }
        self.outbox.migrate().await?;
        for migrations in &self.migrations {
            messaging::pool::migrate(self.outbox.pool(), migrations).await.context("migrations")?;
        }
        self.prepared.store(true, Ordering::Release);
        Ok(())
    }
}

/// Statements in traces say where they went.
fn name_database(pool: &PgPool) {
    let options = pool.connect_options();
    telemetry::database(telemetry::Database {
        name: options.get_database().unwrap_or(options.get_username()).to_owned(),
        host: options.get_host().to_owned(),
        port: options.get_port(),
    });
}

fn pool(url: &SecretString, name: &str, max_connections: u16) -> anyhow::Result<PgPool> {
    messaging::pool::connect_lazy(url.expose_secret(), name, max_connections.into()).context("DATABASE_URL")
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_done_now_and_then_is_given_up_when_nobody_answers_and_done_again() {
        let (stop, tries) = (CancellationToken::new(), Cell::new(0));
        let job = async || {
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                return pending().await;
            }
            stop.cancel();
            Ok::<_, sqlx::Error>(())
        };
        // By the paused clock.
        tokio::time::timeout(Duration::from_secs(3600), repeat("a test", Duration::from_secs(60), &stop, job))
            .await
            .unwrap();
        assert_eq!(tries.get(), 2);
    }
}
