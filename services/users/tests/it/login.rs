//! `POST /sessions`: who gets in, and how guessing is slowed down.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use testkit::eventually;

use crate::support::{PASSWORD, Session, TestApp, send};

const WRONG: &str = "not the password";

#[tokio::test]
async fn a_login_gives_tokens_that_work() {
    let app = TestApp::start().await;
    let id = app.registered("ada@example.org").await;
    let answer = app.try_login(" ADA@example.org", PASSWORD).await;
    let body = answer.expect(201);
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(600)));
    assert_eq!(answer.header("cache-control"), "no-store");
    let session = Session::of(&body);
    assert_eq!(answer.header("location"), format!("/sessions/{}", session.id));
    let profile = app.call(Method::GET, "/users/me", &session, None).await.expect(200);
    assert_eq!((profile["id"].as_str().unwrap(), profile["email"].as_str().unwrap()), (id.as_str(), "ada@example.org"));
    assert_eq!(
        app.stage
            .count(&format!("select count(*) from refresh_tokens t where t::text like '%{}%'", session.refresh))
            .await,
        0
    );
    app.close().await;
}

#[tokio::test]
async fn an_unknown_address_and_a_wrong_password_cannot_be_told_apart() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let hashes = app.passwords.hashes_computed();
    let wrong = app.try_login("ada@example.org", WRONG).await;
    assert_eq!(app.passwords.hashes_computed(), hashes + 1);
    let unknown = app.try_login("eve@example.org", WRONG).await;
    assert_eq!(app.passwords.hashes_computed(), hashes + 2, "the same work without an account");
    wrong.expect_problem(401, "wrong-credentials");
    assert_eq!(wrong.comparable(), unknown.comparable());
    assert!(wrong.header("www-authenticate").starts_with("Bearer"));
    let counted = app.stage.count("select count(*) from throttles where scope = 'account' and failures = 1").await;
    assert_eq!(counted, 2, "failures are counted for both");
    app.close().await;
}

#[tokio::test]
async fn after_five_failures_every_further_one_doubles_the_pause_of_the_account() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    for email in ["ada@example.org", "nobody@example.org"] {
        for _ in 0..5 {
            app.stage
                .execute("update throttles set blocked_until = now() - interval '1 second' where scope = 'account'")
                .await;
            app.try_login(email, WRONG).await.expect_problem(401, "wrong-credentials");
        }
        let five = "select count(*) from throttles where scope = 'account' and failures = 5 and blocked_until > now() - interval '1 minute'";
        assert_eq!(app.stage.count(five).await, 1);
        // The twelfth failure means 2^7 s: long enough to see, however slow the machine is.
        app.stage
            .execute(
                "update throttles set failures = 11, blocked_until = now() where scope = 'account' and failures = 5",
            )
            .await;
        app.try_login(email, WRONG).await.expect_problem(401, "wrong-credentials");
        let hashes = app.passwords.hashes_computed();
        let refused = app.try_login(email, PASSWORD).await;
        refused.expect_problem(429, "too-many-attempts");
        let seconds: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=128).contains(&seconds), "{seconds}");
        assert_eq!(app.passwords.hashes_computed(), hashes, "the password was not even looked at");
        app.stage.execute("update throttles set failures = 20 where failures = 12").await;
    }
    app.stage.execute("update throttles set blocked_until = now() where scope = 'account'").await;
    app.login("ada@example.org").await;
    assert_eq!(
        app.stage.count("select count(*) from throttles where scope = 'account'").await,
        1,
        "the owner was here: forgotten"
    );
    app.close().await;
}

