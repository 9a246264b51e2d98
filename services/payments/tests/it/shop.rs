//! The shop around the service: its database, a virtual host with the topology, the orders service played by the test, and the provider.
//! Closing it compares the service's record, the provider's book and everything that was announced.

use std::{collections::BTreeMap, process::Stdio, sync::Arc};

use clap::{Args as _, FromArgMatches as _};
use events::{
    orders::v1::{CancellationReason, OrderCancelled, PaymentDue},
    payments::v1::{PaymentAuthorized, PaymentDeclined, PaymentRefunded},
    postrider::money::v1::Money,
};
use payments::Config;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use testkit::{Actor, Answer, Client, Database, Playing, Vhost, eventually};
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use web::testing::{As, Issuer};

use crate::faulty::{Faults, Faulty};

pub struct Shop {
    pub orders: Playing,
    pub issuer: Issuer,
    pub faults: Arc<Faults>,
    pub database: Database,
    _vhost: Vhost,
    arguments: Vec<String>,
    service: Option<Running>,
}

struct Running {
    client: Client,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

/// An order that the test plays with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    pub id: Uuid,
    pub user_id: Uuid,
    pub minor_units: i64,
}

impl Order {
    pub fn new() -> Self {
        Self { id: Uuid::now_v7(), user_id: Uuid::now_v7(), minor_units: 1999 }
    }

    pub fn due(self, payment_method: &str) -> PaymentDue {
        PaymentDue {
            order_id: self.id.to_string(),
            user_id: self.user_id.to_string(),
            amount: Some(self.amount()),
            payment_method: payment_method.into(),
        }
    }

    pub fn cancelled(self) -> OrderCancelled {
        OrderCancelled {
            order_id: self.id.to_string(),
            user_id: self.user_id.to_string(),
            reason: CancellationReason::CancelledByCustomer.into(),
            total: Some(self.amount()),
        }
    }

    pub fn amount(self) -> Money {
        Money { minor_units: self.minor_units, currency: "EUR".into() }
    }

    pub fn path(self) -> String {
        format!("/payments/{}", self.id)
    }

    pub fn refunds(self) -> String {
        format!("/payments/{}/refunds", self.id)
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
        let orders =
            Actor::new("orders").hears::<PaymentAuthorized>().hears::<PaymentDeclined>().hears::<PaymentRefunded>();
        let topology = payments::topology().await.expect("the topology");
        let vhost = Vhost::create(&[topology, orders.service()]).await;
        let orders = orders.enter(&vhost).await;
        let (database, issuer) = (Database::create().await, Issuer::start().await);
        let mut arguments = vec![
            "payments".into(),
            format!("--database-url={}", database.url),
            format!("--amqp-url={}", vhost.url_for("payments")),
            format!("--jwks-url={}", issuer.jwks_url()),
            "--listen=127.0.0.1:0".into(),
            // A machine that is busy with other tests is no rush.
            "--route-wait-seconds=60".into(),
            "--provider-latency-milliseconds=0".into(),
            "--provider-slow-seconds=0.4".into(),
            "--payment-retry-seconds=0.02".into(),
        ];
        arguments.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let faults = Faults::new(0);
        let mut shop = Self { orders, issuer, faults, database, _vhost: vhost, arguments, service: None };
        shop.start().await;
        shop
    }

    /// Starts the service and waits until it can answer.
    pub async fn start(&mut self) {
        let faults = Arc::clone(&self.faults);
        let process = payments::build_with(self.config(), |provider| Faulty { provider, faults }).await;
        let process = process.expect("the service is put together");
        let client = Client::new(format!("http://{}", process.addr()));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        #[expect(clippy::disallowed_methods, reason = "joined by stop_service")]
        let task = tokio::spawn(async move {
            // Also said here: a test that waits for a service that is gone only sees that nothing comes.
            process.run(stopped).await.inspect_err(|error| eprintln!("the service ended: {error:#}"))
        });
        self.service = Some(Running { client, stop, task });
        eventually("the service is ready", async || self.get("/readyz", None).await.status == StatusCode::OK).await;
        let nowhere = Order::new().path();
        // The first token makes it fetch the keys.
        let known = async || self.get(&nowhere, Some(As::Operator)).await.status == StatusCode::NOT_FOUND;
        eventually("the service knows the keys", known).await;
    }

    fn config(&self) -> Config {
        let command = Config::augment_args(clap::Command::new("payments").args_override_self(true));
        Config::from_arg_matches(&command.try_get_matches_from(&self.arguments).expect("settings")).expect("settings")
    }

    /// The service as a process of its own, as it runs in production, with one setting changed.
    pub fn process(&self, setting: &str) -> Child {
        let name = setting.split_inclusive('=').next().expect("a setting");
        let mut command = Command::new(env!("CARGO_BIN_EXE_payments"));
        command.args(self.arguments[1..].iter().filter(|argument| !argument.starts_with(name))).arg(setting);
        command.env_clear().stdout(Stdio::null()).kill_on_drop(true).spawn().expect("the program starts")
    }

    /// Stops the service in order.
    pub async fn stop_service(&mut self) {
        let service = self.service.take().expect("the service runs");
        service.stop.cancel();
        service.task.await.expect("the service does not panic").expect("the service stops in order");
    }

    /// Stops everything in order. Fails the test when anything is left, or does not fit together.
    pub async fn close(mut self) {
        self.audit().await;
        self.stop_service().await;
        self.orders.close().await;
    }

