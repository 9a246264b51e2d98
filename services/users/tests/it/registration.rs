//! `POST /users`.

use events::users::v1::{EmailVerificationRequested, RegistrationRepeated, UserRegistered};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{PASSWORD, TestApp, send};

#[tokio::test]
async fn a_registration_announces_the_account_and_asks_for_a_proof_of_its_address() {
    let app = TestApp::start().await;
    let answer =
        app.post("/users", json!({ "email": " Ada@Example.ORG ", "name": " Ada  ", "password": PASSWORD })).await;
    let body = answer.expect(202);
    assert!(body["message"].is_string() && body.as_object().unwrap().len() == 1, "the answer holds no id: {body}");

    let [registered] = app.stage.events::<UserRegistered>().await.try_into().unwrap();
    assert_eq!((registered.email.as_str(), registered.name.as_str()), ("Ada@example.org", "Ada"));
    let [requested] = app.stage.events::<EmailVerificationRequested>().await.try_into().unwrap();
    assert_eq!(requested.user_id, registered.user_id);
    assert_eq!(requested.token.len(), 43);
    let stored = app
        .stage
        .count("select count(*) from one_time_tokens where expires_at = created_at + interval '24 hours'")
        .await;
    assert_eq!(stored, 1);
    let shown = app
        .stage
        .count(&format!("select count(*) from one_time_tokens t where t::text like '%{}%'", requested.token))
        .await;
    assert_eq!(shown, 0, "the token itself is stored");
    app.close().await;
}

#[tokio::test]
async fn what_a_registration_causes_belongs_to_its_trace() {
    let app = TestApp::start().await;
    let trace_id = uuid::Uuid::new_v4().simple().to_string();
    let request = app
        .request(Method::POST, "/users")
        .header("traceparent", format!("00-{trace_id}-00f067aa0ba902b7-01"))
        .json(&json!({ "email": "ada@example.org", "name": "Ada", "password": PASSWORD }));
    let answer = send(request).await;
    answer.expect(202);
    assert_eq!(&answer.header("traceparent")[3..35], trace_id);
    let events = "select count(*) from (select context from messaging.outbox union all select context from messaging.journal) event
                  where context->>'traceparent' like ";
    assert_eq!(app.stage.count(&format!("{events} '00-{trace_id}-%'")).await, 2);
    app.close().await;
}

#[tokio::test]
async fn the_answer_is_the_same_whether_the_address_is_known_or_not() {
    let app = TestApp::start().await;
    let hashes = || app.passwords.hashes_computed();
    let before = hashes();
    let unknown = app.register("ada@example.org").await.comparable();
    let work = hashes() - before;

    let unverified = app.register("ada@example.org").await.comparable();
    let capitals = app.register("ADA@example.org").await.comparable();
    let token = app.verification_tokens(&app.id_of("ada@example.org").await).await.remove(0);
    app.post(&format!("/email-verifications/{token}"), json!({})).await.expect(200);
    let verified = app.register("ada@example.org").await.comparable();

    assert_eq!(unknown.0, 202);
    assert_eq!((&unknown, &unknown, &unknown), (&unverified, &capitals, &verified));
    assert_eq!((work, hashes() - before), (1, 4), "each of them computed one hash");
    assert_eq!(app.stage.count("select count(*) from users").await, 1);
    app.close().await;
}

#[tokio::test]
async fn a_repeated_registration_changes_nothing_and_tells_the_owner_at_most_once_a_minute() {
    let app = TestApp::start().await;
    let id = app.registered("ada@example.org").await;
    let other = json!({ "email": "ada@example.org", "name": "Eve", "password": "another-long-secret-1" });
    app.post("/users", other.clone()).await.expect(202);
    app.post("/users", other.clone()).await.expect(202);
    let told = vec![RegistrationRepeated { user_id: id }];
    assert_eq!(app.stage.events::<RegistrationRepeated>().await, told);
    app.a_minute_later().await;
    app.post("/users", other).await.expect(202);
    assert_eq!(app.stage.events::<RegistrationRepeated>().await, [told.clone(), told].concat());

    app.login("ada@example.org").await;
    app.try_login("ada@example.org", "another-long-secret-1").await.expect(401);
    assert_eq!(app.stage.events::<UserRegistered>().await.len(), 1);
    app.close().await;
}

