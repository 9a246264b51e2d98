//! What can be ordered and what cannot; and that a request which is repeated is one order.

use events::users::v1::UserVerified;
use serde_json::{Value, json};
use testkit::{Method, eventually};
use uuid::Uuid;
use web::testing::As;

use crate::shop::{Shop, two_mugs};

fn order(lines: &[(&str, i64)]) -> Value {
    let lines: Vec<_> = lines.iter().map(|(sku, quantity)| json!({ "sku": sku, "quantity": quantity })).collect();
    json!({ "lines": lines, "payment_method": "pm_ok" })
}

fn pointers(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    errors.iter().map(|error| error["pointer"].as_str().expect("a pointer")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_ordered_is_refused_with_everything_that_is_wrong_and_nothing_is_done() {
    let shop = Shop::open().await;
    shop.product("GOLD-1", "Gold", i64::MAX / 2, "EUR", 1).await;
    eventually("gold is known", async || shop.count("select count(*) from products").await == 4).await;
    let rows = shop.rows().await;
    let skus: Vec<_> = (0..51).map(|n| format!("A-{n}")).collect();
    let too_many: Vec<_> = skus.iter().map(|sku| (sku.as_str(), 1)).collect();
    let with = |name: &str, value: Value| {
        let mut body = two_mugs();
        body[name] = value;
        body
    };
    let line_with = |name: &str, value: Value| {
        let mut body = two_mugs();
        body["lines"][0][name] = value;
        body
    };
    for (body, expected) in [
        (order(&[("NONE-1", 1)]), &["#/lines/0/sku"][..]),
        (order(&[("NONE-1", 1), ("MUG-01", 1), ("NONE-2", 1)]), &["#/lines/0/sku", "#/lines/2/sku"]),
        (order(&[("MUG-01", 0)]), &["#/lines/0/quantity"]),
        (order(&[("MUG-01", -1), ("TEA-01", 1001)]), &["#/lines/0/quantity", "#/lines/1/quantity"]),
        (order(&[("MUG-01", i64::MAX)]), &["#/lines/0/quantity"]),
        (order(&[("MUG-01", 1), ("MUG-01", 1)]), &["#/lines/1/sku"]),
        (order(&[("mug-01", 0), ("-", 1)]), &["#/lines/0/sku", "#/lines/0/quantity", "#/lines/1/sku"]),
        (order(&[]), &["#/lines"]),
        (order(&too_many), &["#/lines"]),
        (order(&[("MUG-01", 1), ("BOOK-1", 1)]), &["#/lines/1/sku"]),
        (order(&[("GOLD-1", 3)]), &["#/lines"]),
        (with("payment_method", json!("")), &["#/payment_method"]),
        (with("payment_method", json!("x".repeat(65))), &["#/payment_method"]),
        (with("payment_method", json!(7)), &["#/payment_method"]),
        (with("lines", json!("MUG-01")), &["#/lines"]),
        (line_with("quantity", json!("2")), &["#/lines/0/quantity"]),
        (line_with("quantity", json!(1.5)), &["#/lines/0/quantity"]),
        (line_with("quantity", json!(1e30)), &["#/lines/0/quantity"]),
        (line_with("sku", json!(null)), &["#/lines/0/sku"]),
        // What the client has no say in.
        (with("status", json!("confirmed")), &["#/status"]),
        (with("state", json!("confirmed")), &["#/state"]),
        (with("user_id", json!(Uuid::now_v7())), &["#/user_id"]),
        (with("total", json!({ "minor_units": 1, "currency": "EUR" })), &["#/total"]),
        (line_with("price", json!({ "minor_units": 1, "currency": "EUR" })), &["#/lines/0/price"]),
        (json!({ "lines": [{ "sku": "MUG-01" }], "payment_method": "pm_ok" }), &["#/lines/0/quantity"]),
        (json!({ "payment_method": "pm_ok" }), &["#/lines"]),
        (json!([]), &["#"]),
    ] {
        let answer = shop.order_as(&shop.ada(), &body).await;
        let problem = answer.expect_problem(422, "invalid");
        assert_eq!(pointers(problem), expected, "{body}: {problem}");
    }
    assert_eq!(shop.rows().await, rows);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_no_order_at_all_is_refused() {
    let shop = Shop::open().await;
    let rows = shop.rows().await;
    let post = |headers: &[(&str, &str)], body: &str| {
        let request = shop.client().request(Method::POST, "/orders").bearer_auth(shop.ada()).body(body.to_owned());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        testkit::Answer::to(request)
    };
    let (json, key) = (("content-type", "application/json"), ("idempotency-key", "k"));
    post(&[json, key], "{\"lines\":").await.expect_problem(400, "malformed-json");
    post(&[json, key], "").await.expect_problem(400, "malformed-json");
    post(&[("content-type", "text/plain"), key], "{}").await.expect_problem(415, "unsupported-media-type");
    post(&[json, key], &format!("\"{}\"", "x".repeat(2_000_000))).await.expect(413);
    let body = two_mugs().to_string();
    post(&[json], &body).await.expect_problem(400, "bad-request");
    post(&[json, ("idempotency-key", "two words")], &body).await.expect_problem(400, "bad-request");
    post(&[json, ("idempotency-key", &"k".repeat(256))], &body).await.expect_problem(400, "bad-request");
    assert_eq!(shop.rows().await, rows);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_verified_customer_orders_whoever_knows_it_first() {
    let shop = Shop::open().await;
    let bob = Uuid::now_v7();
    let token = shop.token(As::Unverified(bob));
    let rows = shop.rows().await;
    let refused = shop.order_as(&token, &two_mugs()).await;
    let problem = refused.expect_problem(403, "unverified");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("/email-verifications")), "{problem}");
    assert_eq!(shop.rows().await, rows);
    // The token is old; the event is faster than the next token.
    shop.users.publish(&UserVerified { user_id: bob.to_string() }).await;
    eventually("the proof is known", async || shop.order_as(&token, &two_mugs()).await.status == 202).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_costs_what_the_product_cost_when_it_was_placed() {
    let shop = Shop::open().await;
    let cheap = shop.placed().await;
    shop.product("MUG-01", "Better mug", 2999, "EUR", 5).await;
    let known = "select count(*) from products where version = 5";
    eventually("the new price is known", async || shop.count(known).await == 1).await;
    // Late news of an older version, as a redrive or a replay brings it.
    shop.product("MUG-01", "Old mug", 1, "EUR", 4).await;
    shop.product("TEA-01", "Tea", 451, "EUR", 2).await;
    let later = "select count(*) from products where sku = 'TEA-01' and version = 2";
    eventually("what came after it is known", async || shop.count(later).await == 1).await;
    let dear = shop.order_as(&shop.ada(), &order(&[("MUG-01", 1)])).await;
    let line = &dear.expect(202)["lines"][0];
    assert_eq!((&line["price"]["minor_units"], &line["name"]), (&json!(2999), &json!("Better mug")));
    let line = &shop.state(&cheap, "placed").await["lines"][0];
    assert_eq!((&line["price"]["minor_units"], &line["name"]), (&json!(1999), &json!("Mug")));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_requests_with_one_key_are_one_order_with_one_answer() {
    let shop = Shop::open().await;
    let (token, body) = (shop.ada(), two_mugs());
    let rows = shop.rows().await;
    let all = (0..50).map(|_| shop.order_with(shop.client(), &token, "the-key", &body));
    let answers = futures_util::future::join_all(all).await;
    let taken: Vec<_> = answers.iter().filter(|answer| answer.status == 202).collect();
    assert!(!taken.is_empty());
    for answer in &answers {
        if answer.status == 202 {
            assert_eq!((&answer.text, answer.header("etag")), (&taken[0].text, taken[0].header("etag")));
        } else {
            answer.expect_problem(409, "conflict");
            assert_eq!(answer.header("retry-after"), "1");
        }
    }
    assert_eq!(taken.iter().filter(|answer| answer.header("idempotency-replayed").is_empty()).count(), 1);

    // Whoever was told to wait gets the same answer in the end, also after the order has moved on.
    let id = taken[0].json["id"].as_str().expect("an id");
    shop.reserve(id).await;
    shop.state(id, "reserved").await;
    let again = shop.order_with(shop.client(), &token, "the-key", &body).await;
    assert_eq!((again.expect(202), &again.text), (&taken[0].json, &taken[0].text));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.header("location"), taken[0].header("location"));

    // Another request under the key is a mistake; another person's key is another key.
    let other = order(&[("MUG-01", 3)]);
    shop.order_with(shop.client(), &token, "the-key", &other).await.expect_problem(422, "invalid");
    assert_eq!(shop.count("select count(*) from orders").await, 1);
    let bob = shop.token(As::Customer(Uuid::now_v7()));
    let bobs = shop.order_with(shop.client(), &bob, "the-key", &body).await;
    assert_ne!(bobs.expect(202)["id"], taken[0].json["id"]);
    shop.settled().await;
    // Two orders of five rows (with key, event and deadline one has six), one of which asked for its payment and waits for that.
    assert_eq!(shop.count("select count(*) from orders").await, 2);
    assert_eq!(shop.rows().await, rows + 2 * 6 + 3);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_remembered() {
    let shop = Shop::open().await;
    let (token, body) = (shop.ada(), order(&[("NEW-01", 1)]));
    shop.order_with(shop.client(), &token, "k", &body).await.expect_problem(422, "invalid");
    shop.product("NEW-01", "New", 1, "EUR", 1).await;
    eventually("it is sold now", async || shop.order_with(shop.client(), &token, "k", &body).await.status == 202).await;
    assert_eq!(shop.count("select count(*) from orders").await, 1);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_customer_has_so_many_orders_under_way_and_no_more() {
    let shop = Shop::open_with(&["--max-open-orders-per-customer=2"]).await;
    let (first, _second) = (shop.confirmed().await, shop.placed().await);
    let third = shop.placed().await;
    let refused = shop.order_as(&shop.ada(), &two_mugs()).await;
    refused.expect_problem(429, "too-many-requests");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{first}: {refused:?}");
    let other = shop.order_as(&shop.token(As::Customer(Uuid::now_v7())), &two_mugs()).await;
    other.expect(202);
    shop.cancel(&third).await.expect(202);
    shop.order_as(&shop.ada(), &two_mugs()).await.expect(202);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_customer_places_so_many_orders_within_an_hour_whatever_became_of_them() {
    let shop = Shop::open_with(&["--max-orders-per-customer-and-hour=2"]).await;
    for _ in 0..2 {
        let order = shop.placed().await;
        shop.cancel(&order).await.expect(202);
    }
    let refused = shop.order_with(shop.client(), &shop.ada(), "key", &two_mugs()).await;
    refused.expect_problem(429, "too-many-requests");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=3600).contains(&wait), "{wait}");
    assert_eq!(shop.count("select count(*) from orders").await, 2);
    shop.order_as(&shop.token(As::Customer(Uuid::now_v7())), &two_mugs()).await.expect(202);

    let oldest = "update orders set placed_at = placed_at - interval '1 hour' where id = (select min(id::text)::uuid from orders)";
    shop.execute(oldest).await;
    // The key is free: what was refused was not done.
    shop.order_with(shop.client(), &shop.ada(), "key", &two_mugs()).await.expect(202);
    shop.close().await;
}
