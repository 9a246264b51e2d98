//! An order's way through stock and payment, and every way out of it.

use events::{
    inventory::v1::{RejectionReason, ReleaseReason},
    orders::v1::{
        CancellationReason, OrderCancelled, OrderConfirmed, OrderPaid, OrderPlaced, PaymentDue, order_placed::Line,
    },
    payments::v1::DeclineReason,
    users::v1::UserDeleted,
};
use serde_json::json;
use testkit::eventually;
use uuid::Uuid;
use web::testing::As;

use crate::shop::{Shop, eur, two_mugs};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_placed_reserved_paid_and_confirmed() {
    let shop = Shop::open().await;
    let answer = shop.order_as(&shop.ada(), &two_mugs()).await;
    let order = answer.expect(202);
    let id = order["id"].as_str().expect("an id");
    assert_eq!(answer.header("location"), format!("/orders/{id}"));
    assert_eq!(answer.header("etag"), "\"1\"");
    let price = json!({ "minor_units": 1999, "currency": "EUR" });
    assert_eq!(order["lines"], json!([{ "sku": "MUG-01", "name": "Mug", "quantity": 2, "price": price }]));
    assert_eq!(order["total"], json!({ "minor_units": 3998, "currency": "EUR" }));
    assert_eq!((&order["state"], &order["user_id"]), (&json!("placed"), &json!(shop.ada)));
    assert!(order.get("reason").is_none());

    let placed = shop.inventory.wait_for::<OrderPlaced>(1).await.remove(0);
    assert_eq!((&*placed.order_id, placed.user_id), (id, shop.ada.to_string()));
    assert_eq!(placed.lines, [Line { sku: "MUG-01".into(), quantity: 2 }]);
    assert!(shop.payments.heard::<PaymentDue>().is_empty(), "nobody pays for what is not held");
    shop.reserve(id).await;
    let due = shop.payments.wait_for::<PaymentDue>(1).await.remove(0);
    assert_eq!((&*due.order_id, due.amount, &*due.payment_method), (id, eur(3998), "pm_ok"));
    assert!(shop.inventory.heard::<OrderPaid>().is_empty());
    shop.authorize(id).await;
    assert_eq!(shop.inventory.wait_for::<OrderPaid>(1).await[0].order_id, id);
    shop.state(id, "paid").await;
    assert!(shop.notifications.heard::<OrderConfirmed>().is_empty(), "money alone confirms nothing");
    shop.commit(id).await;
    let confirmed = shop.notifications.wait_for::<OrderConfirmed>(1).await.remove(0);
    assert_eq!((confirmed.user_id, confirmed.total), (shop.ada.to_string(), eur(3998)));
    let item = &confirmed.items[0];
    assert_eq!((&*item.sku, &*item.name, item.quantity, item.price.clone()), ("MUG-01", "Mug", 2, eur(1999)));

    let expected = ["order_placed → placed", "stock_reserved → reserved", "payment_authorized → paid"];
    assert_eq!(shop.timeline(id).await, [&expected[..], &["stock_committed → confirmed"]].concat());
    assert_eq!(shop.state(id, "confirmed").await["version"], 4);
    // The whole way is one trace, from the request on.
    let trace = answer.header("traceparent").split('-').nth(1).expect("a trace");
    assert_eq!(shop.entries(id).await[0]["trace_id"], trace);
    let heard = shop.inventory.log().into_iter().find(|heard| heard.event_type == "orders.v1.OrderPlaced");
    assert_eq!(heard.expect("it was heard").trace_id.as_deref(), Some(trace));
    // Each waiting state set its deadline.
    assert_eq!(shop.count("select count(*) from messaging.scheduled").await, 3);
    shop.close().await;
}

