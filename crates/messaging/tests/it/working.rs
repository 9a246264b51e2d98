//! Work outside Postgres.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use messaging::{HandlerError, Job, Outbox, OutboxTransaction, Outcome, RetryPolicy, Task, TaskError, Worker};
use testkit::eventually;
use uuid::Uuid;

use crate::support::*;

type Script = dyn Fn(&Job) -> Result<&'static str, TaskError> + Send + Sync;

/// Does what its script says, and records the outcome and an event.
#[derive(Clone)]
struct Deliver {
    script: Arc<Script>,
    recorded: Arc<Mutex<Vec<String>>>,
}

impl Deliver {
    fn when(script: impl Fn(&Job) -> Result<&'static str, TaskError> + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), recorded: Arc::default() }
    }

    fn recorded(&self) -> Vec<String> {
        self.recorded.lock().unwrap().clone()
    }
}

impl Task for Deliver {
    const NAME: &'static str = "deliver";
    type Done = &'static str;

    async fn perform(&self, job: &Job) -> Result<&'static str, TaskError> {
        (self.script)(job)
    }

    async fn record(
        &self,
        job: &Job,
        outcome: Outcome<&'static str>,
        tx: &mut OutboxTransaction,
    ) -> Result<(), HandlerError> {
        let line = match outcome {
            Outcome::Done(done) => {
                tx.publish(&moved(&job.id.to_string(), i64::from(job.attempt)))?;
                format!("done {done} at {}", job.attempt)
            }
            Outcome::Postponed { .. } => format!("postponed at {}", job.attempt),
            Outcome::Retrying { error, attempts, .. } => format!("retrying {error} after {attempts}"),
            Outcome::Failed { error, attempts, exhausted } => {
                format!("failed {error} after {attempts} exhausted {exhausted}")
            }
        };
        self.recorded.lock().unwrap().push(line);
        Ok(())
    }
}

async fn enqueue(stage: &testkit::Stage) -> Uuid {
    let id = Uuid::now_v7();
    let mut tx = stage.outbox.begin().await.unwrap();
    tx.enqueue(Deliver::NAME, id);
    tx.commit().await.unwrap();
    id
}

async fn enqueue_urgent(stage: &testkit::Stage) -> Uuid {
    let id = Uuid::now_v7();
    let mut tx = stage.outbox.begin().await.unwrap();
    tx.enqueue_urgent(Deliver::NAME, id);
    tx.commit().await.unwrap();
    id
}

