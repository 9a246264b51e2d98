//! What the people who run it see.

use events::{orders::v1::OrderConfirmed, users::v1::UserVerified};
use messaging::Event as _;
use serde_json::{Value, json};
use sqlx::Acquire as _;
use testkit::{StatusCode, eventually};
use tokio_util::sync::CancellationToken;

use crate::shop::Shop;

fn check<'a>(report: &'a Value, name: &str) -> Option<&'a Value> {
    report["checks"].as_array()?.iter().find(|check| check["name"] == name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_is_down_is_reported_but_requests_are_served() {
    let mut shop = Shop::open().await;
    let report = shop.get("/readyz", None).await.json;
    assert_eq!(check(&report, "smtp"), Some(&json!({"name": "smtp", "required": false, "ok": true})), "{report}");
    assert!(check(&report, "messaging.relay").is_some(), "{report}");

    shop.mail_server_down();
    eventually("the report says so", async || {
        let answer = shop.get("/readyz", None).await;
        let smtp = check(&answer.json, "smtp").cloned().unwrap_or_default();
        answer.status == StatusCode::OK
            && smtp["ok"] == false
            && smtp["reason"].as_str().is_some_and(|why| why.contains("127.0.0.1"))
    })
    .await;
    shop.mail_server_up().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_it_is_not_ready() {
    let shop = Shop::open().await;
    shop.database.set_available(false).await;
    eventually("it is not ready", async || {
        let answer = shop.get("/readyz", None).await;
        let database = check(&answer.json, "database").cloned().unwrap_or_default();
        answer.status == StatusCode::SERVICE_UNAVAILABLE && database["ok"] == false && database["required"] == true
    })
    .await;
    shop.database.set_available(true).await;
    eventually("it is ready again", async || shop.get("/readyz", None).await.status == StatusCode::OK).await;
    let user_id = shop.register("ada@example.org", "t0ken").await;
    shop.mails_to("ada@example.org", 1).await;
    shop.notification(user_id, "verify_email", "sent").await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_while_it_was_away_is_sent_when_it_is_back() {
    let mut shop = Shop::open().await;
    shop.register("ada@example.org", "t0ken").await;
    shop.mails_to("ada@example.org", 1).await;
    shop.stop_service().await.expect("it stops in order");
    let bob = shop.register("bob@example.org", "t0ken").await;
    shop.start().await;
    shop.mails_to("bob@example.org", 1).await;
    shop.notification(bob, "verify_email", "sent").await;
    assert_eq!(shop.mails().len(), 2);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_been_over_for_long_is_deleted_and_nothing_else() {
    let mut shop = Shop::open_with(&["--notification-retention-days=7"]).await;
    let user_id = shop.register("ada@example.org", "t0ken").await;
    shop.notification(user_id, "verify_email", "sent").await;
    shop.mail_server_down();
    let waiting = shop.register("bob@example.org", "t0ken").await;
    shop.notification(waiting, "verify_email", "pending").await;
    shop.stop_service().await.expect("it stops in order");

    // More than one batch of each state that is over, a little older and a little younger than what is kept.
    let copies =
        "insert into notifications (id, user_id, template, state, failure, expires_at, message_id, occurred_at,
                                             sent_at, updated_at)
                  select gen_random_uuid(), user_id, 'password_changed', ending.state,
                         case ending.state when 'bounced' then 'bounced' when 'failed' then 'exhausted' end,
                         now(), 'copy', now(), now(), now() - older.age
                  from notifications as original,
                       unnest(array['sent', 'bounced', 'failed', 'expired', 'cancelled']) as ending (state),
                       unnest(array['7 days 1 hour', '6 days 23 hours']::interval[]) as older (age),
                       generate_series(1, 250)
                  where original.state = 'sent'";
    sqlx::raw_sql(copies).execute(shop.db()).await.expect("the copies");
    sqlx::raw_sql("update notifications set updated_at = now() - interval '1 year' where state = 'pending'")
        .execute(shop.db())
        .await
        .expect("the update");
    assert_eq!(shop.count("select count(*) from notifications where message_id = 'copy'").await, 2500);

    shop.start().await;
    eventually("what is old is gone", async || {
        shop.count("select count(*) from notifications where message_id = 'copy'").await == 1250
    })
    .await;
    shop.mail_server_up().await;
    shop.notification(waiting, "verify_email", "sent").await;
    assert_eq!(shop.count("select count(*) from notifications").await, 1252);
    shop.close().await;
}

/// After an outage there are many, and one that somebody holds must not keep the others.
#[tokio::test(flavor = "multi_thread")]
async fn what_ran_out_is_ended_in_batches() {
    let mut shop = Shop::open().await;
    shop.stop_service().await.expect("it stops in order");
    let waiting = "insert into notifications (id, user_id, template, expires_at, message_id, occurred_at)
                   select gen_random_uuid(), gen_random_uuid(), 'password_changed', now(), 'waits ' || n, now()
                   from generate_series(1, 2500) as n";
    sqlx::raw_sql(waiting).execute(shop.db()).await.expect("the letters");
    let mut conn = shop.db().acquire().await.expect("a connection");
    let mut holder = conn.begin().await.expect("a transaction");
    sqlx::raw_sql("select from notifications where message_id = 'waits 1' for update")
        .execute(&mut *holder)
        .await
        .expect("the lock");

    shop.start().await;
    eventually("all but the held one are over", async || {
        shop.count("select count(*) from notifications where state = 'expired'").await == 2499
    })
    .await;
    let batches = "select count(distinct xmin::text) from notifications where state = 'expired'";
    assert_eq!(shop.count(batches).await, 3);
    holder.rollback().await.expect("the end of it");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_counted() {
    let shop = Shop::open().await;
    let user_id = shop.register("ada@example.org", "t0ken").await;
    shop.notification(user_id, "verify_email", "sent").await;
    let metrics = shop.get("/metrics", None).await.text;
    for state in ["pending", "sent"] {
        let labels =
            |line: &&str| line.contains(r#"template="verify_email""#) && line.contains(&format!(r#"state="{state}""#));
        let line = metrics.lines().filter(|line| line.starts_with("notifications_total{")).find(labels);
        let count = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        assert!(count.is_some_and(|count| count >= 1.0), "{state}: {metrics}");
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_describes_itself_with_examples_and_problems() {
    let shop = Shop::open().await;
    let api = shop.get("/openapi.json", None).await.json;
    let operations = [
        ("/notifications", "get", vec!["200", "400", "401", "503"]),
        ("/notifications/{id}", "get", vec!["200", "304", "400", "401", "404", "503"]),
        ("/notifications/{id}/resend", "post", vec!["202", "400", "401", "403", "404", "409", "412", "503"]),
    ];
    for (path, method, statuses) in operations {
        let operation = &api["paths"][path][method];
        let documented: Vec<_> = operation["responses"].as_object().expect("responses").keys().collect();
        assert_eq!(documented, statuses, "{method} {path}");
        assert_eq!(operation["security"], json!([{"bearer": []}]), "{method} {path}");
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let problem = response["content"].get("application/problem+json").is_some();
            assert_eq!(problem, status.starts_with(['4', '5']), "{method} {path} {status}");
        }
        let parameters: Vec<_> =
            operation["parameters"].as_array().expect("parameters").iter().map(|p| &p["name"]).collect();
        let mut distinct = parameters.clone();
        distinct.sort_by_key(|name| name.to_string());
        distinct.dedup();
        assert_eq!(distinct.len(), parameters.len(), "{parameters:?}");
    }
    let list = api["paths"]["/notifications"]["get"]["parameters"].as_array().expect("parameters");
    let names: Vec<_> = list.iter().filter_map(|parameter| parameter["name"].as_str()).collect();
    for name in ["state", "template", "user_id", "limit", "after"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(api["components"]["schemas"]["Notification"]["example"]["state"], "sent");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topology_that_differs_stops_the_start_and_is_named() {
    let mut shop = Shop::open().await;
    shop.stop_service().await.expect("it stops in order");
    shop.vhost.unbind("notifications", &format!("{}.%2A", UserVerified::TYPE)).await;
    // Bindings are seen through the management API only.
    let management = shop.vhost.management_for("notifications").url;
    let config = shop.config(&[format!("--rabbitmq-management-url={management}")]);
    let process = notifications::build(config).expect("the service is put together");
    let error = process.run(CancellationToken::new()).await.expect_err("the start must fail");
    let error = format!("{error:#}");
    assert!(error.contains("notifications") && error.contains(UserVerified::TYPE), "{error}");

    shop.vhost.import().await;
    shop.start().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topology_is_printed_without_database_and_broker() {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_notifications"))
        .arg("topology")
        .env_clear()
        .output()
        .await
        .expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    let service: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    assert_eq!(service["name"], "notifications");
    assert_eq!(service["subscriptions"][0]["consumer"], "notifications");
    let types: Vec<_> = service["subscriptions"][0]["types"].as_array().expect("types").iter().collect();
    assert!(types.contains(&&json!(OrderConfirmed::TYPE)) && types.len() == 11, "{types:?}");
}
