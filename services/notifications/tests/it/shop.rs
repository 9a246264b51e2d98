//! The shop around the service: its database, a virtual host with the topology, a mail server, and the other services, whose
//! parts the test plays.

use std::{net::SocketAddr, process::Stdio, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser as _;
use dev::mailbox::{Mail, Mailbox, Script};
use events::{
    notifications::v1::{EmailFailed, EmailSent},
    users::v1::{EmailVerificationRequested, UserRegistered},
};
use messaging::{Event, Replay, topology::Service};
use notifications::Config;
use prost_types::Timestamp;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use testkit::{Actor, Answer, Client, Database, Method, Playing, StatusCode, Vhost, eventually};
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use web::testing::{As, Issuer};

/// How long a mail may take that must come. It bounds a hang and measures nothing.
const PATIENCE: Duration = Duration::from_secs(30);
const ANY_PORT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
/// Services that announce something and hear nothing of this one.
const OTHERS: [&str; 3] = ["orders", "payments", "inventory"];

/// The shop.
pub struct Shop {
    /// The users service's part.
    pub users: Playing,
    /// Where all services meet.
    pub vhost: Vhost,
    /// Signs access tokens.
    pub issuer: Issuer,
    /// The notifications service's database.
    pub database: Database,
    mailbox: Option<Mailbox>,
    smtp: SocketAddr,
    arguments: Vec<String>,
    service: Option<Running>,
    leftovers: bool,
}

struct Running {
    client: Client,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    config: Config,
}

impl Shop {
    /// Everything running, with settings that do not make tests wait.
    pub async fn open() -> Self {
        Self::open_with(&[]).await
    }

    /// As [`Shop::open`], with other settings of the service.
    pub async fn open_with(settings: &[&str]) -> Self {
        telemetry::init_for_tests();
        let users = Actor::new("users").hears::<EmailSent>().hears::<EmailFailed>();
        let mut services = vec![users.service(), notifications::topology().await.expect("the topology")];
        services.extend(OTHERS.map(|name| Service { name: name.into(), subscriptions: Vec::new() }));
        let vhost = Vhost::create(&services).await;
        let (users, database) = (users.enter(&vhost).await, Database::create().await);
        let issuer = Issuer::start().await;
        let mailbox = Mailbox::start(ANY_PORT, ANY_PORT).await.expect("a port");

        let smtp = mailbox.smtp_addr();
        let mut arguments = vec![
            "notifications".into(),
            format!("--database-url={}", database.url),
            format!("--amqp-url={}", vhost.url_for("notifications")),
            format!("--jwks-url={}", issuer.jwks_url()),
            format!("--smtp-url=smtp://{smtp}"),
            "--listen=127.0.0.1:0".into(),
            "--shop-name=Bits & Bobs".into(),
            "--mail-from=post@bits.example".into(),
            "--operations-email=Operations <stock@bits.example>".into(),
            "--users-url=https://bits.example".into(),
            "--mail-retry-seconds=0.05".into(),
        ];
        for setting in settings {
            let name = setting.split_inclusive('=').next().expect("a setting");
            arguments.retain(|argument: &String| !argument.starts_with(name));
            arguments.push((*setting).to_owned());
        }
        let mailbox = Some(mailbox);
        let mut shop =
            Self { users, vhost, issuer, database, mailbox, smtp, arguments, service: None, leftovers: false };
        shop.start().await;
        shop
    }

    /// Another service enters: `orders`, `payments` or `inventory`.
    pub async fn enter(&self, name: &'static str) -> Playing {
        assert!(OTHERS.contains(&name), "{name} has no part here");
        Actor::new(name).enter(&self.vhost).await
    }

    /// Starts the service and waits until it can answer.
    pub async fn start(&mut self) {
        let process = notifications::build(self.config(&[])).expect("the service is put together");
        let client = Client::new(format!("http://{}", process.addr()));
        let stop = CancellationToken::new();
        let stop_service = stop.clone();
        #[expect(clippy::disallowed_methods, reason = "joined by stop_service")]
        let task = tokio::spawn(async move {
            // Also said here, because a test that waits for a service that is gone only sees that nothing comes.
            process.run(stop_service).await.inspect_err(|error| eprintln!("the service ended: {error:#}"))
        });
        self.service = Some(Running { client, stop, task });
        eventually("the service is ready", async || self.get("/readyz", None).await.status == StatusCode::OK).await;
        // The first token makes it fetch the keys.
        let known = async || self.get("/notifications", Some(As::Operator)).await.status == StatusCode::OK;
        eventually("the service knows the keys", known).await;
    }

    /// The service as a process of its own, as it runs in production.
    pub fn process(&self, environment: &[(&str, &str)]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_notifications"));
        command
            .args(&self.arguments[1..])
            .env_clear()
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        command.spawn().expect("the program starts")
    }

    /// The service's settings, and more.
    pub fn config(&self, more: &[String]) -> Config {
        Arguments::try_parse_from(self.arguments.iter().chain(more)).expect("the settings").config
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
        let closed = async || service.client.request(Method::GET, "/livez").send().await.is_err();
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
        self.users.close().await;
    }

    /// This test leaves letters that are not done, on purpose.
    pub fn expect_leftovers(&mut self) {
        self.leftovers = true;
    }

    /// The mail server stops: who connects is refused.
    pub fn mail_server_down(&mut self) {
        self.mailbox = None;
    }

    /// The mail server is back, on the same port, with an empty mailbox.
    pub async fn mail_server_up(&mut self) {
        self.mailbox = Some(Mailbox::start(self.smtp, ANY_PORT).await.expect("the same port"));
    }

    /// Where the mail server is.
    pub fn smtp_addr(&self) -> SocketAddr {
        self.smtp
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
        self.users.publish(event).await
    }

    /// Everything that the users service ever said is delivered to the service once more.
    pub async fn replay_users(&self) {
        self.users.settled().await;
        let replay = Replay::to("notifications");
        assert!(self.users.outbox.replay(&self.users.broker, &replay).await.expect("a replay") > 0);
    }

    /// The service forgets which messages it has handled: from now on only what it made of them can tell.
    pub async fn forget_inbox(&self) {
        sqlx::raw_sql("delete from messaging.inbox").execute(self.db()).await.expect("the inbox");
    }

    /// Somebody registers: both events of a registration, in one transaction.
    pub async fn register(&self, email: &str, token: &str) -> Uuid {
        let user_id = Uuid::now_v7();
        let mut tx = self.users.outbox.begin().await.expect("the users' database");
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

    /// What the service announced about a notification, once there is something: (type, user id, template, reason).
    pub async fn announced(&self, notification: &Value) -> Vec<[String; 4]> {
        let mut found = Vec::new();
        eventually("the outcome is announced", async || {
            let sent = self.users.heard::<EmailSent>().into_iter().map(|event| {
                (event.notification_id, ["EmailSent".into(), event.user_id, event.template, String::new()])
            });
            let failed = self.users.heard::<EmailFailed>().into_iter().map(|event| {
                (event.notification_id, ["EmailFailed".into(), event.user_id, event.template, event.reason])
            });
            found = sent.chain(failed).filter(|(id, _)| notification["id"] == **id).map(|(_, fact)| fact).collect();
            !found.is_empty()
        })
        .await;
        found
    }

    /// Asks the API.
    pub async fn get(&self, path: &str, who: Option<As>) -> Answer {
        self.ask(Method::GET, path, who.map(|who| self.issuer.token(who)).as_deref(), &[]).await
    }

    /// Asks the API for a change.
    pub async fn post(&self, path: &str, who: Option<As>) -> Answer {
        self.ask(Method::POST, path, who.map(|who| self.issuer.token(who)).as_deref(), &[]).await
    }

    /// Asks the API with a token and headers of one's own.
    pub async fn ask(&self, method: Method, path: &str, token: Option<&str>, headers: &[(&str, &str)]) -> Answer {
        let service = self.service.as_ref().expect("the service runs");
        assert!(!service.task.is_finished(), "the service has ended by itself; see its logs");
        service.client.send(method, path, token, headers, None).await
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
