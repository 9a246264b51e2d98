//! Renewal, logout, revocation.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::support::{Session, TestApp};

#[tokio::test]
async fn a_renewal_gives_a_new_pair_and_uses_the_old_refresh_token_up() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let first = app.login("ada@example.org").await;
    let answer = app.renew(&first).await;
    let second = Session::of(&answer.expect(200));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(first.id, second.id);
    assert_ne!(first.refresh, second.refresh);
    assert_eq!(app.knows(&second).await, 200);
    let third = Session::of(&app.renew(&second).await.expect(200));
    assert_eq!(app.knows(&third).await, 200);
    app.close().await;
}

#[tokio::test]
async fn a_refresh_token_that_comes_again_ends_the_session_for_both() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let stolen = app.login("ada@example.org").await;
    let other_device = app.login("ada@example.org").await;
    let thief = Session::of(&app.renew(&stolen).await.expect(200));
    app.renew(&stolen).await.expect_problem(401, "session-ended");
    assert_eq!(app.knows(&thief).await, 401);
    app.renew(&thief).await.expect_problem(401, "session-ended");
    assert_eq!(app.knows(&other_device).await, 200, "another session lives on");
    app.close().await;
}

#[tokio::test]
async fn of_renewals_with_one_token_at_once_at_most_one_wins_and_the_session_ends() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let session = app.login("ada@example.org").await;
    let answers = join_all((0..6).map(|_| app.renew(&session))).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 5), "{answers:?}");
    let winner = Session::of(&won[0].expect(200));
    assert_eq!(app.knows(&winner).await, 401);
    app.close().await;
}

#[tokio::test]
async fn what_is_no_refresh_token_of_a_living_session_is_refused() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let session = app.login("ada@example.org").await;
    for token in ["", "nonsense", "A".repeat(43).as_str(), &session.access] {
        app.post("/sessions/renewal", json!({ "refresh_token": token })).await.expect_problem(401, "session-ended");
    }
    app.stage.execute("update sessions set expires_at = now()").await;
    assert_eq!(app.knows(&session).await, 401);
    app.renew(&session).await.expect_problem(401, "session-ended");
    app.close().await;
}

#[tokio::test]
async fn a_session_that_is_used_lives_on() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let session = app.login("ada@example.org").await;
    app.stage.execute("update sessions set expires_at = now() + interval '1 day'").await;
    app.renew(&session).await.expect(200);
    let moved = "select count(*) from sessions where expires_at > now() + interval '29 days'";
    assert_eq!(app.stage.count(moved).await, 1);
    app.close().await;
}

#[tokio::test]
async fn a_logout_ends_this_session_and_no_other() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let (here, there) = (app.login("ada@example.org").await, app.login("ada@example.org").await);
    let answer = app.call(Method::DELETE, "/sessions/current", &here, None).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));
    assert_eq!(app.knows(&here).await, 401);
    app.call(Method::DELETE, "/sessions/current", &here, None).await.expect_problem(401, "invalid-token");
    app.renew(&here).await.expect_problem(401, "session-ended");
    assert_eq!(app.knows(&there).await, 200);
    app.close().await;
}

#[tokio::test]
async fn a_lost_device_can_be_logged_out_from_another_but_not_by_somebody_else() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    app.registered("eve@example.org").await;
    let (here, lost, eve) =
        (app.login("ada@example.org").await, app.login("ada@example.org").await, app.login("eve@example.org").await);
    let path = format!("/sessions/{}", lost.id);
    app.call(Method::DELETE, &path, &eve, None).await.expect_problem(404, "no-such-session");
    assert_eq!(app.knows(&lost).await, 200);
    app.call(Method::DELETE, &path, &here, None).await.expect(204);
    assert_eq!(app.knows(&lost).await, 401);
    app.call(Method::DELETE, &path, &here, None).await.expect_problem(404, "no-such-session");
    app.call(Method::DELETE, "/sessions/nonsense", &here, None).await.expect_problem(400, "bad-request");
    app.close().await;
}

#[tokio::test]
async fn a_session_that_is_renewed_too_often_waits_and_keeps_its_token() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let (busy, other) = (app.login("ada@example.org").await, app.login("ada@example.org").await);
    // Together with its first token.
    let renewed = format!(
        "insert into refresh_tokens (token_hash, session_id, expires_at, used_at)
         select sha256(n::text::bytea), '{}', now() + interval '30 days', now() from generate_series(2, 30) as n",
        busy.id
    );
    assert_eq!(app.stage.execute(&renewed).await, 29);
    let answer = app.renew(&busy).await;
    answer.expect_problem(429, "too-many-renewals");
    let wait: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=3600).contains(&wait), "{wait}");
    assert_eq!(app.knows(&busy).await, 200);
    app.renew(&other).await.expect(200);

    let oldest = "update refresh_tokens set created_at = now() - interval '1 hour' where token_hash = sha256('2')";
    assert_eq!(app.stage.execute(oldest).await, 1);
    let next = Session::of(&app.renew(&busy).await.expect(200));
    app.renew(&next).await.expect_problem(429, "too-many-renewals");
    // What was stolen does not wait.
    app.renew(&busy).await.expect_problem(401, "session-ended");
    assert_eq!(app.knows(&next).await, 401);
    app.close().await;
}

#[tokio::test]
async fn a_login_too_many_ends_the_session_that_was_renewed_longest_ago() {
    let app = TestApp::start().await;
    for name in ["ada", "eve"] {
        app.registered(&format!("{name}@example.org")).await;
    }
    let (renewed, idle, eve) =
        (app.login("ada@example.org").await, app.login("ada@example.org").await, app.login("eve@example.org").await);
    app.stage.execute("update sessions set expires_at = now() + interval '1 day'").await;
    let renewed = Session::of(&app.renew(&renewed).await.expect(200));
    let more = "insert into sessions (id, user_id, expires_at)
                select gen_random_uuid(), id, now() + interval '2 days' from users, generate_series(3, 20) where email like 'ada%'";
    assert_eq!(app.stage.execute(more).await, 18);
    let new = app.login("ada@example.org").await;
    assert_eq!(app.stage.count("select count(*) from sessions").await, 20 + 1);
    assert_eq!(app.knows(&idle).await, 401);
    for lives in [&renewed, &new, &eve] {
        assert_eq!(app.knows(lives).await, 200);
    }
    app.close().await;
}
