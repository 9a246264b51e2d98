//! The broker and the database go away and come back.

use testkit::eventually;

use crate::support::*;

async fn arrives(stage: &testkit::Stage, step: i64) {
    publish(&stage.outbox, "p-1", step).await;
    eventually("the effect is there", async || steps(stage, "p-1").await.last() == Some(&step)).await;
}

fn consumer_health(stage: &testkit::Stage) -> Result<String, String> {
    let health = stage.outbox.health();
    health.into_iter().find(|(part, _)| part == "consumer parcels").unwrap().1
}

/// Switch: `supervisor`. lapin ends the stream of a cancelled consumer without an error, and its channel looks alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_consumer_is_rebuilt_and_the_check_says_so_meanwhile() {
    let stage = stage().await;
    let flow = Flow::start(&stage, Record::always());
    arrives(&stage, 1).await;

    stage.vhost.delete_queue("parcels").await;
    eventually("the check says so", async || consumer_health(&stage).is_err()).await;
    stage.vhost.import().await;
    eventually("the check is content again", async || consumer_health(&stage).is_ok()).await;
    arrives(&stage, 2).await;
    flow.settle(&stage).await;
}

/// Switch: `supervisor`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_connection_is_rebuilt_and_no_ack_crosses_a_channels_life() {
    let stage = stage().await;
    // Every message is in hand for long enough to be caught there.
    let record = Record::when(|_, _| {
        std::thread::sleep(std::time::Duration::from_millis(2));
        Ok(())
    });
    let flow = Flow::start(&stage, record);
    arrives(&stage, 1).await;
    for step in 2..=400 {
        publish(&stage.outbox, &format!("q-{}", step % 7), step).await;
        if step % 100 == 0 {
            eventually("its connections are killed", async || stage.vhost.kill_connections().await > 0).await;
        }
    }
    eventually("every effect is there", async || effects(&stage).await >= 400).await;
    arrives(&stage, 1000).await;
    flow.settle(&stage).await;
    assert_eq!(effects(&stage).await, 401);
    assert_eq!(stage.count("select count(distinct message_id) from effect").await, 401);
    // An ack with a tag of an earlier life would have closed the channel or taken somebody else's message.
    let queue = stage.vhost.get(&format!("queues/{}/parcels", stage.vhost.name)).await;
    assert_eq!(queue["name"], "parcels");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_loses_nothing_and_spends_no_attempts() {
    let stage = stage().await;
    let flow = Flow::start(&stage, Record::always());
    arrives(&stage, 1).await;
    for n in 0..50 {
        publish(&stage.outbox, &format!("q-{n}"), 1).await;
    }
    stage.database.set_available(false).await;
    eventually("the consumer or the relay says so", async || {
        stage.outbox.health().iter().any(|(_, state)| state.is_err())
    })
    .await;
    stage.database.set_available(true).await;
    eventually("every effect is there", async || effects(&stage).await == 51).await;
    arrives(&stage, 2).await;
    flow.settle(&stage).await;
    assert_eq!(stage.count("select max(attempt) from effect").await, 1);
    assert_eq!(stage.count("select count(*) from messaging.parked").await, 0);
}
