//! The shop around the service: its database, a virtual host with the topology, the orders and notifications services, whose parts the
//! test plays, and keys for access tokens.

use std::collections::BTreeMap;

use clap::Parser as _;
use events::{
    inventory::v1::{
        ProductChanged, ReservationDue, StockCommitted, StockLow, StockRejected, StockReleased, StockReserved,
    },
    orders::v1::{CancellationReason, OrderCancelled, OrderPaid, OrderPlaced, order_placed::Line},
};
use inventory::Config;
use messaging::{Event, Outbox};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use testkit::{Actor, Answer, Client, Database, Playing, Vhost, eventually};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use web::testing::{As, Issuer};

/// The shop.
pub struct Shop {
    /// The orders service's part: announces orders, hears what becomes of their stock.
    pub orders: Playing,
    /// The notifications service's part: hears of products of which little is left.
    pub notifications: Playing,
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
    dead: i64,
}

/// An order in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    pub id: Uuid,
    pub user_id: Uuid,
}

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    config: Config,
}

impl Order {
    /// By somebody new.
    pub fn new() -> Self {
        Self { id: Uuid::now_v7(), user_id: Uuid::now_v7() }
    }

    pub fn placed(self, lines: &[(&str, u32)]) -> OrderPlaced {
        let line = |(sku, quantity): &(&str, u32)| Line { sku: (*sku).to_owned(), quantity: *quantity };
        OrderPlaced {
            order_id: self.id.to_string(),
            user_id: self.user_id.to_string(),
            lines: lines.iter().map(line).collect(),
        }
    }

    pub fn paid(self) -> OrderPaid {
        OrderPaid { order_id: self.id.to_string() }
    }

    pub fn cancelled(self) -> OrderCancelled {
        OrderCancelled {
            order_id: self.id.to_string(),
            user_id: self.user_id.to_string(),
            reason: CancellationReason::CancelledByCustomer.into(),
            total: None,
        }
    }

    pub fn due(self) -> ReservationDue {
        ReservationDue { order_id: self.id.to_string() }
    }
}

impl Shop {
    /// Everything running.
    pub async fn open() -> Self {
        Self::open_with(&[]).await
    }

    /// As [`Shop::open`], with other settings of the service.
    pub async fn open_with(settings: &[&str]) -> Self {
        telemetry::init_for_tests();
        let orders = Actor::new("orders")
            .hears::<ProductChanged>()
            .hears::<StockReserved>()
            .hears::<StockRejected>()
            .hears::<StockReleased>()
            .hears::<StockCommitted>();
        let notifications = Actor::new("notifications").hears::<StockLow>();
        let inventory = inventory::topology().await.expect("the topology");
        let vhost = Vhost::create(&[inventory, orders.service(), notifications.service()]).await;
        let (orders, notifications) = tokio::join!(orders.enter(&vhost), notifications.enter(&vhost));
        let (database, issuer) = tokio::join!(Database::create(), Issuer::start());
        let mut arguments = vec![
            "inventory".to_owned(),
            format!("--database-url={}", database.url),
            format!("--amqp-url={}", vhost.url_for("inventory")),
            format!("--jwks-url={}", issuer.jwks_url()),
            "--listen=127.0.0.1:0".to_owned(),
            // Fifty requests at once are no rush, however busy the machine is with other tests.
            "--route-waiting=100".to_owned(),
            "--route-wait-seconds=60".to_owned(),
        ];
        arguments.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let mut shop = Self {
            orders,
            notifications,
            database,
            issuer,
            client: Client::new(""),
            vhost,
            arguments,
            documented: BTreeMap::new(),
            stop: CancellationToken::new(),
            service: JoinSet::new(),
            dead: 0,
        };
        shop.start().await;
        shop
    }

