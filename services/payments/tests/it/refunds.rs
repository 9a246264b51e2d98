//! An operator gives a payment back.

use events::payments::v1::PaymentRefunded;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use testkit::eventually;
use web::testing::{As, OPERATOR};

use crate::{
    faulty::Held,
    shop::{Order, Shop},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_refunded_once_however_many_press_the_button() {
    let shop = Shop::open().await;
    let order = shop.paid_order().await;
    let answers = join_all((0..20).map(|_| shop.refund(order))).await;
    for answer in &answers {
        let payment = answer.expect(202);
        assert!(["refunding", "refunded"].contains(&payment["state"].as_str().expect("a state")), "{payment}");
        assert_eq!(answer.header("location"), order.path());
        assert_eq!(answer.header("etag"), format!("\"{}\"", payment["version"]));
    }
    let payment = shop.payment(order, "refunded").await;
    assert_eq!(payment["version"], 4, "pending, authorized, refunding, refunded");
    assert_eq!(shop.refund(order).await.expect(202)["version"], 4);
    shop.audit().await;
    assert_eq!(shop.orders.heard::<PaymentRefunded>().len(), 1);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_may_say_why_or_be_left_out() {
    let shop = Shop::open().await;
    let who = shop.issuer.token(As::Operator);
    for (body, reason) in [
        (None, None),
        (Some(""), None),
        (Some("null"), None),
        (Some("{}"), None),
        (Some(r#"{"reason":null}"#), None),
        (Some(r#"{"reason":"Das Päckchen\nkam nie an."}"#), Some("Das Päckchen\nkam nie an.")),
    ] {
        let order = shop.paid_order().await;
        let mut request = shop.client().request(Method::POST, &order.refunds()).bearer_auth(&who);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = testkit::Answer::to(request).await;
        assert_eq!(answer.expect(202)["refund_reason"].as_str(), reason, "{body:?}");
        // The customer sees it, too.
        let seen = shop.get(&order.path(), Some(As::Customer(order.user_id))).await;
        assert_eq!(seen.expect(200)["refund_reason"].as_str(), reason);
        let by =
            format!("select count(*) from payments where refunded_by = '{OPERATOR}' and order_id = '{}'", order.id);
        assert_eq!(shop.count(&by).await, 1);
    }
    // Whoever asks again is told the first reason.
    let order = shop.paid_order().await;
    for reason in ["first", "second"] {
        let body = json!({ "reason": reason });
        let answer = shop.ask(Method::POST, &order.refunds(), Some(As::Operator), &[], Some(&body)).await;
        assert_eq!(answer.expect(202)["refund_reason"], "first");
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_taken_cannot_be_refunded_and_the_answer_says_why() {
    let shop = Shop::open().await;
    shop.refund(Order::new()).await.expect_problem(404, "not-found");

    let declined = Order::new();
    shop.orders.publish(&declined.due("pm_declined")).await;
    shop.payment(declined, "declined").await;
    let said = shop.refund(declined).await;
    assert!(
        said.expect_problem(409, "nothing-to-refund")["detail"].as_str().expect("words").contains("Nothing was taken")
    );

    shop.faults.hold(Held::OnTheWay);
    let order = Order::new();
    shop.orders.publish(&order.due("pm_ok")).await;
    shop.payment(order, "pending").await;
    let said = shop.refund(order).await;
    assert!(said.expect_problem(409, "nothing-to-refund")["detail"].as_str().expect("words").contains("not decided"));

    shop.faults.set_down(true);
    shop.orders.publish(&order.cancelled()).await;
    shop.payment(order, "cancelling").await;
    let said = shop.refund(order).await;
    assert!(said.expect_problem(409, "nothing-to-refund")["detail"].as_str().expect("words").contains("by itself"));
    shop.faults.set_down(false);
    // Only then may the charge arrive, or the money would be taken and go back.
    shop.booked(order, "cancelled", Some("voided")).await;
    shop.faults.hold(Held::Nowhere);
    shop.refund(order).await.expect_problem(409, "nothing-to-refund");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_can_be_tied_to_what_the_operator_saw() {
    let shop = Shop::open().await;
    let order = shop.paid_order().await;
    let press = async |tag: &str| {
        shop.ask(Method::POST, &order.refunds(), Some(As::Operator), &[("if-match", tag)], Some(&json!({}))).await
    };
    for stale in ["\"1\"", "W/\"2\"", "nonsense"] {
        press(stale).await.expect_problem(412, "version-moved");
    }
    shop.payment(order, "authorized").await;
    let seen = shop.get(&order.path(), Some(As::Operator)).await;
    press(seen.header("etag")).await.expect(202);
    // Whoever had no answer asks again with what was seen before.
    press(seen.header("etag")).await.expect(202);
    press("*").await.expect(202);
    shop.close().await;
}

/// The order of a refunded payment is cancelled afterwards, or meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_refund_and_a_cancellation_are_one_refund() {
    let shop = Shop::open().await;
    let order = shop.paid_order().await;
    let cancelled = order.cancelled();
    let (answer, _) = futures_util::join!(shop.refund(order), shop.orders.publish(&cancelled));
    answer.expect(202);
    shop.booked(order, "refunded", Some("refunded")).await;
    eventually("both were heard", async || shop.count("select count(*) from messaging.inbox").await == 2).await;
    shop.audit().await;
    assert_eq!(shop.orders.heard::<PaymentRefunded>().len(), 1);
    shop.close().await;
}
