//! Money: the orders, the payments and the provider's own book tell one story.

use std::collections::BTreeSet;

use crate::{
    dumps::{Order, Payment},
    index::{Index, only, rows},
    verdict::{Finding, Look},
};

/// A confirmed order is charged once, its total; a cancelled one has nothing taken, or all of it back.
pub(crate) fn charged_once(index: &Index<'_>) -> Finding {
    let mut look = Look::new(
        "money",
        "a confirmed order is charged once, its total; nothing is kept of a cancelled one; the provider's book agrees",
    );
    for order in &index.run.orders {
        let found = rows(&index.payments, &order.id);
        look.expect(found.len() <= 1, &[&order.id], || format!("{} payments of one order", found.len()));
        match found.first() {
            Some(payment) => one(&mut look, index, order, payment),
            None => look.expect(order.state != "confirmed", &[&order.id], || "confirmed without a payment".to_owned()),
        }
    }
    let mut ids = BTreeSet::new();
    for payment in &index.run.payments {
        ids.insert(payment.id.as_str());
        look.expect(index.orders.contains_key(payment.order_id.as_str()), &[&payment.id, &payment.order_id], || {
            "a payment of an order that is not there".to_owned()
        });
    }
    for (key, found) in &index.book {
        look.expect(found.len() == 1, &[key], || format!("{} entries of one key in the provider's book", found.len()));
        look.expect(ids.contains(key), &[key], || "the provider was asked for a payment that is not there".to_owned());
    }
    look.done()
}

fn one(look: &mut Look, index: &Index<'_>, order: &Order, payment: &Payment) {
    let ids = [order.id.as_str(), payment.id.as_str()];
    let amount = (payment.minor_units, payment.currency.as_str());
    look.expect(amount == (order.total, order.currency.as_str()), &ids, || {
        format!("the payment is of {amount:?}, the order of {} {}", order.total, order.currency)
    });
    look.expect(payment.payment_method == order.payment_method, &ids, || {
        "paid by other means than the order says".to_owned()
    });
    let fits = match order.state.as_str() {
        "confirmed" => payment.state == "authorized",
        "cancelled" => matches!(payment.state.as_str(), "declined" | "cancelled" | "refunded"),
        _ => true,
    };
    look.expect(fits, &ids, || format!("the order is {:?}, its payment {:?}", order.state, payment.state));

    let entry = only(&index.book, &payment.id);
    let written = entry.map_or("nothing", |entry| entry.state.as_str());
    let agrees = match payment.state.as_str() {
        "authorized" => written == "charged",
        "refunded" => written == "refunded",
        "declined" => matches!(written, "declined" | "voided"),
        "cancelled" => matches!(written, "declined" | "voided"),
        // Still under way: that is found elsewhere.
        _ => true,
    };
    look.expect(agrees, &ids, || format!("the payment is {:?}, the provider has written {written:?}", payment.state));
    if let Some(entry) = entry.filter(|entry| matches!(entry.state.as_str(), "charged" | "refunded")) {
        let taken = (entry.minor_units, entry.currency.as_deref());
        look.expect(taken == (Some(payment.minor_units), Some(payment.currency.as_str())), &ids, || {
            format!("the provider took {taken:?} instead of {amount:?}")
        });
    }
    for (kind, expected) in [
        ("payments.v1.PaymentAuthorized", matches!(payment.state.as_str(), "authorized").then_some(1)),
        ("payments.v1.PaymentDeclined", Some(usize::from(payment.state == "declined"))),
        ("payments.v1.PaymentRefunded", Some(usize::from(payment.state == "refunded"))),
    ] {
        let told = index.announced_of(kind, &order.id).len();
        // What was refunded or cancelled may have been authorized before, once.
        look.expect(expected.map_or(told <= 1, |expected| told == expected), &ids, || {
            format!("{kind} was announced {told} times, and the payment is {:?}", payment.state)
        });
    }
}
