//! Restocks: counted once, however often they are sent.

use reqwest::Method;
use serde_json::json;
use web::testing::As;

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn pieces_come_in_once_and_the_answer_is_given_again() {
    let shop = Shop::open().await;
    shop.product("MUG-01", 0).await;
    let first = shop.restock("MUG-01", 7, "monday").await;
    assert_eq!((first.expect(201)["available"].as_i64(), first.header("idempotency-replayed")), (Some(7), ""));
    assert_eq!((first.header("location"), first.header("etag")), ("/products/MUG-01/stock", "\"2\""));
    shop.restock("MUG-01", 3, "tuesday").await.expect(201);
    let again = shop.restock("MUG-01", 7, "monday").await;
    assert_eq!((again.status, &again.text), (first.status, &first.text), "the first answer, not the current stock");
    assert_eq!((again.header("idempotency-replayed"), again.header("etag")), ("true", "\"2\""));
    assert_eq!(again.header("content-type"), "application/json");

    shop.restock("MUG-01", 8, "monday").await.expect_problem(422, "invalid");
    shop.product("CUP-01", 0).await;
    shop.restock("CUP-01", 7, "monday").await.expect_problem(422, "invalid");
    assert_eq!(shop.stock("MUG-01").await, [10, 0, 0, 10]);
    assert_eq!(shop.stock("CUP-01").await, [0, 0, 0, 0]);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once_with_one_key_are_one_restock() {
    let shop = Shop::open().await;
    shop.product("MUG-01", 0).await;
    let answers = futures_util::future::join_all((0..50).map(|_| shop.restock("MUG-01", 7, "monday"))).await;
    let mut bodies: Vec<_> = answers.iter().filter(|answer| answer.status == 201).map(|answer| &answer.text).collect();
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "whoever got an answer got the same one");
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.expect_problem(409, "conflict");
        assert_eq!(answer.header("retry-after"), "1");
    }
    assert_eq!(shop.stock("MUG-01").await, [7, 0, 0, 7]);
    assert_eq!(shop.count("select count(*) from stock_movements").await, 1);

    let many: Vec<_> = (0..50).map(|n| format!("key {n}").replace(' ', "-")).collect();
    let answers = futures_util::future::join_all(many.iter().map(|key| shop.restock("MUG-01", 1, key))).await;
    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    assert_eq!(shop.stock("MUG-01").await, [57, 0, 0, 57], "other keys are other restocks");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_did_not_use_its_key_up() {
    let shop = Shop::open().await;
    shop.restock("MUG-01", 7, "monday").await.expect_problem(404, "not-found");
    shop.product("MUG-01", 0).await;
    shop.restock("MUG-01", 7, "monday").await.expect(201);
    assert_eq!(shop.stock("MUG-01").await, [7, 0, 0, 7]);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_pieces_than_can_be_counted_are_refused() {
    let shop = Shop::open().await;
    shop.product("MUG-01", 0).await;
    // As after nine billion of the largest restocks.
    let most = 9_007_199_254_740_991_i64;
    shop.execute(&format!("update products set available = {most} - 10, received = {most} - 10")).await;
    shop.execute(&format!(
        "insert into stock_movements (sku, available, reserved, sold, received, cause)
         values ('MUG-01', {most} - 10, 0, 0, {most} - 10, 'restock')"
    ))
    .await;
    let answer = shop.restock("MUG-01", 11, "monday").await;
    assert_eq!(answer.expect_problem(422, "invalid")["errors"][0]["pointer"], "#/quantity");
    shop.restock("MUG-01", 10, "monday").await.expect(201);
    assert_eq!(shop.stock("MUG-01").await, [most, 0, 0, most]);
    let path = "/products/MUG-01/restocks";
    let body = json!({"quantity": 1});
    let refused = shop.ask(Method::POST, path, Some(As::Operator), &[("idempotency-key", "more")], Some(&body)).await;
    refused.expect(422);
    shop.close().await;
}