#[tokio::test]
async fn guesses_that_come_all_at_once_are_slowed_down_as_well() {
    let app = TestApp::start().await;
    app.try_login("ada@example.org", WRONG).await.expect(401);
    app.stage.execute("update throttles set failures = 20, blocked_until = now() where scope = 'account'").await;
    let hasher = app.passwords.clone();
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut busy = Vec::new();
    for _ in 0..cores {
        busy.push(hasher.slot().await.unwrap());
    }
    let before = hasher.hashes_computed();
    let guesses = join_all((0..cores + 6).map(|_| app.try_login("ada@example.org", WRONG)));
    let release = async {
        eventually("all of them wait for their turn", async || hasher.waiting() == cores + 6).await;
        busy.clear();
    };
    let (answers, ()) = tokio::join!(guesses, release);
    let looked_at = answers.iter().filter(|answer| answer.status == 401).count();
    assert!((1..=cores).contains(&looked_at), "{looked_at} guesses were looked at");
    assert_eq!(hasher.hashes_computed() - before, looked_at as u64);
    for answer in answers.iter().filter(|answer| answer.status != 401) {
        // On a machine that is slow enough, one has waited too long for its turn before.
        assert!([429, 503].contains(&answer.status.as_u16()), "{answer:?}");
    }
    app.close().await;
}

#[tokio::test]
async fn the_pause_of_an_account_is_bounded() {
    let app = TestApp::start().await;
    app.try_login("ada@example.org", WRONG).await.expect(401);
    app.stage.execute("update throttles set failures = 2000000000 where scope = 'account'").await;
    app.try_login("ada@example.org", WRONG).await.expect(401);
    let seconds: u64 = app.try_login("ada@example.org", WRONG).await.header("retry-after").parse().unwrap();
    assert!((200..=300).contains(&seconds), "{seconds}");
    app.close().await;
}

#[tokio::test]
async fn a_client_that_fails_on_many_accounts_is_refused_on_all_by_every_replica() {
    let app = TestApp::start().await;
    let other = app.replica().await;
    app.registered("ada@example.org").await;
    app.try_login("1@example.org", WRONG).await.expect(401);
    app.stage.execute("update throttles set failures = 49 where scope = 'client'").await;
    app.try_login("2@example.org", WRONG).await.expect(401);
    app.try_login("ada@example.org", PASSWORD).await.expect_problem(429, "too-many-attempts");
    let refused = other.try_login("ada@example.org", PASSWORD).await;
    refused.expect_problem(429, "too-many-attempts");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 600);

    app.stage.execute("update throttles set blocked_until = now(), expires_at = now() where scope = 'client'").await;
    app.login("ada@example.org").await;
    app.try_login("3@example.org", WRONG).await.expect(401);
    assert_eq!(
        app.stage.count("select failures::bigint from throttles where scope = 'client'").await,
        1,
        "a new window"
    );
    other.stop().await;
    app.close().await;
}

#[tokio::test]
async fn behind_a_proxy_the_client_is_whom_the_proxy_names() {
    let app = TestApp::start_with(&["--trusted-proxies", "1"]).await;
    let from = |client: &str| {
        let body = json!({ "email": "ada@example.org", "password": WRONG });
        send(app.request(Method::POST, "/sessions").header("x-forwarded-for", format!("6.6.6.6, {client}")).json(&body))
    };
    from("192.0.2.1").await.expect(401);
    from("192.0.2.1").await.expect(401);
    from("192.0.2.2").await.expect(401);
    let clients = "select count(*) from throttles where scope = 'client'";
    assert_eq!(app.stage.count(clients).await, 2);
    app.close().await;
}

#[tokio::test]
async fn a_login_that_is_overtaken_by_a_new_password_is_refused() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let pool = &app.stage.database.pool;
    let mut change = pool.acquire().await.unwrap();
    sqlx::raw_sql("begin; update users set password_hash = '$argon2id$changed'").execute(&mut *change).await.unwrap();
    let login = app.try_login("ada@example.org", PASSWORD);
    let commit = async {
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        eventually("the login waits for the account", async || app.stage.count(waiting).await == 1).await;
        sqlx::raw_sql("commit").execute(&mut *change).await.unwrap();
    };
    let (answer, ()) = tokio::join!(login, commit);
    answer.expect_problem(401, "wrong-credentials");
    assert_eq!(app.stage.count("select count(*) from sessions").await, 0);
    app.close().await;
}

#[tokio::test]
async fn a_malformed_address_is_said_so() {
    let app = TestApp::start().await;
    app.try_login("ada", PASSWORD).await.expect_fields("invalid-fields", &["#/email"]);
    app.close().await;
}