    /// Starts the service and waits until it works.
    pub async fn start(&mut self) {
        let config = Cli::try_parse_from(&self.arguments).expect("the settings").config;
        let process = inventory::build(config).await.expect("the service is put together");
        self.client = Client::new(format!("http://{}", process.addr()));
        self.stop = CancellationToken::new();
        self.service.spawn(process.run(self.stop.clone()));
        eventually("the service is ready", async || self.client.get("/readyz", None).await.status == 200).await;
        // The first token makes it fetch the keys.
        let token = self.issuer.token(As::Operator);
        let path = format!("/reservations/{}", Uuid::nil());
        eventually("it knows the keys", async || self.client.get(&path, Some(&token)).await.status == 404).await;
        let document = self.client.get("/openapi.json", None).await.json;
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                self.documented.insert(format!("{method} {path}"), operation.clone());
            }
        }
    }

    /// Stops the service in order.
    pub async fn stop_service(&mut self) {
        self.stop.cancel();
        self.service
            .join_next()
            .await
            .expect("the service runs")
            .expect("it does not panic")
            .expect("it stops in order");
    }

    /// How the service is started as a program of its own.
    pub fn arguments(&self) -> &[String] {
        &self.arguments[1..]
    }

    /// This test has the service put so many messages aside for good.
    pub fn expect_dead(&mut self, messages: i64) {
        self.dead = messages;
    }

    /// Stops everything in order. Fails the test when something is left that it did not expect, or when the books do not balance.
    pub async fn close(mut self) {
        self.orders.settled().await;
        eventually("everything is announced", async || self.count("select count(*) from messaging.outbox").await == 0)
            .await;
        assert_eq!(self.count("select count(*) from messaging.parked").await, self.dead, "parked messages");
        self.balance().await;
        self.stop_service().await;
        self.orders.close().await;
        self.notifications.close().await;
    }

    /// The books: every piece is in one place, the movements add up to the numbers, and the reservations explain them.
    pub async fn balance(&self) {
        let wrong: Vec<(String, String)> = sqlx::query_as(
            "with book as (
                 select sku, sum(available) as available, sum(reserved) as reserved, sum(sold) as sold, sum(received) as received
                 from stock_movements group by sku
             ), explained as (
                 select sku, coalesce(sum(quantity) filter (where state = 'held'), 0) as held,
                        coalesce(sum(quantity) filter (where state = 'committed'), 0) as committed
                 from reservation_lines join reservations using (order_id) group by sku
             )
             select products.sku, row_to_json(products)::text from products left join book using (sku) left join explained using (sku)
             where products.available + products.reserved + products.sold <> products.received
                or (products.available, products.reserved, products.sold, products.received) is distinct from
                   (coalesce(book.available, 0), coalesce(book.reserved, 0), coalesce(book.sold, 0), coalesce(book.received, 0))
                or (products.reserved, products.sold) is distinct from (coalesce(held, 0), coalesce(committed, 0))",
        )
        .fetch_all(&self.database.pool)
        .await
        .expect("the books can be read");
        assert!(wrong.is_empty(), "the books do not balance: {wrong:?}");
    }

    /// Asks the API, and looks whether such an answer is documented.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        who: Option<As>,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let token = who.map(|who| self.issuer.token(who));
        let answer = self.client.send(method.clone(), path, token.as_deref(), headers, body).await;
        self.look_up(&method, path, &answer);
        answer
    }

    /// Fails the test unless the document says that this can be the answer of this route.
    #[track_caller]
    pub fn look_up(&self, method: &Method, path: &str, answer: &Answer) {
        let path = path.split('?').next().unwrap_or(path);
        let fits = |pattern: &str| {
            let (pattern, path) = (pattern.split('/').collect::<Vec<_>>(), path.split('/').collect::<Vec<_>>());
            pattern.len() == path.len() && pattern.iter().zip(&path).all(|(p, s)| p == s || p.starts_with('{'))
        };
        let method = method.as_str().to_lowercase();
        let operation = self.documented.iter().find(|(route, _)| {
            let (documented, pattern) = route.split_once(' ').expect("a route");
            documented == method && fits(pattern)
        });
        let (route, operation) = operation.unwrap_or_else(|| panic!("{method} {path} is not documented"));
        let status = answer.status.as_str();
        assert!(operation["responses"][status].is_object(), "{route} answers {status}, undocumented: {}", answer.text);
        assert_eq!(answer.header("traceparent").len(), 55, "{route} has a trace");
        if answer.status.is_client_error() {
            assert_eq!(answer.header("content-type"), "application/problem+json", "{route}: {}", answer.text);
        }
    }

    /// The operations of the document, as `get /products`.
    pub fn documented(&self) -> &BTreeMap<String, Value> {
        &self.documented
    }

    pub async fn get(&self, path: &str, who: Option<As>) -> Answer {
        self.ask(Method::GET, path, who, &[], None).await
    }

    /// An operator describes a product.
    pub async fn put(&self, sku: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        self.ask(Method::PUT, &format!("/products/{sku}"), Some(As::Operator), headers, Some(body)).await
    }

    /// An operator adds pieces.
    pub async fn restock(&self, sku: &str, quantity: i64, key: &str) -> Answer {
        let (path, body) = (format!("/products/{sku}/restocks"), json!({ "quantity": quantity }));
        self.ask(Method::POST, &path, Some(As::Operator), &[("idempotency-key", key)], Some(&body)).await
    }

    /// There is such a product, with so many pieces.
    pub async fn product(&self, sku: &str, pieces: i64) {
        self.put(sku, &described("Mug", 1999), &[]).await.expect(201);
        if pieces > 0 {
            self.restock(sku, pieces, &Uuid::now_v7().to_string()).await.expect(201);
        }
    }

    /// `[available, reserved, sold, received]`.
    pub async fn stock(&self, sku: &str) -> [i64; 4] {
        let answer = self.get(&format!("/products/{sku}/stock"), Some(As::Operator)).await;
        let stock = answer.expect(200);
        ["available", "reserved", "sold", "received"].map(|part| stock[part].as_i64().expect("a number"))
    }

    /// The reservation of an order, as an operator sees it.
    pub async fn reservation(&self, order: Order) -> Value {
        self.get(&format!("/reservations/{}", order.id), Some(As::Operator)).await.expect(200).clone()
    }

    /// `state`, or `state reason`; empty if there is no reservation.
    pub async fn state(&self, order: Order) -> String {
        let answer = self.get(&format!("/reservations/{}", order.id), Some(As::Operator)).await;
        let text = |member: &str| answer.json[member].as_str().unwrap_or_default().to_owned();
        if answer.status == 200 {
            format!("{} {}", text("state"), text("reason")).trim().to_owned()
        } else {
            String::new()
        }
    }

    /// The orders service announces something; returns when the service has handled it.
    pub async fn tell<E: Event>(&self, event: &E) {
        let message_id = self.orders.publish(event).await;
        self.handled(message_id).await;
    }

    /// The service tells itself something, as when an alarm rings; returns when it has handled it.
    pub async fn tell_itself<E: Event>(&self, event: &E) {
        let outbox = Outbox::new(self.database.pool.clone(), "inventory");
        let mut tx = outbox.begin().await.expect("the service's database");
        let message_id = tx.publish(event).expect("an event");
        tx.commit().await.expect("a commit");
        self.handled(message_id).await;
    }

    /// The orders service announces many things, some at a time; does not wait.
    pub async fn announce<E: Event>(&self, events: &[E]) {
        for some in events.chunks(100) {
            let mut tx = self.orders.outbox.begin().await.expect("the orders' database");
            for event in some {
                tx.publish(event).expect("an event");
            }
            tx.commit().await.expect("a commit");
        }
    }

    /// Waits until the service has handled a message, or put it aside.
    pub async fn handled(&self, message_id: Uuid) {
        let seen = format!(
            "select (select count(*) from messaging.inbox where message_id = '{message_id}')
                  + (select count(*) from messaging.parked where message_id = '{message_id}')"
        );
        eventually("the message is handled", async || self.count(&seen).await > 0).await;
    }

    /// The time of an order's reservation is over, and its alarm rings.
    pub async fn time_passes(&self, order: Order) {
        self.execute(&format!("update reservations set expires_at = now() where order_id = '{}'", order.id)).await;
        self.ring(order).await;
    }

    /// The alarm of an order's reservation rings, whatever the time is; returns when the service has heard it.
    pub async fn ring(&self, order: Order) {
        let scheduled = format!("select message_id from messaging.scheduled where key = '{}'", order.id);
        let message_id: Uuid =
            sqlx::query_scalar(AssertSqlSafe(scheduled)).fetch_one(&self.database.pool).await.expect("one alarm");
        self.execute(&format!("update messaging.scheduled set due_at = now() where message_id = '{message_id}'")).await;
        self.handled(message_id).await;
    }

    /// What the orders service heard of an order, in order: `reserved`, `rejected out_of_stock MUG-01`, `released expired`, `committed`.
    /// Waits until everything that the service announced has arrived.
    pub async fn heard(&self, order: Order) -> Vec<String> {
        let announced = format!("select count(*) from messaging.journal where key = '{}' and not deadline", order.id);
        let pending = "select count(*) from messaging.outbox";
        eventually("everything is announced", async || self.count(pending).await == 0).await;
        let own = format!("{announced} and type <> '{}'", ReservationDue::TYPE);
        let expected = usize::try_from(self.count(&own).await).expect("a count");
        let mut heard = Vec::new();
        eventually("everything is heard", async || {
            heard = self.log_of(order);
            heard.len() >= expected
        })
        .await;
        heard
    }

    /// As [`Shop::heard`], as far as it has arrived.
    pub fn log_of(&self, order: Order) -> Vec<String> {
        let key = order.id.to_string();
        let of_order = |event: &testkit::Heard| event.key == key;
        let name = |event: testkit::Heard| event.event_type.rsplit('.').next().unwrap_or_default().to_owned();
        let (mut rejected, mut released) = (
            self.orders.heard::<StockRejected>().into_iter().filter(|event| event.order_id == key),
            self.orders.heard::<StockReleased>().into_iter().filter(|event| event.order_id == key),
        );
        let word = |text: &str| text.rsplit("REASON_").next().unwrap_or_default().to_lowercase();
        let log = self.orders.log().into_iter().filter(of_order).map(name);
        log.map(|name| match name.as_str() {
            "StockRejected" => {
                let event = rejected.next().expect("it was heard");
                format!("rejected {} {}", word(event.reason().as_str_name()), event.sku)
            }
            "StockReleased" => {
                format!("released {}", word(released.next().expect("it was heard").reason().as_str_name()))
            }
            name => name.trim_start_matches("Stock").to_lowercase(),
        })
        .collect()
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
        self.vhost.kill_connections().await;
    }
}

/// What a product is called and costs, in euros.
pub fn described(name: &str, minor_units: i64) -> Value {
    json!({ "name": name, "price": { "minor_units": minor_units, "currency": "EUR" } })
}
