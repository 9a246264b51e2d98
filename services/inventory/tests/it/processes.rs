//! The program itself: its command line, its signals, and its death.

use std::process::{Output, Stdio};

use serde_json::Value;
use testkit::eventually;
use tokio::process::{Child, Command};

use crate::shop::{Order, Shop};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inventory"));
    command.env_clear().kill_on_drop(true);
    command
}

fn running(shop: &Shop) -> Child {
    program().args(shop.arguments()).stdout(Stdio::null()).spawn().expect("the program starts")
}

#[tokio::test]
async fn its_part_of_the_topology_needs_no_settings() {
    let output = program().arg("topology").output().await.expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    let topology: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(topology["name"], "inventory");
    let mut types: Vec<_> = topology["subscriptions"][0]["types"].as_array().expect("types").iter().collect();
    types.sort_by_key(|name| name.as_str());
    let expected =
        ["inventory.v1.ReservationDue", "orders.v1.OrderCancelled", "orders.v1.OrderPaid", "orders.v1.OrderPlaced"];
    assert_eq!(types, expected);
}

#[tokio::test]
async fn help_names_every_setting_and_what_is_missing_is_said() {
    let help = program().args(["serve", "--help"]).env("DATABASE_URL", "postgres://u:hush@db/n").output().await;
    let help = String::from_utf8(help.expect("the program runs").stdout).expect("text");
    for setting in
        ["DATABASE_URL", "AMQP_URL", "JWKS_URL", "LISTEN", "RESERVATION_SECONDS", "LOW_STOCK_THRESHOLD", "RUST_LOG"]
    {
        assert!(help.contains(setting), "{setting} is not in {help}");
    }
    assert!(help.contains("127.0.0.1:8083") && help.contains("1800"), "{help}");
    assert!(!help.contains("hush"), "a password is shown: {help}");
    let Output { status, stderr, .. } = program().output().await.expect("the program runs");
    let stderr = String::from_utf8(stderr).expect("text");
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--database-url") && stderr.contains("--amqp-url"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_again_and_again_gives_every_piece_away_once() {
    let mut shop = Shop::open().await;
    shop.product("MUG-01", 50).await;
    shop.stop_service().await;
    let orders: Vec<_> = (0..200).map(|_| Order::new()).collect();
    shop.announce(&orders.iter().map(|order| order.placed(&[("MUG-01", 1)])).collect::<Vec<_>>()).await;
    let decided = "select count(*) from reservations";
    for deaths in 1..=3 {
        let mut process = running(&shop);
        let some = deaths * 40;
        eventually("some are decided", async || shop.count(decided).await >= some).await;
        process.kill().await.expect("it is killed");
    }
    shop.start().await;
    eventually("all are decided", async || shop.count(decided).await == 200).await;
    assert_eq!(shop.stock("MUG-01").await, [0, 50, 0, 50]);
    assert_eq!(shop.count("select count(*) from reservations where state = 'held'").await, 50);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_asked_to_stop_finishes_and_ends_well() {
    let mut shop = Shop::open().await;
    shop.product("MUG-01", 50).await;
    shop.stop_service().await;
    let mut process = running(&shop);
    let order = Order::new();
    shop.tell(&order.placed(&[("MUG-01", 1)])).await;
    let id = process.id().expect("it runs").to_string();
    let asked = Command::new("kill").args(["-TERM", &id]).status().await.expect("kill runs");
    assert!(asked.success());
    assert!(process.wait().await.expect("it ends").success());
    assert_eq!(shop.count("select count(*) from messaging.outbox").await, 0, "what it decided is announced");
    shop.start().await;
    assert_eq!(shop.heard(order).await, ["reserved"]);
    shop.close().await;
}
