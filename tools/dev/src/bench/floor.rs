//! The shop that is measured: its goods, its customers, and how far their orders have come.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{BenchArgs, load::Target};
use crate::{
    binaries, http, seed,
    services::SERVICES,
    shop::eventually,
    stack::{Options, Stack},
    state::Account,
};

const STACK: &str = "bench";
/// Enough that orders do not stand in line for the row of one.
const PRODUCTS: usize = 64;
const PIECES: u32 = 1_000_000;
pub(crate) const CUSTOMERS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(600);

/// A value for a setting of a service.
pub(crate) type Setting = (&'static str, &'static str, &'static str);

/// The shop, new, on engines of its own or those that were given.
pub(crate) async fn open(args: &BenchArgs, settings: &[Setting]) -> Result<Stack> {
    let profile = args.profile();
    let built = binaries::build(profile).await?;
    let mut options = patient(Options::named(STACK));
    for (service, name, value) in settings {
        options = options.setting(service, name, value);
    }
    options.profile = profile;
    options.program = built.path("dev")?.clone();
    options.engines = args.engines.clone();
    Stack::purge(STACK).await?;
    Stack::start(options).await
}

/// Without traces: all of them would be much of the work.
pub(crate) fn untraced() -> Vec<Setting> {
    let off = |name| [(name, "OTEL_TRACES_SAMPLER_ARG", "0"), (name, "TRACES_SQL", "false")];
    SERVICES.iter().flat_map(|service| off(service.name)).collect()
}

/// Nothing ends because the machine is slow.
fn patient(options: Options) -> Options {
    options
        .setting("orders", "STOCK_DEADLINE_SECONDS", 3600)
        .setting("orders", "PAYMENT_DEADLINE_SECONDS", 3600)
        .setting("orders", "COMMIT_DEADLINE_SECONDS", 3600)
        .setting("inventory", "RESERVATION_SECONDS", 7200)
}

/// Customers who are logged in anew: access tokens do not last as long as a bench does. The first time there are also goods.
pub(crate) async fn target(stack: &mut Stack, first: bool) -> Result<Target> {
    let shop = stack.shop();
    if first {
        let operator = seed::plant(&shop, &mut stack.state).await?.operator;
        for sku in skus() {
            shop.new_product(&operator, &sku, PIECES).await?;
        }
    }
    let mut people = Vec::new();
    for number in 0..CUSTOMERS {
        people.push(shop.customer(&account(number), "Ann Example").await?);
    }
    if first {
        // Waits until orders knows every customer, and the product that was made last.
        let last = skus().last().context("there are products")?;
        for person in &people {
            shop.place(person, &last, 1, "pm_ok").await?;
        }
    }
    let tokens = people.into_iter().map(|person| person.token).collect();
    let body = |sku| json!({ "lines": [{ "sku": sku, "quantity": 1 }], "payment_method": "pm_ok" }).to_string().into();
    Ok(Target { port: shop.orders_port(), tokens, bodies: skus().map(body).collect() })
}

/// What is sold.
pub(crate) fn skus() -> impl Iterator<Item = String> {
    (1..=PRODUCTS).map(|number| format!("BENCH-{number:02}"))
}

/// The ids of those who order, as a database knows them.
pub(crate) async fn customers(stack: &Stack, database: &str) -> Result<Vec<String>> {
    let query = "select user_id from customers where user_id in (select user_id from orders) order by 1;";
    let postgres = &stack.engines.postgres;
    let ids = postgres.run(&postgres.name(database), query).await?;
    Ok(ids.split_whitespace().map(str::to_owned).collect())
}

/// One of the customers.
pub(crate) fn account(number: usize) -> Account {
    Account { email: format!("bench-{number}@example.test"), password: "a long and unlikely pass phrase".to_owned() }
}

/// How many orders were confirmed since the process began.
pub(crate) async fn confirmed(stack: &Stack) -> Result<f64> {
    Ok(sum(&metrics(stack, "orders").await?, "orders_total{", "state=\"confirmed\""))
}

/// Waits until so many orders more are confirmed than before.
pub(crate) async fn confirmed_since(stack: &Stack, before: f64, orders: usize) -> Result<()> {
    eventually("the confirmation of all orders", PATIENCE, async || {
        Ok((confirmed(stack).await? >= before + orders as f64).then_some(()))
    })
    .await
}

/// What every order that is confirmed leaves once: in whose database, what, and how many there are.
const LEFT: [(&str, &str, &str); 6] = [
    ("orders", "confirmed orders", "select count(*) from orders where state = 'confirmed';"),
    (
        "orders",
        "orders with four entries of history",
        "select count(*) from (select from order_history group by order_id having count(*) = 4 and max(seq) = 4) as whole;",
    ),
    ("inventory", "committed reservations", "select count(*) from reservations where state = 'committed';"),
    ("inventory", "pieces sold", "select sum(sold)::bigint from products;"),
    ("payments", "authorized payments", "select count(*) from payments where state = 'authorized';"),
    (
        "notifications",
        "letters of confirmation",
        "select count(*) from notifications where state = 'sent' and template = 'order_confirmed';",
    ),
];

/// How many there are of what every order leaves.
pub(crate) struct Left(Vec<i64>);

impl Left {
    /// Counts them, in the databases that these services' names stand for.
    pub(crate) async fn count(stack: &Stack, database: impl Fn(&str) -> String) -> Result<Self> {
        let postgres = &stack.engines.postgres;
        let mut counts = Vec::with_capacity(LEFT.len());
        for (service, what, query) in LEFT {
            let count = postgres.run(&postgres.name(&database(service)), query).await?;
            counts.push(count.trim().parse().with_context(|| format!("{what} are counted, not {count:?}"))?);
        }
        Ok(Self(counts))
    }

    /// What is wrong if so many orders were confirmed since then, and nothing else happened.
    pub(crate) fn wrong(&self, since: &Self, orders: usize) -> Vec<String> {
        let more = self.0.iter().zip(&since.0).map(|(after, before)| after - before);
        let wrong = LEFT.iter().zip(more).filter(|(_, more)| usize::try_from(*more) != Ok(orders));
        wrong.map(|((_, what, _), more)| format!("{more} {what} for {orders} orders")).collect()
    }
}

/// Waits until no order of the shop is under way.
pub(crate) async fn at_rest(stack: &Stack) -> Result<()> {
    let open = "select count(*) from orders where state not in ('confirmed', 'cancelled');";
    eventually("the end of all orders", PATIENCE, async || {
        Ok((stack.run_sql("orders", open).await?.trim() == "0").then_some(()))
    })
    .await
}

/// Waits until nothing is under way, mails included.
pub(crate) async fn all_at_rest(stack: &Stack) -> Result<()> {
    at_rest(stack).await?;
    let pending = "select count(*) from notifications where state = 'pending';";
    eventually("the last mail", PATIENCE, async || {
        Ok((stack.run_sql("notifications", pending).await?.trim() == "0").then_some(()))
    })
    .await
}

/// What the first process of a service says of itself.
pub(crate) async fn metrics(stack: &Stack, service: &str) -> Result<String> {
    Ok(http::get(stack.port(service)?, "/metrics").await?.text())
}

/// Adds up the samples whose line begins with `name` and has `label` in it (Prometheus' text format).
pub(crate) fn sum(text: &str, name: &str, label: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_left_too_little_or_too_much_is_found() {
        let (before, after) = (Left(vec![5; 6]), Left(vec![7, 7, 7, 8, 7, 6]));
        assert_eq!(after.wrong(&before, 2), ["3 pieces sold for 2 orders", "1 letters of confirmation for 2 orders"]);
        assert!(Left(vec![7; 6]).wrong(&before, 2).is_empty());
    }

    #[test]
    fn samples_are_added_up_by_name_and_label() {
        let text = "# HELP orders_total x\norders_total{state=\"confirmed\",reason=\"\"} 3\norders_total{state=\"placed\"} 5\n\
                    orders_total{state=\"confirmed\",reason=\"x\"} 4\nprocess_resident_memory_bytes 7\n";
        assert_eq!(sum(text, "orders_total{", "state=\"confirmed\""), 7.0);
        assert_eq!(sum(text, "process_resident_memory_bytes", ""), 7.0);
    }
}