fn worker(stage: &testkit::Stage, task: &Deliver) -> Worker<Deliver> {
    Worker::new(&stage.outbox, task.clone())
        .retry(RetryPolicy::exponential(Duration::from_millis(10)).max_attempts(3))
        .poll(Duration::from_millis(20))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_done_once_it_is_committed_and_its_outcome_is_recorded_with_its_event() {
    let mut stage = stage().await;
    let task = Deliver::when(|_| Ok("delivered"));
    let running = Running::worker(&worker(&stage, &task));
    let mut rolled_back = stage.outbox.begin().await.unwrap();
    rolled_back.enqueue(Deliver::NAME, Uuid::now_v7());
    drop(rolled_back);
    enqueue(&stage).await;
    eventually("it is done", async || stage.count("select count(*) from messaging.job").await == 0).await;
    running.stop().await;
    assert_eq!(task.recorded(), ["done delivered at 1"]);
    assert_eq!(pending(&stage).await, 1, "the event of the outcome");
    stage.expect_leftovers();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_work_is_tried_again_up_to_its_limit_and_refused_work_is_not() {
    let stage = stage().await;
    let task = Deliver::when(|job| match job.attempt {
        1 => Err(TaskError::retry("busy")),
        2 => Err(TaskError::retry("busier")),
        _ => Err(TaskError::retry("busiest")),
    });
    let running = Running::worker(&worker(&stage, &task));
    enqueue(&stage).await;
    eventually("it is given up", async || stage.count("select count(*) from messaging.job").await == 0).await;
    running.stop().await;
    assert_eq!(
        task.recorded(),
        ["retrying busy after 1", "retrying busier after 2", "failed busiest after 3 exhausted true"]
    );

    let task = Deliver::when(|_| Err(TaskError::fail("no such address")));
    let running = Running::worker(&worker(&stage, &task));
    enqueue(&stage).await;
    eventually("it is given up", async || stage.count("select count(*) from messaging.job").await == 0).await;
    running.stop().await;
    assert_eq!(task.recorded(), ["failed no such address after 1 exhausted false"]);
}

/// Switch: `recorded-again`. A mail server that has said yes cannot be asked whether it did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_not_done_twice_because_the_database_was_away_when_it_was_done() {
    let mut stage = stage().await;
    let (proxy, url) = behind_a_proxy(&stage).await;
    let outbox = Outbox::new(messaging::pool::connect_lazy(&url, "parcels", 4).unwrap(), "parcels");
    let outbox = outbox.answer_deadline(Duration::from_secs(1));
    let (proxy, away) = (Arc::new(proxy), Arc::new(Mutex::new(None)));
    let performed = Arc::new(AtomicU32::new(0));
    let task = Deliver::when({
        let (proxy, away, performed) = (proxy.clone(), away.clone(), performed.clone());
        move |_| {
            if performed.fetch_add(1, Ordering::SeqCst) == 0 {
                *away.lock().unwrap() = Some(proxy.inject(&wire::Aim::everybody(), wire::Fault::Refuse));
                proxy.strand(&wire::Aim::everybody());
            }
            Ok("delivered")
        }
    });
    let worker = Worker::new(&outbox, task.clone()).deadline(Duration::from_secs(1)).poll(Duration::from_millis(20));
    let running = Running::worker(&worker);
    enqueue(&stage).await;
    eventually("the outage is felt", async || {
        away.lock().unwrap().as_ref().is_some_and(|away: &wire::Injection| away.count() > 0)
    })
    .await;
    *away.lock().unwrap() = None;
    eventually("it is recorded", async || stage.count("select count(*) from messaging.job").await == 0).await;
    running.stop().await;
    assert_eq!(performed.load(Ordering::SeqCst), 1);
    assert_eq!(pending(&stage).await, 1, "the event of the outcome");
    stage.expect_leftovers();
}

/// Switch: `urgent-first`. Somebody waits for the last one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_urgent_goes_before_what_was_there_first() {
    let mut stage = stage().await;
    for _ in 0..3 {
        enqueue(&stage).await;
    }
    let urgent = enqueue_urgent(&stage).await;
    let task = Deliver::when(move |job| Ok(if job.id == urgent { "the urgent one" } else { "another" }));
    let running = Running::worker(&worker(&stage, &task).concurrency(1));
    eventually("all is done", async || stage.count("select count(*) from messaging.job").await == 0).await;
    running.stop().await;
    let another = "done another at 1";
    assert_eq!(task.recorded(), ["done the urgent one at 1", another, another, another]);
    stage.expect_leftovers();
}

/// It would be the one with which the worker finds out whether the provider is back, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_urgent_job_that_finds_the_provider_down_lets_the_others_try() {
    let mut stage = stage().await;
    enqueue(&stage).await;
    let urgent = enqueue_urgent(&stage).await;
    let task =
        Deliver::when(move |job| if job.id == urgent { Err(TaskError::unavailable("hung up")) } else { Ok("it") });
    let running = Running::worker(&worker(&stage, &task).concurrency(1));
    eventually("the other one is done", async || task.recorded().contains(&"done it at 1".to_owned())).await;
    running.stop().await;
    assert_eq!(task.recorded()[0], "retrying hung up after 0");
    stage.expect_leftovers();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_down_spends_no_attempts() {
    let mut stage = stage().await;
    let tries = Arc::new(AtomicU32::new(0));
    let task = Deliver::when({
        let tries = tries.clone();
        move |job| match tries.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Err(TaskError::unavailable("closed")),
            _ if job.attempt == 1 => Ok("delivered"),
            _ => Err(TaskError::fail("an attempt was spent")),
        }
    });
    let running = Running::worker(&worker(&stage, &task));
    enqueue(&stage).await;
    eventually("it is done", async || stage.count("select count(*) from messaging.job").await == 0).await;
    running.stop().await;
    assert_eq!(task.recorded().last().unwrap(), "done delivered at 1");
    stage.expect_leftovers();
}

