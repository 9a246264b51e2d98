//! The shop around the service: its database, a virtual host with the topology, a mail server, and the users service, whose part
//! the test plays with the same outbox and relay that the real one has.

use std::{
    net::SocketAddr,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser as _;
use dev::mailbox::{Mail, Mailbox, Script};
use events::{
    notifications::v1::{EmailFailed, EmailSent},
    users::v1::{EmailVerificationRequested, UserRegistered},
};
use messaging::{Consumer, Event, Handler, HandlerError, OutboxTransaction, Relay, Replay};
use notifications::{App, Config};
use prost_types::Timestamp;
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use testkit::{Database, Stage, eventually};
use tokio::{
    process::{Child, Command},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::keys::{self, As};

/// How long a mail may take that must come. It bounds a hang and measures nothing.
const PATIENCE: Duration = Duration::from_secs(30);
const ANY_PORT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// The shop.
pub struct Shop {
    /// The users service's side: its database, outbox and broker connection.
    pub stage: Stage,
    /// The notifications service's database.
    pub database: Database,
    mailbox: Option<Mailbox>,
    smtp: SocketAddr,
    arguments: Vec<String>,
    service: Option<Running>,
    announced: Announced,
    stop: CancellationToken,
    users: JoinSet<()>,
    leftovers: bool,
}

struct Running {
    base: String,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

/// What the service announced: (type, notification id, user id, template, reason).
#[derive(Clone, Default)]
struct Announced(Arc<Mutex<Vec<[String; 5]>>>);

impl Handler<EmailSent> for Announced {
    async fn handle(&self, event: EmailSent, _: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let fact = ["EmailSent".into(), event.notification_id, event.user_id, event.template, String::new()];
        self.0.lock().expect("announced").push(fact);
        Ok(())
    }
}

impl Handler<EmailFailed> for Announced {
    async fn handle(&self, event: EmailFailed, _: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let fact = ["EmailFailed".into(), event.notification_id, event.user_id, event.template, event.reason];
        self.0.lock().expect("announced").push(fact);
        Ok(())
    }
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub json: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }
}

impl Shop {
    /// Everything running, with settings that do not make tests wait.
    pub async fn open() -> Self {
        Self::open_with(&[]).await
    }

    /// As [`Shop::open`], with other settings of the service.
    pub async fn open_with(settings: &[&str]) -> Self {
        telemetry::init_for_tests();
        let announced = Announced::default();
        let notifications = notifications::topology().expect("the topology");
        let witness = |stage: &Stage| {
            Consumer::new("witness", &stage.broker, &stage.outbox)
                .on::<EmailSent>(announced.clone())
                .on::<EmailFailed>(announced.clone())
        };
        let mut users_service = notifications.clone();
        users_service.name = "users".into();
        users_service.subscriptions.iter_mut().for_each(|subscription| {
            subscription.consumer = "witness".into();
            subscription.types = [EmailSent::TYPE, EmailFailed::TYPE].map(str::to_owned).into();
        });
        let stage = Stage::new("users", &[users_service, notifications]).await;
        let database = Database::create().await;
        let mailbox = Mailbox::start(ANY_PORT, ANY_PORT).await.expect("a port");

        let (stop, mut users) = (CancellationToken::new(), JoinSet::new());
        let jwks_url = keys::publish(&mut users).await;
        let (relay, witness) = (Relay::new(&stage.outbox, &stage.broker), witness(&stage));
        let (stop_relay, stop_witness) = (stop.clone(), stop.clone());
        users.spawn(async move { relay.run(stop_relay).await.expect("the users' relay") });
        users.spawn(async move { witness.run(stop_witness).await.expect("the witness") });

        let smtp = mailbox.smtp_addr();
        let mut arguments = vec![
            "notifications".into(),
            format!("--database-url={}", database.url),
            format!("--amqp-url={}", stage.vhost.url_for("notifications")),
            format!("--jwks-url={jwks_url}"),
            format!("--smtp-url=smtp://{smtp}"),
            "--listen=127.0.0.1:0".into(),
            "--shop-name=Bits & Bobs".into(),
            "--mail-from=post@bits.example".into(),
            "--users-url=https://bits.example".into(),
            "--mail-retry-seconds=0.05".into(),
        ];
        for setting in settings {
            let name = setting.split_inclusive('=').next().expect("a setting");
            arguments.retain(|argument: &String| !argument.starts_with(name));
            arguments.push((*setting).to_owned());
        }
        let mut shop = Self {
            stage,
            database,
            mailbox: Some(mailbox),
            smtp,
            arguments,
            service: None,
            announced,
            stop,
            users,
            leftovers: false,
        };
        shop.start().await;
        shop
    }

    /// Starts the service and waits until it can answer.
    pub async fn start(&mut self) {
        let app = App::build(self.config(&[])).expect("the service is put together");
        let base = format!("http://{}", app.addr());
        let stop = CancellationToken::new();
        let stop_service = stop.clone();
        #[expect(clippy::disallowed_methods, reason = "joined by stop_service")]
        let task = tokio::spawn(async move {
            // Also said here, because a test that waits for a service that is gone only sees that nothing comes.
            app.run(stop_service).await.inspect_err(|error| eprintln!("the service ended: {error:#}"))
        });
        self.service = Some(Running { base, stop, task });
        eventually("the service is ready", async || self.get("/readyz", None).await.status == StatusCode::OK).await;
        // The first token makes it fetch the keys.
        let known = async || self.get("/notifications", Some(As::Operator)).await.status == StatusCode::OK;
        eventually("the service knows the keys", known).await;
    }

    /// The service as a process of its own, as it runs in production.
    pub fn process(&self) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_notifications"));
        command.args(&self.arguments[1..]).env_clear().stdout(Stdio::null()).kill_on_drop(true);
        command.spawn().expect("the program starts")
    }

    /// The service's settings, and more.
    pub fn config(&self, more: &[String]) -> Config {
        Config::try_parse_from(self.arguments.iter().chain(more)).expect("the settings")
    }

    /// Stops the service in order and returns what it ended with.
    pub async fn stop_service(&mut self) -> anyhow::Result<()> {
        let service = self.service.take().expect("the service runs");
        service.stop.cancel();
        service.task.await.expect("the service does not panic")
    }

    /// Asks the service to stop, and waits until it takes no requests any more. What it has in hand goes on.
    pub async fn begin_to_stop(&self) {
        let service = self.service.as_ref().expect("the service runs");
        service.stop.cancel();
        let closed = async || reqwest::Client::new().get(format!("{}/livez", service.base)).send().await.is_err();
        eventually("no requests are taken", closed).await;
    }

    /// Stops everything in order. Fails the test when anything is left that should not be.
    pub async fn close(mut self) {
        let idle = "every event is delivered, every letter is done";
        if !self.leftovers {
            eventually(idle, async || self.count("select count(*) from messaging.job").await == 0).await;
            eventually(idle, async || self.count("select count(*) from messaging.outbox").await == 0).await;
            assert_eq!(self.count("select count(*) from messaging.parked").await, 0, "something was parked");
        }
        self.stop_service().await.expect("the service stops in order");
        self.stop.cancel();
        self.users.shutdown().await;
    }

    /// This test leaves letters that are not done, on purpose.
    pub fn expect_leftovers(&mut self) {
        self.leftovers = true;
        self.stage.expect_leftovers();
    }

    /// The mail server stops: who connects is refused.
    pub fn mail_server_down(&mut self) {
        self.mailbox = None;
    }

    /// The mail server is back, on the same port, with an empty mailbox.
    pub async fn mail_server_up(&mut self) {
        self.mailbox = Some(Mailbox::start(self.smtp, ANY_PORT).await.expect("the same port"));
    }

    /// What the mail server does differently.
    pub fn script(&self) -> &Script {
        self.mailbox().script()
    }

    /// Every mail that arrived.
    pub fn mails(&self) -> Vec<Arc<Mail>> {
        self.mailbox().mails()
    }

    fn mailbox(&self) -> &Mailbox {
        self.mailbox.as_ref().expect("the mail server is up")
    }

    /// The first `count` mails to an address.
    pub async fn mails_to(&self, address: &str, count: usize) -> Vec<Arc<Mail>> {
        let mails = self.mailbox().mails_to(address, count, PATIENCE).await;
        assert!(mails.len() >= count, "{} of {count} mails to {address} arrived", mails.len());
        mails
    }

    /// The users service announces something. Returns the message id.
    pub async fn publish<E: Event>(&self, event: &E) -> Uuid {
        let mut tx = self.stage.outbox.begin().await.expect("the users' database");
        let message_id = tx.publish(event).expect("an event");
        tx.commit().await.expect("a commit");
        message_id
    }

    /// Everything that the users service ever said is delivered to the service once more.
    pub async fn replay_users(&self) {
        let settled = "the users' events are in their journal";
        eventually(settled, async || self.stage.count("select count(*) from messaging.outbox").await == 0).await;
        let journal = u64::try_from(self.stage.count("select count(*) from messaging.journal").await).expect("a count");
        let replay = Replay::to("notifications");
        assert_eq!(self.stage.outbox.replay(&self.stage.broker, &replay).await.expect("a replay"), journal);
    }

    /// Somebody registers: both events of a registration, in one transaction.
    pub async fn register(&self, email: &str, token: &str) -> Uuid {
        let user_id = Uuid::now_v7();
        let mut tx = self.stage.outbox.begin().await.expect("the users' database");
        tx.publish(&UserRegistered { user_id: user_id.to_string(), email: email.into(), name: "Ada".into() })
            .expect("an event");
        tx.publish(&ask_for_proof(user_id, token, Utc::now() + TimeDelta::days(1))).expect("an event");
        tx.commit().await.expect("a commit");
        user_id
    }

    /// The state of a person's only notification with this template, once it is `state`.
    pub async fn notification(&self, user_id: Uuid, template: &str, state: &str) -> Value {
        let path = format!("/notifications?user_id={user_id}&template={template}");
        let mut last = Value::Null;
        eventually(&format!("{template} for {user_id} is {state}"), async || {
            last = self.get(&path, Some(As::Operator)).await.json;
            last[0]["state"] == state
        })
        .await;
        assert_eq!(last.as_array().map(Vec::len), Some(1), "{last}");
        last[0].clone()
    }

    /// What the service announced about a notification, once there is something.
    pub async fn announced(&self, notification: &Value) -> Vec<[String; 5]> {
        let mut found = Vec::new();
        eventually("the outcome is announced", async || {
            let all = self.announced.0.lock().expect("announced");
            found = all.iter().filter(|fact| notification["id"] == *fact[1]).cloned().collect();
            !found.is_empty()
        })
        .await;
        found
    }

    /// Asks the API.
    pub async fn get(&self, path: &str, who: Option<As>) -> Answer {
        self.ask(Method::GET, path, who.map(keys::token).as_deref(), &[]).await
    }

    /// Asks the API for a change.
    pub async fn post(&self, path: &str, who: Option<As>) -> Answer {
        self.ask(Method::POST, path, who.map(keys::token).as_deref(), &[]).await
    }

    /// Asks the API with a token and headers of one's own.
    pub async fn ask(&self, method: Method, path: &str, token: Option<&str>, headers: &[(&str, &str)]) -> Answer {
        let service = self.service.as_ref().expect("the service runs");
        assert!(!service.task.is_finished(), "the service has ended by itself; see its logs");
        let mut request = reqwest::Client::new().request(method, format!("{}{path}", service.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("the service answers");
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.expect("a body");
        let json = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into());
        Answer { status, headers, json }
    }

    /// The service's database, to look into.
    pub fn db(&self) -> &PgPool {
        &self.database.pool
    }

    /// The number that a query on the service's database returns.
    pub async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(self.db()).await.expect("the query runs")
    }
}

/// The event that asks for a proof of the address.
pub fn ask_for_proof(user_id: Uuid, token: &str, expires_at: DateTime<Utc>) -> EmailVerificationRequested {
    EmailVerificationRequested {
        user_id: user_id.to_string(),
        token: token.into(),
        expires_at: Some(timestamp(expires_at)),
    }
}

/// As protobuf writes it.
pub fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).expect("below 10^9") }
}
