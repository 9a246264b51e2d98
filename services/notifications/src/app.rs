//! The composition root: database, broker, HTTP, consumer, sender, relay. It starts them, drains them, and has no logic of its own.

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use messaging::{
    Broker, BrokerOptions, Consumer, Outbox, Relay, RetryPolicy, Worker,
    topology::{Management, Service},
};
use secrecy::ExposeSecret as _;
use sqlx::PgPool;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use web::Readiness;

use crate::{
    Config, events, http,
    mail::Composer,
    metrics,
    notification::Notification,
    send_email::SendEmail,
    smtp::{self, Smtp},
    smtp_server::SmtpServer,
    state::State,
};

/// The service's name: its queue, its broker user, and the head of the events it announces.
pub(crate) const SERVICE: &str = "notifications";
/// How often tokens that ran out are looked for.
const ERASE_PERIOD: Duration = Duration::from_secs(30);
/// How long a look at the database may take for `/readyz`.
const READY_DEADLINE: Duration = Duration::from_secs(2);
/// How long everything in hand may take to finish after `stop`.
const GRACE: Duration = Duration::from_secs(30);
/// How long a difference in the topology must last to count: RabbitMQ's management API shows the policy of a queue that was
/// just imported only with its next statistics, up to ten seconds later.
const TOPOLOGY_SETTLES: Duration = Duration::from_secs(12);
/// The longest wait between two attempts at one mail.
const MAIL_RETRY_MAX: Duration = Duration::from_secs(3600);

/// One process of the service, put together and listening, but not yet working.
pub struct App {
    server: web::BoundServer,
    work: Work,
    broker: Broker,
    smtp: Smtp,
}

/// What runs behind the API.
struct Work {
    outbox: Outbox,
    relay: Relay,
    broker: Broker,
    consumer: Consumer,
    worker: Worker<SendEmail>,
    management: Option<Management>,
}

impl App {
    /// Puts everything together and binds the port. Nothing has to be reachable yet: database, broker and mail server are
    /// waited for in [`App::run`]. Needs a tokio runtime.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        metrics::describe();
        let mail = &config.mail;
        let url = config.database_url.expose_secret();
        // Each has its own, so that a rush in one place does not starve the others.
        let pool = |name, max| messaging::pool::connect_lazy(url, name, max).context("DATABASE_URL");
        let (requests, letters) = (pool("notifications http", 8)?, pool("notifications worker", 6)?);
        let outbox = Outbox::new(pool("notifications relay", 6)?, SERVICE);
        let broker = Broker::connect(BrokerOptions::new(config.amqp_url.expose_secret(), SERVICE));
        let server = SmtpServer::parse(&mail.smtp_url)?;
        let smtp = Smtp::new(server, mail.smtp_timeout_seconds);
        let composer = Arc::new(Composer::new(mail.mail_from.clone(), &mail.shop_name, &mail.users_url));
        let consumer = events::consumer(&broker, &outbox.on(pool("notifications consumer", 6)?), &composer);
        let sender = SendEmail { pool: letters.clone(), composer, smtp: smtp.clone() };
        let retry = RetryPolicy::exponential(mail.mail_retry_seconds)
            .max_delay(MAIL_RETRY_MAX)
            .max_attempts(mail.mail_max_attempts);
        let worker = Worker::new(&outbox.on(letters), sender)
            .concurrency(usize::from(mail.mail_concurrency))
            .deadline(mail.smtp_timeout_seconds + smtp::AROUND_A_MAIL)
            .retry(retry);
        let management = config.rabbitmq_management_url.as_ref().map(|url| Management {
            url: url.expose_secret().to_owned(),
            vhost: vhost(config.amqp_url.expose_secret()),
        });
        let verifier = web::auth::Verifier::from_jwks_url(&config.jwks_url);
        let server = web::Server::new(SERVICE, config.http)
            .openapi(http::openapi())
            .readiness(readiness(&requests, &outbox, &broker, &smtp))
            .routes(http::routes(verifier, outbox.on(requests)))
            .bind()
            .context("the address to listen on")?;
        let relay = Relay::new(&outbox, &broker);
        let work = Work { outbox, relay, broker: broker.clone(), consumer, worker, management };
        Ok(Self { server, work, broker, smtp })
    }

    /// Where HTTP is served; tells the port if any free one was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Works until `stop`, then finishes what is in hand. An error of one part stops the others in the same orderly way.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let stop = stop.child_token();
        let Self { server, work, broker, smtp } = self;
        let both = async {
            let serve = Box::pin(async { Ok(server.run(stop.clone()).await?) });
            let (served, worked) = tokio::join!(guard(&stop, serve), guard(&stop, Box::pin(work.run(&stop))));
            worked.and(served)
        };
        let too_long = async {
            stop.cancelled().await;
            sleep(GRACE).await;
        };
        let result = tokio::select! {
            result = both => result,
            () = too_long => Err(anyhow::anyhow!("not everything was finished in time; the next process does")),
        };
        smtp.close().await;
        broker.close().await;
        result
    }
}

