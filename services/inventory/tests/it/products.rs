//! Products: made, changed, listed, and what the others are told of it.

use std::collections::BTreeSet;

use events::{inventory::v1::ProductChanged, postrider::money::v1::Money};
use reqwest::Method;
use serde_json::json;
use testkit::eventually;
use web::testing::As;

use crate::shop::{Order, Shop, described};

fn changes(shop: &Shop) -> Vec<(String, String, i64, i64)> {
    let tell = |event: ProductChanged| {
        let Some(Money { minor_units, currency }) = event.price else { panic!("{event:?}") };
        assert_eq!(currency, "EUR");
        (event.sku, event.name, minor_units, event.version)
    };
    shop.orders.heard::<ProductChanged>().into_iter().map(tell).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_is_made_changed_and_told_of_only_when_something_is_different() {
    let shop = Shop::open().await;
    let made = shop.put("MUG-01", &described("Mug", 1999), &[]).await;
    let product = made.expect(201);
    assert_eq!((made.header("location"), made.header("etag")), ("/products/MUG-01", "\"1\""));
    assert_eq!(product["price"], json!({"minor_units": 1999, "currency": "EUR"}));
    assert_eq!((&product["available"], &product["version"]), (&json!(0), &json!(1)));

    let same = shop.put("MUG-01", &described("Mug", 1999), &[]).await;
    assert_eq!((same.expect(200), same.header("etag")), (product, "\"1\""));
    let name = shop.put("MUG-01", &described("Große Tasse ☕", 1999), &[]).await;
    assert_eq!((name.expect(200)["version"].as_i64(), name.header("etag")), (Some(2), "\"2\""));
    shop.put("MUG-01", &described("Große Tasse ☕", 1_000_000_000_000), &[]).await.expect(200);
    let now = shop.get("/products/MUG-01", None).await;
    assert_eq!(now.expect(200)["name"], "Große Tasse ☕");
    shop.orders.wait_for::<ProductChanged>(3).await;
    let expected = [("Mug", 1999, 1), ("Große Tasse ☕", 1999, 2), ("Große Tasse ☕", 1_000_000_000_000, 3)]
        .map(|(name, price, version)| ("MUG-01".to_owned(), name.to_owned(), price, version));
    assert_eq!(changes(&shop), expected);
    let announced = "select count(*) from messaging.journal where type = 'inventory.v1.ProductChanged'";
    assert_eq!(shop.count(announced).await, 3, "what stayed the same was not announced");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_products_currency_stays_what_it_was() {
    let shop = Shop::open().await;
    shop.product("MUG-01", 0).await;
    let dollars = json!({"name": "Mug", "price": {"minor_units": 1999, "currency": "USD"}});
    let refused = shop.put("MUG-01", &dollars, &[]).await;
    let problem = refused.expect_problem(409, "currency-fixed");
    assert_eq!(problem["errors"][0]["pointer"], "#/price/currency");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("EUR")), "{problem}");
    assert_eq!(shop.get("/products/MUG-01", None).await.json["price"]["currency"], "EUR");
    shop.put("MUG-02", &dollars, &[]).await.expect(201);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_kept() {
    let shop = Shop::open().await;
    let mug = |name: &str| described(name, 1999);
    // What is not there has no version.
    for tag in ["\"1\"", "*"] {
        shop.put("MUG-01", &mug("Mug"), &[("if-match", tag)]).await.expect_problem(412, "version-moved");
    }
    shop.put("MUG-01", &mug("Mug"), &[("if-none-match", "*")]).await.expect(201);
    shop.put("MUG-01", &mug("Cup"), &[("if-none-match", "*")]).await.expect_problem(412, "already-exists");
    shop.put("MUG-01", &mug("Cup"), &[("if-none-match", "\"1\"")]).await.expect_problem(412, "already-exists");
    for stale in ["\"0\"", "\"2\"", "W/\"1\"", "nonsense", ""] {
        shop.put("MUG-01", &mug("Cup"), &[("if-match", stale)]).await.expect_problem(412, "version-moved");
    }
    assert_eq!(shop.get("/products/MUG-01", None).await.json["name"], "Mug");
    shop.put("MUG-01", &mug("Cup"), &[("if-match", "\"7\", \"1\"")]).await.expect(200);
    shop.put("MUG-01", &mug("Pot"), &[("if-match", "*")]).await.expect(200);

    let current = shop.get("/products/MUG-01", None).await;
    assert_eq!((current.header("etag"), current.header("cache-control")), ("\"3\"", "public, no-cache"));
    for known in ["\"3\"", "W/\"3\"", "\"1\", \"3\"", "*"] {
        let answer = shop.ask(Method::GET, "/products/MUG-01", None, &[("if-none-match", known)], None).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str(), answer.header("etag")),
            (304, "", "\"3\""),
            "{known}"
        );
    }
    let old = shop.ask(Method::GET, "/products/MUG-01", None, &[("if-none-match", "\"2\"")], None).await;
    assert_eq!(old.expect(200)["name"], "Pot");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_no_longer_right_when_the_stock_has_changed() {
    let shop = Shop::open().await;
    shop.product("MUG-01", 10).await;
    let tag = shop.get("/products/MUG-01", None).await.header("etag").to_owned();
    shop.tell(&Order::new().placed(&[("MUG-01", 4)])).await;
    let answer = shop.ask(Method::GET, "/products/MUG-01", None, &[("if-none-match", &tag)], None).await;
    assert_eq!(answer.expect(200)["available"], 6);
    let (path, operator) = ("/products/MUG-01/stock", Some(As::Operator));
    let stale = shop.ask(Method::GET, path, operator, &[("if-none-match", &tag)], None).await;
    assert_eq!(stale.expect(200)["reserved"], 4);
    let current = shop.ask(Method::GET, path, operator, &[("if-none-match", stale.header("etag"))], None).await;
    current.expect(304);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_changes_to_one_version_one_wins_and_of_products_made_at_once_one_is_made() {
    let shop = Shop::open().await;
    // Names that differ from rush to rush: who asks for what is there already changes nothing, and does not use the version up.
    let rush = async |name: &str, condition: (&str, &str)| {
        let bodies: Vec<_> = (0..20).map(|n| described(&format!("{name} {n}"), 1999)).collect();
        let headers = [condition];
        let puts = bodies.iter().map(|body| shop.put("MUG-01", body, &headers));
        let answers = futures_util::future::join_all(puts).await;
        let won: Vec<_> = answers.iter().filter(|answer| answer.status.is_success()).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        assert!(answers.iter().all(|answer| answer.status.is_success() || answer.status == 412), "{answers:?}");
        assert_eq!(shop.get("/products/MUG-01", None).await.json, won[0].json, "the winner's change is there");
    };
    rush("Mug", ("if-none-match", "*")).await;
    rush("Pot", ("if-match", "\"1\"")).await;
    rush("Jug", ("if-match", "\"2\"")).await;
    // Without a condition the last one wins, and all are told, in the order in which they happened.
    let bodies: Vec<_> = (0..20).map(|n| described(&format!("Cup {n}"), 1999)).collect();
    let answers = futures_util::future::join_all(bodies.iter().map(|body| shop.put("MUG-01", body, &[]))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    shop.orders.wait_for::<ProductChanged>(23).await;
    let heard = changes(&shop);
    assert_eq!(heard.iter().map(|change| change.3).collect::<Vec<_>>(), (1..=23).collect::<Vec<_>>());
    let last = heard.last().map(|change| change.1.clone());
    assert_eq!(shop.get("/products/MUG-01", None).await.json["name"].as_str(), last.as_deref());
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_has_every_product_once_page_by_page() {
    let shop = Shop::open().await;
    let empty = shop.get("/products", None).await;
    assert_eq!((empty.expect(200), empty.header("link")), (&json!([]), ""));
    let skus = ["A", "A-1", "A0", "AA", "0-7", "MUG-01", "ZZZ"];
    for sku in skus {
        shop.put(sku, &described("Mug", 1), &[]).await.expect(201);
    }
    for limit in [1, 2, 3, 7, 100] {
        let (mut listed, mut path) = (Vec::new(), format!("/products?limit={limit}"));
        loop {
            let page = shop.get(&path, None).await;
            let items = page.expect(200).as_array().expect("a list").clone();
            assert!(!items.is_empty() && items.len() <= limit, "{path}");
            listed.extend(items.iter().map(|item| item["sku"].as_str().expect("a SKU").to_owned()));
            let Some(next) = page.header("link").strip_suffix(">; rel=\"next\"") else { break };
            path = next.trim_start_matches('<').to_owned();
        }
        assert!(listed.is_sorted(), "{listed:?}");
        assert_eq!(listed.iter().map(String::as_str).collect::<BTreeSet<_>>(), skus.into());
        assert_eq!(listed.len(), skus.len(), "none twice");
    }
    eventually("all are told of", async || changes(&shop).len() == skus.len()).await;
    shop.close().await;
}
