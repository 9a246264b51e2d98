//! The shop around the service: its database, a virtual host with the topology, and the services around it, played by the test with
//! outboxes, relays and consumers as the real ones have.

use std::{process::Stdio, time::Duration};

use clap::Parser;
use events::{
    inventory::v1::{
        ProductChanged, RejectionReason, ReleaseReason, StockCommitted, StockRejected, StockReleased, StockReserved,
    },
    orders::v1::{OrderCancelled, OrderConfirmed, OrderPaid, OrderPlaced, PaymentDue},
    payments::v1::{DeclineReason, PaymentAuthorized, PaymentDeclined, PaymentRefunded},
    postrider::money::v1::Money,
};
use orders::Config;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use testkit::{Actor, Answer, Client, Database, Method, Playing, Vhost, eventually};
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use web::testing::{As, Issuer};

/// The shop.
pub struct Shop {
    pub database: Database,
    pub issuer: Issuer,
    pub inventory: Playing,
    pub payments: Playing,
    pub notifications: Playing,
    pub users: Playing,
    pub ada: Uuid,
    arguments: Vec<String>,
    service: Option<Replica>,
}

/// One process of the service, in this one.
pub struct Replica {
    pub client: Client,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    config: Config,
}

impl Shop {
    /// Everything running, with a mug for 1999 and a tea for 450, both in EUR, and a book for 2500 in USD.
    pub async fn open() -> Self {
        Self::open_with(&[]).await
    }

    /// As [`Shop::open`], with other settings of the service.
    pub async fn open_with(settings: &[&str]) -> Self {
        telemetry::init_for_tests();
        let inventory = Actor::new("inventory").hears::<OrderPlaced>().hears::<OrderPaid>().hears::<OrderCancelled>();
        let payments = Actor::new("payments").hears::<PaymentDue>().hears::<OrderCancelled>();
        let notifications = Actor::new("notifications").hears::<OrderConfirmed>().hears::<OrderCancelled>();
        let users = Actor::new("users");
        let orders = orders::topology().await.expect("the topology");
        let services = [orders, inventory.service(), payments.service(), notifications.service(), users.service()];
        let (database, vhost, issuer) = tokio::join!(Database::create(), Vhost::create(&services), Issuer::start());
        let mut arguments = vec![
            "orders".to_owned(),
            format!("--database-url={}", database.url),
            format!("--amqp-url={}", vhost.url_for("orders")),
            format!("--jwks-url={}", issuer.jwks_url()),
            "--listen=127.0.0.1:0".to_owned(),
            // A machine that is busy with other tests is not a client that is slow.
            "--head-timeout-seconds=60".to_owned(),
            // Nor are fifty requests at once a rush.
            "--route-waiting=100".to_owned(),
            "--route-wait-seconds=60".to_owned(),
        ];
        arguments.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let (inventory, payments, notifications, users) = tokio::join!(
            inventory.enter(&vhost),
            payments.enter(&vhost),
            notifications.enter(&vhost),
            users.enter(&vhost)
        );
        let ada = Uuid::now_v7();
        let mut shop =
            Self { database, issuer, inventory, payments, notifications, users, ada, arguments, service: None };
        shop.start().await;
        for (sku, name, price, currency) in
            [("MUG-01", "Mug", 1999, "EUR"), ("TEA-01", "Tea", 450, "EUR"), ("BOOK-1", "Book", 2500, "USD")]
        {
            shop.product(sku, name, price, currency, 1).await;
        }
        let known = async || shop.count("select count(*) from products").await == 3;
        eventually("the products are known", known).await;
        shop
    }

    /// Starts the service and waits until it can answer.
    pub async fn start(&mut self) {
        self.service = Some(self.replica(&[]).await);
    }

    /// Another process of the service on the same database.
    pub async fn replica(&self, settings: &[&str]) -> Replica {
        let arguments = self.arguments.iter().map(String::as_str).chain(settings.iter().copied());
        let config = Line::try_parse_from(arguments).expect("the settings").config;
        let process = orders::build(config).await.expect("the service is put together");
        let client = Client::new(format!("http://{}", process.addr()));
        let stop = CancellationToken::new();
        let stop_service = stop.clone();
        #[expect(clippy::disallowed_methods, reason = "joined by Replica::stop")]
        let task = tokio::spawn(async move {
            // Also said here, because a test that waits for a service that is gone only sees that nothing comes.
            process.run(stop_service).await.inspect_err(|error| eprintln!("the service ended: {error:#}"))
        });
        eventually("the service is ready", async || client.get("/readyz", None).await.status == 200).await;
        // The first token makes it fetch the keys.
        let token = self.issuer.token(As::Operator);
        let known = async || client.get("/orders", Some(&token)).await.status == 200;
        eventually("the service knows the keys", known).await;
        Replica { client, stop, task }
    }