impl Work {
    async fn run(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        let Some(prepared) = stop.run_until_cancelled(prepare(&self.outbox)).await else {
            return Ok(());
        };
        prepared?;
        // The relay outlives the others: what they announce while they finish is sent before the process ends.
        let finished = CancellationToken::new();
        let relay = async { Ok(self.relay.run(finished.clone()).await?) };
        let others = async {
            let consume = consume(&self.broker, &self.consumer, self.management.as_ref(), stop);
            let send = async { Ok(self.worker.run(stop.clone()).await?) };
            let (consumed, sent, ()) = tokio::join!(
                guard(stop, Box::pin(consume)),
                guard(stop, Box::pin(send)),
                erase_expired(self.outbox.pool(), stop),
            );
            finished.cancel();
            consumed.and(sent)
        };
        let (relayed, others) = tokio::join!(guard(stop, Box::pin(relay)), others);
        others.and(relayed)
    }
}

/// What this service's handlers need of the broker. Neither broker nor database is asked: the consumer that is put together
/// for it is never run. Needs a tokio runtime.
pub fn topology() -> anyhow::Result<Service> {
    let nowhere = messaging::pool::connect_lazy("postgres://127.0.0.1:1/none", "topology", 1)?;
    let broker = Broker::connect(BrokerOptions::new("amqp://127.0.0.1:1", SERVICE));
    let composer = Composer::new("nobody@localhost".parse()?, "", "");
    Ok(events::consumer(&broker, &Outbox::new(nowhere, SERVICE), &Arc::new(composer)).service())
}

/// One part of the service. On the heap: nested into each other they need too much stack where nothing is optimized.
type Part<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'a>>;

/// Runs a part; when it fails, the others are told to stop.
async fn guard(stop: &CancellationToken, part: Part<'_>) -> anyhow::Result<()> {
    let result = part.await;
    if result.is_err() {
        stop.cancel();
    }
    result
}

/// Brings both schemas up to date; waits for the database.
async fn prepare(outbox: &Outbox) -> anyhow::Result<()> {
    outbox.migrate().await?;
    sqlx::migrate!().run(outbox.pool()).await.context("migrations")
}

/// Consumes once the broker has what the handlers need. A broker that is away is waited for; one that differs is a mistake
/// that no waiting repairs.
async fn consume(
    broker: &Broker,
    consumer: &Consumer,
    management: Option<&Management>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let needed = consumer.service();
    let mut settled = None;
    loop {
        let Some(verified) = stop.run_until_cancelled(broker.verify(&needed, management)).await else {
            return Ok(());
        };
        match verified {
            Ok(()) => break,
            Err(messaging::Error::Topology(difference)) => {
                if Instant::now() >= *settled.get_or_insert_with(|| Instant::now() + TOPOLOGY_SETTLES) {
                    return Err(messaging::Error::Topology(difference).into());
                }
                tracing::info!(difference, "the broker's topology is not right yet");
            }
            Err(error) => tracing::warn!(%error, "the broker's topology could not be looked at yet"),
        }
        stop.run_until_cancelled(sleep(Duration::from_secs(1))).await;
    }
    Ok(consumer.run(stop.clone()).await?)
}

/// Erases tokens that ran out, also of letters that are stuck. Every replica does; the second one finds nothing.
async fn erase_expired(pool: &PgPool, stop: &CancellationToken) {
    let mut period = interval(ERASE_PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(period.tick()).await.is_some() {
        let erased = async { Notification::erase_expired(&mut *pool.acquire().await?).await };
        match erased.await {
            Ok(expired) => expired.into_iter().for_each(|template| metrics::became(template, State::Expired)),
            Err(error) => tracing::warn!(%error, "tokens that ran out could not be erased yet"),
        }
    }
}

fn readiness(pool: &PgPool, outbox: &Outbox, broker: &Broker, smtp: &Smtp) -> Readiness {
    let (pool, outbox, broker, smtp) = (pool.clone(), outbox.clone(), broker.clone(), smtp.clone());
    Readiness::new()
        .required("database", move || {
            let pool = pool.clone();
            async move {
                // Also says no until the migrations are done.
                let look = sqlx::query!("select from notifications limit 1").fetch_optional(&pool);
                match timeout(READY_DEADLINE, look).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("no answer in time".into()),
                }
            }
        })
        .reported("messaging", move || {
            let health = [broker.health(), outbox.health()].concat();
            async move { health.into_iter().map(|(part, state)| (part, state.map(drop))).collect() }
        })
        .reported("smtp", move || {
            let smtp = smtp.clone();
            async move { vec![(String::new(), smtp.health().await)] }
        })
}

/// The virtual host that an AMQP URL names; `/` if none.
fn vhost(amqp_url: &str) -> String {
    let url = url::Url::parse(amqp_url);
    let path = url.as_ref().map_or("", |url| url.path().trim_start_matches('/'));
    if path.is_empty() {
        "/".into()
    } else {
        percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::vhost;

    #[test]
    fn the_virtual_host_is_what_the_url_says() {
        for (url, expected) in [
            ("amqp://u:p@mq", "/"),
            ("amqp://u:p@mq/", "/"),
            ("amqp://u:p@mq/%2f", "/"),
            ("amqp://u:p@mq/shop", "shop"),
            ("amqp://u:p@mq/a%20b?heartbeat=10", "a b"),
        ] {
            assert_eq!(vhost(url), expected, "{url}");
        }
    }
}