    /// Waits until nothing is under way, then compares record, book and announcements.
    pub async fn audit(&self) {
        self.orders.settled().await;
        // What was announced to the service has to be in its inbox before nothing is under way.
        let sent = "select count(*) from messaging.journal";
        let sent: i64 = sqlx::query_scalar(sent).fetch_one(&self.orders.database.pool).await.expect("a count");
        eventually("the service has heard everything", async || {
            let heard = "select count(*) from messaging.inbox";
            let dead = "select count(*) from messaging.parked where state = 'dead'";
            // A repeated event is in the journal twice, and in the inbox once.
            self.count(heard).await + self.count(dead).await >= sent - self.repeated().await
        })
        .await;
        eventually("all work is done", async || self.count("select count(*) from messaging.job").await == 0).await;
        eventually("all is announced", async || self.count("select count(*) from messaging.outbox").await == 0).await;
        assert_eq!(self.count("select count(*) from messaging.parked where state = 'waiting'").await, 0);
        let announced = "select count(*) from messaging.journal";
        let announced = usize::try_from(self.count(announced).await).expect("a count");
        eventually("orders has heard everything", async || self.orders.log().len() >= announced).await;

        let mut told: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for heard in self.orders.log() {
            let name = heard.event_type.trim_start_matches("payments.v1.Payment");
            told.entry(heard.key).or_default().push(name);
        }
        for row in self.books().await {
            let told = told.remove(&row.order_id.to_string()).unwrap_or_default();
            row.check(&told);
        }
        assert!(told.is_empty(), "announced about no payment: {told:?}");
        let strays = "select count(*) from provider.book where not exists (select from payments where id = key)";
        assert_eq!(self.count(strays).await, 0, "the provider knows keys that are no payment's");
    }

    async fn repeated(&self) -> i64 {
        let query = "select count(*) - count(distinct message_id) from messaging.journal";
        sqlx::query_scalar(query).fetch_one(&self.orders.database.pool).await.expect("a count")
    }

    /// Every payment beside what the provider's book says of it.
    pub async fn books(&self) -> Vec<Books> {
        sqlx::query_as(
            "select order_id, payments.state, payments.decline_reason, payments.minor_units as due,
                    book.state as booked, book.minor_units as booked_amount, book.attempts
             from payments left join provider.book on key = id",
        )
        .fetch_all(&self.database.pool)
        .await
        .expect("the tables are there")
    }

    /// What both books say of an order.
    pub async fn book(&self, order: Order) -> Option<Books> {
        self.books().await.into_iter().find(|row| row.order_id == order.id)
    }

    /// Waits until the order's payment is in this state, and shows it.
    pub async fn payment(&self, order: Order, state: &str) -> Value {
        let mut last = Value::Null;
        eventually(&format!("the payment is {state}"), async || {
            last = self.get(&order.path(), Some(As::Operator)).await.json;
            last["state"] == state
        })
        .await;
        last
    }

    /// Waits until both books say this of an order.
    pub async fn booked(&self, order: Order, state: &str, booked: Option<&str>) {
        let mut last = None;
        eventually(&format!("{state} here, {booked:?} at the provider"), async || {
            last = self.book(order).await;
            last.as_ref().is_some_and(|row| row.state == state && row.booked.as_deref() == booked)
        })
        .await;
    }

    /// An order whose payment is authorized.
    pub async fn paid_order(&self) -> Order {
        let order = Order::new();
        self.orders.publish(&order.due("pm_ok")).await;
        self.payment(order, "authorized").await;
        order
    }

    pub async fn get(&self, path: &str, who: Option<As>) -> Answer {
        self.ask(Method::GET, path, who, &[], None).await
    }

    pub async fn refund(&self, order: Order) -> Answer {
        self.ask(Method::POST, &order.refunds(), Some(As::Operator), &[], Some(&json!({}))).await
    }

    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        who: Option<As>,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let token = who.map(|who| self.issuer.token(who));
        self.client().send(method, path, token.as_deref(), headers, body).await
    }

    pub fn client(&self) -> &Client {
        let service = self.service.as_ref().expect("the service runs");
        assert!(!service.task.is_finished(), "the service has ended by itself; see its logs");
        &service.client
    }

    /// The number that a query on the service's database returns.
    pub async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.database.pool).await.expect("the query runs")
    }

    pub async fn execute(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&self.database.pool).await.expect("the statement runs");
    }
}

/// One payment: ours, and the provider's.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Books {
    pub order_id: Uuid,
    pub state: String,
    pub decline_reason: Option<String>,
    pub due: i64,
    pub booked: Option<String>,
    pub booked_amount: Option<i64>,
    pub attempts: Option<i32>,
}

impl Books {
    /// Fails unless the provider holds what the state says, and orders was told the same story once.
    fn check(&self, told: &[&str]) {
        let stories: &[&[&str]] = match self.state.as_str() {
            "authorized" => &[&["Authorized"]],
            "declined" => &[&["Declined"]],
            "cancelled" => &[&[]],
            "refunded" if self.decline_reason.is_some() => &[&["Refunded", "Declined"]],
            "refunded" => &[&["Authorized", "Refunded"], &["Refunded"]],
            other => panic!("{other} is no end: {self:?}"),
        };
        assert!(stories.contains(&told), "{told:?} was told of {self:?}");
        let booked: &[&str] = match self.state.as_str() {
            "authorized" => &["charged"],
            "declined" if self.decline_reason.as_deref() == Some("given_up") => &["voided", "declined"],
            "declined" => &["declined"],
            "refunded" => &["refunded"],
            _ => &["voided", "declined"],
        };
        assert!(booked.contains(&self.booked.as_deref().unwrap_or("nothing")), "{self:?}");
        if ["charged", "refunded"].contains(&self.booked.as_deref().unwrap_or_default()) {
            assert_eq!(self.booked_amount, Some(self.due), "{self:?}");
        }
    }
}
