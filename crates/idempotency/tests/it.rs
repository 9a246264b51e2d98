//! The table in README.md, line by line, against a real database.
#![expect(clippy::expect_used, reason = "a test that cannot set itself up has failed")]

use actix_web::{
    FromRequest as _,
    body::to_bytes,
    http::{StatusCode, header::LOCATION},
    test::TestRequest,
};
use idempotency::{Answer, Begun, Error, Fingerprint, Key};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testkit::Database;
use uuid::Uuid;

async fn database() -> Database {
    let database = Database::create().await;
    idempotency::migrations().run(&database.pool).await.expect("the migrations apply to an empty database");
    sqlx::query("create table effect (id int)").execute(&database.pool).await.expect("a table");
    database
}

async fn connect(database: &Database) -> PgConnection {
    PgConnection::connect(&database.url).await.expect("the database answers")
}

async fn key(text: &str) -> Key {
    let (request, mut payload) = TestRequest::default().insert_header(("idempotency-key", text)).to_http_parts();
    Key::from_request(&request, &mut payload).await.expect("a key")
}

fn answer() -> Answer {
    Answer::new(StatusCode::ACCEPTED).header(LOCATION, "/orders/1").json(&["once"]).expect("JSON")
}

/// Does the request as a route does: the effect and its answer in one transaction.
async fn perform(conn: &mut PgConnection, owner: Uuid, key: &Key, request: &str) -> Result<Answer, Error> {
    let mut tx = conn.begin().await?;
    let answer = match idempotency::begin(&mut tx, owner, key, &Fingerprint::of(&request)).await? {
        Begun::Again(answer) => answer,
        Begun::New(pending) => {
            sqlx::query("insert into effect values (1)").execute(&mut *tx).await?;
            pending.store(&mut tx, &answer()).await?;
            answer()
        }
    };
    tx.commit().await?;
    Ok(answer)
}

async fn effects(database: &Database) -> i64 {
    sqlx::query_scalar("select count(*) from effect").fetch_one(&database.pool).await.expect("a count")
}

#[tokio::test]
async fn a_repeated_request_gets_the_stored_answer_and_has_no_second_effect() {
    let database = database().await;
    let (mut conn, owner, key) = (connect(&database).await, Uuid::new_v4(), key("k").await);
    let first = perform(&mut conn, owner, &key, "a").await.expect("the first time").into_response();
    let again = perform(&mut conn, owner, &key, "a").await.expect("the second time").into_response();
    assert_eq!((first.status(), again.status()), (StatusCode::ACCEPTED, StatusCode::ACCEPTED));
    assert!(first.headers().get("idempotency-replayed").is_none());
    assert_eq!(again.headers().get("idempotency-replayed").expect("a header"), "true");
    for name in ["location", "content-type"] {
        assert_eq!(first.headers().get(name).expect("a header"), again.headers().get(name).expect("a header"));
    }
    let bodies =
        (to_bytes(first.into_body()).await.expect("a body"), to_bytes(again.into_body()).await.expect("a body"));
    assert_eq!((bodies.0.as_ref(), &bodies.0), (br#"["once"]"#.as_slice(), &bodies.1));
    assert_eq!(effects(&database).await, 1);
}

#[tokio::test]
async fn a_key_belongs_to_one_request_and_one_account() {
    let database = database().await;
    let (mut conn, owner, key) = (connect(&database).await, Uuid::new_v4(), key("k").await);
    perform(&mut conn, owner, &key, "a").await.expect("the first time");
    let other = perform(&mut conn, owner, &key, "b").await;
    assert!(matches!(other, Err(Error::OtherRequest)), "{other:?}");
    assert_eq!(web::Problem::from(Error::OtherRequest).status(), StatusCode::UNPROCESSABLE_ENTITY);
    perform(&mut conn, Uuid::new_v4(), &key, "b").await.expect("somebody else's key");
    assert_eq!(effects(&database).await, 2);
}

#[tokio::test]
async fn while_one_is_in_flight_the_others_are_told_to_wait_and_nobody_blocks() {
    let database = database().await;
    let (owner, key) = (Uuid::new_v4(), key("k").await);
    let (mut one, mut two) = (connect(&database).await, connect(&database).await);
    let mut tx = one.begin().await.expect("a transaction");
    let begun = idempotency::begin(&mut tx, owner, &key, &Fingerprint::of(&"a")).await;
    assert!(matches!(begun, Ok(Begun::New(_))), "{begun:?}");
    let meanwhile = perform(&mut two, owner, &key, "a").await;
    assert!(matches!(meanwhile, Err(Error::InFlight)), "{meanwhile:?}");
    // As after a crash: neither effect nor answer, and the repetition is the first time.
    tx.rollback().await.expect("a rollback");
    perform(&mut two, owner, &key, "a").await.expect("the repetition");
    assert_eq!(effects(&database).await, 1);
}

#[tokio::test]
async fn answers_are_forgotten_after_a_day_and_not_before() {
    let database = database().await;
    let (mut conn, owner) = (connect(&database).await, Uuid::new_v4());
    for (name, hours) in [("old", 25), ("young", 23)] {
        perform(&mut conn, owner, &key(name).await, "a").await.expect("an answer");
        let age = format!(
            "update idempotency.answers set answered_at = now() - interval '{hours} hours' where key = '{name}'"
        );
        sqlx::query(AssertSqlSafe(age)).execute(&mut conn).await.expect("older");
    }
    idempotency::forget_expired(&database.pool).await.expect("it forgets");
    let left: Vec<String> =
        sqlx::query_scalar("select key from idempotency.answers").fetch_all(&mut conn).await.expect("keys");
    assert_eq!(left, ["young"]);
}
