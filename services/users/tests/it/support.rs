//! A running service with its own database and its own virtual host, and somebody who hears everything that it publishes.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Parser as _;
use events::users::v1::{EmailVerificationRequested, PasswordResetRequested, UserRegistered};
use messaging::{
    Event,
    topology::{Feed, Service, Subscription},
};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use testkit::{Database, Vhost, eventually};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use users::{App, Config, Passwords};

/// A password that is accepted.
pub const PASSWORD: &str = "quiet-otter-sings-42";

/// What every event of this service is called.
pub const EVENTS: [&str; 7] = [
    "users.v1.UserRegistered",
    "users.v1.RegistrationRepeated",
    "users.v1.EmailVerificationRequested",
    "users.v1.UserVerified",
    "users.v1.PasswordResetRequested",
    "users.v1.PasswordChanged",
    "users.v1.UserDeleted",
];

/// A database and a virtual host, on which replicas of the service run.
pub struct Stage {
    pub database: Database,
    pub vhost: Vhost,
}

/// One replica. End a test with [`TestApp::close`].
pub struct TestApp {
    pub stage: std::sync::Arc<Stage>,
    pub passwords: Passwords,
    url: String,
    client: reqwest::Client,
    stop: CancellationToken,
    running: Option<JoinHandle<anyhow::Result<()>>>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

/// The tokens of a session.
#[derive(Debug, Clone)]
pub struct Session {
    pub id: String,
    pub access: String,
    pub refresh: String,
}

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    config: Config,
}

impl Stage {
    pub async fn new() -> std::sync::Arc<Self> {
        telemetry::init_for_tests();
        let listener = Subscription {
            consumer: "listener".to_owned(),
            feed: Feed::Events,
            types: EVENTS.map(str::to_owned).into(),
            ordered: true,
            partitions: 1,
        };
        let listener = Service { name: "listener".to_owned(), subscriptions: vec![listener] };
        let vhost = Vhost::create(&[users::topology(), listener]).await;
        std::sync::Arc::new(Self { database: Database::create().await, vhost })
    }

    /// The settings of a replica on this stage, with further arguments.
    pub fn config(&self, arguments: &[&str]) -> Config {
        let amqp_url = self.vhost.url_for("users");
        let ours = ["users", "--listen", "127.0.0.1:0", "--database-url", &self.database.url, "--amqp-url", &amqp_url];
        // Passwords take their time to hash on a machine that is busy with other tests: that is no rush.
        let ours = [&ours[..], &["--route-wait-seconds", "60"]].concat();
        Arguments::parse_from([&ours[..], arguments].concat()).config
    }

    pub async fn execute(&self, statement: &str) -> u64 {
        let done = sqlx::query(AssertSqlSafe(statement)).execute(&self.database.pool).await.unwrap();
        done.rows_affected()
    }

    pub async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.database.pool).await.unwrap()
    }

    /// Everything of this type that was ever published and not erased, oldest first.
    pub async fn events<E: Event>(&self) -> Vec<E> {
        let payloads: Vec<Vec<u8>> = sqlx::query_scalar(
            "select payload from (
                 select position, type, payload from messaging.outbox
                 union all
                 select position, type, payload from messaging.journal
             ) event
             where type = $1 and payload is not null order by position",
        )
        .bind(E::TYPE)
        .fetch_all(&self.database.pool)
        .await
        .unwrap();
        payloads.iter().map(|payload| E::decode(payload.as_slice()).unwrap()).collect()
    }
}

