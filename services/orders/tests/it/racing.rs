//! Two who want different things at the same moment.

use events::{
    orders::v1::{OrderCancelled, OrderConfirmed, OrderPlaced},
    users::v1::UserDeleted,
};
use testkit::{Method, eventually};
use uuid::Uuid;
use web::testing::As;

use crate::shop::{Shop, two_mugs};

#[tokio::test(flavor = "multi_thread")]
async fn of_a_cancellation_and_a_confirmation_exactly_one_happens_and_the_answer_tells_which() {
    let shop = Shop::open().await;
    let (mut confirmed, mut cancelled) = (0, 0);
    for round in 0..24_u64 {
        let id = shop.paid().await;
        let ((), answer) = tokio::join!(shop.commit(&id), async {
            // Sometimes the one is first, sometimes the other: the commitment has a broker on its way.
            for _ in 0..round % 8 {
                shop.client().get("/livez", None).await;
            }
            shop.cancel(&id).await
        });
        // The loser is noted: with it there are five entries, or four where nothing is written of a wish that is too late.
        if answer.status == 202 {
            cancelled += 1;
            let entries = shop.entries_until(&id, 5).await;
            assert_eq!(
                (&entries[3]["event"], &entries[4]["event"]),
                (&"cancellation_requested".into(), &"stock_committed".into())
            );
            assert!(entries[3..].iter().all(|entry| entry["state"] == "cancelled"), "{entries:?}");
        } else {
            answer.expect_problem(409, "final");
            confirmed += 1;
            let entries = shop.entries(&id).await;
            assert_eq!((entries.len(), &entries[3]["state"]), (4, &"confirmed".into()), "{entries:?}");
        }
    }
    shop.settled().await;
    let heard = shop.notifications.wait_for::<OrderConfirmed>(confirmed).await;
    assert_eq!(heard.len(), confirmed);
    if cancelled > 0 {
        assert_eq!(shop.notifications.wait_for::<OrderCancelled>(cancelled).await.len(), cancelled);
    }
    let confirmed_ids: Vec<_> = heard.into_iter().map(|event| event.order_id).collect();
    let both = shop
        .notifications
        .heard::<OrderCancelled>()
        .into_iter()
        .filter(|event| confirmed_ids.contains(&event.order_id));
    assert_eq!(both.count(), 0);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_placed_while_its_account_is_deleted_does_not_stay_open() {
    let shop = Shop::open().await;
    let bob = Uuid::now_v7();
    let token = shop.token(As::Customer(bob));
    // The account is known: its row is there, and only the lock on it makes the two wait for each other.
    shop.order_as(&token, &two_mugs()).await.expect(202);
    // The order has looked at the account and cannot be stored yet.
    let mut db = shop.database.pool.acquire().await.expect("a connection");
    sqlx::raw_sql("begin; lock table orders in exclusive mode").execute(&mut *db).await.expect("the lock");
    let body = two_mugs();
    let waits = |what: &str| {
        format!(
            "select count(*) from pg_stat_activity
                 where datname = current_database() and wait_event_type = 'Lock' and query like '%{what}%'"
        )
    };
    let (placing, deleting) = (waits("insert into orders"), waits("insert into customers"));
    let (answer, ()) = tokio::join!(shop.order_as(&token, &body), async {
        eventually("the order waits", async || shop.count(&placing).await == 1).await;
        shop.users.publish(&UserDeleted { user_id: bob.to_string() }).await;
        let gone = "select count(*) from customers where deleted_at is not null";
        let heard = async || shop.count(&deleting).await + shop.count(gone).await > 0;
        eventually("the deletion waits for it, or is through", heard).await;
        sqlx::raw_sql("commit").execute(&mut *db).await.expect("the lock is given back");
    });
    let id = answer.expect(202)["id"].as_str().expect("an id").to_owned();
    assert_eq!(shop.state(&id, "cancelled").await["reason"], "cancelled_by_customer");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_on_one_database_are_one_service() {
    let shop = Shop::open().await;
    let other = shop.replica(&[]).await;
    let (token, body) = (shop.ada(), two_mugs());
    let all = (0..20).map(|n| {
        let client = if n % 2 == 0 { shop.client() } else { &other.client };
        shop.order_with(client, &token, "one-key", &body)
    });
    let answers = futures_util::future::join_all(all).await;
    let taken: Vec<_> = answers.iter().filter(|answer| answer.status == 202).collect();
    assert!(!taken.is_empty() && taken.iter().all(|answer| answer.text == taken[0].text), "{answers:?}");
    assert!(answers.iter().all(|answer| [202, 409].contains(&answer.status.as_u16())), "{answers:?}");
    assert_eq!(shop.count("select count(*) from orders").await, 1);
    assert_eq!(shop.inventory.wait_for::<OrderPlaced>(1).await.len(), 1);

    // What the one began the other goes on with, when the one is gone.
    let id = taken[0].json["id"].as_str().expect("an id").to_owned();
    shop.reserve(&id).await;
    shop.state(&id, "reserved").await;
    let mut shop = shop;
    shop.stop_service().await.expect("the first stops in order");
    shop.authorize(&id).await;
    let path = format!("/orders/{id}");
    let paid = async || other.client.get(&path, Some(&token)).await.json["state"] == "paid";
    eventually("the other goes on", paid).await;
    let path = format!("{path}/cancellation");
    other.client.send(Method::POST, &path, Some(&token), &[], None).await.expect(202);
    other.stop().await.expect("the other stops in order");
    shop.start().await;
    shop.state(&id, "cancelled").await;
    shop.close().await;
}
