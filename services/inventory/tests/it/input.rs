//! Requests that are not as they should be: each is answered with a problem that says what to do, and leaves nothing behind.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::Answer;
use uuid::Uuid;
use web::testing::As;

use crate::shop::{Shop, described};

const MUG: &str = "/products/MUG-01";
const RESTOCKS: &str = "/products/MUG-01/restocks";

/// The members of the body that the answer complains about.
fn pointers(answer: &Answer) -> Vec<&str> {
    let errors = answer.json["errors"].as_array().into_iter().flatten();
    errors.filter_map(|error| error["pointer"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_that_cannot_be_right_is_refused_and_the_member_is_named() {
    let shop = Shop::open().await;
    let with = |pointer: &str, value: Value| {
        let mut body = described("Mug", 1999);
        *body.pointer_mut(pointer).expect("a member") = value;
        body
    };
    let mut table: Vec<(Value, &[&str])> = Vec::new();
    for name in ["", " ", " Mug", "Mug ", "Mu\ng", "M\0g", "M\u{85}g", &"x".repeat(201)] {
        table.push((with("/name", json!(name)), &["#/name"]));
    }
    for wrong in [json!(null), json!(7), json!(["Mug"]), json!({})] {
        table.push((with("/name", wrong.clone()), &["#/name"]));
        table.push((with("/price/currency", wrong), &["#/price/currency"]));
    }
    for wrong in [json!(0), json!(-1), json!(1_000_000_000_001_i64), json!(i64::MAX), json!(i64::MIN)] {
        table.push((with("/price/minor_units", wrong), &["#/price/minor_units"]));
    }
    for wrong in [json!(19.99), json!("1999"), json!(null), json!(u64::MAX), json!(1e30), json!(true)] {
        table.push((with("/price/minor_units", wrong), &["#/price/minor_units"]));
    }
    for currency in ["", "eur", "EURO", "XXX", "XTS", "DEM", "€", "EUR\0"] {
        table.push((with("/price/currency", json!(currency)), &["#/price/currency"]));
    }
    table.push((json!({}), &["#/name"]));
    table.push((json!({"name": "Mug"}), &["#/price"]));
    table.push((json!({"name": "Mug", "price": {"minor_units": 1}}), &["#/price/currency"]));
    table.push((
        json!({"name": "", "price": {"minor_units": 0, "currency": "?"}}),
        &["#/name", "#/price/minor_units", "#/price/currency"],
    ));
    for (body, expected) in table {
        let answer = shop.put("MUG-01", &body, &[]).await;
        answer.expect_problem(422, "invalid");
        assert_eq!(pointers(&answer), expected, "{body}: {}", answer.text);
    }
    assert_eq!(shop.count("select count(*) from products").await, 0);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_not_known_are_refused() {
    let shop = Shop::open().await;
    shop.product("MUG-01", 0).await;
    for (pointer, expected) in [("", "available"), ("/price", "exponent")] {
        let mut body = described("Cup", 5);
        body.pointer_mut(pointer).expect("an object")[expected] = json!(1);
        let answer = shop.put("MUG-01", &body, &[]).await;
        answer.expect_problem(422, "invalid");
        assert_eq!(pointers(&answer).len(), 1, "{}", answer.text);
        assert!(answer.text.contains(expected), "{}", answer.text);
    }
    let headers = [("idempotency-key", "k")];
    let body = json!({"quantity": 1, "sku": "CUP-01"});
    let answer = shop.ask(Method::POST, RESTOCKS, Some(As::Operator), &headers, Some(&body)).await;
    answer.expect_problem(422, "invalid");
    assert_eq!(shop.get(MUG, None).await.json["name"], "Mug");
    assert_eq!(shop.stock("MUG-01").await, [0, 0, 0, 0]);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restock_that_cannot_be_right_is_refused() {
    let shop = Shop::open().await;
    shop.product("MUG-01", 0).await;
    for wrong in [json!(0), json!(-1), json!(1_000_001), json!(4_294_967_296_i64), json!(1.5), json!("1"), json!(null)]
    {
        let body = json!({ "quantity": wrong });
        let headers = [("idempotency-key", "k")];
        let answer = shop.ask(Method::POST, RESTOCKS, Some(As::Operator), &headers, Some(&body)).await;
        answer.expect_problem(422, "invalid");
        assert_eq!(pointers(&answer), ["#/quantity"], "{body}");
    }
    shop.restock("MUG-01", 1_000_000, "k").await.expect(201);
    for (headers, sent) in [
        (&[][..], "none"),
        (&[("idempotency-key", "")], "empty"),
        (&[("idempotency-key", "a b")], "white space"),
        (&[("idempotency-key", &"k".repeat(256))], "too long"),
        (&[("idempotency-key", "a"), ("idempotency-key", "b")], "two"),
    ] {
        let body = json!({ "quantity": 1 });
        let answer = shop.ask(Method::POST, RESTOCKS, Some(As::Operator), headers, Some(&body)).await;
        assert_eq!(answer.status, 400, "{sent}");
        answer.expect_problem(400, "bad-request");
    }
    assert_eq!(shop.stock("MUG-01").await, [1_000_000, 0, 0, 1_000_000]);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_or_too_much_of_it_is_refused() {
    let shop = Shop::open().await;
    shop.product("MUG-01", 0).await;
    let token = shop.issuer.token(As::Operator);
    for (method, path) in [(Method::PUT, MUG), (Method::POST, RESTOCKS)] {
        let request = |kind: &'static str, body: String| {
            let request = shop.client.request(method.clone(), path).bearer_auth(&token).header("idempotency-key", "k");
            let request = if kind.is_empty() { request } else { request.header("content-type", kind) };
            Answer::to(request.body(body))
        };
        for body in ["", " ", "{", "quantity=1", "{\"", "\u{0}", "{} {}", "{\"quantity\":1}]", "\u{feff}{}"] {
            let answer = request("application/json", body.to_owned()).await;
            shop.look_up(&method, path, &answer);
            assert!([400, 422].contains(&answer.status.as_u16()), "{body:?}: {}", answer.text);
        }
        for body in ["[]", "7", "null", "\"quantity\""] {
            let answer = request("application/json", body.to_owned()).await;
            shop.look_up(&method, path, &answer);
            answer.expect_problem(422, "invalid");
        }
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
            let answer = request(kind, "{\"quantity\":1}".to_owned()).await;
            shop.look_up(&method, path, &answer);
            answer.expect_problem(415, "unsupported-media-type");
        }
        let answer = request("application/json", format!("{{\"name\":\"{}\"}}", "x".repeat(300 * 1024))).await;
        shop.look_up(&method, path, &answer);
        answer.expect_problem(413, "payload-too-large");
    }
    assert_eq!(shop.stock("MUG-01").await, [0, 0, 0, 0]);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_or_a_query_that_is_malformed_is_said_so() {
    let shop = Shop::open().await;
    let (long, body, key) = ("A".repeat(33), described("Mug", 1), Uuid::now_v7().to_string());
    for sku in ["mug", "-MUG", "MUG_01", "M%C3%9CG", "MUG%00", "MUG%0A", "MUG%20", "MUG%2F01", "*", &long] {
        for (method, path) in [
            (Method::GET, format!("/products/{sku}")),
            (Method::GET, format!("/products/{sku}/stock")),
            (Method::PUT, format!("/products/{sku}")),
            (Method::POST, format!("/products/{sku}/restocks")),
        ] {
            let (headers, body) = ([("idempotency-key", key.as_str())], (method != Method::GET).then_some(&body));
            let answer = shop.ask(method.clone(), &path, Some(As::Operator), &headers, body).await;
            assert_eq!(answer.status, 400, "{method} {path}: {}", answer.text);
        }
    }
    for id in ["7", "nil", "0190163d-8694-739b-aea5-966c26f8ad9", "%00", "'; drop table products"] {
        let answer = shop.get(&format!("/reservations/{id}"), Some(As::Operator)).await;
        answer.expect_problem(400, "bad-request");
    }
    for query in [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=many",
        "limit=",
        "limit=1&limit=2",
        "after=",
        "after=MUG-01",
        "after=%00",
        "after=Ilx1MDAwMCI",
        "sku=MUG-01",
        "limit[]=1",
    ] {
        let answer = shop.get(&format!("/products?{query}"), None).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
    }
    assert_eq!(shop.count("select count(*) from products").await, 0);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_a_route_does_not_have_is_refused_with_those_that_it_has() {
    let shop = Shop::open().await;
    for (method, path, allowed) in [
        (Method::DELETE, MUG, "GET, HEAD, PUT"),
        (Method::PATCH, MUG, "GET, HEAD, PUT"),
        (Method::POST, "/products", "GET, HEAD"),
        (Method::GET, RESTOCKS, "POST"),
        (Method::PUT, "/products/MUG-01/stock", "GET, HEAD"),
        (Method::DELETE, "/reservations/0190163d-8694-739b-aea5-966c26f8ad91", "GET, HEAD"),
    ] {
        let answer = shop.client.send(method.clone(), path, None, &[], None).await;
        answer.expect_problem(405, "method-not-allowed");
        let mut allow: Vec<_> = answer.header("allow").split(", ").collect();
        allow.sort_unstable();
        assert_eq!(allow.join(", "), allowed, "{method} {path}");
    }
    shop.client.get("/nowhere", None).await.expect_problem(404, "not-found");
    shop.client.get("/products/", None).await.expect_problem(404, "not-found");
    shop.close().await;
}