    /// The service as a process of its own, as it runs in production.
    pub fn process(&self, listen: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orders"));
        let arguments = self.arguments[1..].iter().filter(|argument| !argument.starts_with("--listen"));
        command.args(arguments).arg(format!("--listen={listen}"));
        command.env_clear().stdout(Stdio::null()).kill_on_drop(true).spawn().expect("the program starts")
    }

    /// Stops the service in order and returns what it ended with.
    pub async fn stop_service(&mut self) -> anyhow::Result<()> {
        self.service.take().expect("the service runs").stop().await
    }

    /// Tells the service to stop, without waiting for it.
    pub fn tell_to_stop(&self) {
        self.service.as_ref().expect("the service runs").stop.cancel();
    }

    /// Stops everything in order. Fails the test when anything is left that should not be.
    pub async fn close(mut self) {
        self.settled().await;
        assert_eq!(self.count("select count(*) from messaging.parked").await, 0, "something was parked");
        if self.service.is_some() {
            self.stop_service().await.expect("the service stops in order");
        }
        let Self { inventory, payments, notifications, users, .. } = self;
        tokio::join!(inventory.close(), payments.close(), notifications.close(), users.close());
    }

    /// Waits until everything that the service announced is with the broker.
    pub async fn settled(&self) {
        let quiet = async || self.count("select count(*) from messaging.outbox").await == 0;
        eventually("everything is announced", quiet).await;
    }

    pub fn client(&self) -> &Client {
        &self.service.as_ref().expect("the service runs").client
    }

    pub fn token(&self, who: As) -> String {
        self.issuer.token(who)
    }

    /// A token that soon ends.
    pub fn token_for(&self, who: As, lifetime: Duration) -> String {
        self.issuer.token_for(who, lifetime)
    }

    /// Ada's token.
    pub fn ada(&self) -> String {
        self.token(As::Customer(self.ada))
    }