#[tokio::test]
async fn twenty_registrations_at_once_make_one_account() {
    let app = TestApp::start().await;
    let answers =
        join_all((0..20).map(|i| app.register(if i % 2 == 0 { "ada@example.org" } else { "Ada@EXAMPLE.org" }))).await;
    for answer in &answers {
        assert_eq!(answer.comparable(), answers[0].comparable());
        assert_eq!(answer.status, 202);
    }
    assert_eq!(app.stage.count("select count(*) from users").await, 1);
    assert_eq!(app.stage.events::<UserRegistered>().await.len(), 1);
    assert_eq!(app.stage.events::<EmailVerificationRequested>().await.len(), 1);
    assert_eq!(
        app.stage.events::<RegistrationRepeated>().await.len(),
        1,
        "one mail a minute, however many ask at once"
    );
    app.close().await;
}

#[tokio::test]
async fn a_weak_password_is_refused_with_the_reason() {
    let app = TestApp::start().await;
    let long = "x1".repeat(65);
    for (password, reason) in [
        ("short", "at least 12 characters"),
        ("", "at least 12 characters"),
        (long.as_str(), "at most 128 characters"),
        ("password1234", "anybody would try"),
        ("PASSWORD1234", "anybody would try"),
        ("111111111111", "anybody would try"),
        ("abcdefghijklm", "anybody would try"),
        ("my name is lovelace", "your name or your e-mail address"),
        ("ada.byron is the user", "your name or your e-mail address"),
    ] {
        let body = json!({ "email": "ada.byron@example.org", "name": "Ada Lovelace", "password": password });
        let problem = app.post("/users", body).await.expect_fields("invalid-fields", &["#/password"]);
        assert!(problem["errors"][0]["detail"].as_str().unwrap().contains(reason), "{password}: {problem}");
        assert!(!problem.to_string().contains("lovelace"), "the answer repeats the password: {problem}");
    }
    assert_eq!(app.stage.count("select count(*) from users").await, 0);
    app.close().await;
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once() {
    let app = TestApp::start().await;
    let body = json!({ "email": "ada at example", "name": "line\nbreak", "password": "short" });
    app.post("/users", body).await.expect_fields("invalid-fields", &["#/email", "#/name", "#/password"]);
    for (email, name) in [("ada@example.org", ""), ("ada@example.org", "   "), ("ada@example.org", &"x".repeat(101))] {
        let body = json!({ "email": email, "name": name, "password": PASSWORD });
        app.post("/users", body).await.expect_fields("invalid-fields", &["#/name"]);
    }
    app.close().await;
}

#[tokio::test]
async fn one_network_asks_for_so_many_mails_and_for_no_more_until_its_time_is_over() {
    let app = TestApp::start_with(&["--mails-per-network", "3", "--trusted-proxies", "1"]).await;
    let ask = |network: &'static str, path: &'static str, body: Value| {
        send(app.request(Method::POST, path).header("x-forwarded-for", network).json(&body))
    };
    let new = |email: &str| json!({ "email": email, "name": "Ada", "password": PASSWORD });
    let [first, other] = ["192.0.2.1", "192.0.2.2"];
    // What cannot be used ends in no mail, and does not count.
    ask(first, "/users", new("ada")).await.expect(422);
    ask(first, "/users", new("ada@example.org")).await.expect(202);
    // Whether there is such an account is nobody's business, so both count.
    ask(first, "/email-verifications", json!({ "email": "nobody@example.org" })).await.expect(202);
    ask(first, "/password-resets", json!({ "email": "ada@example.org" })).await.expect(202);

    for (path, body) in [
        ("/users", new("eve@example.org")),
        ("/email-verifications", json!({ "email": "ada@example.org" })),
        ("/password-resets", json!({ "email": "ada@example.org" })),
    ] {
        let refused = ask(first, path, body).await;
        refused.expect_problem(429, "too-many-mails");
        assert!((1..=600).contains(&refused.header("retry-after").parse::<u64>().unwrap()), "{refused:?}");
    }
    assert_eq!(app.stage.count("select count(*) from users").await, 1);
    ask(other, "/users", new("eve@example.org")).await.expect(202);

    app.stage.execute("update throttles set expires_at = now() - interval '1 second' where scope = 'mails'").await;
    ask(first, "/users", new("bob@example.org")).await.expect(202);
    app.close().await;
}
