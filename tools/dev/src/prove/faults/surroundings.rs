//! Faults of what stands around the shop: the mail server and the collector of traces, which are one process here.

use anyhow::{Context, Result, bail};
use proof::ledger::Evidence;
use rustix::process::Signal;

use super::{Open, Undo, World, halt};
use crate::prove::{kinds::Kind, schedule::PlannedFault};

pub(super) async fn begin(world: &mut World<'_>, planned: &PlannedFault) -> Result<Open> {
    if planned.kind != Kind::PauseBackend {
        bail!("{:?} is not done to what stands around the shop", planned.kind);
    }
    let backend = world.stack.state.backend.as_ref().context("the mailbox is not this stack's own")?.0.clone();
    let count = halt(std::slice::from_ref(&backend)).await?;
    let text = format!("the process {} stood still for {:.1} s", backend.pid(), planned.for_ms as f64 / 1e3);
    Ok(Open::new(count, text, Undo::Continue(vec![backend])))
}

pub(super) async fn end(_: &mut World<'_>, _: &PlannedFault, open: Open) -> Result<Evidence> {
    if let Undo::Continue(all) = open.undo {
        all.iter().try_for_each(|process| process.signal(Signal::CONT))?;
    }
    Ok(open.seen)
}
