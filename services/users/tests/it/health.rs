//! What happens when the broker, the database or the processor is not there for us.

use events::users::v1::UserRegistered;
use serde_json::{Value, json};
use testkit::eventually;
use tokio_util::sync::CancellationToken;
use users::App;

use crate::support::{Answer, PASSWORD, Stage, TestApp};

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}: {report}"))
}

#[tokio::test]
async fn a_healthy_service_is_ready_and_says_how_its_messaging_is() {
    let app = TestApp::start().await;
    eventually("the broker is connected", async || {
        let report = app.get("/readyz").await.expect(200);
        let connected =
            report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "messaging.publish connection");
        connected.is_some_and(|check| check["ok"] == true)
    })
    .await;
    let report = app.get("/readyz").await.expect(200);
    assert_eq!(report["ready"], true);
    assert_eq!(check(&report, "database")["ok"], true);
    app.get("/livez").await.expect(200);
    app.close().await;
}

#[tokio::test]
async fn without_the_broker_registrations_are_taken_and_nothing_is_lost() {
    let stage = Stage::new().await;
    // Nothing listens on port 1.
    let mut config = stage.config(&[]);
    config.process.amqp_url = "amqp://users:secret@127.0.0.1:1/nowhere".into();
    let cut_off = TestApp::run(stage.clone(), App::build(config).await.unwrap());
    eventually("the missing broker is reported", async || {
        let report = cut_off.get("/readyz").await.expect(200);
        let connection = check(&report, "messaging.publish connection");
        connection["ok"] == false && connection["reason"].as_str().unwrap().starts_with("down")
    })
    .await;
    let report = cut_off.get("/readyz").await.expect(200);
    assert_eq!(report["ready"], true);
    assert!(!report.to_string().contains("secret"), "the broker's password is shown: {report}");

    cut_off.registered("ada@example.org").await;
    assert_eq!(stage.count("select count(*) from messaging.outbox").await, 2);
    cut_off.stop().await;

    let connected = TestApp::on(stage.clone(), &[]).await;
    connected.close().await;
    assert_eq!(stage.count("select count(*) from messaging.journal").await, 2, "published as soon as somebody could");
    assert_eq!(stage.events::<UserRegistered>().await.len(), 1);
}

#[tokio::test]
async fn while_too_many_events_wait_for_too_long_nobody_registers_and_everybody_logs_in() {
    let stage = Stage::new().await;
    let limits = ["--outbox-max-age-seconds=3600", "--outbox-max-pending=2"];
    let mut config = stage.config(&limits);
    config.process.amqp_url = "amqp://users:secret@127.0.0.1:1/nowhere".into();
    let cut_off = TestApp::run(stage.clone(), App::build(config).await.unwrap());
    cut_off.registered("ada@example.org").await;
    cut_off.registered("grace@example.org").await;
    stage.execute("update messaging.outbox set occurred_at = occurred_at - interval '1 hour'").await;
    eventually("changes are held", async || cut_off.register("edsger@example.org").await.status == 503).await;
    cut_off.register("edsger@example.org").await.expect_problem(503, "backlog");
    cut_off.try_login("ada@example.org", PASSWORD).await.expect(201);
    cut_off.get("/readyz").await.expect(200);
    cut_off.stop().await;

    let connected = TestApp::on(stage.clone(), &limits).await;
    eventually("the events leave", async || stage.count("select count(*) from messaging.outbox").await == 0).await;
    eventually("changes are taken", async || connected.register("edsger@example.org").await.status == 202).await;
    connected.close().await;
}

#[tokio::test]
async fn a_broker_without_the_topology_ends_the_service_with_the_reason() {
    let stage = Stage::new().await;
    let app = App::build(stage.config(&[])).await.unwrap();
    let exchange = format!("{}/api/exchanges/{}/events", stage.vhost.management_url, stage.vhost.name);
    assert!(reqwest::Client::new().delete(exchange).send().await.unwrap().status().is_success());
    let error = app.run(CancellationToken::new()).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("topology") && error.contains("exchange events"), "{error}");
}

#[tokio::test]
async fn without_the_database_the_service_is_not_ready_and_says_come_back() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    app.stage.database.set_available(false).await;
    let answer: Answer = app.get("/readyz").await;
    let report = answer.expect(503);
    assert_eq!((&report["ready"], &check(&report, "database")["ok"]), (&json!(false), &json!(false)));
    let refused = app.try_login("ada@example.org", PASSWORD).await;
    refused.expect_problem(503, "unavailable");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    app.stage.database.set_available(true).await;
    eventually("the service is ready again", async || app.get("/readyz").await.status == 200).await;
    app.login("ada@example.org").await;
    app.close().await;
}

#[tokio::test]
async fn when_every_core_hashes_the_next_one_is_told_to_come_back() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let hasher = app.passwords.clone();
    let mut busy = Vec::new();
    for _ in 0..std::thread::available_parallelism().unwrap().get() {
        busy.push(hasher.slot().await.unwrap());
    }
    let (register, login) = tokio::join!(app.register("eve@example.org"), app.try_login("ada@example.org", PASSWORD));
    for answer in [register, login] {
        answer.expect_problem(503, "unavailable");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
    }
    drop(busy);
    app.login("ada@example.org").await;
    app.close().await;
}
