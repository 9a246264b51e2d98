//! The scenarios. Each orders a product that no other one touches, so that its stock tells of it alone.

use std::pin::Pin;

use anyhow::{Result, ensure};

use super::{SLOW_PATIENCE, story::Story};
use crate::{
    explain,
    seed::{self, People},
    shop::{Entry, PATIENCE, Placed, Shop, Stock, eventually},
};

/// A scenario, and what is to come of it.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// Waits for a deadline.
    pub(super) is_slow: bool,
    sku: &'static str,
    payment_method: &'static str,
    /// How many to order, out of so many that are available.
    quantity: fn(i64) -> i64,
    /// The customer has second thoughts as soon as this has happened.
    cancelled_after: Option<&'static str>,
    /// State and reason at the end.
    outcome: &'static str,
    /// What has to happen until the story is over, in any order.
    last_events: &'static [&'static str],
    /// How many mails about it come.
    mails: usize,
    /// How the payment stands in the end: one of these.
    payment: &'static [&'static str],
}

pub(super) const SCENARIOS: [Scenario; 5] = [
    Scenario {
        name: "happy",
        title: "two mugs, paid at once",
        is_slow: false,
        sku: seed::MUG,
        payment_method: "pm_ok",
        quantity: |_| 2,
        cancelled_after: None,
        outcome: "confirmed",
        last_events: &["stock_committed"],
        mails: 1,
        payment: &["authorized"],
    },
    Scenario {
        name: "out-of-stock",
        title: "one vase more than there are",
        is_slow: false,
        sku: seed::VASE,
        payment_method: "pm_ok",
        quantity: |available| available + 1,
        cancelled_after: None,
        outcome: "cancelled (out_of_stock)",
        last_events: &["stock_rejected"],
        mails: 1,
        payment: &[],
    },
    Scenario {
        name: "declined",
        title: "a lamp, and a bank that says no",
        is_slow: false,
        sku: seed::LAMP,
        payment_method: "pm_declined",
        quantity: |_| 1,
        cancelled_after: None,
        outcome: "cancelled (payment_declined)",
        last_events: &["payment_declined", "stock_released"],
        mails: 1,
        payment: &["declined"],
    },
    Scenario {
        name: "cancelled",
        title: "a chair, and second thoughts while the payment is under way",
        is_slow: false,
        sku: seed::CHAIR,
        payment_method: "pm_slow",
        quantity: |_| 4,
        cancelled_after: Some("stock_reserved"),
        outcome: "cancelled (cancelled_by_customer)",
        last_events: &["cancellation_requested", "stock_released"],
        mails: 1,
        // The provider still thinks; whatever it answers, the money goes back.
        payment: &["cancelling", "cancelled", "refunding", "refunded"],
    },
    Scenario {
        name: "slow",
        title: "a clock, and a payment that comes when nobody waits for it any more",
        is_slow: true,
        sku: seed::CLOCK,
        payment_method: "pm_slow",
        quantity: |_| 1,
        cancelled_after: None,
        outcome: "cancelled (expired)",
        last_events: &["deadline_reached", "stock_released", "payment_refunded"],
        mails: 1,
        // Taken when the order had ended, and given back.
        payment: &["refunded"],
    },
];

impl Scenario {
    /// Boxed: nested into each other, the futures of all scenarios need much stack.
    pub(super) fn play<'a>(
        &'a self,
        shop: &'a Shop,
        people: &'a People,
        story: &'a Story,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>> {
        Box::pin(self.tell(shop, people, story))
    }

    async fn tell(&self, shop: &Shop, people: &People, story: &Story) -> Result<()> {
        let People { operator, customer } = people;
        let before = shop.stock(operator, self.sku).await?;
        let quantity = (self.quantity)(before.available);
        story.row("stock", format_args!("{}: {before}", self.sku));
        ensure!(before.available >= quantity || self.outcome.contains("out_of_stock"), "{} is sold out", self.sku);
        let placed = shop.place(customer, self.sku, u32::try_from(quantity)?, self.payment_method).await?;
        let asked = format!("POST /orders: {quantity} × {}, {}, {}", self.sku, placed.order.total, self.payment_method);
        story.row("asked", format_args!("{asked} → 202, order {}", placed.order.id));
        story.row("trace", shop.trace_url(&placed.trace_id));

        self.watch(shop, people, &placed, story).await?;

        let order = shop.order(customer, &placed.order.id).await?;
        story.row("order", order.outcome());
        ensure!(order.outcome() == self.outcome, "the order is {} and not {}", order.outcome(), self.outcome);
        let payment = self.check_payment(shop, people, &order.id, story).await?;
        // Whose money went back is told so.
        let mails = self.mails + usize::from(payment == "refunded");
        for mail in shop.mails_about(&order.id, &customer.email, mails).await? {
            story.row("mail", format_args!("“{}” {}", mail.subject, shop.mail_url(&mail)));
        }
        let sold = if self.outcome == "confirmed" { quantity } else { 0 };
        let after = Stock { available: before.available - sold, sold: before.sold + sold, ..before };
        shop.stock_becomes(operator, self.sku, after).await?;
        story.row("stock", format_args!("{}: {after}", self.sku));
        Ok(())
    }

    /// Shows every entry of the timeline as it happens, and plays the customer who cancels.
    async fn watch(&self, shop: &Shop, people: &People, placed: &Placed, story: &Story) -> Result<()> {
        let id = &placed.order.id;
        let (mut missing, mut shown) = (self.last_events.to_vec(), 0);
        let mut show = |entry: &Entry| {
            // A stream that is opened again begins at the beginning.
            if entry.seq > shown {
                shown = entry.seq;
                story.row("", explain::line(entry, &story.at()));
            }
        };
        if let Some(moment) = self.cancelled_after {
            let happened = |entry: &Entry| {
                show(entry);
                entry.event == moment
            };
            shop.follow(&people.customer, id, PATIENCE, happened).await?;
            shop.cancel(&people.customer, id).await?;
            story.row("asked", format_args!("POST /orders/{id}/cancellation → 202"));
        }
        let patience = if self.is_slow { SLOW_PATIENCE } else { PATIENCE };
        shop.follow(&people.customer, id, patience, |entry| {
            show(entry);
            missing.retain(|event| *event != entry.event);
            missing.is_empty()
        })
        .await
    }

    /// Waits until the payment stands as it should, and says how.
    async fn check_payment(&self, shop: &Shop, people: &People, order: &str, story: &Story) -> Result<String> {
        let mut last = String::new();
        let found = eventually("the payment", PATIENCE, async || {
            let payment = shop.payment(&people.customer, order).await?;
            last = payment["state"].as_str().unwrap_or("none").to_owned();
            let wanted = self.payment.contains(&last.as_str()) || (self.payment.is_empty() && payment.is_null());
            Ok(wanted.then_some(()))
        });
        let found = found.await;
        story.row("payment", &last);
        found.map(|()| last)
    }
}
