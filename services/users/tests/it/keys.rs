//! The signing keys: shared, published, replaced.

use reqwest::Method;
use serde_json::Value;
use users::App;

use crate::support::{Session, Stage, TestApp};

async fn published(app: &TestApp) -> Vec<String> {
    let keys = app.get("/.well-known/jwks.json").await.expect(200);
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn signed_with(session: &Session) -> String {
    jsonwebtoken::decode_header(&session.access).unwrap().kid.unwrap()
}

#[tokio::test]
async fn the_keys_are_published_without_their_private_halves_and_may_be_cached() {
    let app = TestApp::start().await;
    let answer = app.get("/.well-known/jwks.json").await;
    let keys = answer.expect(200);
    let [key] = keys["keys"].as_array().unwrap().as_slice() else { panic!("{keys}") };
    let members: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!(answer.header("cache-control"), "public, max-age=300");
    let verifies = |value: &Value, member: &str| value[member].as_str().unwrap().len() == 43;
    assert!(verifies(key, "x") && verifies(key, "kid"));
    app.close().await;
}

#[tokio::test]
async fn replicas_that_start_together_share_one_key() {
    let stage = Stage::new().await;
    let build = || App::build(stage.config(&[]));
    let (first, second, third) = tokio::join!(build(), build(), build());
    let [a, b, c] = [first, second, third].map(|app| TestApp::run(stage.clone(), app.unwrap()));
    assert_eq!(published(&a).await.len(), 1);
    assert_eq!(published(&a).await, published(&b).await);
    assert_eq!(published(&a).await, published(&c).await);
    a.registered("ada@example.org").await;
    let session = a.login("ada@example.org").await;
    assert_eq!((b.knows(&session).await.as_u16(), c.knows(&session).await.as_u16()), (200, 200));
    for app in [a, b, c] {
        app.close().await;
    }
}

#[tokio::test]
async fn a_key_that_was_made_while_a_replica_waited_for_its_turn_is_the_key() {
    let app = TestApp::start().await;
    let stage = app.stage.clone();
    stage.execute("update signing_keys set active_from = now() + interval '1 hour'").await;
    let mut other = stage.database.pool.begin().await.unwrap();
    sqlx::query("lock table signing_keys in share row exclusive mode").execute(&mut *other).await.unwrap();

    let makes_one = async {
        testkit::eventually("the replica waits", async || {
            let waiting = "select count(*) from pg_locks where not granted and relation = 'signing_keys'::regclass";
            sqlx::query_scalar::<_, i64>(waiting).fetch_one(&stage.database.pool).await.unwrap() == 1
        })
        .await;
        sqlx::query("update signing_keys set active_from = clock_timestamp()").execute(&mut *other).await.unwrap();
        other.commit().await.unwrap();
    };
    let (late, ()) = tokio::join!(App::build(stage.config(&[])), makes_one);
    let late = TestApp::run(stage.clone(), late.unwrap());
    assert_eq!(published(&late).await.len(), 1);
    for app in [app, late] {
        app.close().await;
    }
}

#[tokio::test]
async fn an_old_key_is_followed_by_one_that_is_published_before_it_signs() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let first = app.login("ada@example.org").await;
    app.stage
        .execute(
            "update signing_keys set created_at = now() - interval '91 days', active_from = now() - interval '91 days'",
        )
        .await;

    let second = app.replica().await;
    let keys = published(&second).await;
    assert_eq!(keys.len(), 2);
    let session = second.login("ada@example.org").await;
    assert_eq!(signed_with(&session), signed_with(&first), "the new one does not sign yet");
    assert_eq!(app.knows(&session).await, 200);

    app.stage
        .execute("update signing_keys set active_from = now() - interval '1 second' where not_after is null")
        .await;
    let third = app.replica().await;
    let session = third.login("ada@example.org").await;
    assert_ne!(signed_with(&session), signed_with(&first));
    assert_eq!(published(&third).await.len(), 2, "no third key");
    assert_eq!(third.knows(&first).await, 200, "what the old key signed is still valid");
    assert_eq!(second.knows(&session).await, 200, "a replica that knew the new key accepts it");

    app.stage.execute("update signing_keys set not_after = now() where not_after is not null").await;
    let fourth = app.replica().await;
    assert_eq!(published(&fourth).await, [signed_with(&session)]);
    assert_eq!(fourth.knows(&first).await, 401);
    for app in [fourth, third, second, app] {
        app.close().await;
    }
}

#[tokio::test]
async fn a_leaked_key_is_replaced_at_once_when_it_is_ended() {
    let app = TestApp::start().await;
    app.registered("ada@example.org").await;
    let leaked = app.login("ada@example.org").await;
    app.stage.execute("update signing_keys set not_after = now()").await;
    let replica = app.replica().await;
    assert_eq!(published(&replica).await.len(), 1);
    replica.call(Method::GET, "/users/me", &leaked, None).await.expect_problem(401, "invalid-token");
    let session = replica.login("ada@example.org").await;
    assert_ne!(signed_with(&session), signed_with(&leaked));
    assert_eq!(replica.knows(&session).await, 200);
    replica.close().await;
    app.close().await;
}
