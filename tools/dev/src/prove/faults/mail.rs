//! Faults of the mail server, which is this stack's mailbox and does as it is told over HTTP.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use hyper::Method;
use proof::ledger::Evidence;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Open, Undo, World};
use crate::{
    http,
    mailbox::{Behaviour, Order, Stage},
    prove::{kinds::Kind, schedule::PlannedFault},
    stack::Stack,
};

/// Until a mail comes that can be hit; every order that ends is one. Who lost the broker a moment ago takes half a minute to hear of it.
const BITES_WITHIN: Duration = Duration::from_secs(60);
/// More mails than come within any fault.
const EVERY: usize = 100_000;

pub(super) async fn begin(world: &mut World<'_>, planned: &PlannedFault) -> Result<Open> {
    let (times, stage, behaviour, what) = match planned.kind {
        // One: a second one could hit the same mail again.
        Kind::MailReplyLost => {
            (1, Stage::Accept, Behaviour::KeepAndCut, "mails were kept and their sender was not told")
        }
        Kind::MailDeferred => {
            (EVERY, Stage::Recipient, Behaviour::reply(451, "4.7.1 Try again later"), "mails were refused for now")
        }
        Kind::MailRefused => {
            let times = usize::try_from(1 + planned.draw % 3)?;
            (times, Stage::Recipient, Behaviour::reply(550, "5.1.1 No such person"), "mails were refused for good")
        }
        Kind::MailHangs => {
            // Not at the greeting: whoever has connections does not make new ones.
            let stage = if planned.draw.is_multiple_of(2) { Stage::Recipient } else { Stage::Accept };
            (1, stage, Behaviour::Hang, "conversations about mails came to no end")
        }
        _ => bail!("{:?} is not done to the mail server", planned.kind),
    };
    let order = serde_json::to_value(Order { times, stage, behaviour })?;
    let answer = ask(world.stack, Method::PUT, "/api/script", Some(&order)).await?;
    let number = answer["order"].as_u64().context("the mailbox gives an order a number")?;
    Ok(Open::new(0, what, Undo::Withdraw(number)))
}

pub(super) async fn end(world: &mut World<'_>, _: &PlannedFault, open: Open) -> Result<Evidence> {
    let Undo::Withdraw(order) = open.undo else { bail!("there is nothing to withdraw") };
    let path = format!("/api/script/{order}");
    let begin = Instant::now();
    while happened(world.stack, Method::GET, &path).await? == 0 && begin.elapsed() < BITES_WITHIN {
        sleep(Duration::from_millis(100)).await;
    }
    let count = happened(world.stack, Method::DELETE, &path).await?;
    Ok(Evidence { count, text: format!("{count} {}", open.seen.text) })
}

async fn happened(stack: &Stack, method: Method, path: &str) -> Result<u64> {
    ask(stack, method, path, None).await?["happened"].as_u64().context("the mailbox counts")
}

async fn ask(stack: &Stack, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
    let answer = http::send(stack.mailbox_port(), method, path, None, &[], body).await?;
    answer.success().context("the mailbox does not do as it is told")?.json()
}
