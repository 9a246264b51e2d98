//! What is done to the shop, one thing after the other, and what shows each time that it bit. Nothing is done to engines that were given.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use proof::ledger::{Evidence, Fault};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    ledger::Ledger,
    plan::{Kind, Plan, PlannedFault},
    witness,
};
use crate::{console, replicas, shop::eventually, stack::Stack, state::ServiceProcess};

/// Mails that one process of notifications has in hand at most (its setting MAIL_CONCURRENCY).
const MAILS_IN_HAND: u64 = 4;
/// Until everything is as before; more than a service takes to drain and an engine to recover.
const HEAL_PATIENCE: Duration = Duration::from_secs(120);

/// What is planned, and what was seen of it.
pub(super) struct Faults {
    plan: Arc<Plan>,
    ledger: Arc<Ledger>,
    /// Deliveries that the broker counted as made again before it forgot.
    pub(super) redelivered: u64,
}

impl Faults {
    pub(super) fn new(plan: &Arc<Plan>, ledger: &Arc<Ledger>) -> Self {
        Self { plan: Arc::clone(plan), ledger: Arc::clone(ledger), redelivered: 0 }
    }

    /// One after the other, each when it is due and the one before is over.
    pub(super) async fn inject(&mut self, stack: &mut Stack) -> Result<()> {
        let begin = Instant::now();
        for (id, planned) in (1..).zip(self.plan.faults.clone()) {
            sleep_until(begin + Duration::from_millis(planned.at_ms)).await;
            let start_ms = self.ledger.now_ms();
            let target = target(&planned);
            let evidence =
                self.one(stack, &planned).await.with_context(|| format!("{} {target}", planned.kind.name()))?;
            healed(stack).await?;
            let fault = Fault {
                id,
                kind: planned.kind.name().to_owned(),
                target,
                start_ms,
                end_ms: self.ledger.now_ms(),
                evidence,
                mails_in_hand: mails_in_hand(&planned, self.plan.replicas),
            };
            console::row("fault", format_args!("{id} {} {}: {}", fault.kind, fault.target, fault.evidence.text));
            self.ledger.write_fault(&fault)?;
        }
        Ok(())
    }

    async fn one(&mut self, stack: &mut Stack, planned: &PlannedFault) -> Result<Evidence> {
        let wait = Duration::from_millis(planned.for_ms);
        match planned.kind {
            Kind::Kill | Kind::Pause | Kind::Terminate => of_a_process(stack, planned, wait).await,
            Kind::CloseConnections => {
                let count = witness::close_connections(stack).await?;
                Ok(Evidence { count, text: format!("{count} connections closed by the broker") })
            }
            Kind::StopBroker | Kind::KillBroker => {
                // It forgets what it counted.
                self.redelivered += witness::redelivered(stack).await?;
                let broker = stack.state.rabbitmq.clone().context("the broker is not this stack's own")?;
                if planned.kind == Kind::KillBroker {
                    broker.kill().await?;
                } else {
                    stack.stop_rabbitmq().await?;
                }
                let gone = !broker.is_running();
                sleep(wait).await;
                start_engines(stack).await?;
                Ok(Evidence { count: gone.into(), text: format!("the broker's process {} ended", broker.pid()) })
            }
            Kind::TerminateSessions => {
                let service = planned.service.context("a service is planned")?;
                let ended = stack
                    .run_sql(
                        service,
                        "select count(pg_terminate_backend(pid)) from pg_stat_activity
                         where datname = current_database() and pid <> pg_backend_pid();",
                    )
                    .await?;
                let count = ended.trim().parse().context("a number of sessions")?;
                Ok(Evidence { count, text: format!("{count} sessions ended by the database") })
            }
            Kind::CrashDatabase => {
                let database = stack.state.postgres.clone().context("the database is not this stack's own")?;
                // SIGQUIT is PostgreSQL's immediate shutdown: nothing is written any more, the next start recovers.
                database.stop(Signal::QUIT, HEAL_PATIENCE).await?;
                let gone = !database.is_running();
                sleep(wait).await;
                start_engines(stack).await?;
                Ok(Evidence { count: gone.into(), text: format!("the database's process {} ended", database.pid()) })
            }
        }
    }
}

/// What was stopped is started. The ports of a process that was killed may be taken for a moment more.
async fn start_engines(stack: &mut Stack) -> Result<()> {
    let mut tries = 0;
    while let Err(error) = stack.start_rabbitmq().await {
        tries += 1;
        ensure!(tries < 5, "an engine does not start again: {error:#}");
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

async fn of_a_process(stack: &mut Stack, planned: &PlannedFault, wait: Duration) -> Result<Evidence> {
    let service = planned.service.context("a service is planned")?;
    let hit = |known: &&ServiceProcess| known.service == service && Some(known.replica) == planned.replica;
    let process = stack.state.services.iter().find(hit).context("no such process runs")?.process.clone();
    let pid = process.pid();
    match planned.kind {
        Kind::Pause => {
            process.signal(Signal::STOP)?;
            sleep(wait).await;
            let stopped = process.is_stopped();
            process.signal(Signal::CONT)?;
            return Ok(Evidence {
                count: stopped.into(),
                text: format!("the process {pid} stood still for {:.1} s", wait.as_secs_f64()),
            });
        }
        Kind::Terminate => {
            let clean = process.stop(Signal::TERM, HEAL_PATIENCE).await?;
            ensure!(clean, "the process {pid} of {service} does not end when it is asked to");
        }
        _ => process.kill().await?,
    }
    let gone = !process.is_running();
    sleep(wait).await;
    stack.start_service(service).await?;
    Ok(Evidence { count: gone.into(), text: format!("the process {pid} ended") })
}

/// Waits until every process answers that it is ready.
async fn healed(stack: &Stack) -> Result<()> {
    for running in &stack.state.services {
        let label = replicas::label(&running.service, running.replica);
        eventually(&format!("{label} to be ready again"), HEAL_PATIENCE, async || {
            ensure!(running.process.is_running(), "{label} has ended by itself");
            Ok(replicas::readiness(running.port).await.ok())
        })
        .await?;
    }
    Ok(())
}

fn target(planned: &PlannedFault) -> String {
    match (planned.service, planned.replica, planned.kind) {
        (Some(service), Some(replica), _) => replicas::label(service, replica),
        (Some(service), None, _) => service.to_owned(),
        (None, _, Kind::CrashDatabase) => "database".to_owned(),
        (None, ..) => "broker".to_owned(),
    }
}

/// A mail is sent again where its sender died, slept past its lease or lost its database between the mail server's yes and its own record.
fn mails_in_hand(planned: &PlannedFault, replicas: u16) -> u64 {
    let of_notifications = planned.service == Some("notifications");
    match planned.kind {
        Kind::Kill | Kind::Pause if of_notifications => MAILS_IN_HAND,
        Kind::TerminateSessions if of_notifications => MAILS_IN_HAND * u64::from(replicas),
        Kind::CrashDatabase => MAILS_IN_HAND * u64::from(replicas),
        _ => 0,
    }
}
