//! Who may do what: every route of the document, and everybody who could ask.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::{Answer, Method};
use uuid::Uuid;
use web::testing::As;

use crate::shop::{Shop, two_mugs};

/// A route, and what it answers: its owner, another customer, an operator.
const ROUTES: [(&str, &str, [u16; 3]); 6] = [
    ("get", "/orders", [200, 200, 200]),
    ("post", "/orders", [202, 202, 202]),
    ("get", "/orders/{id}", [200, 404, 200]),
    ("get", "/orders/{id}/timeline", [200, 404, 200]),
    ("get", "/orders/{id}/stream", [200, 404, 200]),
    ("post", "/orders/{id}/cancellation", [202, 404, 202]),
];
/// What is there for whoever runs the service, in every service the same.
const OPERATIONS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

async fn ask(shop: &Shop, method: &str, path: &str, token: Option<&str>) -> Answer {
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
    let request = shop.client().request(method.clone(), path);
    let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
    if path.ends_with("/stream") {
        // It does not end by itself.
        let response = request.send().await.expect("the service answers");
        let (status, headers) = (response.status(), response.headers().clone());
        let text = if status == 200 { String::new() } else { response.text().await.expect("a body") };
        let json = serde_json::from_str(&text).unwrap_or_default();
        return Answer { status, headers, json, text };
    }
    let key = Uuid::now_v7().to_string();
    let request = if path == "/orders" && method == Method::POST {
        request.header("idempotency-key", key).json(&two_mugs())
    } else {
        request
    };
    Answer::to(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_each_asker_as_it_should() {
    let shop = Shop::open().await;
    let document = shop.client().get("/openapi.json", None).await.json;
    let documented: BTreeSet<_> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .filter(|(path, _)| !OPERATIONS.contains(&path.as_str()))
        .flat_map(|(path, item)| {
            item.as_object().expect("methods").keys().map(move |method| (method.as_str(), &**path))
        })
        .collect();
    let tested: BTreeSet<_> = ROUTES.iter().map(|(method, path, _)| (*method, *path)).collect();
    assert_eq!(documented, tested, "every documented route is in this table, and no other");

    let bob = shop.token(As::Customer(Uuid::now_v7()));
    for (method, pattern, expected) in ROUTES {
        for (who, token, status) in [
            ("a stranger", &bob, expected[1]),
            ("the operator", &shop.token(As::Operator), expected[2]),
            ("the owner", &shop.ada(), expected[0]),
        ] {
            let path = pattern.replace("{id}", &shop.placed().await);
            let answer = ask(&shop, method, &path, Some(token)).await;
            assert_eq!(answer.status, status, "{who}: {method} {pattern}: {}", answer.text);
            let operation = &document["paths"][pattern][method];
            assert!(operation["responses"].get(status.to_string()).is_some(), "{method} {pattern} documents {status}");
            assert_eq!(operation["security"][0]["bearer"], serde_json::json!([]), "{method} {pattern}");
        }
        let path = pattern.replace("{id}", &shop.placed().await);
        ask(&shop, method, &path, None).await.expect_problem(401, "unauthorized");
        for (what, token) in shop.issuer.forged(As::Customer(shop.ada)) {
            let answer = ask(&shop, method, &path, Some(&token)).await;
            answer.expect_problem(401, "invalid-token");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}");
        }
        for refused in ["401", "500", "503"] {
            assert!(document["paths"][pattern][method]["responses"].get(refused).is_some(), "{pattern} {refused}");
        }
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_order_is_an_order_that_does_not_exist() {
    let shop = Shop::open().await;
    let id = shop.placed().await;
    let bob = shop.token(As::Customer(Uuid::now_v7()));
    let same = |problem: &Value| {
        let mut problem = problem.clone();
        problem["trace_id"].take();
        problem
    };
    for (method, pattern, _) in ROUTES.into_iter().filter(|(_, pattern, _)| pattern.contains("{id}")) {
        let foreign = ask(&shop, method, &pattern.replace("{id}", &id), Some(&bob)).await;
        let missing = ask(&shop, method, &pattern.replace("{id}", &Uuid::now_v7().to_string()), Some(&bob)).await;
        let (foreign, missing) = (foreign.expect_problem(404, "not-found"), missing.expect_problem(404, "not-found"));
        assert_eq!(same(foreign), same(missing), "{method} {pattern}");
        ask(&shop, method, &pattern.replace("{id}", "7"), Some(&bob)).await.expect_problem(400, "bad-request");
    }
    assert_eq!(shop.timeline(&id).await, ["order_placed → placed"], "the stranger has changed nothing");
    let list = shop.client().get(&format!("/orders?user_id={}", shop.ada), Some(&bob)).await;
    assert_eq!(list.expect(200), &serde_json::json!([]));
    shop.close().await;
}

/// What a generator of requests needs to know is in the document: every string that is not free has a pattern or format, every
/// number its bounds, every failure the shape of a problem, and requests have no members that are not named.
#[tokio::test(flavor = "multi_thread")]
async fn the_document_says_what_is_accepted_and_what_is_answered() {
    let shop = Shop::open().await;
    let document = shop.client().get("/openapi.json", None).await.json;
    let schemas = &document["components"]["schemas"];
    for name in ["PlaceOrder", "WantedLine"] {
        assert_eq!(schemas[name]["additionalProperties"], false, "{name}");
    }
    let quantity = &schemas["WantedLine"]["properties"]["quantity"];
    assert_eq!((&quantity["minimum"], &quantity["maximum"]), (&1.into(), &1000.into()), "{quantity}");
    assert_eq!(schemas["WantedLine"]["properties"]["sku"]["pattern"], "^[A-Z0-9][A-Z0-9-]{0,31}$");
    let lines = &schemas["PlaceOrder"]["properties"]["lines"];
    assert_eq!((&lines["minItems"], &lines["maxItems"]), (&1.into(), &50.into()), "{lines}");
    for (method, pattern, _) in ROUTES {
        let operation = &document["paths"][pattern][method];
        assert!(operation["summary"].is_string(), "{method} {pattern}");
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let name = response["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
            let response = name.map_or(response, |name| &document["components"]["responses"][name]);
            assert!(response["description"].is_string(), "{method} {pattern} {status}: {response}");
            if status.starts_with(['4', '5']) {
                let content = &response["content"]["application/problem+json"];
                assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{pattern} {status}");
                assert_eq!(content["example"]["status"].to_string(), *status, "{pattern} {status}: {content}");
            }
        }
    }
    let key = &document["paths"]["/orders"]["post"]["parameters"][0];
    assert_eq!((&key["name"], &key["required"]), (&"Idempotency-Key".into(), &true.into()), "{key}");
    shop.close().await;
}
