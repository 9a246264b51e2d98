//! Orders that are confirmed in a second, by the whole shop, beside the least shop: the same statements and messages, replayed by a program with
//! a driver of each engine and nothing else (`tools/bench/src/limit/shop.rs`), on copies of the services' databases and the same engines. And how
//! long `POST /orders` takes at most of what the shop can do.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use measure::{Aim, Measurement, Side, in_turn, quantile};
use serde::Deserialize;
use tokio::{process::Command, time::Instant};

use super::{BenchArgs, floor, load};
use crate::{
    binaries,
    console::{self, Step},
    programs,
    services::SERVICES,
    stack::Stack,
    test::environment,
};

const PROGRAM: &str = "bench";
/// The services of which the least shop has the statements.
const COPIED: [&str; 4] = ["orders", "inventory", "payments", "notifications"];
const WARM_UP_ORDERS: usize = 200;
/// Requests at once: of people, of whom as many find a place at once as there are connections.
const AT_ONCE: usize = 16;
/// Connections for requests that `orders` has, unless it is told otherwise; in the least shop whoever has one places orders.
const CONNECTIONS: usize = 8;
/// Share of what the shop can do, for the question how long a request takes.
const PACE: f64 = 0.7;
/// Enough that none is waited for at that pace.
const PACE_CONNECTIONS: usize = 64;
const SHARES: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];
const EACH_ONCE: &str = "each order leaves everywhere what a confirmed one leaves, once";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Shop,
    Least,
}

/// What the least shop says of itself.
#[derive(Deserialize)]
struct Sold {
    per_second: f64,
}

pub(super) async fn measure(args: &BenchArgs) -> Result<Measurement> {
    console::heading("Orders to their end, beside the least shop (a release build: the first one takes minutes)");
    let program = binaries::build_alone(PROGRAM, args.profile()).await?;
    let mut settings = floor::untraced();
    // The simulated provider is far away by default; nobody waits for it in the least shop.
    settings.push(("payments", "PROVIDER_LATENCY_MILLISECONDS", "0"));
    let stack = floor::open(args, &settings).await?;
    let (orders, pace) = if args.quick { (300, 4) } else { (2_000, 15) };
    let mut bench = Measuring { stack, program, orders, pace: Duration::from_secs(pace) };
    let measured = bench.all(args.rounds()).await;
    bench.stack.stop(true).await?;
    measured
}

struct Measuring {
    stack: Stack,
    program: PathBuf,
    orders: usize,
    pace: Duration,
}

impl Measuring {
    async fn all(&mut self, rounds: usize) -> Result<Measurement> {
        let mut saga =
            Measurement::new("saga", "orders to their confirmation, beside the same statements and messages alone");
        let customers = self.prepare().await?;
        let rates = in_turn(&[Which::Shop, Which::Least], rounds, async |which| match which {
            Which::Shop => self.shop(&mut saga).await,
            Which::Least => self.least(&customers, &mut saga).await,
        })
        .await?;
        let (shop, least) = (Side::new("shop", &rates[0]), Side::new("least shop", &rates[1]));
        let pace = PACE * shop.median();
        saga.compare("orders confirmed per second", "1/s", shop, least, Aim::AtLeast(0.6));
        self.at_a_pace(pace, &mut saga).await?;
        saga.note(format!(
            "the least shop has the services' statements, one transaction for each message with a row for what came and a row for what goes, confirmed \
             messages in the same kind of queues, {CONNECTIONS} connections for requests and 4 for each consumer. It has no HTTP, tokens, access log \
             or mail server, keeps no order of a key, and what it has sent is nowhere"
        ));
        let products = floor::skus().count();
        saga.note(format!("the orders are for {products} products in turn, whose row is locked twice for each; the simulated provider answers at once"));
        Ok(saga)
    }

