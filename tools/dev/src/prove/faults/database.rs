//! Faults of PostgreSQL.

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail};
use proof::ledger::Evidence;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{HEAL_PATIENCE, Open, Undo, World, halt, service, start_engines};
use crate::{
    process::Tracked,
    prove::{kinds::Kind, random::Random, schedule::PlannedFault},
    stack::Stack,
};

/// From the end of one session to that of the next.
pub(super) const OFTEN_MS: u64 = 200;
/// So often is looked what a lock or a snapshot does to others.
const LOOK: Duration = Duration::from_millis(500);
const WAITING: &str =
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock';";
const SNAPSHOTS: &str = "select count(*) from pg_stat_activity
    where datname = current_database() and query like 'select pg_sleep%' and backend_xmin is not null;";
/// After so long without one, nobody has crossed us. Who lost the broker a moment ago takes half a minute to have work again.
const DEADLOCK_WITHIN: Duration = Duration::from_secs(120);

pub(super) async fn begin(world: &mut World<'_>, planned: &PlannedFault) -> Result<Open> {
    let stack = &mut *world.stack;
    match planned.kind {
        Kind::TerminateSessions => {
            let ended = stack
                .run_sql(
                    service(planned)?,
                    "select count(pg_terminate_backend(pid)) from pg_stat_activity
                     where datname = current_database() and pid <> pg_backend_pid();",
                )
                .await?;
            let count = ended.trim().parse().context("a number of sessions")?;
            Ok(Open::new(count, format!("{count} sessions ended by the database"), Undo::Nothing))
        }
        Kind::TerminateOften => terminate_often(stack, planned),
        Kind::CrashDatabase | Kind::KillDatabase => {
            let database = stack.state.postgres.clone().context("the database is not this stack's own")?;
            if planned.kind == Kind::KillDatabase {
                database.kill().await?;
            } else {
                // SIGQUIT is PostgreSQL's immediate shutdown: nothing is written any more, the next start recovers.
                database.stop(Signal::QUIT, HEAL_PATIENCE).await?;
            }
            let text = format!("the database's process {} ended", database.pid());
            Ok(Open::new((!database.is_running()).into(), text, Undo::StartEngines))
        }
        Kind::PauseDatabase => {
            let database = stack.state.postgres.clone().context("the database is not this stack's own")?;
            let all = family(&database);
            let count = halt(&all).await?;
            let lasts = planned.for_ms as f64 / 1e3;
            let text = format!("{count} processes of the database stood still for {lasts:.1} s");
            Ok(Open::new(count, text, Undo::Continue(all)))
        }
        Kind::LockedTable => {
            let (service, table) = locked_table(service(planned)?)?;
            let seconds = planned.for_ms as f64 / 1e3;
            let script = format!("begin; lock table {table} in exclusive mode; select pg_sleep({seconds}); commit;");
            Ok(Open::new(0, "", in_the_background(stack, service, script, WAITING)))
        }
        Kind::Deadlocks => deadlocks(stack, planned),
        Kind::OldSnapshot => {
            let seconds = planned.for_ms as f64 / 1e3;
            let script = format!(
                "begin isolation level repeatable read; select count(*) from messaging.outbox; select pg_sleep({seconds}); commit;"
            );
            Ok(Open::new(0, "", in_the_background(stack, service(planned)?, script, SNAPSHOTS)))
        }
        _ => bail!("{:?} is not done to the database", planned.kind),
    }
}

pub(super) async fn end(world: &mut World<'_>, planned: &PlannedFault, open: Open) -> Result<Evidence> {
    match open.undo {
        Undo::StartEngines => start_engines(world.stack).await?,
        // Children first: the postmaster waits for what they say.
        Undo::Continue(all) => all.iter().rev().try_for_each(|process| process.signal(Signal::CONT))?,
        Undo::Await(mut task) => {
            let count =
                task.join_next().await.context("something runs in the background")?.context("it did not panic")??;
            let what = match planned.kind {
                Kind::LockedTable => "sessions waited for the lock",
                Kind::OldSnapshot => "snapshots were held",
                Kind::Deadlocks => "deadlocks",
                _ => "sessions ended by the database, one after the other",
            };
            return Ok(Evidence { count, text: format!("{count} {what}") });
        }
        _ => {}
    }
    Ok(open.seen)
}

