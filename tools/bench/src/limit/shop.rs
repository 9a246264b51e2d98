//! The least shop: the statements of the services for an order that is confirmed, and the messages between them, with sqlx and lapin alone and
//! as many connections as the services have. No HTTP, no tokens, no traces, no access log, no mail server.
//!
//! It keeps the least that loses and doubles nothing: a row for each message that came, a row for each that is to be sent, in the transaction of
//! the statements; what was confirmed is deleted, many at once. It keeps no order of a key, and nobody could replay what it has sent.

mod queues;
mod way;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testkit::Vhost;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use way::{Hop, Parameter, Statement, way};

const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(5);

/// What is sold, to whom, and where that is written down.
#[derive(Args, Debug)]
pub(crate) struct BareShop {
    /// How many orders.
    #[arg(long)]
    orders: usize,
    /// How many of them are placed at once.
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    /// Orders before them, that are not measured: connections are warm then.
    #[arg(long, default_value_t = 0)]
    warm_up: usize,
    /// The id of a customer who is verified; may be given several times.
    #[arg(long = "customer", required = true)]
    customers: Vec<Uuid>,
    /// A product with stock, of which each order has one; may be given several times.
    #[arg(long = "sku", required = true)]
    skus: Vec<String>,
    /// A service and the database with its tables, as `orders=name`; for orders, inventory, payments and notifications.
    #[arg(long = "database", value_parser = pair)]
    databases: Vec<(String, String)>,
    /// The server with these databases.
    #[arg(long, env = "TEST_DATABASE_URL", hide_env_values = true)]
    server: String,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (service, database) = text.split_once('=').ok_or("a service, =, and its database")?;
    Ok((service.to_owned(), database.to_owned()))
}

/// A message that is to be sent.
struct Outgoing {
    id: Uuid,
    hop: usize,
    order: Uuid,
}

/// What everybody here knows.
struct Shop {
    way: Vec<Hop>,
    skus: Vec<String>,
    customers: Vec<Uuid>,
    urls: BTreeMap<String, String>,
    amqp_url: String,
    /// Orders whose last transaction in `orders` is committed, and those that are done with altogether.
    confirmed: AtomicUsize,
    done: AtomicUsize,
}