    /// The number that a query on the service's database returns.
    pub async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.database.pool).await.expect("the query runs")
    }

    /// Runs a statement on the service's database.
    pub async fn execute(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&self.database.pool).await.expect("the statement runs");
    }

    /// Rows that an order leaves: of orders, lines, history, keys, events and deadlines.
    pub async fn rows(&self) -> i64 {
        self.count(
            "select (select count(*) from orders) + (select count(*) from order_lines) + (select count(*) from order_history)
                  + (select count(*) from idempotency.answers) + (select count(*) from messaging.outbox)
                  + (select count(*) from messaging.journal) + (select count(*) from messaging.scheduled)",
        )
        .await
    }

    pub async fn product(&self, sku: &str, name: &str, price: i64, currency: &str, version: i64) {
        let price = Some(Money { minor_units: price, currency: currency.into() });
        self.inventory.publish(&ProductChanged { sku: sku.into(), name: name.into(), price, version }).await;
    }

    /// Somebody orders, with a key of their own.
    pub async fn order_as(&self, token: &str, body: &Value) -> Answer {
        self.order_with(self.client(), token, &Uuid::now_v7().to_string(), body).await
    }

    pub async fn order_with(&self, client: &Client, token: &str, key: &str, body: &Value) -> Answer {
        client.send(Method::POST, "/orders", Some(token), &[("idempotency-key", key)], Some(body)).await
    }

    /// Ada orders two mugs. Returns the order's id.
    pub async fn placed(&self) -> String {
        let answer = self.order_as(&self.ada(), &two_mugs()).await;
        answer.expect(202)["id"].as_str().expect("an id").to_owned()
    }

    /// Two mugs for which stock is held.
    pub async fn reserved(&self) -> String {
        let id = self.placed().await;
        self.reserve(&id).await;
        self.state(&id, "reserved").await;
        id
    }

    /// Two mugs that are paid.
    pub async fn paid(&self) -> String {
        let id = self.reserved().await;
        self.authorize(&id).await;
        self.state(&id, "paid").await;
        id
    }

    /// Two mugs that are Ada's.
    pub async fn confirmed(&self) -> String {
        let id = self.paid().await;
        self.commit(&id).await;
        self.state(&id, "confirmed").await;
        id
    }

    pub async fn reserve(&self, id: &str) {
        let expires_at = Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 });
        self.inventory.publish(&StockReserved { order_id: id.into(), expires_at }).await;
    }

    pub async fn reject(&self, id: &str, reason: RejectionReason) {
        let event = StockRejected { order_id: id.into(), reason: reason.into(), sku: "MUG-01".into() };
        self.inventory.publish(&event).await;
    }

    pub async fn release(&self, id: &str, reason: ReleaseReason) {
        self.inventory.publish(&StockReleased { order_id: id.into(), reason: reason.into() }).await;
    }

    pub async fn commit(&self, id: &str) {
        self.inventory.publish(&StockCommitted { order_id: id.into() }).await;
    }

    pub async fn authorize(&self, id: &str) {
        let event = PaymentAuthorized { order_id: id.into(), payment_id: "p".into(), amount: eur(3998) };
        self.payments.publish(&event).await;
    }

    pub async fn decline(&self, id: &str, reason: DeclineReason) {
        let event = PaymentDeclined { order_id: id.into(), payment_id: "p".into(), reason: reason.into() };
        self.payments.publish(&event).await;
    }

    pub async fn refund(&self, id: &str) {
        let user_id = self.ada.to_string();
        let event = PaymentRefunded { order_id: id.into(), payment_id: "p".into(), user_id, amount: eur(3998) };
        self.payments.publish(&event).await;
    }

    pub async fn cancel(&self, id: &str) -> Answer {
        let path = format!("/orders/{id}/cancellation");
        self.client().send(Method::POST, &path, Some(&self.ada()), &[], None).await
    }

    /// The order, once it is in this state.
    pub async fn state(&self, id: &str, state: &str) -> Value {
        let (path, token) = (format!("/orders/{id}"), self.token(As::Operator));
        let mut last = Value::Null;
        eventually(&format!("{id} is {state}"), async || {
            last = self.client().get(&path, Some(&token)).await.json;
            last["state"] == state
        })
        .await;
        last
    }

    /// What happened to the order so far: `event → state`.
    pub async fn timeline(&self, id: &str) -> Vec<String> {
        let entries = self.entries(id).await;
        let told = |entry: &Value| {
            format!("{} → {}", entry["event"].as_str().expect("an event"), entry["state"].as_str().expect("a state"))
        };
        entries.iter().map(told).collect()
    }

    /// The entries of the order's timeline. Their numbers have no gaps, and their times do not go back.
    pub async fn entries(&self, id: &str) -> Vec<Value> {
        let path = format!("/orders/{id}/timeline");
        let answer = self.client().get(&path, Some(&self.token(As::Operator))).await;
        let entries = answer.expect(200).as_array().expect("a list").clone();
        for (index, entry) in entries.iter().enumerate() {
            assert_eq!(entry["seq"], index + 1, "{entries:?}");
            assert_eq!(entry["trace_id"].as_str().map(str::len), Some(32), "{entry}");
        }
        assert!(entries.is_sorted_by_key(|entry| entry["at"].as_str().map(str::to_owned)), "{entries:?}");
        entries
    }

    /// Waits until the timeline has this many entries.
    pub async fn entries_until(&self, id: &str, count: usize) -> Vec<Value> {
        let what = format!("{count} things happened to {id}");
        eventually(&what, async || self.entries(id).await.len() >= count).await;
        let entries = self.entries(id).await;
        assert_eq!(entries.len(), count, "{entries:?}");
        entries
    }
}

impl Replica {
    /// Stops it in order and returns what it ended with.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(60), self.task).await;
        ended.expect("it ends").expect("it does not panic")
    }
}

/// What most tests order.
pub fn two_mugs() -> Value {
    json!({ "lines": [{ "sku": "MUG-01", "quantity": 2 }], "payment_method": "pm_ok" })
}

pub fn eur(minor_units: i64) -> Option<Money> {
    Some(Money { minor_units, currency: "EUR".into() })
}