/// A worker that dies loses its lease, and the work is done by another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_of_a_dead_worker_is_taken_over() {
    let mut stage = stage().await;
    let id = enqueue(&stage).await;
    stage
        .execute(&format!(
            "update messaging.job set attempts = 1, lease = gen_random_uuid(), due_at = now() + interval '1 hour' where id = '{id}'"
        ))
        .await;
    let task = Deliver::when(|_| Ok("delivered"));
    let running = Running::worker(&worker(&stage, &task));
    let other = enqueue(&stage).await;
    eventually("the free one is done", async || {
        stage.count(&format!("select count(*) from messaging.job where id = '{other}'")).await == 0
    })
    .await;
    assert_eq!(stage.count("select count(*) from messaging.job").await, 1, "a lease is respected");
    // The hour has passed.
    stage.execute("update messaging.job set due_at = now()").await;
    eventually("it is taken over", async || stage.count("select count(*) from messaging.job").await == 0).await;
    running.stop().await;
    assert_eq!(task.recorded(), ["done delivered at 1", "done delivered at 2"]);
    stage.expect_leftovers();
}

/// Not a failure: however often it is put off, it has all its attempts left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_is_put_off_is_done_later_and_spends_no_attempt() {
    let stage = stage().await;
    let asked = Arc::new(AtomicU32::new(0));
    let task = Deliver::when({
        let asked = asked.clone();
        move |_| match asked.fetch_add(1, Ordering::SeqCst) {
            0..5 => Err(TaskError::Later(Duration::from_millis(10))),
            _ => Ok("at last"),
        }
    });
    enqueue(&stage).await;
    let running = Running::worker(&worker(&stage, &task));
    eventually("it is done", async || task.recorded().len() == 6).await;
    running.stop().await;
    assert_eq!(task.recorded()[..5], ["postponed at 1"; 5]);
    assert_eq!(task.recorded()[5], "done at last at 1");
    stage.execute("delete from messaging.outbox").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_is_put_off_waits_that_long() {
    let stage = stage().await;
    let task = Deliver::when(|_| Err(TaskError::Later(Duration::from_secs(3600))));
    enqueue(&stage).await;
    let running = Running::worker(&worker(&stage, &task));
    eventually("it is put off", async || !task.recorded().is_empty()).await;
    running.stop().await;
    let due = "select count(*) from messaging.job
               where lease is null and due_at between now() + interval '59 minutes' and now() + interval '60 minutes'";
    assert_eq!(stage.count(due).await, 1);
    assert_eq!(task.recorded(), ["postponed at 1"]);
    stage.execute("delete from messaging.job").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_a_failed_attempt() {
    let mut stage = stage().await;
    let task = Deliver::when(|job| if job.attempt < 3 { panic!("the van is on fire") } else { Ok("delivered") });
    let running = Running::worker(&worker(&stage, &task));
    enqueue(&stage).await;
    eventually("it is done", async || stage.count("select count(*) from messaging.job").await == 0).await;
    running.stop().await;
    assert_eq!(
        task.recorded(),
        ["retrying it panicked after 1", "retrying it panicked after 2", "done delivered at 3"]
    );
    stage.expect_leftovers();
}

/// Switch: `lost-attempts`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_took_its_processes_with_it_is_given_up_in_the_end() {
    let stage = stage().await;
    let task = Deliver::when(|_| Ok("delivered"));
    let id = enqueue(&stage).await;
    // As three processes leave it that died over it.
    stage.execute("update messaging.job set attempts = 3").await;
    let running = Running::worker(&worker(&stage, &task));
    eventually("it is given up", async || stage.count("select count(*) from messaging.job").await == 0).await;
    running.stop().await;
    let recorded = task.recorded();
    assert!(recorded.len() == 1 && recorded[0].starts_with("failed"), "{id}: {recorded:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_cannot_be_recorded_is_no_reason_to_begin_again_at_once() {
    let mut stage = stage().await;
    // The event of the outcome cannot be written.
    stage.execute("alter table messaging.outbox add constraint full_up check (key = '')").await;
    let task = Deliver::when(|_| Ok("delivered"));
    let later = RetryPolicy::exponential(Duration::from_secs(3600)).max_attempts(3);
    let running = Running::worker(&worker(&stage, &task).retry(later));
    enqueue(&stage).await;
    let put_off = "select count(*) from messaging.job
                   where lease is null and last_error like '%full_up%' and due_at > now() + interval '10 minutes'";
    eventually("it is put off", async || stage.count(put_off).await == 1).await;
    running.stop().await;
    assert_eq!(task.recorded().len(), 1);
    stage.expect_leftovers();
}
