//! What is kept of people, and for how long.

use chrono::{TimeDelta, Utc};
use dev::mailbox::{Behaviour, Stage};
use events::users::v1::{EmailVerificationRequested, PasswordChanged, UserDeleted, UserRegistered};
use sqlx::AssertSqlSafe;
use testkit::eventually;
use uuid::Uuid;
use web::testing::As;

use crate::shop::{Shop, ask_for_proof};

/// Every row of every table of the service's database that holds the word, whatever the type of the column.
async fn rows_with(shop: &Shop, word: &str) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables
         where schemaname not in ('pg_catalog', 'information_schema')",
    )
    .fetch_all(shop.db())
    .await
    .expect("the tables");
    assert!(tables.len() > 10, "{tables:?}");
    let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut found = Vec::new();
    for table in tables {
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select '{table}: ' || row::text from {table} as row
             where position($1 in row::text) > 0 or position($2 in row::text) > 0"
        )))
        .bind(word)
        .bind(&hex)
        .fetch_all(shop.db())
        .await
        .expect("the rows");
        found.extend(rows);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn once_sent_the_token_is_nowhere_in_the_database() {
    let mut shop = Shop::open().await;
    shop.mail_server_down();
    let user_id = shop.register("ada@example.org", "s3cr3t-t0ken").await;
    shop.notification(user_id, "verify_email", "pending").await;
    assert_eq!(rows_with(&shop, "s3cr3t-t0ken").await.len(), 1, "it waits with its letter");

    shop.mail_server_up().await;
    shop.mails_to("ada@example.org", 1).await;
    shop.notification(user_id, "verify_email", "sent").await;
    eventually("the token is gone", async || rows_with(&shop, "s3cr3t-t0ken").await.is_empty()).await;
    // The search does find things, and the address is in one place only.
    let address = rows_with(&shop, "ada@example.org").await;
    assert!(address.len() == 1 && address[0].starts_with("public.recipients"), "{address:?}");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_deletes_the_account_gets_no_mail_and_is_forgotten() {
    let mut shop = Shop::open().await;
    shop.mail_server_down();
    let user_id = shop.register("ada@example.org", "s3cr3t-t0ken").await;
    shop.notification(user_id, "verify_email", "pending").await;
    shop.publish(&UserDeleted { user_id: user_id.to_string() }).await;
    shop.notification(user_id, "verify_email", "cancelled").await;
    for word in ["ada@example.org", "s3cr3t-t0ken"] {
        eventually("it is erased", async || rows_with(&shop, word).await.is_empty()).await;
    }

    // A mail to somebody else is sent after the one that was cancelled had its turn.
    shop.mail_server_up().await;
    shop.register("bob@example.org", "t0ken").await;
    shop.mails_to("bob@example.org", 1).await;
    eventually("nothing waits", async || shop.count("select count(*) from messaging.job").await == 0).await;
    assert_eq!(shop.mails().len(), 1);
    shop.close().await;
}

/// What could not be read is kept whole, for whoever mends it.
#[tokio::test(flavor = "multi_thread")]
async fn no_dead_letter_is_kept_of_who_deletes_the_account() {
    let shop = Shop::open().await;
    let (ada, bob) = (Uuid::now_v7(), Uuid::now_v7());
    let dead = async || shop.count("select count(*) from messaging.parked where state = 'dead'").await;
    for user_id in [ada, bob] {
        let no_end =
            EmailVerificationRequested { expires_at: None, ..ask_for_proof(user_id, "s3cr3t-t0ken", Utc::now()) };
        shop.publish(&no_end).await;
    }
    eventually("both are dead", async || dead().await == 2).await;
    assert_eq!(rows_with(&shop, "s3cr3t-t0ken").await.len(), 2);
    shop.publish(&UserDeleted { user_id: ada.to_string() }).await;
    eventually("one is left", async || dead().await == 1).await;
    let left = rows_with(&shop, "s3cr3t-t0ken").await;
    assert!(left.len() == 1 && left[0].contains(&bob.to_string()), "{left:?}");
    let log = "select count(*) from messaging.redrive_log where actor = 'users.v1.UserDeleted' and action = 'discard'";
    assert_eq!(shop.count(log).await, 1);
    shop.publish(&UserDeleted { user_id: bob.to_string() }).await;
    eventually("none is left", async || dead().await == 0).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_is_replayed_after_the_deletion_brings_no_address_back() {
    let shop = Shop::open().await;
    let user_id = shop.register("ada@example.org", "t0ken").await;
    shop.mails_to("ada@example.org", 1).await;
    shop.notification(user_id, "verify_email", "sent").await;
    shop.publish(&UserDeleted { user_id: user_id.to_string() }).await;
    eventually("it is forgotten", async || rows_with(&shop, "ada@example.org").await.is_empty()).await;

    shop.forget_inbox().await;
    shop.replay_users().await;
    shop.publish(&PasswordChanged { user_id: user_id.to_string() }).await;
    let failed = shop.notification(user_id, "password_changed", "failed").await;
    assert_eq!((&failed["failure"], &failed["attempts"]), (&"no_address".into(), &0.into()));
    let fact = ["EmailFailed", &user_id.to_string(), "password_changed", "no_address"];
    assert_eq!(shop.announced(&failed).await, [fact]);
    assert!(rows_with(&shop, "ada@example.org").await.is_empty());
    assert_eq!(shop.mails().len(), 1);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_ran_out_is_not_sent() {
    let shop = Shop::open().await;
    let user_id = Uuid::now_v7();
    let (email, name) = ("ada@example.org".to_owned(), "Ada".to_owned());
    shop.publish(&UserRegistered { user_id: user_id.to_string(), email, name }).await;
    shop.publish(&ask_for_proof(user_id, "s3cr3t-t0ken", Utc::now() - TimeDelta::seconds(1))).await;
    let expired = shop.notification(user_id, "verify_email", "expired").await;
    assert_eq!(expired["attempts"], 0);
    assert!(rows_with(&shop, "s3cr3t-t0ken").await.is_empty());
    assert_eq!(shop.mails().len(), 0);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_bounced_letter_is_erased_when_it_runs_out() {
    let mut shop = Shop::open().await;
    shop.script().next(1, Stage::Recipient, Behaviour::reply(550, "5.1.1 unknown"));
    let user_id = shop.register("ada@example.org", "s3cr3t-t0ken").await;
    let bounced = shop.notification(user_id, "verify_email", "bounced").await;
    assert_eq!(rows_with(&shop, "s3cr3t-t0ken").await.len(), 1, "a bounced letter can be sent again");

    // The clock is moved for this letter; the service looks for such letters when it starts, and then again and again.
    sqlx::raw_sql("update notifications set expires_at = now()").execute(shop.db()).await.expect("the update");
    shop.stop_service().await.expect("it stops in order");
    shop.start().await;
    eventually("the token is gone", async || rows_with(&shop, "s3cr3t-t0ken").await.is_empty()).await;
    assert_eq!(shop.notification(user_id, "verify_email", "bounced").await["id"], bounced["id"]);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_address_nor_token_is_in_an_answer_of_the_api() {
    let shop = Shop::open().await;
    shop.script().next(1, Stage::Recipient, Behaviour::reply(450, "4.2.1 <ada@example.org> t0ken-x"));
    let user_id = shop.register("ada@example.org", "t0ken-x").await;
    shop.mails_to("ada@example.org", 1).await;
    let shown = shop.notification(user_id, "verify_email", "sent").await;
    let list = shop.get("/notifications", Some(As::Customer(user_id))).await.json;
    for text in [shown.to_string(), list.to_string()] {
        assert!(!text.contains("ada@") && !text.contains("t0ken-x"), "{text}");
    }
    shop.close().await;
}