/// The order ends like this, and everybody who may hold something for it is told.
async fn assert_cancelled(shop: &Shop, id: &str, reason: CancellationReason, name: &str, timeline: &[&str]) {
    let order = shop.state(id, "cancelled").await;
    assert_eq!(order["reason"], name);
    for listener in [&shop.inventory, &shop.payments, &shop.notifications] {
        let told = |event: &OrderCancelled| event.order_id == id;
        let heard = async || listener.heard::<OrderCancelled>().iter().any(told);
        eventually("the cancellation is heard", heard).await;
        let event = listener.heard::<OrderCancelled>().into_iter().find(told).expect("it was heard");
        assert_eq!((event.reason(), event.total, event.user_id), (reason, eur(3998), shop.ada.to_string()));
    }
    assert_eq!(shop.timeline(id).await, timeline);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_without_stock_is_cancelled() {
    let shop = Shop::open().await;
    for (rejection, reason, name) in [
        (RejectionReason::OutOfStock, CancellationReason::OutOfStock, "out_of_stock"),
        (RejectionReason::UnknownProduct, CancellationReason::UnknownProduct, "unknown_product"),
    ] {
        let id = shop.placed().await;
        shop.reject(&id, rejection).await;
        let timeline = ["order_placed → placed", "stock_rejected → cancelled"];
        assert_cancelled(&shop, &id, reason, name, &timeline).await;
        assert!(shop.entries(&id).await[1]["detail"].as_str().is_some_and(|detail| detail.contains("MUG-01")));
    }
    assert!(shop.payments.heard::<PaymentDue>().is_empty());
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_payment_is_declined_is_cancelled() {
    let shop = Shop::open().await;
    let id = shop.reserved().await;
    shop.decline(&id, DeclineReason::InsufficientFunds).await;
    let timeline = ["order_placed → placed", "stock_reserved → reserved", "payment_declined → cancelled"];
    assert_cancelled(&shop, &id, CancellationReason::PaymentDeclined, "payment_declined", &timeline).await;
    assert_eq!(shop.entries(&id).await[2]["detail"], "there is not enough money on the account");
    assert!(shop.inventory.heard::<OrderPaid>().is_empty());
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_cancels_in_every_state_that_waits_and_in_no_other() {
    let shop = Shop::open().await;
    for id in [shop.placed().await, shop.reserved().await, shop.paid().await] {
        let before = shop.timeline(&id).await;
        let answer = shop.cancel(&id).await;
        assert_eq!(answer.expect(202)["reason"], "cancelled_by_customer");
        let before: Vec<_> = before.iter().map(String::as_str).collect();
        let timeline = [&before[..], &["cancellation_requested → cancelled"]].concat();
        let reason = CancellationReason::CancelledByCustomer;
        assert_cancelled(&shop, &id, reason, "cancelled_by_customer", &timeline).await;
        // Again: the same answer, and nothing happens a second time.
        let again = shop.cancel(&id).await;
        assert_eq!((again.expect(202), again.header("etag")), (&answer.json, answer.header("etag")));
        assert_eq!(shop.timeline(&id).await, timeline);
    }
    let confirmed = shop.confirmed().await;
    shop.cancel(&confirmed).await.expect_problem(409, "final");
    let rejected = shop.placed().await;
    shop.reject(&rejected, RejectionReason::OutOfStock).await;
    shop.state(&rejected, "cancelled").await;
    let problem = shop.cancel(&rejected).await;
    assert!(problem.expect_problem(409, "final")["detail"].as_str().is_some_and(|text| text.contains("out_of_stock")));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_that_lapses_takes_the_order_with_it_paid_or_not() {
    let shop = Shop::open().await;
    for id in [shop.reserved().await, shop.paid().await] {
        let before = shop.timeline(&id).await;
        shop.release(&id, ReleaseReason::Expired).await;
        let before: Vec<_> = before.iter().map(String::as_str).collect();
        let timeline = [&before[..], &["stock_released → cancelled"]].concat();
        assert_cancelled(&shop, &id, CancellationReason::Expired, "expired", &timeline).await;
    }
    assert!(shop.notifications.heard::<OrderConfirmed>().is_empty());
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_comes_after_the_end_changes_nothing_but_the_timeline() {
    let shop = Shop::open().await;
    let id = shop.reserved().await;
    shop.release(&id, ReleaseReason::Expired).await;
    shop.state(&id, "cancelled").await;
    shop.authorize(&id).await;
    shop.refund(&id).await;
    shop.release(&id, ReleaseReason::Cancelled).await;
    let entries = shop.entries_until(&id, 6).await;
    assert!(entries[2..].iter().all(|entry| entry["state"] == "cancelled"), "{entries:?}");
    let order = shop.state(&id, "cancelled").await;
    assert_eq!((&order["reason"], &order["version"]), (&json!("expired"), &json!(6)));
    shop.settled().await;
    assert_eq!(shop.inventory.heard::<OrderPaid>().len() + shop.notifications.heard::<OrderConfirmed>().len(), 0);
    assert_eq!(shop.notifications.heard::<OrderCancelled>().len(), 1);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_money_went_back_before_it_was_complete_is_not_confirmed() {
    let shop = Shop::open().await;
    let id = shop.paid().await;
    shop.refund(&id).await;
    shop.state(&id, "cancelled").await;
    shop.commit(&id).await;
    shop.entries_until(&id, 5).await;
    assert_eq!(shop.state(&id, "cancelled").await["reason"], "cancelled_by_shop");
    assert!(shop.notifications.heard::<OrderConfirmed>().is_empty());

    // After the sale it is the shop's own decision.
    let sold = shop.confirmed().await;
    shop.refund(&sold).await;
    assert_eq!(shop.entries_until(&sold, 5).await[4]["state"], "confirmed");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_waits_too_long_expires_and_its_timeline_says_for_what() {
    let settings = ["--stock-deadline-seconds=1.5", "--payment-deadline-seconds=1.5", "--commit-deadline-seconds=1.5"];
    let shop = Shop::open_with(&settings).await;
    let expired = CancellationReason::Expired;
    let id = shop.placed().await;
    let timeline = ["order_placed → placed", "deadline_reached → cancelled"];
    assert_cancelled(&shop, &id, expired, "expired", &timeline).await;
    assert_eq!(shop.entries(&id).await[1]["detail"], "nothing was heard about the stock within 1.5 s");

    let id = shop.reserved().await;
    let timeline = ["order_placed → placed", "stock_reserved → reserved", "deadline_reached → cancelled"];
    assert_cancelled(&shop, &id, expired, "expired", &timeline).await;
    assert_eq!(shop.entries(&id).await[2]["detail"], "nothing was heard about the payment within 1.5 s");

    let id = shop.paid().await;
    let timeline = [&timeline[..2], &["payment_authorized → paid", "deadline_reached → cancelled"]].concat();
    assert_cancelled(&shop, &id, expired, "expired", &timeline).await;
    assert_eq!(shop.entries(&id).await[3]["detail"], "the stock was not handed over within 1.5 s");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_of_a_state_that_the_order_has_left_does_nothing() {
    let shop = Shop::open_with(&["--stock-deadline-seconds=1"]).await;
    let id = shop.confirmed().await;
    let delivered = "select count(*) from messaging.inbox where message_id in
                         (select message_id from messaging.journal where type = 'orders.v1.OrderDeadlineReached')";
    shop.execute("update messaging.scheduled set due_at = now()").await;
    eventually("the deadlines were heard", async || shop.count(delivered).await == 3).await;
    assert_eq!(shop.state(&id, "confirmed").await["version"], 4);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_delivered_again_changes_nothing() {
    let shop = Shop::open().await;
    let id = shop.confirmed().await;
    use events::{inventory::v1::*, payments::v1::*};
    shop.inventory.repeat::<StockReserved>().await;
    shop.inventory.repeat::<StockCommitted>().await;
    shop.payments.repeat::<PaymentAuthorized>().await;
    // One more of each that is new, to know that what was repeated has been heard.
    shop.refund(&id).await;
    let other = shop.reserved().await;
    shop.entries_until(&id, 5).await;
    shop.entries_until(&other, 2).await;
    assert_eq!(shop.notifications.heard::<OrderConfirmed>().len(), 1);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_of_another_amount_pays_nothing() {
    let mut shop = Shop::open().await;
    let id = shop.reserved().await;
    let event =
        events::payments::v1::PaymentAuthorized { order_id: id.clone(), payment_id: "p".into(), amount: eur(1) };
    shop.payments.publish(&event).await;
    let dead = async || shop.count("select count(*) from messaging.parked where state = 'dead'").await == 1;
    eventually("it is a dead letter", dead).await;
    shop.state(&id, "reserved").await;
    shop.stop_service().await.expect("the service stops in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_deleted_leaves_no_open_order_and_opens_none() {
    let shop = Shop::open().await;
    let (placed, paid, confirmed) = (shop.placed().await, shop.paid().await, shop.confirmed().await);
    let bob = Uuid::now_v7();
    let bobs = shop.order_as(&shop.token(As::Customer(bob)), &two_mugs()).await;
    let bobs = bobs.expect(202)["id"].as_str().expect("an id");
    shop.users.publish(&UserDeleted { user_id: shop.ada.to_string() }).await;
    for id in [&placed, &paid] {
        assert_eq!(shop.state(id, "cancelled").await["reason"], "cancelled_by_customer");
        assert_eq!(shop.entries(id).await.last().expect("an entry")["event"], "customer_deleted");
    }
    shop.state(&confirmed, "confirmed").await;
    shop.state(bobs, "placed").await;
    let rows = shop.count("select count(*) from orders").await;
    let refused = shop.order_as(&shop.ada(), &two_mugs()).await;
    assert!(refused.expect_problem(403, "forbidden")["detail"].as_str().is_some_and(|text| text.contains("deleted")));
    assert_eq!(shop.count("select count(*) from orders").await, rows);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_cannot_be_rewritten() {
    let shop = Shop::open().await;
    shop.placed().await;
    for statement in ["update order_history set detail = 'other'", "delete from order_history"] {
        let refused = sqlx::query(statement).execute(&shop.database.pool).await.expect_err("it is refused");
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
    shop.close().await;
}
