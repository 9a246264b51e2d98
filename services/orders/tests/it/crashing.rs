//! The service as a process: killed between the effect and the answer, and asked to stop.

use std::net::TcpListener;

use testkit::{Client, eventually};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, process::Command};

use crate::shop::{Shop, two_mugs};

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_between_the_effect_and_the_answer_has_made_one_order() {
    let mut shop = Shop::open().await;
    shop.stop_service().await.expect("it stops in order");
    let (address, body, token) = (free_port(), two_mugs().to_string(), shop.ada());
    let mut process = shop.process(&address);
    let client = Client::new(format!("http://{address}"));
    let known = async || {
        let asked = client.request(testkit::Method::GET, "/orders").bearer_auth(&token).send().await;
        asked.is_ok_and(|answer| answer.status() == 200)
    };
    eventually("the process answers", known).await;

    let mut socket = TcpStream::connect(&address).await.expect("a connection");
    let length = body.len();
    let head = format!(
        "POST /orders HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}"
    );
    let request = format!("{head}\r\nIdempotency-Key: lost-answer\r\nAuthorization: Bearer {token}\r\n\r\n{body}");
    socket.write_all(request.as_bytes()).await.expect("the request is sent");
    let orders = "select count(*) from orders";
    eventually("the order is committed", async || shop.count(orders).await == 1).await;
    process.kill().await.expect("the process is killed");
    drop(socket);
    let stored: (uuid::Uuid, Vec<u8>) =
        sqlx::query_as("select orders.id, answers.body from orders, idempotency.answers")
            .fetch_one(&shop.database.pool)
            .await
            .expect("the answer is there with the order");

    shop.start().await;
    let again = shop.order_with(shop.client(), &token, "lost-answer", &two_mugs()).await;
    assert_eq!((again.expect(202)["id"].as_str(), again.text.as_bytes()), (Some(&*stored.0.to_string()), &*stored.1));
    assert_eq!(again.header("location"), format!("/orders/{}", stored.0));
    assert_eq!(shop.count(orders).await, 1);
    // It is announced once, by whichever process.
    let placed = shop.inventory.wait_for::<events::orders::v1::OrderPlaced>(1).await;
    assert_eq!((placed.len(), placed[0].order_id.clone()), (1, stored.0.to_string()));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_are_killed_while_orders_move_lose_none_and_move_none_twice() {
    let mut shop = Shop::open().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(shop.placed().await);
    }
    shop.stop_service().await.expect("it stops in order");
    for id in &ids {
        shop.reserve(id).await;
    }
    let moved = "select count(*) from orders where state = 'reserved'";
    for kill in 1..=3 {
        shop.execute("delete from messaging.relay").await;
        let mut process = shop.process("127.0.0.1:0");
        if kill == 3 {
            eventually("orders move", async || shop.count(moved).await > 0).await;
        } else {
            // At another moment each time: when it has subscribed, or is about to.
            let works = async || shop.count("select count(*) from messaging.relay").await == 1;
            eventually("the process works", works).await;
        }
        process.kill().await.expect("the process is killed");
    }
    shop.start().await;
    for id in &ids {
        shop.state(id, "reserved").await;
        assert_eq!(shop.timeline(id).await, ["order_placed → placed", "stock_reserved → reserved"]);
    }
    let due = shop.payments.wait_for::<events::orders::v1::PaymentDue>(20).await;
    assert_eq!(due.len(), 20);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_asked_to_stop_finishes_and_ends_well() {
    let mut shop = Shop::open().await;
    let id = shop.placed().await;
    shop.stop_service().await.expect("it stops in order");
    let mut process = shop.process("127.0.0.1:0");
    shop.reserve(&id).await;
    let reserved = "select count(*) from orders where state = 'reserved'";
    eventually("the process works", async || shop.count(reserved).await == 1).await;
    let pid = process.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill runs").success());
    assert!(process.wait().await.expect("it ends").success());
    // What was in hand is announced: nothing waits for the next process.
    assert_eq!(shop.count("select count(*) from messaging.outbox").await, 0);
    shop.start().await;
    shop.close().await;
}
