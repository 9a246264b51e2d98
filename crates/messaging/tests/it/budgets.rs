//! What a message may cost: the statements that reach PostgreSQL, besides BEGIN and COMMIT, counted as sqlx reports them. A change that makes
//! one more for each message is seen here before it is seen in a measurement. Each test has a runtime without other threads, so that what it
//! counts is its own.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use chrono::{TimeDelta, Utc};
use messaging::Relay;
use testkit::{Stage, eventually};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};
use uuid::Uuid;

use crate::support::*;

/// Where sqlx reports statements.
const TARGET: &str = "sqlx::query";

/// The texts of all statements of this thread.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<Vec<String>>>);

impl Statements {
    fn listen() -> (Self, DefaultGuard) {
        let statements = Self::default();
        (statements.clone(), tracing::subscriber::set_default(statements))
    }

    /// How many there were with this in them.
    fn with(&self, text: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|statement| statement.contains(text)).count()
    }

    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Subscriber for Statements {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let text = if text.whole.trim().is_empty() { text.summary } else { text.whole };
        if !["begin", "commit"].iter().any(|word| text.trim().to_lowercase().starts_with(word)) {
            self.0.lock().unwrap().push(text);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// sqlx gives a short statement as its summary alone.
#[derive(Default)]
struct Text {
    summary: String,
    whole: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.whole),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

#[tokio::test]
async fn an_event_costs_its_transaction_one_statement_and_so_do_many() {
    let mut stage = stage().await;
    let (statements, _listening) = Statements::listen();
    for events in [1, 100] {
        statements.clear();
        let mut tx = stage.outbox.begin().await.unwrap();
        for n in 0..events {
            tx.publish(&moved(&format!("p-{n}"), 1)).unwrap();
        }
        tx.commit().await.unwrap();
        assert_eq!(statements.all().len(), 1, "{events} events: {:#?}", statements.all());
    }
    stage.expect_leftovers();
}

#[tokio::test]
async fn deadlines_and_jobs_cost_a_statement_each_however_many_and_a_deadline_beside_its_event_none() {
    let mut stage = stage().await;
    let (statements, _listening) = Statements::listen();
    for (events, deadlines, jobs, expected) in [(1, 1, 0, 1), (0, 0, 2, 1), (0, 4, 0, 1), (1, 0, 2, 2), (3, 5, 7, 3)] {
        statements.clear();
        let mut tx = stage.outbox.begin().await.unwrap();
        for n in 0..events {
            tx.publish(&moved(&format!("p-{n}"), 1)).unwrap();
        }
        for n in 0..deadlines {
            tx.publish_at(&moved(&format!("p-{n}"), 2), Utc::now() + TimeDelta::days(1)).unwrap();
        }
        for _ in 0..jobs {
            tx.enqueue("a-task", Uuid::new_v4());
        }
        tx.commit().await.unwrap();
        let all = statements.all();
        assert_eq!(all.len(), expected, "{events} events, {deadlines} deadlines, {jobs} jobs: {all:#?}");
    }
    let counts = "select (select count(*) from messaging.outbox), (select count(*) from messaging.scheduled), (select count(*) from messaging.job)";
    let counts: (i64, i64, i64) = sqlx::query_as(counts).fetch_one(&stage.database.pool).await.unwrap();
    assert_eq!(counts, (5, 10, 11), "and each of them is there");
    stage.expect_leftovers();
}

#[tokio::test]
async fn a_window_costs_the_relay_two_statements_however_many_events_are_in_it() {
    let stage = stage().await;
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    relay.run_once().await.unwrap();
    let mut all = Vec::new();
    for events in [1, 200] {
        let mut tx = stage.outbox.begin().await.unwrap();
        for n in 0..events {
            tx.publish(&moved(&format!("p-{events}-{n}"), 1)).unwrap();
        }
        tx.commit().await.unwrap();
        let (statements, _listening) = Statements::listen();
        // Few of a lane, so that there is nothing left to read beside them.
        assert_eq!(relay.run_once().await.unwrap().published, events);
        assert_eq!(statements.with("messaging.outbox"), 2, "{events} events: {:#?}", statements.all());
        all.push(statements.all().len());
    }
    assert_eq!(all[0], all[1], "there are none of another kind for each event");
}

#[tokio::test]
async fn what_is_ready_together_is_taken_with_two_statements_and_those_of_the_handlers() {
    const EVENTS: usize = 512;
    let mut stage = stage().await;
    let mut tx = stage.outbox.begin().await.unwrap();
    for n in 0..EVENTS {
        tx.publish(&moved(&format!("p-{n}"), 1)).unwrap();
    }
    tx.commit().await.unwrap();
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    while relay.run_once().await.unwrap().published > 0 {}

    let (statements, _listening) = Statements::listen();
    let consumer = Running::consumer(&consumer(&stage.broker, &stage.outbox, Record::always()));
    eventually("every effect is there", async || effects(&stage).await == i64::try_from(EVENTS).unwrap()).await;
    consumer.stop().await;
    assert_eq!(statements.with("insert into effect"), EVENTS, "no handler ran twice");
    let (admitted, announced) = (statements.with("messaging.inbox"), statements.with("into messaging.outbox"));
    // 64 at most; less while the first ones trickle in.
    assert!(admitted <= EVENTS / 8, "{admitted} transactions for {EVENTS} messages");
    assert!(announced <= admitted, "{announced} statements announce what {admitted} transactions decided");
    // What is looked at now and then has nothing to do with how many messages there are.
    let others = statements.all().len() - EVENTS - admitted - announced;
    assert!(others < EVENTS / 8, "{others} other statements for {EVENTS} messages: {:#?}", statements.all());
    stage.expect_leftovers();
}

/// Has events of so many parcels handled.
async fn handle(stage: &Stage, relay: &Relay, name: &str, parcels: i64) {
    let before = effects(stage).await;
    let mut tx = stage.outbox.begin().await.unwrap();
    for n in 0..parcels {
        tx.publish(&moved(&format!("{name}-{n}"), 1)).unwrap();
    }
    tx.commit().await.unwrap();
    while relay.run_once().await.unwrap().published > 0 {}
    let consumer = Running::consumer(&consumer(&stage.broker, &stage.outbox, Record::always()));
    eventually("every effect is there", async || effects(stage).await == before + parcels).await;
    consumer.stop().await;
}

#[tokio::test]
async fn what_admits_messages_is_planned_once_and_goes_by_the_index_of_a_table_that_was_small() {
    let mut stage = stage().await;
    // One relay for both: another one would wait for its lanes.
    let relay = Relay::with_options(&stage.outbox, &stage.broker, relay_options());
    handle(&stage, &relay, "few", 3).await;
    // As it is now, all of it is read with less effort than by its index.
    stage.execute("analyze messaging.consumer_head").await;
    handle(&stage, &relay, "many", 200).await;

    let (mut once, mut anew) = (0, 0);
    let mut connections = Vec::new();
    while stage.outbox.pool().num_idle() > 0 {
        connections.push(stage.outbox.pool().acquire().await.unwrap());
    }
    for connection in &mut connections {
        let plans = "select coalesce(sum(generic_plans), 0)::bigint, coalesce(sum(custom_plans), 0)::bigint
                     from pg_prepared_statements where statement like 'with incoming%'";
        let (generic, custom): (i64, i64) = sqlx::query_as(plans).fetch_one(&mut **connection).await.unwrap();
        (once, anew) = (once + generic, anew + custom);
        sqlx::query("select pg_stat_force_next_flush()").execute(&mut **connection).await.unwrap();
    }
    drop(connections);
    assert!(once > 0 && anew == 0, "{once} times by a plan that was kept, and {anew} times planned anew");
    let scans = "select seq_scan from pg_stat_user_tables where schemaname = 'messaging' and relname = 'consumer_head'";
    eventually("the counts are there", async || {
        stage
            .count(
                "select idx_scan from pg_stat_user_tables where schemaname = 'messaging' and relname = 'consumer_head'",
            )
            .await
            > 0
    })
    .await;
    let scans = stage.count(scans).await;
    // To make an index counts as one: that of the table as it began, and that which begins with the key.
    assert!(scans <= 2, "all of the table was read {scans} times");
    stage.expect_leftovers();
}