/// The postmaster and every process of its own.
fn family(postmaster: &Tracked) -> Vec<Tracked> {
    let pid = postmaster.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| Tracked::find(pid.parse().ok()?, "postgres"));
    std::iter::once(postmaster.clone()).chain(children).collect()
}

/// The table that the handlers of a service write.
fn locked_table(service: &'static str) -> Result<(&'static str, &'static str)> {
    match service {
        "orders" => Ok((service, "orders")),
        "inventory" => Ok((service, "reservations")),
        "payments" => Ok((service, "payments")),
        "notifications" => Ok((service, "notifications")),
        _ => bail!("{service} has no table to lock"),
    }
}

/// Runs a script, and looks again and again how many sessions are touched by it; the most that they were.
fn in_the_background(stack: &Stack, service: &'static str, script: String, touched: &'static str) -> Undo {
    let postgres = stack.engines.postgres.clone();
    let mut task = tokio::task::JoinSet::new();
    task.spawn(async move {
        let database = postgres.name(service);
        let script = postgres.run(&database, &script);
        tokio::pin!(script);
        let mut most = 0;
        loop {
            tokio::select! {
                done = &mut script => return done.map(|_| most),
                () = sleep(LOOK) => {}
            }
            let answer = postgres.run(&database, touched).await?;
            most = most.max(answer.trim().parse().with_context(|| format!("a number, not {answer:?}"))?);
        }
    });
    Undo::Await(task)
}

/// Ends a session now and then, another one each time.
fn terminate_often(stack: &Stack, planned: &PlannedFault) -> Result<Open> {
    let service = service(planned)?;
    let postgres = stack.engines.postgres.clone();
    let (mut random, lasts) = (Random::new(planned.draw, 0), Duration::from_millis(planned.for_ms));
    let mut task = tokio::task::JoinSet::new();
    task.spawn(async move {
        let (begin, mut ended) = (Instant::now(), 0);
        while begin.elapsed() < lasts {
            let place = random.below(1_000);
            let script = format!(
                "with others as (select pid, row_number() over (order by pid) - 1 as place, count(*) over () as count
                   from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid())
                 select count(pg_terminate_backend(pid)) from others where place = {place} % count;"
            );
            ended += postgres.run(&postgres.name(service), &script).await?.trim().parse().unwrap_or(0);
            sleep(Duration::from_millis(OFTEN_MS)).await;
        }
        Ok(ended)
    });
    Ok(Open::new(0, "", Undo::Await(task)))
}

/// Takes products in the other order than the service does, until somebody had to give way at least once.
fn deadlocks(stack: &Stack, planned: &PlannedFault) -> Result<Open> {
    const SCRIPT: &str = "
        begin;
        select 1 from products where sku = 'PROVE-3' for update;
        select pg_sleep(0.4);
        select 1 from products where sku = 'PROVE-2' for update;
        select 1 from products where sku = 'PROVE-1' for update;
        rollback;";
    const COUNT: &str = "select deadlocks from pg_stat_database where datname = current_database();";
    let service = service(planned)?;
    let postgres = stack.engines.postgres.clone();
    let lasts = Duration::from_millis(planned.for_ms);
    let mut task = tokio::task::JoinSet::new();
    task.spawn(async move {
        let database = postgres.name(service);
        let count = async || anyhow::Ok(postgres.run(&database, COUNT).await?.trim().parse::<u64>()?);
        let (begin, before) = (Instant::now(), count().await?);
        let mut seen = 0;
        while begin.elapsed() < lasts || (seen == 0 && begin.elapsed() < DEADLOCK_WITHIN) {
            // When it is we who give way, that is an error here, and one deadlock more.
            let _ = postgres.run(&database, SCRIPT).await;
            seen = count().await?.saturating_sub(before);
        }
        Ok(seen)
    });
    Ok(Open::new(0, "", Undo::Await(task)))
}
