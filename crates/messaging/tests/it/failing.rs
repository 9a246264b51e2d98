//! What becomes of messages that cannot be handled.

use futures_util::StreamExt as _;
use messaging::{Event as _, Filter, HandlerError};
use testkit::eventually;

use crate::support::*;

/// Switch: `last-attempt`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nth_failure_is_dead_with_its_reason_and_history() {
    let mut stage = stage().await;
    let id = publish(&stage.outbox, "p-1", 1).await;
    let record = Record::when(|_, attempt| Err(HandlerError::retry(format!("failure {attempt}"))));
    let consumer = consumer(&stage.broker, &stage.outbox, record);
    let letters = consumer.dead_letters();
    let flow = Flow::start_with(&stage, consumer);
    eventually("it is dead", async || parked(&stage, "dead").await == 1).await;
    flow.settle(&stage).await;

    let letter = letters.show(id).await.unwrap().unwrap();
    assert_eq!(letter.letter.attempts, 3);
    assert_eq!(letter.letter.reason.as_deref(), Some("failure 3"));
    let history: Vec<_> =
        letter.history.as_array().unwrap().iter().map(|e| e["error"].as_str().unwrap().to_owned()).collect();
    assert_eq!(history, ["failure 1", "failure 2", "failure 3"]);
    assert!(letter.content.unwrap().contains("p-1"));
    stage.expect_leftovers();
}

/// Switch: `waiting`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_messages_of_a_parked_key_wait_and_other_keys_flow() {
    let stage = stage().await;
    let open = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let record = Record::when({
        let open = open.clone();
        move |event, _| {
            let shut = event.parcel_id == "held" && event.step == 1 && !open.load(std::sync::atomic::Ordering::SeqCst);
            if shut { Err(HandlerError::retry("not yet")) } else { Ok(()) }
        }
    });
    let patient = messaging::RetryPolicy::exponential(std::time::Duration::from_millis(20)).max_attempts(1000);
    let flow = Flow::start_with(&stage, consumer(&stage.broker, &stage.outbox, record).retry(patient));
    for step in 1..=5 {
        publish(&stage.outbox, "held", step).await;
        publish(&stage.outbox, "free", step).await;
    }
    eventually("the other key flows", async || steps(&stage, "free").await == [1, 2, 3, 4, 5]).await;
    eventually("the successors wait behind it", async || parked(&stage, "waiting").await == 5).await;
    assert_eq!(steps(&stage, "held").await, [0_i64; 0]);

    open.store(true, std::sync::atomic::Ordering::SeqCst);
    eventually("they follow in order", async || steps(&stage, "held").await == [1, 2, 3, 4, 5]).await;
    flow.settle(&stage).await;
}

/// An envelope as a relay of `parcels` writes it.
fn envelope(key: &str, event_type: &str) -> lapin::BasicProperties {
    let mut headers = lapin::types::FieldTable::default();
    headers.insert("x-key".into(), lapin::types::AMQPValue::LongString(key.into()));
    headers.insert("x-seq".into(), lapin::types::AMQPValue::LongLongInt(1));
    headers.insert("x-occurred-at-ms".into(), lapin::types::AMQPValue::LongLongInt(1));
    lapin::BasicProperties::default()
        .with_message_id(uuid::Uuid::now_v7().to_string().into())
        .with_type(event_type.into())
        .with_app_id("parcels".into())
        .with_headers(headers)
}

/// Switch: `reject`: a message that cannot be decoded would be tried for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undecodable_unknown_and_oversize_messages_do_not_block() {
    let mut stage = stage().await;
    let properties = |event_type: &str| envelope("p-1", event_type);
    let key = "parcels.v1.ParcelMoved.1";
    publish_raw(&stage, key, properties(ParcelMoved::TYPE), b"\xff\xff\xff").await;
    publish_raw(&stage, key, properties("parcels.v9.Unheard"), b"").await;
    publish_raw(&stage, key, lapin::BasicProperties::default(), b"not ours at all").await;
    publish_raw(&stage, key, lapin::BasicProperties::default(), b"not ours at all").await;
    publish_raw(&stage, key, properties(ParcelMoved::TYPE), &vec![0xff; 3 << 20]).await;
    // Its id has no place in the inbox: an effect of it could not be told from a second one.
    let ancient = properties(ParcelMoved::TYPE).with_message_id("01000000-0000-7000-8000-000000000000".into());
    publish_raw(&stage, key, ancient, b"").await;
    publish(&stage.outbox, "p-1", 1).await;

    let consumer = consumer(&stage.broker, &stage.outbox, Record::always());
    let letters = consumer.dead_letters();
    let flow = Flow::start_with(&stage, consumer);
    eventually("the good one has its effect", async || effects(&stage).await == 1).await;
    eventually("the bad ones are dead, each once", async || parked(&stage, "dead").await == 5).await;
    flow.settle(&stage).await;
    for letter in letters.list(&Filter::default(), 10).await.unwrap() {
        assert!(letters.discard(letter.message_id, "ada").await.unwrap(), "{letter:?}");
    }
    assert_eq!(parked(&stage, "dead").await, 0);
    stage.expect_leftovers();
}

