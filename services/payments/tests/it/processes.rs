//! The service as a process: killed, and asked to stop.

use testkit::eventually;
use tokio::process::Command;

use crate::shop::{Order, Shop};

/// The answers of the provider travel for ten minutes: the process dies when the provider has booked and before it knows.
const ON_THE_WAY: &str = "--provider-latency-milliseconds=600000";

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_between_the_providers_book_and_ours_charges_once() {
    let mut shop = Shop::open().await;
    shop.stop_service().await;
    let mut process = shop.process(ON_THE_WAY);
    let order = Order::new();
    shop.orders.publish(&order.due("pm_ok")).await;
    shop.booked(order, "pending", Some("charged")).await;
    process.kill().await.expect("the process is killed");
    let charged = "select (extract(epoch from charged_at) * 1000000)::bigint from provider.book";
    let charged_at = shop.count(charged).await;
    shop.booked(order, "pending", Some("charged")).await;
    // Its lease runs out.
    shop.execute("update messaging.job set due_at = now()").await;
    shop.start().await;
    shop.payment(order, "authorized").await;
    assert_eq!(shop.count(charged).await, charged_at);
    assert_eq!(shop.count("select count(*) from provider.book").await, 1);
    assert_eq!(shop.book(order).await.expect("a payment").attempts, Some(2), "it was asked again");
    // Closing makes sure that it was announced once.
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_while_it_gives_back_gives_back_once() {
    let mut shop = Shop::open().await;
    let order = shop.paid_order().await;
    shop.stop_service().await;
    let mut process = shop.process(ON_THE_WAY);
    shop.orders.publish(&order.cancelled()).await;
    shop.booked(order, "refunding", Some("refunded")).await;
    process.kill().await.expect("the process is killed");
    shop.execute("update messaging.job set due_at = now()").await;
    shop.start().await;
    shop.booked(order, "refunded", Some("refunded")).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_decides_what_a_killed_process_left_open() {
    let mut shop = Shop::open().await;
    shop.stop_service().await;
    let mut process = shop.process(ON_THE_WAY);
    let order = Order::new();
    shop.orders.publish(&order.due("pm_ok")).await;
    shop.booked(order, "pending", Some("charged")).await;
    process.kill().await.expect("the process is killed");
    shop.orders.publish(&order.cancelled()).await;
    shop.start().await;
    shop.booked(order, "refunded", Some("refunded")).await;
    shop.execute("update messaging.job set due_at = now()").await;
    eventually("the old charge is over", async || shop.count("select count(*) from messaging.job").await == 0).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_asked_to_stop_waits_for_the_provider_and_announces_what_it_said() {
    let mut shop = Shop::open().await;
    shop.stop_service().await;
    let mut process = shop.process("--provider-latency-milliseconds=1000");
    let order = Order::new();
    shop.orders.publish(&order.due("pm_ok")).await;
    shop.booked(order, "pending", Some("charged")).await;
    let id = process.id().expect("it runs").to_string();
    let asked = Command::new("kill").args(["-TERM", &id]).status().await.expect("kill runs");
    assert!(asked.success());
    assert!(process.wait().await.expect("it ends").success());
    // Nothing waits for the next process.
    shop.booked(order, "authorized", Some("charged")).await;
    assert_eq!(shop.count("select count(*) from messaging.job").await, 0);
    assert_eq!(shop.count("select count(*) from messaging.outbox").await, 0);
    shop.start().await;
    shop.close().await;
}
