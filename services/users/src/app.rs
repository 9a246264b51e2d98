//! The composition root: puts the parts together. It has no logic of its own.

use std::{future::Future, net::SocketAddr};

use actix_web::web::Data;
use anyhow::Context as _;
use events::users::v1::{UserRegistered, UserVerified};
use messaging::{Outbox, OutboxTransaction, topology::Service};
use process::Process;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tracing::info;
use web::Readiness;

use crate::{
    config::Config,
    email::Email,
    housekeeping,
    http::{self, State},
    metrics,
    password::{Password, Passwords},
    session,
    signing_key::SigningKeys,
    user::{self, Name, Registration},
};

/// The name of this service: its broker user, and the head of the types that it publishes.
pub const NAME: &str = "users";

/// Housekeeping, and the first look at the signing keys.
const BACKGROUND_CONNECTIONS: u16 = 2;

/// The service, put together and not yet running.
pub struct App {
    process: Process,
    passwords: Passwords,
}

/// What this service needs of the broker. It hears nothing, so that is only the right to publish.
pub fn topology() -> Service {
    Service { name: NAME.to_owned(), subscriptions: Vec::new() }
}

impl App {
    /// Waits for the database, brings it up to date, and takes the port. The broker may come later.
    pub async fn build(config: Config) -> anyhow::Result<Self> {
        metrics::describe();
        let mut process = Process::new(NAME, &config.process)?.migrations(sqlx::migrate!()).quiet(&http::QUIET);
        process.prepare().await?;
        let background = process.outbox("background", BACKGROUND_CONNECTIONS)?;
        let requests = process.outbox("http", config.process.connections.http)?;

        let passwords = Passwords::new()?;
        if let (Some(email), Some(password)) = (&config.operator_email, &config.operator_password) {
            first_operator(&background, &passwords, email, password).await?;
        }
        let keys = SigningKeys::open(background.clone(), config.signing_key_age()).await?;
        let state = State {
            outbox: requests,
            passwords: passwords.clone(),
            keys: keys.clone(),
            mails_per_network: config.mails_per_network,
        };
        let state = Data::new(state);
        process.every("what has ended is forgotten", housekeeping::PERIOD, move || {
            let (pool, keys) = (background.pool().clone(), keys.clone());
            async move { housekeeping::once(&pool, &keys).await }
        });
        let routes = move |config: &mut actix_web::web::ServiceConfig| http::routes(config, &state);
        process.serve(config.process.http, http::document(), Readiness::new(), routes)?;
        Ok(Self { process, passwords })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.process.addr()
    }

    /// Its password hasher, which counts its work.
    pub fn passwords(&self) -> Passwords {
        self.passwords.clone()
    }

    /// The process to run.
    pub fn into_process(self) -> Process {
        self.process
    }

    /// See [`Process::run`].
    pub fn run(self, stop: CancellationToken) -> impl Future<Output = anyhow::Result<()>> + Send {
        self.process.run(stop)
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
