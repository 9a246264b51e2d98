//! What the service stands on: its database, a virtual host with the topology, a service `parcels` that writes lines, and keys for access
//! tokens.

use std::collections::BTreeMap;

use access_log::Config;
use clap::Parser as _;
use events::access_log::v1::RequestLogged;
use messaging::{Broker, BrokerOptions, Logs, topology::Service};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use testkit::{Answer, Client, Database, Method, Vhost, eventually};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use web::testing::{As, Issuer};

/// Everything running.
pub struct Stand {
    /// The service's own database.
    pub database: Database,
    /// Signs access tokens.
    pub issuer: Issuer,
    /// Asks the service without looking at what is documented.
    pub client: Client,
    vhost: Vhost,
    arguments: Vec<String>,
    documented: BTreeMap<String, Value>,
    stop: CancellationToken,
    service: JoinSet<anyhow::Result<()>>,
    broker: Broker,
    /// The lines of `parcels`.
    pub logs: Logs,
    writing: CancellationToken,
    writer: JoinSet<()>,
}

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    config: Config,
}

/// A line as `parcels` writes it, a moment ago.
pub fn line(method: &str, route: &str, status: u32) -> RequestLogged {
    RequestLogged {
        request_id: Uuid::now_v7().to_string(),
        at: Some(std::time::SystemTime::now().into()),
        instance: "parcels-0".into(),
        method: method.into(),
        route: route.into(),
        status,
        duration_us: 1_500,
        request_bytes: None,
        response_bytes: 17,
        client_network: "192.0.2.0/24".into(),
        user_agent: "curl".into(),
        trace_id: Uuid::new_v4().simple().to_string(),
    }
}

impl Stand {
    /// Everything running.
    pub async fn open() -> Self {
        Self::open_with(&[]).await
    }

    /// As [`Stand::open`], with other settings of the service; the last one of a kind counts.
    pub async fn open_with(settings: &[&str]) -> Self {
        telemetry::init_for_tests();
        let parcels = Service { name: "parcels".into(), subscriptions: Vec::new() };
        let own = access_log::topology().await.expect("the topology");
        let vhost = Vhost::create(&[own, parcels]).await;
        let (database, issuer) = tokio::join!(Database::create(), Issuer::start());
        let broker = Broker::connect(BrokerOptions::new(vhost.url_for("parcels"), "parcels").expect("an address"));
        let (logs, writing, mut writer) =
            (Logs::new(&broker, "parcels", 4_096), CancellationToken::new(), JoinSet::new());
        writer.spawn({
            let (logs, writing) = (logs.clone(), writing.clone());
            async move { logs.run(writing).await }
        });
        let mut arguments = vec!["access-log".to_owned(), format!("--database-url={}", database.url)];
        let amqp_url = format!("--amqp-url={}", vhost.url_for("access-log"));
        let usual = [amqp_url, format!("--jwks-url={}", issuer.jwks_url()), "--listen=127.0.0.1:0".to_owned()];
        let name = |setting: &str| setting.split('=').next().unwrap_or_default().to_owned();
        arguments.extend(usual.into_iter().filter(|usual| settings.iter().all(|setting| name(setting) != name(usual))));
        arguments.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let mut stand = Self {
            database,
            issuer,
            client: Client::new(""),
            vhost,
            arguments,
            documented: BTreeMap::new(),
            stop: CancellationToken::new(),
            service: JoinSet::new(),
            broker,
            logs,
            writing,
            writer,
        };
        stand.start().await;
        stand
    }

    /// Starts the service, or one more replica of it, and waits until it works. It is the one that is asked from now on.
    pub async fn start(&mut self) {
        let config = Cli::try_parse_from(&self.arguments).expect("the settings").config;
        let process = access_log::build(config).await.expect("the service is put together");
        self.client = Client::new(format!("http://{}", process.addr()));
        self.stop = CancellationToken::new();
        self.service.spawn(process.run(self.stop.clone()));
        eventually("the service is ready", async || self.client.get("/readyz", None).await.status == 200).await;
        // The first token makes it fetch the keys.
        let token = self.issuer.token(As::Operator);
        let path = "/access-logs/summary?service=nobody";
        eventually("it knows the keys", async || self.client.get(path, Some(&token)).await.status == 200).await;
        let document = self.client.get("/openapi.json", None).await.json;
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                self.documented.insert(format!("{method} {path}"), operation.clone());
            }
        }
    }

    /// Other settings, from the next [`Stand::start`] on.
    pub fn set(&mut self, setting: &str) {
        self.arguments.push(setting.to_owned());
    }

    /// What stops the replica that was started last.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops the service in order.
    pub async fn stop_service(&mut self, stop: &CancellationToken) {
        stop.cancel();
        self.ended().await;
    }

    async fn ended(&mut self) {
        let ended = self.service.join_next().await.expect("the service runs").expect("it does not panic");
        ended.expect("it stops in order");
    }

    /// Stops everything in order. What was written has left.
    pub async fn close(mut self) {
        let stop = self.stop.clone();
        self.stop_service(&stop).await;
        self.writing.cancel();
        self.writer.join_next().await.expect("it runs").expect("it does not panic");
        self.broker.close().await;
        assert_eq!(self.logs.dropped(), 0, "the test lost lines of its own");
    }

    /// `parcels` writes lines; returns when the service has stored so many of `parcels`.
    pub async fn write(&self, lines: &[RequestLogged], stored: i64) {
        lines.iter().for_each(|line| self.logs.publish(line));
        let own = "select count(*) from access_log where service = 'parcels'";
        eventually("the lines are stored", async || self.count(own).await >= stored).await;
    }

    /// Asks as the operator, and looks whether such an answer is documented.
    pub async fn get(&self, path: &str) -> Answer {
        let token = self.issuer.token(As::Operator);
        let answer = self.client.get(path, Some(&token)).await;
        self.look_up(path, &answer);
        answer
    }

    /// Fails the test unless the document says that this can be the answer of this route.
    #[track_caller]
    pub fn look_up(&self, path: &str, answer: &Answer) {
        let route = format!("get {}", path.split('?').next().unwrap_or(path));
        let operation = self.documented.get(&route).unwrap_or_else(|| panic!("{route} is not documented"));
        let status = answer.status.as_str();
        assert!(operation["responses"][status].is_object(), "{route} answers {status}, undocumented: {}", answer.text);
        assert_eq!(answer.header("traceparent").len(), 55, "{route} has a trace");
        if answer.status.is_client_error() {
            assert_eq!(answer.header("content-type"), "application/problem+json", "{route}: {}", answer.text);
        }
    }

    /// The operations of the document, as `get /access-logs`.
    pub fn documented(&self) -> &BTreeMap<String, Value> {
        &self.documented
    }

    /// The value of a metric with its labels; 0 if there is none yet.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.client.get("/metrics", None).await.text;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// A request that nobody has to log in for, with headers.
    pub async fn ask(&self, path: &str, token: Option<&str>, headers: &[(&str, &str)]) -> Answer {
        self.client.send(Method::GET, path, token, headers, None).await
    }

    /// The number that a query on the service's database returns.
    pub async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.database.pool).await.expect("the query runs")
    }

    /// Runs a statement on the service's database.
    pub async fn execute(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&self.database.pool).await.expect("the statement runs");
    }

    /// Kills every connection to the broker.
    pub async fn cut_broker_connections(&self) {
        eventually("connections are killed", async || self.vhost.kill_connections().await > 0).await;
    }
}
