//! The service as a process: killed, and asked to stop.

use testkit::eventually;
use tokio::process::Command;

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_between_two_registrations_costs_no_mail_and_no_second_one() {
    let mut shop = Shop::open().await;
    shop.stop_service().await.expect("it stops in order");
    let mut process = shop.process(&[]);
    shop.register("ada@example.org", "t0ken").await;
    shop.mails_to("ada@example.org", 1).await;
    let recorded = "select count(*) from notifications where state = 'sent'";
    eventually("the first one is recorded as sent", async || shop.count(recorded).await == 1).await;
    process.kill().await.expect("the process is killed");

    shop.register("bob@example.org", "t0ken").await;
    let mut process = shop.process(&[]);
    shop.mails_to("bob@example.org", 1).await;
    eventually("the second one is recorded as sent", async || shop.count(recorded).await == 2).await;
    assert_eq!(shop.mails().len(), 2);
    process.kill().await.expect("the process is killed");
    shop.start().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_asked_to_stop_finishes_and_ends_well() {
    let mut shop = Shop::open().await;
    shop.stop_service().await.expect("it stops in order");
    let mut process = shop.process(&[]);
    shop.register("ada@example.org", "t0ken").await;
    shop.mails_to("ada@example.org", 1).await;
    let id = process.id().expect("it runs").to_string();
    let asked = Command::new("kill").args(["-TERM", &id]).status().await.expect("kill runs");
    assert!(asked.success());
    assert!(process.wait().await.expect("it ends").success());
    // What was in hand is done and announced: nothing waits for the next process.
    assert_eq!(shop.count("select count(*) from messaging.job").await, 0);
    assert_eq!(shop.count("select count(*) from messaging.outbox").await, 0);
    assert_eq!(shop.count("select count(*) from notifications where state = 'sent'").await, 1);
    shop.start().await;
    shop.close().await;
}
