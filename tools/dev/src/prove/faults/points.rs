//! The fault at a point in the code: armed while the shop works, and over when a process has come there, failed and is up again.

use std::time::Duration;

use anyhow::{Context, Result};
use proof::ledger::Evidence;
use tokio::time::{Instant, sleep};

use super::{Open, Undo, World};
use crate::prove::{
    points::{self, Case, Folders, Mode},
    random::Random,
    schedule::PlannedFault,
};

const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Until a process comes there. Every order does, and without orders those do that look after leases.
const PATIENCE: Duration = Duration::from_secs(60);
/// What ends a process ends it by then.
const DYING: Duration = Duration::from_secs(2);

pub(super) async fn begin(world: &mut World<'_>, planned: &PlannedFault) -> Result<Open> {
    let case = case(planned)?;
    case.arm(&Folders::of_stack(&world.stack.state.name)?)?;
    Ok(Open::new(0, "", Undo::StartService(case.point.service)))
}

pub(super) async fn end(world: &mut World<'_>, planned: &PlannedFault, _: Open) -> Result<Evidence> {
    let (case, folders) = (case(planned)?, Folders::of_stack(&world.stack.state.name)?);
    let (service, point) = (case.point.service, case.point.name);
    let begin = Instant::now();
    let pid = loop {
        match folders.taken(service, point) {
            Some((pid, left)) => {
                std::fs::remove_file(&left).with_context(|| format!("cannot delete {}", left.display()))?;
                break pid;
            }
            None if begin.elapsed() > PATIENCE && folders.disarm(service, point) => {
                return Ok(Evidence { count: 0, text: format!("no process of {service} came to {point}") });
            }
            None => sleep(LOOK_AGAIN).await,
        }
    };
    sleep(match case.mode {
        Mode::Hang => Duration::from_secs(case.point.outlasts_s),
        Mode::Error => Duration::ZERO,
        Mode::Abort | Mode::Panic => DYING,
    })
    .await;
    world.stack.start_service(service).await?;
    Ok(Evidence { count: 1, text: format!("{} at {point}: the process {pid} of {service} took it", case.mode.name()) })
}

/// How many mails may arrive once more.
pub(super) fn mails_in_hand(planned: &PlannedFault) -> u64 {
    case(planned).map_or(0, |case| case.mails_in_hand())
}

fn case(planned: &PlannedFault) -> Result<Case> {
    points::any(&mut Random::new(planned.draw, 0)).context("there are points")
}
