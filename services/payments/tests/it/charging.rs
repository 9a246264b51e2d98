//! A payment that is due: asked of the provider, and announced.

use events::{
    orders::v1::PaymentDue,
    payments::v1::{DeclineReason, PaymentAuthorized, PaymentDeclined},
};
use testkit::eventually;
use web::testing::As;

use crate::shop::{Order, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn money_that_is_due_is_taken_and_announced() {
    let shop = Shop::open().await;
    let order = Order { minor_units: 123_456_789_012, ..Order::new() };
    shop.orders.publish(&order.due("pm_ok")).await;
    let [authorized] = shop.orders.wait_for::<PaymentAuthorized>(1).await.try_into().expect("one");
    assert_eq!((authorized.order_id, authorized.amount), (order.id.to_string(), Some(order.amount())));
    let payment = shop.payment(order, "authorized").await;
    assert_eq!(payment["id"], authorized.payment_id);
    assert_eq!(payment["amount"], serde_json::json!({"minor_units": 123_456_789_012_i64, "currency": "EUR"}));
    assert_eq!((&payment["version"], &payment["payment_method"]), (&2.into(), &"pm_ok".into()));
    // The trace goes on from the event to what was announced about it.
    let heard = shop.orders.log();
    assert_eq!(heard[0].trace_id.as_deref(), payment["trace_id"].as_str());
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_method_has_its_answer() {
    let shop = Shop::open().await;
    for (method, reason, word) in [
        ("pm_declined", DeclineReason::CardDeclined, "card_declined"),
        ("pm_insufficient_funds", DeclineReason::InsufficientFunds, "insufficient_funds"),
        ("pm_nobody_knows", DeclineReason::UnknownMethod, "unknown_method"),
        ("Ünbekannt – 銀行", DeclineReason::UnknownMethod, "unknown_method"),
    ] {
        let order = Order::new();
        shop.orders.publish(&order.due(method)).await;
        let payment = shop.payment(order, "declined").await;
        assert_eq!(payment["decline_reason"], word, "{method}");
        let announced = async || {
            let all = shop.orders.heard::<PaymentDeclined>();
            all.iter().any(|declined| declined.order_id == order.id.to_string() && declined.reason() == reason)
        };
        eventually(method, announced).await;
    }
    for method in ["pm_flaky", "pm_slow", "pm_ok"] {
        let order = Order::new();
        shop.orders.publish(&order.due(method)).await;
        shop.payment(order, "authorized").await;
        if method == "pm_flaky" {
            assert_eq!(shop.book(order).await.expect("a payment").attempts, Some(3));
        }
    }
    shop.close().await;
}

/// Many slow payments, few workers: the fast ones go past, and waiting spends no attempts.
#[tokio::test(flavor = "multi_thread")]
async fn slow_payments_hold_up_nobody() {
    let shop = Shop::open_with(&["--payment-concurrency=1", "--provider-slow-seconds=600"]).await;
    let slow: Vec<_> = std::iter::repeat_with(Order::new).take(5).collect();
    for order in &slow {
        shop.orders.publish(&order.due("pm_slow")).await;
    }
    let waits =
        "select count(*) from messaging.job where due_at > now() + interval '590 s' and lease is null and attempts = 0";
    eventually("all slow ones wait for their time", async || shop.count(waits).await == 5).await;
    let traced = "select count(distinct context ->> 'traceparent') from messaging.job";
    assert_eq!(shop.count(traced).await, 5, "each still belongs to its trace");
    shop.paid_order().await;

    // The ten minutes have passed.
    shop.execute("update provider.book set ready_at = now()").await;
    shop.execute("update messaging.job set due_at = now()").await;
    for order in slow {
        shop.payment(order, "authorized").await;
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_payment_waits_on_across_a_restart() {
    let mut shop = Shop::open_with(&["--provider-slow-seconds=600"]).await;
    let order = Order::new();
    shop.orders.publish(&order.due("pm_slow")).await;
    shop.booked(order, "pending", Some("open")).await;
    eventually("it waits", async || {
        shop.count("select count(*) from messaging.job where lease is null and attempts = 0").await == 1
    })
    .await;
    let ready = "select extract(epoch from ready_at)::bigint from provider.book";
    let ready_at = shop.count(ready).await;
    shop.stop_service().await;
    shop.start().await;
    // Asked again too early, it says the same.
    shop.execute("update messaging.job set due_at = now()").await;
    eventually("it was asked again", async || shop.book(order).await.is_some_and(|row| row.attempts >= Some(2))).await;
    assert_eq!(shop.count(ready).await, ready_at);
    shop.payment(order, "pending").await;
    eventually("it waits again", async || {
        shop.count("select count(*) from messaging.job where lease is null and due_at > now()").await == 1
    })
    .await;
    shop.execute("update provider.book set ready_at = now()").await;
    shop.execute("update messaging.job set due_at = now()").await;
    shop.payment(order, "authorized").await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_charged_once_however_often_it_is_asked_for() {
    let shop = Shop::open().await;
    let order = shop.paid_order().await;
    // The same message again; another message about the same order; and one that asks for something else.
    assert_eq!(shop.orders.repeat::<PaymentDue>().await, 1);
    shop.orders.publish(&order.due("pm_ok")).await;
    shop.orders.publish(&Order { minor_units: 1, ..order }.due("pm_declined")).await;
    let other = shop.paid_order().await;
    assert_eq!(shop.book(order).await.expect("a payment").attempts, Some(1));
    assert_eq!(shop.payment(order, "authorized").await["amount"]["minor_units"], order.minor_units);
    assert_eq!(shop.book(other).await.expect("a payment").attempts, Some(1));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_right_is_a_dead_letter_and_holds_up_nobody() {
    let shop = Shop::open().await;
    let good = || Order::new().due("pm_ok");
    let mut negative = good();
    negative.amount.as_mut().expect("an amount").minor_units = -1;
    let mut currency = good();
    currency.amount.as_mut().expect("an amount").currency = "euro".into();
    for wrong in [
        PaymentDue { order_id: "17".into(), ..good() },
        PaymentDue { user_id: String::new(), ..good() },
        PaymentDue { amount: None, ..good() },
        PaymentDue { payment_method: String::new(), ..good() },
        PaymentDue { payment_method: "pm\0ok".into(), ..good() },
        PaymentDue { payment_method: "x".repeat(256), ..good() },
        negative,
        currency,
    ] {
        shop.orders.publish(&wrong).await;
    }
    shop.orders
        .publish(&events::orders::v1::OrderCancelled { order_id: "17".into(), ..Order::new().cancelled() })
        .await;
    let dead = "select count(*) from messaging.parked where state = 'dead' and attempts <= 1";
    eventually("all are dead letters", async || shop.count(dead).await == 9).await;
    let order = shop.paid_order().await;
    assert_eq!(shop.get(&order.path(), Some(As::Customer(order.user_id))).await.status, 200);
    assert_eq!(shop.count("select count(*) from payments").await, 1);
    shop.close().await;
}