/// A newer producer's additions are skipped, not an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_field_does_not_break_a_consumer() {
    let stage = stage().await;
    publish(&stage.outbox, "p-1", 1).await;
    // Field 15, a string: protobuf tag 0x7a.
    stage.execute("update messaging.outbox set payload = payload || '\\x7a036e6577'").await;
    let flow = Flow::start(&stage, Record::always());
    eventually("the effect is there", async || steps(&stage, "p-1").await == [1]).await;
    flow.settle(&stage).await;
}

/// Switch: `redrive`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redrive_works_and_is_recorded() {
    let stage = stage().await;
    let mended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let record = Record::when({
        let mended = mended.clone();
        move |event, _| {
            let bad =
                event.step % 2 == 1 && event.parcel_id != "edited" && !mended.load(std::sync::atomic::Ordering::SeqCst);
            if bad { Err(HandlerError::reject("odd")) } else { Ok(()) }
        }
    });
    let consumer = consumer(&stage.broker, &stage.outbox, record);
    let letters = consumer.dead_letters();
    let flow = Flow::start_with(&stage, consumer);
    let retried = publish(&stage.outbox, "p-1", 1).await;
    let edited = publish(&stage.outbox, "p-2", 1).await;
    let discarded = publish(&stage.outbox, "p-3", 1).await;
    publish(&stage.outbox, "p-1", 2).await;
    eventually("three are dead", async || parked(&stage, "dead").await == 3).await;
    // The dead release their key.
    eventually("the successor has its effect", async || steps(&stage, "p-1").await == [2]).await;

    let groups = letters.groups().await.unwrap();
    assert_eq!((groups.len(), groups[0].count, groups[0].reason.as_deref()), (1, 3, Some("odd")));
    assert_eq!(letters.list(&Filter::default(), 10).await.unwrap().len(), 3);

    use prost::Message as _;
    assert!(letters.edit_and_retry(edited, &moved("edited", 1).encode_to_vec(), "ada").await.unwrap());
    eventually("the edited one has its effect", async || steps(&stage, "edited").await == [1]).await;
    assert!(letters.discard(discarded, "ada").await.unwrap());
    assert!(!letters.discard(discarded, "ada").await.unwrap());
    mended.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(
        letters.retry_all(&Filter { reason: Some("odd".into()), ..Filter::default() }, "grace", 100).await.unwrap(),
        1
    );
    eventually("the retried one has its effect", async || steps(&stage, "p-1").await == [2, 1]).await;
    assert_eq!(stage.count(&format!("select count(*) from effect where late and message_id = '{retried}'")).await, 1);

    // A copy that is still on the way to a discarded one has no effect.
    eventually("the outbox is empty", async || pending(&stage).await == 0).await;
    send_everything_again(&stage).await;
    publish(&stage.outbox, "p-3", 2).await;
    eventually("what came after it is there", async || !steps(&stage, "p-3").await.is_empty()).await;
    flow.settle(&stage).await;
    assert_eq!(steps(&stage, "p-3").await, [2]);
    assert_eq!(stage.count("select count(*) from messaging.redrive_log").await, 3);
    assert_eq!(
        stage.count("select count(*) from messaging.redrive_log where actor = 'grace' and action = 'retry'").await,
        1
    );
}

/// Switch: `pause`. An hour is stepped: the dependency is down for far more tries than there are attempts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dependency_that_is_down_spends_nobodys_attempts() {
    let stage = stage().await;
    let (up, tries) = (
        std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)),
        std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0)),
    );
    let record = Record::when({
        let (up, tries) = (up.clone(), tries.clone());
        move |_, _| {
            tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if up.load(std::sync::atomic::Ordering::SeqCst) {
                Ok(())
            } else {
                Err(HandlerError::unavailable("the depot is closed"))
            }
        }
    });
    let policy = messaging::RetryPolicy::exponential(std::time::Duration::from_millis(1)).max_attempts(1);
    let flow = Flow::start_with(&stage, consumer(&stage.broker, &stage.outbox, record).retry(policy));
    publish(&stage.outbox, "p-1", 1).await;
    publish(&stage.outbox, "p-2", 1).await;
    eventually("it was tried more often than it may fail", async || {
        tries.load(std::sync::atomic::Ordering::SeqCst) > 2
    })
    .await;
    let health = stage.outbox.health();
    let consumer = health.iter().find(|(part, _)| part == "consumer parcels").unwrap();
    assert!(consumer.1.as_ref().unwrap_err().contains("the depot is closed"), "{consumer:?}");
    assert_eq!(stage.count("select count(*) from messaging.parked").await, 0);

    up.store(true, std::sync::atomic::Ordering::SeqCst);
    eventually("both have their effect", async || effects(&stage).await == 2).await;
    flow.settle(&stage).await;
    assert_eq!(stage.count("select max(attempt) from effect").await, 1);
}

