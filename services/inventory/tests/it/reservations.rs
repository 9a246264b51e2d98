//! What a customer sees of an order here.

use reqwest::Method;
use serde_json::json;
use web::testing::As;

use crate::shop::{Order, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_follows_their_order() {
    let shop = Shop::open_with(&["--reservation-seconds=600"]).await;
    shop.product("MUG-01", 10).await;
    shop.product("CUP-01", 10).await;
    let order = Order::new();
    let (path, customer) = (format!("/reservations/{}", order.id), Some(As::Customer(order.user_id)));
    shop.tell(&order.placed(&[("MUG-01", 2), ("CUP-01", 1)])).await;
    let held = shop.get(&path, customer).await;
    let reservation = held.expect(200);
    assert_eq!(reservation["state"], "held");
    assert_eq!(reservation["order_id"], order.id.to_string());
    assert_eq!(reservation["lines"], json!([{"sku": "CUP-01", "quantity": 1}, {"sku": "MUG-01", "quantity": 2}]));
    assert!(reservation.get("reason").is_none() && reservation.get("missing_sku").is_none(), "{reservation}");
    let time = |member: &str| {
        let text = reservation[member].as_str().expect("a time");
        chrono::DateTime::parse_from_rfc3339(text).expect("a time (RFC 3339)")
    };
    let held_for = (time("expires_at") - time("created_at")).num_milliseconds();
    assert!((600_000..605_000).contains(&held_for), "{reservation}");
    assert_eq!((held.header("etag"), held.header("cache-control")), ("\"1\"", "private, no-cache"));
    let same = shop.ask(Method::GET, &path, customer, &[("if-none-match", "\"1\"")], None).await;
    same.expect(304);

    shop.tell(&order.paid()).await;
    let committed = shop.ask(Method::GET, &path, customer, &[("if-none-match", "\"1\"")], None).await;
    assert_eq!((committed.expect(200)["state"].as_str(), committed.header("etag")), (Some("committed"), "\"2\""));

    let refused = Order::new();
    shop.tell(&refused.placed(&[("MUG-01", 11)])).await;
    let seen = shop.reservation(refused).await;
    assert_eq!(
        (&seen["state"], &seen["reason"], &seen["missing_sku"]),
        (&json!("rejected"), &json!("out_of_stock"), &json!("MUG-01"))
    );
    assert!(seen.get("expires_at").is_none(), "{seen}");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_an_order_leads_to_its_movements() {
    let shop = Shop::open().await;
    shop.product("MUG-01", 10).await;
    let order = Order::new();
    shop.tell(&order.placed(&[("MUG-01", 2)])).await;
    let trace_id = shop.reservation(order).await["trace_id"].as_str().expect("a trace").to_owned();
    assert_eq!(trace_id.len(), 32);
    shop.heard(order).await;
    let told = shop.orders.log().into_iter().find(|event| event.key == order.id.to_string());
    assert_eq!(
        told.and_then(|event| event.trace_id).as_deref(),
        Some(trace_id.as_str()),
        "the answer is in the same trace"
    );
    let moved =
        format!("select count(*) from stock_movements where trace_id = '{trace_id}' and order_id = '{}'", order.id);
    assert_eq!(shop.count(&moved).await, 1);
    assert_eq!(shop.count("select count(*) from stock_movements where trace_id is null").await, 0);
    shop.close().await;
}
