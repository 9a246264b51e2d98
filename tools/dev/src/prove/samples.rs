//! How much there is of what must not grow: memory and open files of every process, connections, sessions, waiting messages; looked at all
//! the time, beside whatever else happens. What cannot be seen at a moment is left out of that moment.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use proof::ledger::{ProcessSample, Sample};
use tokio::{task::JoinSet, time::interval};

use super::{ledger::Ledger, witness};
use crate::{
    engines::{Postgres, RabbitMq},
    replicas,
    stack::Stack,
    state::State,
};

const EVERY: Duration = Duration::from_secs(1);
/// An engine that stands still is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks until it is dropped.
pub(super) struct Samples {
    _looking: JoinSet<Result<()>>,
}

impl Samples {
    pub(super) fn begin(stack: &Stack, ledger: &Arc<Ledger>) -> Self {
        let (name, ledger) = (stack.state.name.clone(), Arc::clone(ledger));
        let (rabbitmq, postgres) = (stack.engines.rabbitmq.clone(), stack.engines.postgres.clone());
        let mut looking = JoinSet::new();
        looking.spawn(async move {
            let mut ticks = interval(EVERY);
            loop {
                ticks.tick().await;
                let sample = look(&name, ledger.now_ms(), &rabbitmq, &postgres).await;
                ledger.write_sample(&sample)?;
            }
        });
        Self { _looking: looking }
    }
}

async fn look(name: &str, at_ms: u64, rabbitmq: &RabbitMq, postgres: &Postgres) -> Sample {
    // The state is written whenever a process comes or goes.
    let services = State::load(name).ok().flatten().map(|state| state.services).unwrap_or_default();
    let processes = services.iter().filter_map(|running| {
        let (pid, name) = (running.process.pid(), replicas::label(&running.service, running.replica));
        let proc = Path::new("/proc").join(pid.to_string());
        let status = fs::read_to_string(proc.join("status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?;
        let resident_bytes = resident.parse::<u64>().ok()? * 1024;
        let files = fs::read_dir(proc.join("fd")).ok()?.count() as u64;
        Some(ProcessSample { name, pid, resident_bytes, files })
    });
    let processes = processes.collect();
    let broker = async {
        let (connections, queued) = (rabbitmq.get("connections").await?, witness::queued(rabbitmq).await?);
        anyhow::Ok((connections.as_array().map_or(0, Vec::len) as u64, queued))
    };
    let sessions =
        postgres.run(&postgres.admin.path, "select count(*) from pg_stat_activity where usename is not null;");
    let (broker, sessions) =
        tokio::join!(tokio::time::timeout(PATIENCE, broker), tokio::time::timeout(PATIENCE, sessions));
    let broker = broker.ok().and_then(Result::ok);
    Sample {
        at_ms,
        processes,
        connections: broker.map(|(connections, _)| connections),
        queued: broker.map(|(_, queued)| queued),
        sessions: sessions.ok().and_then(Result::ok).and_then(|count| count.trim().parse().ok()),
    }
}
