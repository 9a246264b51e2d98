//! The provider is down, loses calls, or never comes to a decision.

use std::sync::atomic::Ordering;

use events::payments::v1::{DeclineReason, PaymentDeclined};
use testkit::eventually;
use web::testing::As;

use crate::{
    document::Document,
    shop::{Order, Shop},
};

#[tokio::test(flavor = "multi_thread")]
async fn while_the_provider_is_down_nothing_is_declined_and_no_attempt_is_spent() {
    let shop = Shop::open().await;
    shop.faults.set_down(true);
    let orders: Vec<_> = std::iter::repeat_with(Order::new).take(5).collect();
    for order in &orders {
        shop.orders.publish(&order.due("pm_ok")).await;
    }
    eventually("nobody was there, again and again", async || shop.faults.missed.load(Ordering::SeqCst) > 6).await;
    for order in &orders {
        shop.payment(*order, "pending").await;
    }
    eventually("no attempt is spent", async || {
        shop.count("select coalesce(sum(attempts), 0)::bigint from messaging.job where lease is null").await == 0
            && shop.count("select count(*) from messaging.job where lease is null").await == 5
    })
    .await;
    let cancelled = orders[0];
    shop.orders.publish(&cancelled.cancelled()).await;
    shop.payment(cancelled, "cancelling").await;
    shop.faults.set_down(false);
    for order in &orders[1..] {
        shop.payment(*order, "authorized").await;
    }
    shop.booked(cancelled, "cancelled", Some("voided")).await;
    shop.close().await;
}

/// The answer is lost after the provider has booked: the same key is asked again, and gets the same answer.
#[tokio::test(flavor = "multi_thread")]
async fn lost_questions_and_answers_are_asked_again_and_charged_once() {
    let shop = Shop::open().await;
    shop.faults.lost_percent.store(60, Ordering::SeqCst);
    let orders: Vec<_> = std::iter::repeat_with(Order::new).take(20).collect();
    for order in &orders {
        shop.orders.publish(&order.due("pm_ok")).await;
    }
    for order in &orders {
        shop.payment(*order, "authorized").await;
    }
    assert!(shop.faults.charges.load(Ordering::SeqCst) > 20, "some calls were lost");
    for order in &orders[..10] {
        shop.orders.publish(&order.cancelled()).await;
    }
    for order in &orders[..10] {
        shop.payment(*order, "refunded").await;
    }
    shop.close().await;
}

/// As after a day of failures.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_without_a_decision_is_given_up_voided_and_only_then_declined() {
    let mut shop = Shop::open().await;
    let order = its_last_attempt(&mut shop, "pm_flaky").await;
    shop.booked(order, "declined", Some("voided")).await;
    let declined = shop.orders.wait_for::<PaymentDeclined>(1).await;
    assert_eq!(declined[0].reason(), DeclineReason::GivenUp);
    assert_eq!(shop.payment(order, "declined").await["decline_reason"], "given_up");
    shop.close().await;
}

/// The provider took the money in the end, but its answer was lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_given_up_though_it_was_taken_is_given_back_before_it_is_declined() {
    let mut shop = Shop::open().await;
    shop.faults.lose_answers.store(true, Ordering::SeqCst);
    let order = its_last_attempt(&mut shop, "pm_ok").await;
    shop.booked(order, "refunded", Some("refunded")).await;
    shop.close().await;
}

/// What is wrong with a payment for good is not tried for a day.
#[tokio::test(flavor = "multi_thread")]
async fn a_contradiction_is_given_up_at_once() {
    let shop = Shop::open().await;
    shop.faults.contradiction.store(true, Ordering::SeqCst);
    let order = Order::new();
    shop.orders.publish(&order.due("pm_ok")).await;
    shop.booked(order, "declined", Some("voided")).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_cancelled_while_its_payment_is_given_up_hears_of_no_decline() {
    let shop = Shop::open().await;
    shop.faults.contradiction.store(true, Ordering::SeqCst);
    shop.faults.set_down(true);
    let order = Order::new();
    shop.orders.publish(&order.due("pm_ok")).await;
    shop.booked(order, "giving_up", None).await;
    shop.payment(order, "cancelling").await;
    shop.orders.publish(&order.cancelled()).await;
    shop.booked(order, "cancelling", None).await;
    shop.faults.set_down(false);
    shop.booked(order, "cancelled", Some("voided")).await;
    shop.audit().await;
    assert!(shop.orders.log().is_empty());
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_down_requests_are_told_when_to_come_back_and_nothing_is_lost() {
    let shop = Shop::open().await;
    let paid = shop.paid_order().await;
    shop.database.set_available(false).await;
    let answer = shop.get(&paid.path(), Some(As::Operator)).await;
    answer.expect_problem(503, "unavailable");
    assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
    Document::of(&shop).await.check("get", "/payments/{order_id}", &answer);
    assert_eq!(shop.get("/readyz", None).await.status, 503);
    let order = Order::new();
    shop.orders.publish(&order.due("pm_ok")).await;
    shop.orders.settled().await;
    shop.database.set_available(true).await;
    shop.payment(order, "authorized").await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_provider_can_be_seen() {
    let mut shop = Shop::open().await;
    shop.faults.set_down(true);
    shop.orders.publish(&Order::new().due("pm_ok")).await;
    eventually("nobody was there", async || shop.faults.missed.load(Ordering::SeqCst) > 0).await;
    // Counting is the first thing that a process does.
    shop.stop_service().await;
    shop.start().await;
    let seen = async |line: &str| shop.get("/metrics", None).await.text.contains(line);
    eventually("it is counted", async || seen("payments_waiting{state=\"pending\"} 1").await).await;
    assert!(seen("payments_waiting_oldest_seconds{state=\"pending\"} ").await);
    assert!(seen("payments_waiting{state=\"refunding\"} 0").await);
    assert!(seen("payments_total{state=\"pending\"} 1").await);
    assert!(seen("payments_provider_call_seconds").await);
    assert!(!seen("# TYPE payments_provider_call_seconds summary").await, "a histogram has buckets");
    shop.faults.set_down(false);
    shop.close().await;
}

/// An order whose payment has one attempt left.
async fn its_last_attempt(shop: &mut Shop, method: &str) -> Order {
    shop.faults.set_down(true);
    let order = Order::new();
    shop.orders.publish(&order.due(method)).await;
    eventually("nobody was there", async || shop.faults.missed.load(Ordering::SeqCst) > 0).await;
    let spend = "update messaging.job set attempts = 2999, due_at = now() + interval '1 hour' where lease is null";
    eventually("it has one attempt left", async || {
        shop.execute(spend).await;
        shop.count("select count(*) from messaging.job where attempts = 2999 and lease is null").await == 1
    })
    .await;
    shop.faults.set_down(false);
    // A new process has not learnt to wait for the provider.
    shop.stop_service().await;
    shop.start().await;
    shop.execute("update messaging.job set due_at = now()").await;
    order
}