/// Sells so many orders; how many a second, for whoever asked for it.
pub(crate) async fn sell(args: &BareShop) -> Result<serde_json::Value> {
    let vhost = Vhost::create(&[]).await;
    let base = args.server.rsplit_once('/').map_or(args.server.as_str(), |(base, _)| base);
    let urls: BTreeMap<_, _> =
        args.databases.iter().map(|(service, name)| (service.clone(), format!("{base}/{name}"))).collect();
    let (way, skus, customers) = (way()?, args.skus.clone(), args.customers.clone());
    let (confirmed, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let shop = Arc::new(Shop { way, skus, customers, urls, amqp_url: vhost.amqp_url.clone(), confirmed, done });
    let mut parts = JoinSet::new();
    let senders = shop.open(&mut parts).await?;
    let first = senders.get("orders").context("there are orders")?.clone();
    let mut connections = Vec::with_capacity(args.at_once);
    for _ in 0..args.at_once {
        connections.push(shop.connect("orders").await?);
    }
    let connections = shop.place(connections, args.warm_up, &first).await?;
    shop.until(&shop.done, args.warm_up, &mut parts).await?;
    let begin = Instant::now();
    shop.place(connections, args.orders, &first).await?;
    let all = args.warm_up + args.orders;
    shop.until(&shop.confirmed, all, &mut parts).await?;
    let seconds = begin.elapsed().as_secs_f64();
    shop.until(&shop.done, all, &mut parts).await?;
    Ok(serde_json::json!({ "per_second": args.orders as f64 / seconds }))
}

impl Shop {
    async fn connect(&self, database: &str) -> Result<PgConnection> {
        let url = self.urls.get(database).with_context(|| format!("no database was named for {database}"))?;
        Ok(PgConnection::connect(url).await?)
    }

    fn databases(&self) -> BTreeSet<&'static str> {
        self.way.iter().map(|hop| hop.database).collect()
    }

    /// Places orders, one after the other over each of these connections, and gives them back.
    async fn place(
        self: &Arc<Self>,
        connections: Vec<PgConnection>,
        orders: usize,
        sender: &mpsc::Sender<Outgoing>,
    ) -> Result<Vec<PgConnection>> {
        let (mut places, next) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for mut conn in connections {
            let (shop, next, sender) = (Arc::clone(self), Arc::clone(&next), sender.clone());
            places.spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < orders {
                    shop.hop(&mut conn, 0, Uuid::now_v7(), None, &sender).await?;
                }
                anyhow::Ok(conn)
            });
        }
        let mut connections = Vec::new();
        while let Some(place) = places.join_next().await {
            connections.push(place.context("a request panicked")??);
        }
        Ok(connections)
    }

    /// Everything that is done with an order in one place. A message that came before changes nothing.
    async fn hop(
        &self,
        conn: &mut PgConnection,
        number: usize,
        order: Uuid,
        message: Option<Uuid>,
        sender: &mpsc::Sender<Outgoing>,
    ) -> Result<()> {
        let hop = self.way.get(number).context("a hop of the way")?;
        let next = self.way.get(number + 1).map(|_| Outgoing { id: Uuid::now_v7(), hop: number + 1, order });
        let last = hop.transactions.len() - 1;
        for (place, statements) in hop.transactions.iter().enumerate() {
            if let [alone] = &statements[..] {
                self.run(conn, alone, order).await?;
                continue;
            }
            let mut tx = conn.begin().await?;
            if let (0, Some(id)) = (place, message) {
                let note =
                    sqlx::query("insert into bare.inbox (message_id) values ($1) on conflict do nothing").bind(id);
                if note.execute(&mut *tx).await?.rows_affected() == 0 {
                    return Ok(());
                }
            }
            for statement in statements {
                self.run(&mut tx, statement, order).await?;
            }
            if let (true, Some(next)) = (place == last, &next) {
                sqlx::query("insert into bare.outbox (message_id, hop, order_id) values ($1, $2, $3)")
                    .bind(next.id)
                    .bind(i32::try_from(next.hop)?)
                    .bind(order)
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await?;
        }
        self.count(number);
        if let Some(next) = next {
            sender.send(next).await.ok().context("nobody sends any more")?;
        }
        Ok(())
    }

    async fn run(&self, conn: &mut PgConnection, statement: &Statement, order: Uuid) -> Result<()> {
        let mut query = sqlx::query(AssertSqlSafe(Arc::clone(&statement.text)));
        for parameter in &statement.parameters {
            query = match parameter {
                Parameter::Order => query.bind(order),
                Parameter::Sku => query.bind(of(&self.skus, order)?),
                Parameter::Customer => query.bind(of(&self.customers, order)?),
            };
        }
        query.execute(conn).await.with_context(|| statement.text.to_string())?;
        Ok(())
    }

    fn count(&self, hop: usize) {
        let last_of = |database| self.way.iter().rposition(|hop| hop.database == database);
        if Some(hop) == last_of("orders") {
            self.confirmed.fetch_add(1, Ordering::Relaxed);
        }
        if hop + 1 == self.way.len() {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn until(&self, counted: &AtomicUsize, orders: usize, parts: &mut JoinSet<Result<()>>) -> Result<()> {
        let enough = async {
            while counted.load(Ordering::Relaxed) < orders {
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            enough = timeout(PATIENCE, enough) => enough.with_context(|| format!("{orders} orders took longer than {PATIENCE:?}")),
            Some(ended) = parts.join_next() => match ended.context("a part panicked")? {
                Ok(()) => anyhow::bail!("a part ended"),
                Err(error) => Err(error),
            },
        }
    }
}

/// One of these for an order: always the same of the same one.
fn of<T>(all: &[T], order: Uuid) -> Result<&T> {
    let number = usize::try_from(order.as_u128() % all.len().max(1) as u128)?;
    all.get(number).context("there is something to choose from")
}
