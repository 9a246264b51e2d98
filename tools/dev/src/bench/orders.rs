//! `POST /orders`, as many as are taken when more come than can be, beside what the database does when the same statements are said to it by
//! `pgbench` (`orders/request.sql`): what HTTP, tokens, JSON and the relay beside them cost.
//!
//! Only what a request needs is running: `orders`, `users` and the engines; what would become of the orders waits in the queues. `pgbench` works
//! on a copy of the service's database, over as many connections as the service has for requests, without a relay.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use measure::{Aim, Measurement, Side, in_turn};
use tokio::time::Instant;

use super::{
    BenchArgs,
    arrivals::{self, Outcome, Rush},
    floor, load,
    pgbench::{self, Script},
};
use crate::{
    console::{self, Step},
    services::{ORDERS, SERVICES, USERS},
    stack::Stack,
};

const REQUEST: &str = include_str!("orders/request.sql");
/// A database beside that of the service.
const COPY: &str = "orders_alone";
/// As many as the service has for requests, unless it is told otherwise.
const CONNECTIONS: u16 = 8;
const WARM_UP_ORDERS: usize = 200;
const AT_ONCE: usize = 16;
/// Of what people get who wait for each answer: enough that there is always something to do.
const OFFERED: f64 = 1.2;
/// More than a client of pgbench can do in a round.
const NUMBERS: usize = 1_000_000;
/// The tables into which a request writes one row each.
const ROWS: &str = "select array[(select count(*) from orders), (select count(*) from order_lines), (select count(*) from order_history),
       (select count(*) from idempotency.answers), (select count(*) from messaging.scheduled), (select count(*) from messaging.outbox)]::text;";

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Service,
    Statements,
}

pub(super) async fn measure(args: &BenchArgs) -> Result<Measurement> {
    console::heading("Requests, beside their statements alone (a release build: the first one takes minutes)");
    let settings = floor::untraced();
    let stack = floor::open(args, &settings).await?;
    let time = Duration::from_secs(if args.quick { 3 } else { 8 });
    let mut bench = Measuring { stack, time, offered: 0.0, runs: 0 };
    let measured = bench.all(args.rounds()).await;
    bench.stack.stop(true).await?;
    measured
}

struct Measuring {
    stack: Stack,
    time: Duration,
    /// Orders a second that come.
    offered: f64,
    /// Of pgbench.
    runs: usize,
}

impl Measuring {
    async fn all(&mut self, rounds: usize) -> Result<Measurement> {
        let says = "POST /orders when more come than can be taken, beside the statements of one by pgbench";
        let mut orders = Measurement::new("orders", says);
        self.prepare().await?;
        let rates = in_turn(&[What::Service, What::Statements], rounds, async |what| match what {
            What::Service => self.service(&mut orders).await,
            What::Statements => self.statements(&mut orders).await,
        })
        .await?;
        let (service, statements) = (Side::new("service", &rates[0]), Side::new("statements alone", &rates[1]));
        orders.compare("orders taken per second", "1/s", service, statements, Aim::AtLeast(0.5));
        orders.note(format!(
            "{:.0} orders a second came at random times, {OFFERED} times of what {AT_ONCE} people get who wait for each answer; taken are those that \
             were answered with 202 within {:?} from when they were due",
            self.offered,
            arrivals::PATIENCE
        ));
        orders.note(format!(
            "the service has {CONNECTIONS} connections for requests and pgbench as many; the service's relay sends the events meanwhile, those of \
             pgbench stay where they are; whoever sends the requests, and RabbitMQ, are on the same processors"
        ));
        Ok(orders)
    }

