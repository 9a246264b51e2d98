//! Looking at orders: lists and pages, versions.

use events::orders::v1::{CancellationReason, OrderCancelled};
use serde_json::{Value, json};
use testkit::{Method, eventually};
use uuid::Uuid;
use web::testing::As;

use crate::shop::{Shop, two_mugs};

fn ids(list: &Value) -> Vec<String> {
    list.as_array().expect("a list").iter().map(|order| order["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_come_in_pages_that_do_not_move() {
    let shop = Shop::open().await;
    let ada = shop.ada();
    let mut placed = Vec::new();
    for _ in 0..5 {
        placed.push(shop.placed().await);
    }
    placed.reverse();
    let bob = shop.token(As::Customer(Uuid::now_v7()));
    let bobs = shop.order_as(&bob, &two_mugs()).await.expect(202)["id"].clone();
    shop.cancel(&placed[4]).await.expect(202);

    let list = async |query: &str, token: &str| {
        ids(shop.client().get(&format!("/orders{query}"), Some(token)).await.expect(200))
    };
    assert_eq!(list("", &ada).await, placed);
    assert_eq!(list("?state=placed", &ada).await, placed[..4]);
    assert_eq!(list("?state=cancelled", &ada).await, placed[4..]);
    let operator = shop.token(As::Operator);
    assert_eq!(list("", &operator).await.len(), 6);
    assert_eq!(list(&format!("?user_id={}", shop.ada), &operator).await, placed);
    assert_eq!(list(&format!("?user_id={}&state=cancelled", shop.ada), &operator).await, placed[4..]);

    let (mut path, mut seen, mut pages) = ("/orders?limit=2".to_owned(), Vec::new(), 0);
    loop {
        let page = shop.client().get(&path, Some(&ada)).await;
        seen.extend(ids(page.expect(200)));
        pages += 1;
        // New ones at the top do not move what comes next.
        shop.placed().await;
        let Some(next) = page.header("link").strip_prefix('<').and_then(|link| link.split_once(">; rel=\"next\""))
        else {
            break;
        };
        path = next.0.to_owned();
    }
    assert_eq!((seen, pages), (placed, 3));
    assert_eq!(shop.client().get(&format!("/orders/{}", bobs.as_str().expect("an id")), Some(&ada)).await.status, 404);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_answered_with_what_to_do() {
    let shop = Shop::open().await;
    for (query, says) in [
        ("stat=placed", "stat"),
        ("state=lost", "expected one of"),
        ("user_id=7", "user_id"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("after=yesterday", "after"),
    ] {
        let answer = shop.client().get(&format!("/orders?{query}"), Some(&shop.ada())).await;
        assert!(answer.expect_problem(400, "bad-request").to_string().contains(says), "{query}: {}", answer.text);
    }
    let answer = shop.client().send(Method::DELETE, "/orders", Some(&shop.ada()), &[], None).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET, HEAD, POST"));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_spare_transfers_and_prevent_surprises() {
    let shop = Shop::open().await;
    let (id, ada) = (shop.placed().await, shop.ada());
    let (order, timeline) = (format!("/orders/{id}"), format!("/orders/{id}/timeline"));
    for path in [&order, &timeline] {
        let tag = shop.client().get(path, Some(&ada)).await.header("etag").to_owned();
        assert_eq!(tag, "\"1\"");
        let known = shop.client().send(Method::GET, path, Some(&ada), &[("if-none-match", &tag)], None).await;
        assert_eq!((known.status.as_u16(), known.header("etag"), &*known.text), (304, &*tag, ""));
    }
    shop.reserve(&id).await;
    shop.state(&id, "reserved").await;
    for path in [&order, &timeline] {
        let moved = shop.client().send(Method::GET, path, Some(&ada), &[("if-none-match", "\"1\"")], None).await;
        assert_eq!((moved.status.as_u16(), moved.header("etag")), (200, "\"2\""));
    }
    let cancel = async |tag: &str| {
        let path = format!("/orders/{id}/cancellation");
        shop.client().send(Method::POST, &path, Some(&ada), &[("if-match", tag)], None).await
    };
    cancel("\"1\"").await.expect_problem(412, "version-moved");
    assert_eq!(shop.entries(&id).await.len(), 2);
    assert_eq!(cancel("\"2\"").await.expect(202)["version"], 3);
    // What it asks for is done already: whoever lost the answer repeats the request as it was.
    assert_eq!(cancel("\"2\"").await.expect(202)["version"], 3);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_cancels_and_it_is_the_shop_that_did() {
    let shop = Shop::open().await;
    let id = shop.placed().await;
    let path = format!("/orders/{id}/cancellation");
    let answer = shop.client().send(Method::POST, &path, Some(&shop.token(As::Operator)), &[], None).await;
    assert_eq!(answer.expect(202)["reason"], "cancelled_by_shop");
    assert_eq!(shop.entries(&id).await[1]["detail"], json!("by an operator"));
    let told = || shop.notifications.heard::<OrderCancelled>().first().map(OrderCancelled::reason);
    let announced = async || told() == Some(CancellationReason::CancelledByShop);
    eventually("it is announced as the shop's own decision", announced).await;
    // The customer wanted the same a moment later.
    let again = shop.cancel(&id).await;
    assert_eq!((again.expect(202), again.header("etag")), (&answer.json, answer.header("etag")));
    shop.close().await;
}