/// Takes longer than a statement may.
struct Slow;

impl messaging::Handler<ParcelMoved> for Slow {
    async fn handle(&self, _: ParcelMoved, tx: &mut messaging::OutboxTransaction) -> Result<(), HandlerError> {
        sqlx::raw_sql("set local statement_timeout = '50ms'; select pg_sleep(60)").execute(&mut **tx).await?;
        Ok(())
    }
}

/// That a statement is stopped is no sign of a database that is away: nobody waits for it to come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_takes_too_long_is_a_failure_of_its_message() {
    let mut stage = stage().await;
    let slow = messaging::Consumer::new("parcels", &stage.broker, &stage.outbox)
        .options(consumer_options())
        .retry(quick_retry())
        .on(Slow);
    let flow = Flow::start_with(&stage, slow);
    publish(&stage.outbox, "p-1", 1).await;
    eventually("it is dead", async || parked(&stage, "dead").await == 1).await;
    flow.settle(&stage).await;
    stage.expect_leftovers();
}

/// What Postgres cannot store is evidence all the same, and does not block what comes after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_that_cannot_be_stored_is_kept_as_far_as_it_can_be() {
    let mut stage = stage().await;
    let key = "parcels.v1.ParcelMoved.1";
    publish_raw(&stage, key, envelope("p-\0", ParcelMoved::TYPE), b"").await;
    publish_raw(&stage, key, envelope(&"p".repeat(1025), ParcelMoved::TYPE), b"").await;
    publish_raw(&stage, key, envelope("p-1", "parcels.v1\0"), b"").await;
    publish(&stage.outbox, "reason", 1).await;
    publish(&stage.outbox, "p-1", 1).await;
    let record = Record::when(|event, _| match event.parcel_id.as_str() {
        "reason" => Err(HandlerError::reject("no \0 is storable")),
        _ => Ok(()),
    });
    let flow = Flow::start(&stage, record);
    eventually("the good one has its effect", async || effects(&stage).await == 1).await;
    eventually("the others are dead", async || parked(&stage, "dead").await == 4).await;
    flow.settle(&stage).await;
    stage.expect_leftovers();
}

/// Switch: `unmarked-pause`. Whoever takes over a message from a process that waited with it would count that process as dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_with_a_redelivered_message_leaves_no_mark_of_a_death() {
    let mut stage = stage().await;
    let record = Record::when(|_, _| Err(HandlerError::unavailable("the depot is closed")));
    let flow = Flow::start(&stage, record);
    publish(&stage.outbox, "p-1", 1).await;
    let waits = async || {
        let health = stage.outbox.health();
        health.iter().any(|(part, state)| part == "consumer parcels" && state.is_err())
    };
    eventually("it waits", waits).await;
    eventually("its connections are killed", async || stage.vhost.kill_connections().await > 0).await;
    let redelivered = "select count(*) from pg_stat_user_tables where schemaname = 'messaging' and relname = 'in_hand' and n_tup_ins > 0";
    eventually("it is tried once more, as a suspect", async || stage.count(redelivered).await == 1).await;
    eventually("and waits again", async || stage.count("select count(*) from messaging.in_hand").await == 0).await;
    flow.stop().await;
    assert_eq!(stage.count("select count(*) from messaging.in_hand").await, 0);
    stage.expect_leftovers();
}

/// The broker's own limit is no limit: since RabbitMQ 4 there is one of 20 unless another is set, and from the net below a queue what is
/// beyond it would vanish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_never_gives_up_on_a_message() {
    let mut stage = stage().await;
    let connect = async || {
        let connecting = lapin::Connection::connect(&stage.vhost.amqp_url, lapin::ConnectionProperties::default());
        connecting.await.unwrap()
    };
    for queue in ["parcels", "parcels.dead"] {
        let connection = connect().await;
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await.unwrap();
        let publishing = channel.basic_publish("".into(), queue.into(), Default::default(), b"", Default::default());
        publishing.await.unwrap().await.unwrap();
        connection.close(200, "bye".into()).await.unwrap();
        for time in 0..30 {
            let connection = connect().await;
            let channel = connection.create_channel().await.unwrap();
            let consuming = channel.basic_consume(queue.into(), "".into(), Default::default(), Default::default());
            let mut deliveries = consuming.await.unwrap();
            let delivery = tokio::time::timeout(std::time::Duration::from_secs(20), deliveries.next()).await;
            assert!(delivery.is_ok_and(|delivery| delivery.is_some()), "{queue}: it is gone after {time} times");
            // Whoever had it in hand is gone.
            connection.close(200, "bye".into()).await.unwrap();
        }
    }
    stage.expect_leftovers();
}