    /// A shop that has sold something, a copy of its orders, and nothing running that a request does not need.
    async fn prepare(&mut self) -> Result<()> {
        let target = floor::target(&mut self.stack, true).await?;
        load::as_fast_as_possible(&target, WARM_UP_ORDERS, AT_ONCE).await?;
        floor::at_rest(&self.stack).await?;
        let step = Step::start("copy", "of the database of orders");
        // PostgreSQL copies a database only while nobody is connected to it.
        self.stack.stop_service(ORDERS.name).await?;
        self.stack.engines.postgres.copy_database(ORDERS.name, COPY).await?;
        self.stack.start_services().await?;
        for service in SERVICES.iter().filter(|service| ![ORDERS.name, USERS.name].contains(&service.name)) {
            self.stack.stop_service(service.name).await?;
        }
        let begin = Instant::now();
        let target = floor::target(&mut self.stack, false).await?;
        load::as_fast_as_possible(&target, WARM_UP_ORDERS, AT_ONCE).await?;
        self.offered = OFFERED * WARM_UP_ORDERS as f64 / begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let orders = (self.offered * self.time.as_secs_f64()) as usize;
        load::as_fast_as_possible(&target, orders, AT_ONCE).await?;
        self.offered = OFFERED * orders as f64 / begin.elapsed().as_secs_f64();
        step.done(format_args!("made; {:.0} orders/s will come", self.offered));
        Ok(())
    }

    async fn service(&mut self, orders: &mut Measurement) -> Result<f64> {
        let step = Step::start("service", "orders come");
        let target = floor::target(&mut self.stack, false).await?;
        let wishes = arrivals::rush(&target, Rush { per_second: self.offered, time: self.time, tries: 1 }).await?;
        let taken: BTreeSet<_> = wishes.iter().filter_map(|wish| taken(&wish.outcome)).collect();
        let there = self.stack.run_sql(ORDERS.name, "select id from orders;").await?;
        let there: BTreeSet<&str> = there.lines().map(str::trim).collect();
        let lost = taken.difference(&there).map(|id| format!("{id} was taken and is not there")).collect();
        orders.check("every order that was taken is there", taken.len() as u64, lost);
        let failed = wishes.iter().filter_map(|wish| match &wish.outcome {
            Outcome::Failed(why) => Some(why.clone()),
            _ => None,
        });
        orders.check("no order is answered with an error", wishes.len() as u64, failed.collect());
        let rate = taken.len() as f64 / self.time.as_secs_f64();
        step.done(format_args!("{rate:.0} orders/s taken"));
        Ok(rate)
    }

    async fn statements(&mut self, orders: &mut Measurement) -> Result<f64> {
        let step = Step::start("statements", "pgbench runs");
        let postgres = &self.stack.engines.postgres;
        let database = postgres.name(COPY);
        let customers = floor::customers(&self.stack, COPY).await?;
        // Nobody sends what is in it.
        postgres.run(&database, "truncate messaging.outbox; checkpoint;").await?;
        let variables = [
            ("customers", format!("{{{}}}", customers.join(","))),
            ("count", customers.len().to_string()),
            ("sku", floor::skus().next().context("there are products")?),
            ("first", (self.runs * NUMBERS).to_string()),
            ("n", "0".to_owned()),
        ];
        self.runs += 1;
        let script = Script { text: REQUEST, variables: &variables, connections: CONNECTIONS, time: self.time };
        let before = rows(&postgres.run(&database, ROWS).await?)?;
        let ran = pgbench::run(postgres, &database, &script).await?;
        let after = rows(&postgres.run(&database, ROWS).await?)?;
        let more: Vec<_> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        let same = more.iter().all(|rows| *rows == ran.transactions);
        let wrong =
            if same { Vec::new() } else { vec![format!("{} transactions left {more:?} rows", ran.transactions)] };
        orders.check(
            "each transaction of pgbench leaves what a request leaves",
            ran.transactions.unsigned_abs(),
            wrong,
        );
        step.done(format_args!("{:.0} transactions/s", ran.per_second));
        Ok(ran.per_second)
    }
}

fn taken(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Taken(id) => Some(id),
        _ => None,
    }
}

/// Reads `{1,2,3}`.
fn rows(text: &str) -> Result<Vec<i64>> {
    let numbers = text.trim().trim_matches(['{', '}']);
    let rows: Vec<i64> = numbers.split(',').map(str::parse).collect::<Result<_, _>>().context("rows are counted")?;
    ensure!(!rows.is_empty(), "no table was looked at");
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        assert_eq!(rows("{1,20,3}\n").unwrap(), [1, 20, 3]);
        assert!(rows("").is_err());
    }
}
