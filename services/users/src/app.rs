//! The composition root: puts the parts together, runs them, and drains them in order.

use actix_web::web::Data;
use anyhow::Context as _;
use events::users::v1::{UserRegistered, UserVerified};
use messaging::{Broker, BrokerOptions, Check, Outbox, OutboxTransaction, Relay, pool, topology::Service};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::PgPool;
use std::{future::Future, net::SocketAddr, time::Duration};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use web::{BoundServer, Readiness, Server};

use crate::{
    config::Config,
    email::Email,
    housekeeping,
    http::{self, State},
    password::{Password, Passwords},
    session,
    signing_key::SigningKeys,
    user::{self, Name, Registration},
};

/// The name of this service: its broker user, and the head of the types that it publishes.
pub const NAME: &str = "users";

/// The relay's own connections: it must not wait behind requests, nor they behind it.
const RELAY_CONNECTIONS: u32 = 4;

/// Between two tries to verify the topology, when the broker breaks off in the middle.
const VERIFY_AGAIN: Duration = Duration::from_secs(5);

/// The service, put together and not yet running.
pub struct App {
    server: BoundServer,
    relay: Relay,
    broker: Broker,
    pool: PgPool,
    keys: SigningKeys,
    passwords: Passwords,
}

/// What this service needs of the broker. It hears nothing, so that is only the right to publish.
pub fn topology() -> Service {
    Service { name: NAME.to_owned(), subscriptions: Vec::new() }
}

impl App {
    /// Waits for the database, brings it up to date, and takes the port. The broker may come later.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        let database = config.database_url.expose_secret();
        let pool = pool::connect_lazy(database, NAME, config.database_connections).context("DATABASE_URL")?;
        let relay_pool = pool::connect_lazy(database, "users relay", RELAY_CONNECTIONS).context("DATABASE_URL")?;
        let outbox = Outbox::new(pool.clone(), NAME);
        outbox.migrate().await?;
        sqlx::migrate!().run(&pool).await.context("migrations")?;

        let passwords = Passwords::new()?;
        let keys = SigningKeys::open(outbox.clone(), config.signing_key_age()).await?;
        if let (Some(email), Some(password)) = (&config.operator_email, &config.operator_password) {
            first_operator(&outbox, &passwords, email, password).await?;
        }
        let broker = Broker::connect(BrokerOptions::new(config.amqp_url.expose_secret(), NAME));
        let relay = Relay::new(&outbox.on(relay_pool), &broker);

        let state = Data::new(State { outbox: outbox.clone(), passwords: passwords.clone(), keys: keys.clone() });
        let server = Server::new(NAME, config.http)
            .openapi(http::document())
            .readiness(readiness(&outbox, &broker))
            .routes(move |config| http::routes(config, &state))
            .bind()?;
        Ok(Self { server, relay, broker, pool, keys, passwords })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Its password hasher, which counts its work.
    pub fn passwords(&self) -> Passwords {
        self.passwords.clone()
    }

    /// Runs until it is stopped or a part fails. Then it takes no more requests, finishes those that it has, and publishes what they
    /// announced, as far as the broker takes it.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { server, relay, broker, pool, keys, .. } = self;
        let stop = stop.child_token();
        let relay_stop = CancellationToken::new();
        let serve = async {
            let served = server.run(stop.clone()).await;
            relay_stop.cancel();
            served.context("HTTP")
        };
        let publish = async { relay.run(relay_stop.clone()).await.context("relay") };
        let verify = async { verify_topology(&broker, &stop).await.context("topology") };
        let (served, published, verified, ()) = tokio::join!(
            or_stop(&stop, serve),
            or_stop(&stop, publish),
            or_stop(&stop, verify),
            housekeeping::run(pool.clone(), keys, stop.clone()),
        );
        broker.close().await;
        pool.close().await;
        served.and(published).and(verified)
    }
}

/// A part that fails takes the others down with it, in order.
async fn or_stop(stop: &CancellationToken, part: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let ended = part.await;
    if ended.is_err() {
        stop.cancel();
    }
    ended
}

/// HTTP needs the database and nothing else: without the broker, events wait.
fn readiness(outbox: &Outbox, broker: &Broker) -> Readiness {
    let pool = outbox.pool().clone();
    let (outbox, broker) = (outbox.clone(), broker.clone());
    Readiness::new()
        .required("database", move || {
            let pool = pool.clone();
            async move { sqlx::query("select 1").execute(&pool).await.map(drop).map_err(|error| error.to_string()) }
        })
        .reported("messaging", move || {
            let checks: Vec<Check> = [outbox.health(), broker.health()].concat();
            async move { checks.into_iter().map(|(part, state)| (part, state.map(drop))).collect() }
        })
}

/// Looks, as soon as the broker is there, whether what this service needs of it exists. What differs ends the service: to go on would only
/// look as if all were well.
async fn verify_topology(broker: &Broker, stop: &CancellationToken) -> Result<(), messaging::Error> {
    loop {
        match stop.run_until_cancelled(broker.verify(&topology(), None)).await {
            None | Some(Ok(())) => return Ok(()),
            Some(Err(error @ messaging::Error::Topology(_))) => return Err(error),
            Some(Err(error)) => warn!(%error, "the topology could not be verified yet"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(VERIFY_AGAIN)).await.is_none() {
            return Ok(());
        }
    }
}

/// Makes the first operator, unless there is one; any number of starts make one.
async fn first_operator(
    outbox: &Outbox,
    passwords: &Passwords,
    email: &str,
    password: &SecretString,
) -> anyhow::Result<()> {
    if user::has_operator(&mut *outbox.pool().acquire().await?).await? {
        return Ok(());
    }
    let name = Name::parse("Operator").map_err(anyhow::Error::msg)?;
    let email = Email::parse(email).map_err(anyhow::Error::msg).context("OPERATOR_EMAIL")?;
    let password =
        Password::choose(password, Some(&email), "").map_err(anyhow::Error::msg).context("OPERATOR_PASSWORD")?;
    let password_hash = passwords.hash(password).await?;
    let mut tx = outbox.begin().await?;
    let Some(made) = user::create_first_operator(&mut tx, &email, &name, &password_hash).await? else {
        return Ok(());
    };
    announce_operator(&mut tx, made, &email, &name).await?;
    tx.commit().await?;
    info!("made the first operator");
    Ok(())
}

async fn announce_operator(
    tx: &mut OutboxTransaction,
    made: Registration,
    email: &Email,
    name: &Name,
) -> anyhow::Result<()> {
    let (Registration::Created(id) | Registration::Known(id)) = made;
    let user_id = id.to_string();
    if made == Registration::Created(id) {
        let (email, name) = (email.as_str().to_owned(), name.as_str().to_owned());
        tx.publish(&UserRegistered { user_id: user_id.clone(), email, name })?;
    }
    session::end_all(tx, id).await?;
    tx.publish(&UserVerified { user_id })?;
    Ok(())
}
