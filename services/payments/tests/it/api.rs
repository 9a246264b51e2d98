//! Who may ask for what, and what comes back for requests that are wrong.

use std::collections::BTreeSet;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Client};
use uuid::Uuid;
use web::testing::As;

use crate::{
    document::Document,
    shop::{Order, Shop},
};

/// Every route: what its order's customer, another customer, and an operator get. Without a token, or with one that must not be
/// accepted, everybody gets 401.
const ROUTES: [(&str, &str, [u16; 3]); 2] =
    [("get", "/payments/{order_id}", [200, 404, 200]), ("post", "/payments/{order_id}/refunds", [403, 403, 202])];

#[tokio::test(flavor = "multi_thread")]
async fn every_route_knows_who_asks() {
    let shop = Shop::open().await;
    let document = Document::of(&shop).await;
    let listed: BTreeSet<_> = ROUTES.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(document.routes(), listed, "a route is missing in the table above, or in the document");

    for (method, template, statuses) in ROUTES {
        let order = shop.paid_order().await;
        let customer = As::Customer(order.user_id);
        let path = template.replace("{order_id}", &order.id.to_string());
        let method = method.to_uppercase().parse::<Method>().expect("a method");
        let body = (method == Method::POST).then(|| json!({}));
        let ask =
            async |token: Option<&str>| shop.client().send(method.clone(), &path, token, &[], body.as_ref()).await;
        let answer = ask(None).await;
        answer.expect_problem(401, "unauthorized");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        document.check(method.as_str(), template, &answer);
        for who in [customer, As::Operator] {
            for (wrong, token) in shop.issuer.forged(who) {
                let answer = ask(Some(&token)).await;
                answer.expect_problem(401, "invalid-token");
                assert!(answer.header("www-authenticate").contains("invalid_token"), "{wrong}");
            }
        }
        let others = As::Customer(Uuid::now_v7());
        for (who, status) in [customer, others, As::Operator].into_iter().zip(statuses) {
            let answer = ask(Some(&shop.issuer.token(who))).await;
            answer.expect(status);
            document.check(method.as_str(), template, &answer);
            assert_eq!(answer.text.contains(&order.user_id.to_string()), status < 400, "{who:?} {}", answer.text);
        }
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_payment_looks_like_none() {
    let shop = Shop::open().await;
    let order = shop.paid_order().await;
    let stranger = Some(As::Customer(Uuid::now_v7()));
    let mut theirs = shop.get(&order.path(), stranger).await.expect_problem(404, "not-found").clone();
    let mut nobodys = shop.get(&Order::new().path(), stranger).await.expect_problem(404, "not-found").clone();
    for problem in [&mut theirs, &mut nobodys] {
        problem["trace_id"].take();
    }
    assert_eq!(theirs, nobodys);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_has_not_changed_is_not_sent_again() {
    let shop = Shop::open().await;
    let order = shop.paid_order().await;
    let who = Some(As::Customer(order.user_id));
    let first = shop.get(&order.path(), who).await;
    assert_eq!((first.header("etag"), first.header("cache-control")), ("\"2\"", "private, no-cache"));
    let again = shop.ask(Method::GET, &order.path(), who, &[("if-none-match", "\"2\"")], None).await;
    again.expect(304);
    assert_eq!((again.header("etag"), again.text.as_str()), ("\"2\"", ""));
    shop.refund(order).await.expect(202);
    shop.ask(Method::GET, &order.path(), who, &[("if-none-match", "\"2\"")], None).await.expect(200);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_is_refused_with_what_is_wrong_and_changes_nothing() {
    let shop = Shop::open().await;
    let order = shop.paid_order().await;
    let who = shop.issuer.token(As::Operator);
    let refund = async |content_type: &str, body: &[u8]| {
        let request = shop.client().request(Method::POST, &order.refunds()).bearer_auth(&who);
        Answer::to(request.header("content-type", content_type).body(body.to_vec())).await
    };
    let json = "application/json";
    for (content_type, body, status, kind) in [
        (json, &b"{"[..], 400, "malformed-json"),
        (json, b" ", 400, "malformed-json"),
        (json, b"{\"reason\":\"\xff\"}", 400, "malformed-json"),
        (json, b"[]", 422, "invalid"),
        (json, b"17", 422, "invalid"),
        (json, br#"{"reason":17}"#, 422, "invalid"),
        (json, br#"{"reason":""}"#, 422, "invalid"),
        (json, br#"{"reason":"\u0000"}"#, 422, "invalid"),
        (json, br#"{"reason":"lost","amount":1}"#, 422, "invalid"),
        (json, br#"{"resaon":"lost"}"#, 422, "invalid"),
        ("text/plain", b"lost", 415, "unsupported-media-type"),
        ("application/x-www-form-urlencoded", b"reason=lost", 415, "unsupported-media-type"),
    ] {
        let answer = refund(content_type, body).await;
        answer.expect_problem(status, kind);
    }
    refund(json, json!({ "reason": "x".repeat(501) }).to_string().as_bytes()).await.expect_problem(422, "invalid");
    refund(json, &vec![b' '; 300_000]).await.expect_problem(413, "payload-too-large");
    let unknown = refund(json, br#"{"reason":"lost","amount":1}"#).await;
    assert_eq!(unknown.json["errors"][0]["pointer"], "#/amount");
    shop.get("/payments/17", Some(As::Operator)).await.expect_problem(400, "bad-request");
    // Whoever says nothing of themselves learns nothing, not even that the id is wrong.
    shop.get("/payments/17", None).await.expect_problem(401, "unauthorized");
    let answer = shop.ask(Method::DELETE, &order.path(), Some(As::Operator), &[], None).await;
    answer.expect_problem(405, "method-not-allowed");
    assert_eq!(answer.header("allow"), "GET, HEAD");
    shop.get("/payments", Some(As::Operator)).await.expect_problem(404, "not-found");
    shop.payment(order, "authorized").await;

    // 500 characters that are many more bytes.
    refund(json, json!({ "reason": "€".repeat(500) }).to_string().as_bytes()).await.expect(202);
    shop.close().await;
}

/// Requests as a fuzzer makes them from the document: each answer is one that the document promises, with the body that it promises.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_the_answer_is_one_of_those_in_the_document() {
    let shop = Shop::open().await;
    let document = Document::of(&shop).await;
    let mut random = StdRng::seed_from_u64(17);
    let tokens = [None, Some(shop.issuer.token(As::Operator)), Some(shop.issuer.token(As::Customer(Uuid::now_v7())))];
    let order = shop.paid_order().await;
    for _ in 0..400 {
        let (method, template, _) = *ROUTES.choose(&mut random).expect("a route");
        let id = match random.random_range(0..4) {
            0 => order.id.to_string(),
            1 => Uuid::now_v7().to_string(),
            2 => "%00".into(),
            _ => format!("{:x}", random.random::<u64>()),
        };
        let answer =
            strange_request(&mut random, shop.client(), method, &template.replace("{order_id}", &id), &tokens).await;
        document.check(method, template, &answer);
    }
    shop.close().await;
}

async fn strange_request(
    random: &mut StdRng,
    client: &Client,
    method: &str,
    path: &str,
    tokens: &[Option<String>],
) -> Answer {
    let mut request = client.request(method.to_uppercase().parse().expect("a method"), path);
    if let Some(token) = tokens.choose(random).expect("a token") {
        request = request.bearer_auth(token);
    }
    for name in ["if-match", "if-none-match"] {
        if random.random_ratio(1, 3) {
            let value = ["\"2\"", "W/\"2\"", "*", "\"", "2", "", ",,,", "\"\u{e9}\""].choose(random).expect("a value");
            request = request.header(name, *value);
        }
    }
    if method == "post" {
        let reason: String = (0..random.random_range(0..6)).map(|_| random.random::<char>()).collect();
        let bodies = [
            json!({ "reason": reason }),
            json!({ "reason": null }),
            json!({}),
            Value::Null,
            json!([]),
            json!({ "reason": "ok", "more": 1 }),
            json!({ "reason": "y".repeat(random.random_range(0..600)) }),
        ];
        match random.random_range(0..10) {
            0 => {}
            1 => request = request.header("content-type", "text/plain").body("?"),
            2 => request = request.header("content-type", "application/json").body("{"),
            _ => request = request.json(bodies.choose(random).expect("a body")),
        }
    }
    Answer::to(request).await
}
