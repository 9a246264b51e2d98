//! Who may do what: every route, asked by everybody.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use web::testing::As;

use crate::shop::{Order, Shop, described};

/// A route, an address of it, what is sent there, and what it answers to nobody, to the customer whose order it is, to another customer, to
/// an operator, and to a token that must not count.
struct Row {
    route: &'static str,
    path: String,
    body: Option<Value>,
    answers: [u16; 5],
}

fn table(order: Order) -> Vec<Row> {
    let row = |route, path: &str, body, answers| Row { route, path: path.to_owned(), body, answers };
    let reservation = format!("/reservations/{}", order.id);
    vec![
        row("get /products", "/products", None, [200, 200, 200, 200, 200]),
        row("get /products/{sku}", "/products/MUG-01", None, [200, 200, 200, 200, 200]),
        row("put /products/{sku}", "/products/MUG-01", Some(described("Mug", 1999)), [401, 403, 403, 200, 401]),
        row("get /products/{sku}/stock", "/products/MUG-01/stock", None, [401, 403, 403, 200, 401]),
        row(
            "post /products/{sku}/restocks",
            "/products/MUG-01/restocks",
            Some(json!({"quantity": 1})),
            [401, 403, 403, 201, 401],
        ),
        row("get /reservations/{order_id}", &reservation, None, [401, 200, 404, 200, 401]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_everybody_as_it_should() {
    let shop = Shop::open().await;
    shop.product("MUG-01", 10).await;
    let order = Order::new();
    shop.tell(&order.placed(&[("MUG-01", 1)])).await;

    let table = table(order);
    let mut listed: Vec<_> = table.iter().map(|row| row.route).collect();
    listed.sort_unstable();
    let is_ours = |operation: &Value| operation["tags"][0] != "operations";
    let documented: Vec<_> = shop.documented().iter().filter(|(_, operation)| is_ours(operation)).collect();
    assert_eq!(listed, documented.iter().map(|(route, _)| route.as_str()).collect::<Vec<_>>(), "the table is complete");

    for Row { route, path, body, answers: [nobody, owner, other, operator, forged] } in table {
        let method = Method::from_bytes(route.split(' ').next().expect("a method").to_uppercase().as_bytes());
        let method = method.expect("a method");
        let key = Uuid::now_v7().to_string();
        let ask = async |token: Option<&str>| {
            let headers = [("idempotency-key", key.as_str())];
            let answer = shop.client.send(method.clone(), &path, token, &headers, body.as_ref()).await;
            shop.look_up(&method, &path, &answer);
            answer
        };
        let anonymous = ask(None).await;
        assert_eq!(anonymous.status, nobody, "{route} by nobody: {}", anonymous.text);
        if nobody == 401 {
            assert_eq!(anonymous.header("www-authenticate"), "Bearer realm=\"postrider\"", "{route}");
        }
        for (who, expected) in [
            (As::Customer(order.user_id), owner),
            (As::Unverified(order.user_id), owner),
            (As::Customer(Uuid::now_v7()), other),
            (As::Operator, operator),
        ] {
            let answer = ask(Some(&shop.issuer.token(who))).await;
            assert_eq!(answer.status, expected, "{route} by {who:?}: {}", answer.text);
        }
        for who in [As::Operator, As::Customer(order.user_id)] {
            for (wrong, token) in shop.issuer.forged(who) {
                let answer = ask(Some(&token)).await;
                assert_eq!(answer.status, forged, "{route} with a token {wrong}: {}", answer.text);
            }
        }
        let secured = shop.documented()[route]["security"][0]["bearer"].is_array();
        assert_eq!(secured, nobody == 401, "{route} is documented as what it is");
    }
    assert_eq!(shop.stock("MUG-01").await, [10, 1, 0, 11], "only the operator's restock counted");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_reservation_looks_like_none_at_all() {
    let shop = Shop::open().await;
    shop.product("MUG-01", 10).await;
    let order = Order::new();
    shop.tell(&order.placed(&[("MUG-01", 1)])).await;
    let eve = Some(As::Customer(Uuid::now_v7()));
    let theirs = shop.get(&format!("/reservations/{}", order.id), eve).await;
    let none = shop.get(&format!("/reservations/{}", Uuid::now_v7()), eve).await;
    let without_trace = |problem: &Value| {
        let mut problem = problem.clone();
        problem["trace_id"] = Value::Null;
        problem
    };
    let (theirs, none) = (theirs.expect_problem(404, "not-found"), none.expect_problem(404, "not-found"));
    assert_eq!(without_trace(theirs), without_trace(none));
    shop.close().await;
}
