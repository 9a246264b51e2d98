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

/// Waits until no order of the shop is under way.
pub(crate) async fn at_rest(stack: &Stack) -> Result<()> {
    let open = "select count(*) from orders where state not in ('confirmed', 'cancelled');";
    eventually("the end of all orders", PATIENCE, async || {
        Ok((stack.run_sql("orders", open).await?.trim() == "0").then_some(()))
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
    fn samples_are_added_up_by_name_and_label() {
        let text = "# HELP orders_total x\norders_total{state=\"confirmed\",reason=\"\"} 3\norders_total{state=\"placed\"} 5\n\
                    orders_total{state=\"confirmed\",reason=\"x\"} 4\nprocess_resident_memory_bytes 7\n";
        assert_eq!(sum(text, "orders_total{", "state=\"confirmed\""), 7.0);
        assert_eq!(sum(text, "process_resident_memory_bytes", ""), 7.0);
    }
}
