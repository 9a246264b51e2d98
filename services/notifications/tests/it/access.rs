//! Who may do what: every route, asked by everybody.

use std::collections::BTreeSet;

use events::users::v1::PasswordChanged;
use serde_json::{Value, json};
use testkit::{Answer, Method};
use uuid::Uuid;
use web::testing::As;

use crate::shop::Shop;

/// A route, and what it answers: the customer whose notification it is, another customer, an operator. Without a token, or with one that must
/// not count, everybody gets 401.
const ROUTES: [(&str, &str, [u16; 3]); 3] = [
    ("get", "/notifications", [200, 200, 200]),
    ("get", "/notifications/{id}", [200, 404, 200]),
    ("post", "/notifications/{id}/resend", [403, 403, 202]),
];
/// What is there for whoever runs the service, in every service the same.
const OPERATIONS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Somebody to whom letters were sent, and the one of them that can be sent again.
async fn customer(shop: &Shop, email: &str) -> (Uuid, Value) {
    let user_id = shop.register(email, "t0ken").await;
    shop.notification(user_id, "verify_email", "sent").await;
    shop.publish(&PasswordChanged { user_id: user_id.to_string() }).await;
    let sent = shop.notification(user_id, "password_changed", "sent").await;
    (user_id, sent)
}

fn address(pattern: &str, id: &str) -> String {
    pattern.replace("{id}", id)
}

async fn ask(shop: &Shop, method: &str, path: &str, token: Option<&str>) -> Answer {
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
    shop.ask(method, path, token, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_everybody_as_it_should() {
    let shop = Shop::open().await;
    let document = shop.get("/openapi.json", None).await.json;
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
    assert_eq!(tested, documented, "every documented route is in this table, and no other");

    let (ada, sent) = customer(&shop, "ada@example.org").await;
    let id = sent["id"].as_str().expect("an id");
    for (method, pattern, [owner, other, operator]) in ROUTES {
        let (route, path) = (format!("{method} {pattern}"), address(pattern, id));
        let operation = &document["paths"][pattern][method];
        assert_eq!(operation["security"][0]["bearer"], json!([]), "{route} is documented as what it is");
        let anonymous = ask(&shop, method, &path, None).await;
        anonymous.expect_problem(401, "unauthorized");
        assert_eq!(anonymous.header("www-authenticate"), "Bearer realm=\"postrider\"", "{route}");
        for who in [As::Operator, As::Customer(ada)] {
            for (wrong, token) in shop.issuer.forged(who) {
                let answer = ask(&shop, method, &path, Some(&token)).await;
                answer.expect_problem(401, "invalid-token");
                assert!(answer.header("www-authenticate").contains("invalid_token"), "{route} {wrong}");
            }
        }
        for (who, status) in [
            (As::Customer(ada), owner),
            (As::Unverified(ada), owner),
            (As::Customer(Uuid::now_v7()), other),
            (As::Operator, operator),
        ] {
            let answer = ask(&shop, method, &path, Some(&shop.issuer.token(who))).await;
            assert_eq!(answer.status, status, "{route} by {who:?}: {}", answer.text);
            assert!(operation["responses"].get(status.to_string()).is_some(), "{route} documents {status}");
            let may_see = matches!(who, As::Operator | As::Unverified(_)) || who == As::Customer(ada);
            let is_shown = answer.text.contains(&ada.to_string());
            assert_eq!(is_shown, may_see && status < 400, "{route} by {who:?}: {}", answer.text);
        }
        assert!(operation["responses"].get("401").is_some(), "{route} documents 401");
    }
    shop.notification(ada, "password_changed", "sent").await;
    assert_eq!(shop.mails().len(), 3, "only the operator has sent it again");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_notification_looks_like_none_at_all() {
    let shop = Shop::open().await;
    let (ada, sent) = customer(&shop, "ada@example.org").await;
    let (bob, _) = customer(&shop, "bob@example.org").await;
    let (id, token) = (sent["id"].as_str().expect("an id"), shop.issuer.token(As::Customer(bob)));
    for (method, pattern, [_, other, _]) in ROUTES.into_iter().filter(|(_, pattern, _)| pattern.contains("{id}")) {
        let problem = async |id: &str| {
            let answer = ask(&shop, method, &address(pattern, id), Some(&token)).await;
            let kind = if other == 404 { "not-found" } else { "forbidden" };
            let mut problem = answer.expect_problem(other, kind).clone();
            problem["trace_id"].take();
            problem
        };
        assert_eq!(problem(id).await, problem(&Uuid::now_v7().to_string()).await, "{method} {pattern}");
    }

    // Neither a filter nor the end of somebody else's page leads to what is theirs.
    let first = shop.get("/notifications?limit=1", Some(As::Customer(ada))).await;
    let next = first.header("link").split(['<', '>']).nth(1).expect("a link to the next page").to_owned();
    for path in ["/notifications", "/notifications?state=sent", "/notifications?template=password_changed", &next] {
        let answer = shop.get(path, Some(As::Customer(bob))).await;
        let list = answer.expect(200).as_array().expect("a list");
        assert!(list.iter().all(|item| item["user_id"] == json!(bob)), "{path}: {list:?}");
    }
    let asked_for = shop.get(&format!("/notifications?user_id={ada}"), Some(As::Customer(bob))).await;
    assert_eq!(asked_for.expect(200), &json!([]));
    assert_eq!(
        shop.get(&address("/notifications/{id}", id), Some(As::Operator)).await.json,
        sent,
        "nothing has changed"
    );
    shop.close().await;
}
