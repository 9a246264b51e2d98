//! The order that ends `cargo dev up`: it is placed, followed until it is confirmed, and shown with its mail and its trace.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::{
    console::{self, Step},
    explain, seed,
    shop::{Line, PATIENCE, Shop},
};

/// Everybody who has a part in an order.
const SERVICES: [&str; 4] = ["orders", "inventory", "payments", "notifications"];

pub(crate) async fn show(shop: &Shop, people: &seed::People) -> Result<()> {
    console::heading("An order, to see that it works");
    let customer = &people.customer;
    let lines = [(seed::MUG, 1), (seed::TEA, 2)].map(|(sku, quantity)| Line { sku: sku.to_owned(), quantity });
    let started = Instant::now();
    let step = Step::start("POST /orders", "placing it");
    let placed = shop.place_lines(customer, &lines, "pm_ok").await?;
    step.done(format_args!("{} for {} → {}", placed.order.id, placed.order.total, placed.order.state));

    let mut last = String::new();
    shop.follow(customer, &placed.order.id, PATIENCE, |entry| {
        console::row("", explain::line(entry, &format!("+{:.2} s", started.elapsed().as_secs_f64())));
        last.clone_from(&entry.state);
        ["confirmed", "cancelled"].contains(&entry.state.as_str())
    })
    .await?;
    ensure!(last == "confirmed", "the order is {last} and not confirmed");

    let step = Step::start("mail", "waiting for it in the mailbox");
    let mails = shop.mails_about(&placed.order.id, &customer.email, 1).await?;
    let shown: Vec<String> =
        mails.iter().map(|mail| format!("“{}” at {}", mail.subject, shop.mail_url(mail))).collect();
    step.done(shown.join(", "));

    let step = Step::start("trace", "waiting for its spans");
    let trace = shop
        .whole_trace(&placed.trace_id, |trace| SERVICES.iter().all(|service| trace.services().contains(service)))
        .await?;
    step.done(shop.trace_url(&placed.trace_id));
    for line in trace.to_string().lines() {
        console::row("", line);
    }
    Ok(())
}
