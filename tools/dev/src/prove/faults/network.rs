//! Faults of what lies between the services and their engines: the proxies of the stack lose, delay or cut what passes, and count it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use proof::ledger::Evidence;
use wire::{Aim, Fault, Proxy, Role};

use super::{Open, Undo, World};
use crate::{
    engines::Proxies,
    prove::{kinds::Kind, schedule::PlannedFault},
    stack::Stack,
};

/// Until something passes that can be hit; who lost the broker a moment ago takes half a minute to have work again.
const BITES_WITHIN: Duration = Duration::from_secs(60);

/// What was done, and to what.
struct Done<'a> {
    proxy: &'a Proxy,
    aim: Aim,
    fault: Fault,
    /// What is counted.
    what: &'static str,
    /// What is there is cut, too.
    cuts: bool,
}

pub(super) async fn begin(world: &mut World<'_>, planned: &PlannedFault) -> Result<Open> {
    if planned.kind == Kind::DatabaseGone {
        let Proxies { postgres, .. } = proxies(world.stack)?;
        let count = postgres.strand(&Aim::everybody());
        return Ok(Open::new(count, format!("{count} connections to the database led nowhere"), Undo::Nothing));
    }
    let done = done(world.stack, planned)?;
    let injection = done.proxy.inject(&done.aim, done.fault);
    let cut = if done.cuts { done.proxy.cut(&done.aim) } else { 0 };
    Ok(Open::new(cut, done.what, Undo::Heal(injection)))
}

/// What bites once has its time to do so, also when that is longer than was planned.
pub(super) async fn end(_: &mut World<'_>, _: &PlannedFault, open: Open) -> Result<Evidence> {
    let Undo::Heal(injection) = open.undo else { return Ok(open.seen) };
    if open.seen.count == 0 {
        injection.bites(BITES_WITHIN).await;
    }
    let count = open.seen.count + injection.end();
    Ok(Evidence { count, text: format!("{count} {}", open.seen.text) })
}

fn proxies(stack: &Stack) -> Result<&Proxies> {
    stack.proxies.as_ref().context("the services reach the engines directly")
}

fn done<'a>(stack: &'a Stack, planned: &PlannedFault) -> Result<Done<'a>> {
    let Proxies { amqp, postgres } = proxies(stack)?;
    let draw = planned.draw;
    let (proxy, fault, what) = match planned.kind {
        Kind::LostConfirm => {
            (amqp, Fault::LoseConfirms { skip: draw % 3, times: 1 }, "confirms of the broker never arrived")
        }
        Kind::LostConsumerAck => (amqp, Fault::LoseAck, "acknowledgements were lost with their connection"),
        Kind::LateDelivery => {
            (amqp, Fault::DelayDelivery(Duration::from_millis(500 + draw % 3_500)), "deliveries were late")
        }
        Kind::CutAfterPublishes => (
            amqp,
            Fault::CutAfterPublishes(1 + draw % 4),
            "connections were cut behind a message and before its confirm",
        ),
        Kind::BrokerSilent => {
            (amqp, Fault::Silence, "times something was said between services and broker and held back")
        }
        Kind::BrokerRefused => (amqp, Fault::Refuse, "connections to the broker were cut or refused"),
        Kind::LostCommitReply => (postgres, Fault::LoseCommitReply, "commits were done and nobody was told"),
        Kind::CutTransaction => (postgres, Fault::CutTransaction, "transactions were cut where they had written"),
        Kind::CutReply => (postgres, Fault::CutReply, "connections were cut between a request and its answer"),
        Kind::DatabaseSilent => {
            (postgres, Fault::Silence, "times something was said between services and database and held back")
        }
        Kind::DatabaseSlow => (
            postgres,
            Fault::Slow(Duration::from_millis(5 + draw % 25)),
            "times something took longer to or from the database",
        ),
        Kind::DatabaseRefused => (postgres, Fault::Refuse, "connections to the database were cut or refused"),
        _ => bail!("{:?} is not done to the network", planned.kind),
    };
    let broker = std::ptr::eq(proxy, amqp);
    let aim = match planned.service {
        None => Aim::everybody(),
        Some(service) if broker => Aim::at(service),
        Some(service) => Aim::at(&stack.engines.postgres.name(service)),
    };
    let aim = match planned.kind {
        Kind::LostConsumerAck | Kind::LateDelivery => aim.that(Role::Consumes),
        Kind::LostConfirm | Kind::CutAfterPublishes => aim.that(Role::Publishes),
        _ => aim,
    };
    Ok(Done { proxy, aim, fault, what, cuts: fault == Fault::Refuse })
}
