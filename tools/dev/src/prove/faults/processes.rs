//! Faults of processes of services.

mod clock;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proof::ledger::Evidence;
use rustix::process::Signal;

use super::{HEAL_PATIENCE, Open, Undo, World, halt, service};
use crate::{
    prove::{kinds::Kind, schedule::PlannedFault},
    stack::Stack,
    state::ServiceProcess,
};

pub(super) async fn begin(world: &mut World<'_>, planned: &PlannedFault) -> Result<Open> {
    let service = service(planned)?;
    if planned.kind == Kind::RollingRestart {
        let running = &world.stack.state.services;
        let mut all: Vec<_> = running.iter().filter(|known| known.service == service).cloned().collect();
        let first = all.pop().into_iter().collect::<Vec<_>>();
        let text = format!("{} processes ended and were followed by new ones", all.len() + first.len());
        restart(world.stack, &first).await?;
        return Ok(Open::new(all.len() as u64 + 1, text, Undo::Restart(all)));
    }
    if let Kind::ClockAhead | Kind::ClockBehind = planned.kind {
        return clock::set_wrong(world.stack, service, planned.kind == Kind::ClockAhead).await;
    }
    let replica = planned.replica.context("a process is planned")?;
    if planned.kind == Kind::OtherVersion {
        let other = world.other.context("there is no other version; `--other HEAD^` names one")?;
        let process = world.stack.start_other(service, replica, other).await?;
        let text = format!("the process {} was of the other version", process.pid());
        return Ok(Open::new(process.is_running().into(), text, Undo::StartService(service)));
    }
    let process = one(world.stack, service, replica)?.process.clone();
    let pid = process.pid();
    match planned.kind {
        Kind::Pause => {
            let count = halt(std::slice::from_ref(&process)).await?;
            let lasts = Duration::from_millis(planned.for_ms).as_secs_f64();
            let text = format!("the process {pid} stood still for {lasts:.1} s");
            return Ok(Open::new(count, text, Undo::Continue(vec![process])));
        }
        Kind::Terminate => {
            let clean = process.stop(Signal::TERM, HEAL_PATIENCE).await?;
            ensure!(clean, "the process {pid} of {service} does not end when it is asked to");
        }
        _ => process.kill().await?,
    }
    let gone = !process.is_running();
    Ok(Open::new(gone.into(), format!("the process {pid} ended"), Undo::StartService(service)))
}

/// One process after the other: those in the list are followed by new ones.
async fn restart(stack: &mut Stack, all: &[ServiceProcess]) -> Result<()> {
    for running in all {
        let (pid, service) = (running.process.pid(), &running.service);
        let clean = running.process.stop(Signal::TERM, HEAL_PATIENCE).await?;
        ensure!(clean, "the process {pid} of {service} does not end when it is asked to");
        stack.start_service(service).await?;
    }
    Ok(())
}

fn one<'a>(stack: &'a Stack, service: &str, replica: u16) -> Result<&'a ServiceProcess> {
    let hit = |known: &&ServiceProcess| known.service == service && known.replica == replica;
    stack.state.services.iter().find(hit).context("no such process runs")
}

pub(super) async fn end(world: &mut World<'_>, _: &PlannedFault, open: Open) -> Result<Evidence> {
    match open.undo {
        Undo::Continue(all) => all.iter().try_for_each(|process| process.signal(Signal::CONT))?,
        Undo::RightClock(service) => return clock::set_right(world.stack, service).await,
        Undo::Restart(others) => restart(world.stack, &others).await?,
        Undo::StartService(service) => world.stack.start_service(service).await?,
        _ => {}
    }
    Ok(open.seen)
}