    /// A shop that has sold something, and copies of its databases. The ids of its customers.
    async fn prepare(&mut self) -> Result<Vec<String>> {
        let target = floor::target(&mut self.stack, true).await?;
        load::as_fast_as_possible(&target, WARM_UP_ORDERS, AT_ONCE).await?;
        floor::all_at_rest(&self.stack).await?;
        // PostgreSQL copies a database only while nobody is connected to it.
        for service in SERVICES {
            self.stack.stop_service(service.name).await?;
        }
        let step = Step::start("copies", "of the databases");
        for service in COPIED {
            self.stack.engines.postgres.copy_database(service, &copy(service)).await?;
        }
        step.done("made");
        self.stack.start_services().await?;
        let target = floor::target(&mut self.stack, false).await?;
        load::as_fast_as_possible(&target, WARM_UP_ORDERS, AT_ONCE).await?;
        floor::all_at_rest(&self.stack).await?;
        floor::customers(&self.stack, "orders").await
    }

    /// Orders per second, from the first request to the last confirmation.
    async fn shop(&mut self, saga: &mut Measurement) -> Result<f64> {
        let target = floor::target(&mut self.stack, false).await?;
        let step = Step::start("shop", "orders");
        let before = self.left().await?;
        let (begin, confirmed) = (Instant::now(), floor::confirmed(&self.stack).await?);
        load::as_fast_as_possible(&target, self.orders, AT_ONCE).await?;
        floor::confirmed_since(&self.stack, confirmed, self.orders).await?;
        let rate = self.orders as f64 / begin.elapsed().as_secs_f64();
        floor::all_at_rest(&self.stack).await?;
        saga.check(EACH_ONCE, self.orders as u64, self.left().await?.wrong(&before, self.orders));
        step.done(format_args!("{rate:.0} orders/s confirmed"));
        Ok(rate)
    }

    async fn least(&mut self, customers: &[String], saga: &mut Measurement) -> Result<f64> {
        let step = Step::start("least shop", "orders");
        let engines = &self.stack.engines;
        let mut command = Command::new(&self.program);
        command.args(["bare-shop", "--orders", &self.orders.to_string(), "--at-once", &CONNECTIONS.to_string()]);
        command.args(["--warm-up", &WARM_UP_ORDERS.to_string()]);
        command.args(customers.iter().map(|customer| format!("--customer={customer}")));
        command.args(floor::skus().map(|sku| format!("--sku={sku}")));
        command.args(COPIED.map(|service| format!("--database={service}={}", engines.postgres.name(&copy(service)))));
        let before = floor::Left::count(&self.stack, copy).await?;
        let printed = programs::output(environment(&mut command, engines)).await?;
        let sold: Sold = serde_json::from_str(&printed).with_context(|| format!("the least shop says {printed:?}"))?;
        let (after, all) = (floor::Left::count(&self.stack, copy).await?, WARM_UP_ORDERS + self.orders);
        saga.check(EACH_ONCE, all as u64, after.wrong(&before, all));
        step.done(format_args!("{:.0} orders/s confirmed", sold.per_second));
        Ok(sold.per_second)
    }

    async fn at_a_pace(&mut self, pace: f64, saga: &mut Measurement) -> Result<()> {
        let target = floor::target(&mut self.stack, false).await?;
        let step = Step::start("pace", "orders");
        let before = self.left().await?;
        let times = load::at_a_pace(&target, pace, self.pace, PACE_CONNECTIONS).await?;
        floor::all_at_rest(&self.stack).await?;
        saga.check(EACH_ONCE, times.len() as u64, self.left().await?.wrong(&before, times.len()));
        let at = |share| anyhow::Ok(quantile(&times, share).context("orders were placed")? * 1e3);
        let spread = SHARES
            .iter()
            .map(|(share, name)| anyhow::Ok(format!("{name} {:.1} ms", at(*share)?)))
            .collect::<Result<Vec<_>>>()?;
        let spread = spread.join(", ");
        saga.note(format!("POST /orders at {pace:.0} orders a second, {PACE} of what the shop can do, from when each was due: {spread}"));
        step.done(spread);
        Ok(())
    }

    /// What the shop's orders have left.
    async fn left(&self) -> Result<floor::Left> {
        floor::Left::count(&self.stack, str::to_owned).await
    }
}

/// The database beside that of a service.
fn copy(service: &str) -> String {
    format!("{service}_alone")
}