impl TestApp {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::on(Stage::new().await, arguments).await
    }

    /// One more replica on the same stage.
    pub async fn replica(&self) -> Self {
        Self::on(self.stage.clone(), &[]).await
    }

    pub async fn on(stage: std::sync::Arc<Stage>, arguments: &[&str]) -> Self {
        let config = stage.config(arguments);
        Self::run(stage, App::build(config).await.unwrap())
    }

    pub fn run(stage: std::sync::Arc<Stage>, app: App) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let stop = CancellationToken::new();
        Self {
            stage,
            passwords: app.passwords(),
            url: format!("http://{}", SocketAddr::from((Ipv4Addr::LOCALHOST, app.addr().port()))),
            client: reqwest::Client::new(),
            running: Some(tokio::spawn(app.run(stop.clone()))),
            stop,
        }
    }

    /// Waits until everything is published, stops the service, and expects it to end well.
    pub async fn close(self) {
        let stage = self.stage.clone();
        eventually("everything is published", async || stage.count("select count(*) from messaging.outbox").await == 0)
            .await;
        self.stop().await;
    }

    /// Stops the service, whatever is still to be published.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let running = self.running.take().unwrap();
        running.await.unwrap().unwrap();
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        send(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        send(self.request(Method::PUT, path).json(&body)).await
    }

    /// As a browser does.
    pub async fn browse(&self, method: Method, path: &str, form: &'static str) -> Answer {
        let request = self
            .request(method, path)
            .header("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
        send(request.header("content-type", "application/x-www-form-urlencoded").body(form)).await
    }

    /// A request with an access token.
    pub async fn call(&self, method: Method, path: &str, session: &Session, body: Option<Value>) -> Answer {
        let request = self.request(method, path).bearer_auth(&session.access);
        send(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    pub async fn register(&self, email: &str) -> Answer {
        self.post("/users", json!({ "email": email, "name": "Ada Lovelace", "password": PASSWORD })).await
    }

    /// A new account. Its id.
    pub async fn registered(&self, email: &str) -> String {
        self.register(email).await.expect(202);
        self.id_of(email).await
    }

    pub async fn id_of(&self, email: &str) -> String {
        let registered = self.stage.events::<UserRegistered>().await;
        registered.into_iter().rfind(|event| event.email == email).map(|event| event.user_id).unwrap()
    }

    pub async fn try_login(&self, email: &str, password: &str) -> Answer {
        self.post("/sessions", json!({ "email": email, "password": password })).await
    }

    pub async fn login(&self, email: &str) -> Session {
        Session::of(&self.try_login(email, PASSWORD).await.expect(201))
    }

    pub async fn renew(&self, session: &Session) -> Answer {
        self.post("/sessions/renewal", json!({ "refresh_token": session.refresh })).await
    }

    /// The status of the profile route: 200 for a living session.
    pub async fn knows(&self, session: &Session) -> StatusCode {
        self.call(Method::GET, "/users/me", session, None).await.status
    }

    /// The tokens that were mailed to verify the address, oldest first.
    pub async fn verification_tokens(&self, user_id: &str) -> Vec<String> {
        let requested = self.stage.events::<EmailVerificationRequested>().await;
        requested.into_iter().filter(|event| event.user_id == user_id).map(|event| event.token).collect()
    }

    /// The tokens that were mailed for a new password, oldest first.
    pub async fn reset_tokens(&self, user_id: &str) -> Vec<String> {
        let requested = self.stage.events::<PasswordResetRequested>().await;
        requested.into_iter().filter(|event| event.user_id == user_id).map(|event| event.token).collect()
    }

    /// Lets a minute pass for whoever counts mails.
    pub async fn a_minute_later(&self) {
        self.stage.execute("update mails set requested_at = requested_at - interval '1 minute'").await;
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stop.cancel();
        assert!(self.running.is_none() || std::thread::panicking(), "the test did not close its service");
    }
}

impl Session {
    pub fn of(body: &Value) -> Self {
        let text = |member: &str| body[member].as_str().unwrap().to_owned();
        Self { id: text("session_id"), access: text("access_token"), refresh: text("refresh_token") }
    }
}

pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

impl Answer {
    /// The JSON of an answer with this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// A page with this status.
    #[track_caller]
    pub fn expect_page(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "text/html; charset=utf-8", "{}", self.text);
        assert_eq!(self.header("cache-control"), "no-store");
        assert_eq!(self.header("referrer-policy"), "no-referrer");
        assert!(self.header("content-security-policy").starts_with("default-src 'none'"));
        &self.text
    }

    /// A problem of this kind, with all that problems have.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, kind: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        assert_eq!(problem["type"], format!("urn:postrider:problem:{kind}"), "{problem}");
        assert_eq!(problem["status"], status);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.len() > 20, "the detail should say what to do: {detail}");
        assert_eq!(problem["trace_id"].as_str().unwrap(), &self.header("traceparent")[3..35]);
        problem
    }

    /// A problem that names these fields.
    #[track_caller]
    pub fn expect_fields(&self, kind: &str, pointers: &[&str]) -> Value {
        let problem = self.expect_problem(422, kind);
        let named: Vec<_> =
            problem["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
        assert_eq!(named, pointers, "{problem}");
        problem
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}: {self:?}")).to_str().unwrap()
    }

    /// What somebody could compare: everything but the time and the ids of the trace.
    pub fn comparable(&self) -> (StatusCode, Vec<(String, String)>, Value) {
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, _)| !["date", "traceparent"].contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        headers.sort();
        let mut body: Value = serde_json::from_str(&self.text).unwrap();
        body.as_object_mut().unwrap().remove("trace_id");
        (self.status, headers, body)
    }
}
