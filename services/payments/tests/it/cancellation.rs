//! An order that is cancelled, at every moment of its payment.

use std::sync::atomic::Ordering;

use events::payments::v1::{PaymentAuthorized, PaymentDeclined, PaymentRefunded};
use testkit::eventually;

use crate::{
    faulty::Held,
    shop::{Order, Shop},
};

/// Waits until the service has handled everything that was said so far.
async fn heard(shop: &Shop, events: i64) {
    shop.orders.settled().await;
    let inbox = "select count(*) from messaging.inbox";
    eventually("the service has heard it", async || shop.count(inbox).await == events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_cancelled_before_its_payment_was_due_is_never_charged() {
    let shop = Shop::open().await;
    let order = Order::new();
    shop.orders.publish(&order.cancelled()).await;
    shop.orders.publish(&order.due("pm_ok")).await;
    shop.orders.publish(&order.cancelled()).await;
    let other = shop.paid_order().await;
    heard(&shop, 4).await;
    assert_eq!(shop.books().await.len(), 1);
    assert!(shop.book(other).await.is_some());
    assert_eq!(shop.count("select count(*) from cancelled_orders").await, 1);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_the_provider_has_not_heard_of_is_voided_there() {
    let shop = Shop::open().await;
    shop.faults.hold(Held::OnTheWay);
    let order = Order::new();
    shop.orders.publish(&order.due("pm_ok")).await;
    eventually("the charge is on its way", async || shop.faults.charges.load(Ordering::SeqCst) == 1).await;
    shop.orders.publish(&order.cancelled()).await;
    // The refund overtakes the charge, and the charge that arrives after it is refused.
    shop.booked(order, "cancelled", Some("voided")).await;
    shop.faults.hold(Held::Nowhere);
    eventually("the charge arrived", async || shop.book(order).await.is_some_and(|row| row.attempts == Some(1))).await;
    shop.audit().await;
    assert!(shop.orders.log().is_empty(), "nothing was taken, so nothing is announced");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_that_comes_back_after_the_cancellation_is_given_back() {
    let shop = Shop::open().await;
    shop.faults.hold(Held::OnTheWayBack);
    let order = Order::new();
    shop.orders.publish(&order.due("pm_ok")).await;
    shop.booked(order, "pending", Some("charged")).await;
    shop.orders.publish(&order.cancelled()).await;
    shop.booked(order, "refunded", Some("refunded")).await;
    shop.faults.hold(Held::Nowhere);
    let refunded = shop.orders.wait_for::<PaymentRefunded>(1).await;
    assert_eq!(refunded[0].amount, Some(order.amount()));
    assert_eq!(refunded[0].user_id, order.user_id.to_string());
    shop.audit().await;
    assert!(shop.orders.heard::<PaymentAuthorized>().is_empty());
    shop.close().await;
}

/// The charge comes back first, while nothing has been given back yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_charge_that_comes_back_while_it_is_cancelled_is_not_announced() {
    let shop = Shop::open().await;
    shop.faults.hold(Held::OnTheWayBack);
    let order = Order::new();
    shop.orders.publish(&order.due("pm_ok")).await;
    shop.booked(order, "pending", Some("charged")).await;
    shop.faults.set_down(true);
    shop.orders.publish(&order.cancelled()).await;
    shop.payment(order, "cancelling").await;
    shop.faults.hold(Held::Nowhere);
    let charge = "select count(*) from messaging.job where task = 'charge_payment'";
    eventually("the charge came back", async || shop.count(charge).await == 0).await;
    shop.booked(order, "cancelling", Some("charged")).await;
    shop.faults.set_down(false);
    shop.booked(order, "refunded", Some("refunded")).await;
    shop.audit().await;
    assert!(shop.orders.heard::<PaymentAuthorized>().is_empty());
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_after_the_cancellation_is_refunded() {
    let shop = Shop::open_with(&["--provider-slow-seconds=600"]).await;
    let order = Order::new();
    shop.orders.publish(&order.due("pm_slow")).await;
    shop.booked(order, "pending", Some("open")).await;
    shop.orders.publish(&order.cancelled()).await;
    shop.booked(order, "cancelling", Some("open")).await;
    let waits = "select count(*) from messaging.job
                 where due_at > now() + interval '500 s' and lease is null and attempts = 0";
    eventually("giving it back waits for the provider", async || shop.count(waits).await >= 1).await;
    // The ten minutes have passed, and the money is taken. Nobody waits for it any more.
    shop.execute("update provider.book set ready_at = now()").await;
    shop.execute("update messaging.job set due_at = now()").await;
    shop.booked(order, "refunded", Some("refunded")).await;
    shop.orders.wait_for::<PaymentRefunded>(1).await;
    assert!(shop.orders.heard::<PaymentAuthorized>().is_empty(), "the order had ended");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorized_payment_of_a_cancelled_order_is_refunded_once() {
    let shop = Shop::open().await;
    let order = shop.paid_order().await;
    shop.orders.publish(&order.cancelled()).await;
    shop.orders.publish(&order.cancelled()).await;
    shop.booked(order, "refunded", Some("refunded")).await;
    shop.orders.publish(&order.cancelled()).await;
    heard(&shop, 4).await;
    shop.audit().await;
    assert_eq!(shop.orders.heard::<PaymentRefunded>().len(), 1);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_payment_has_nothing_to_give_back() {
    let shop = Shop::open().await;
    let order = Order::new();
    shop.orders.publish(&order.due("pm_declined")).await;
    shop.orders.wait_for::<PaymentDeclined>(1).await;
    shop.orders.publish(&order.cancelled()).await;
    heard(&shop, 2).await;
    shop.booked(order, "declined", Some("declined")).await;
    assert_eq!(shop.count("select count(*) from messaging.job").await, 0);
    shop.close().await;
}

/// As a redrive does it: beside the order's other event, in a transaction of its own that has not ended yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_money_waits_for_a_cancellation_that_is_being_written() {
    let shop = Shop::open().await;
    let order = Order::new();
    let outbox = messaging::Outbox::new(shop.database.pool.clone(), "redrive");
    let mut redrive = outbox.begin().await.expect("a transaction");
    for statement in [
        "select pg_advisory_xact_lock(hashtextextended($1, 0))",
        "insert into cancelled_orders (order_id) values ($1::uuid)",
    ] {
        sqlx::query(statement).bind(order.id.to_string()).execute(&mut *redrive).await.expect("as the handler does");
    }
    shop.orders.publish(&order.due("pm_ok")).await;
    let waits = "select count(*) from pg_locks join pg_database on pg_database.oid = database
                 where datname = current_database() and locktype = 'advisory' and not granted";
    eventually("the request waits", async || shop.count(waits).await == 1).await;
    redrive.commit().await.expect("a commit");
    heard(&shop, 1).await;
    assert!(shop.book(order).await.is_none());
    shop.close().await;
}
