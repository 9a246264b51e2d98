//! Faults of RabbitMQ.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use proof::ledger::Evidence;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Open, Undo, World, halt, service, start_engines};
use crate::{
    endpoint::encode,
    engines::{RabbitMq, private_rabbitmq},
    process::Tracked,
    prove::{
        kinds::{CONSUMERS, Kind},
        schedule::PlannedFault,
        witness,
    },
    services::SERVICES,
    shop::eventually,
    stack::Stack,
};

/// What was on its way to a queue that is gone is sent again from so long before on: more than anything is under way.
const BEFORE: chrono::Duration = chrono::Duration::seconds(120);
/// Until what was confirmed is in the journal, too.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
const SEEN_WITHIN: Duration = Duration::from_secs(60);
const CUT_OFF_WITHIN: Duration = Duration::from_secs(60);
/// Whoever has lost the broker before comes back within half a minute, and only then has something refused.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);
/// What nobody hears in [`Kind::LostBinding`], and who should have.
const UNHEARD: &str = "orders.v1.OrderPlaced";
/// Raise an alarm: the broker takes nothing from those who publish.
const NO_MEMORY: [&str; 2] = ["set_vm_memory_high_watermark", "0"];
const NO_DISK: [&str; 2] = ["set_disk_free_limit", "1000000GB"];

pub(super) async fn begin(world: &mut World<'_>, planned: &PlannedFault) -> Result<Open> {
    let stack = &mut *world.stack;
    match planned.kind {
        Kind::CloseConnections => {
            // The broker lists connections of a moment ago late.
            let begin = Instant::now();
            let mut count = witness::close_connections(stack, None).await?;
            while count == 0 && begin.elapsed() < CUT_OFF_WITHIN {
                sleep(Duration::from_millis(200)).await;
                count = witness::close_connections(stack, None).await?;
            }
            Ok(Open::new(count, format!("{count} connections closed by the broker"), Undo::Nothing))
        }
        Kind::StopBroker | Kind::KillBroker => {
            // It forgets what it counted.
            *world.redelivered += witness::redelivered(stack).await?;
            let broker = stack.state.rabbitmq.clone().context("the broker is not this stack's own")?;
            if planned.kind == Kind::KillBroker {
                broker.kill().await?;
            } else {
                stack.stop_rabbitmq().await?;
            }
            let text = format!("the broker's process {} ended", broker.pid());
            Ok(Open::new((!broker.is_running()).into(), text, Undo::StartEngines))
        }
        Kind::PauseBroker => {
            let broker = stack.state.rabbitmq.clone().context("the broker is not this stack's own")?;
            let count = halt(std::slice::from_ref(&broker)).await?;
            let text = format!("the broker stood still for {:.1} s", planned.for_ms as f64 / 1e3);
            Ok(Open::new(count, text, Undo::Continue(vec![broker])))
        }
        Kind::MemoryAlarm => {
            private_rabbitmq::ctl(&stack.state, &NO_MEMORY).await?;
            Ok(Open::new(0, "", Undo::Nothing))
        }
        Kind::DiskAlarm => {
            private_rabbitmq::ctl(&stack.state, &NO_DISK).await?;
            Ok(Open::new(0, "", Undo::Nothing))
        }
        Kind::FullQueue => {
            let queue = service(planned)?;
            // A queue is full when nobody reads it; what a consumer has been given and not handled does not count.
            let reading = stack.state.services.iter().filter(|known| known.service == queue);
            let reading: Vec<_> = reading.map(|running| running.process.clone()).collect();
            halt(&reading).await?;
            limit(&stack.engines.rabbitmq, queue, Some(0)).await?;
            cut_off(stack, queue).await?;
            Ok(Open::new(0, "", Undo::Continue(reading)))
        }
        Kind::LostBinding => {
            let (rabbitmq, queue) = (&stack.engines.rabbitmq, service(planned)?);
            let key = encode(&format!("{UNHEARD}.*"));
            let path = format!("bindings/{}/e/events/q/{queue}/{key}", encode(&rabbitmq.vhost));
            witness::ask(rabbitmq, Method::DELETE, &path, None).await?;
            Ok(Open::new(1, format!("{queue} heard no {UNHEARD}"), Undo::Replay(replay_from())))
        }
        Kind::LostQueue => {
            let (rabbitmq, queue) = (&stack.engines.rabbitmq, service(planned)?);
            let path = format!("queues/{}/{queue}", encode(&rabbitmq.vhost));
            witness::ask(rabbitmq, Method::DELETE, &path, None).await?;
            Ok(Open::new(1, format!("the queue {queue} was deleted"), Undo::Replay(replay_from())))
        }
        Kind::WipeBroker => wipe(world).await,
        _ => anyhow::bail!("{:?} is not done to the broker", planned.kind),
    }
}

pub(super) async fn end(world: &mut World<'_>, planned: &PlannedFault, open: Open) -> Result<Evidence> {
    let stack = &mut *world.stack;
    match (planned.kind, open.undo) {
        (_, Undo::StartEngines) => start_engines(stack).await?,
        (Kind::FullQueue, Undo::Continue(reading)) => {
            let queue = service(planned)?;
            let seen = refused(stack, queue).await;
            reading.iter().try_for_each(|process| process.signal(Signal::CONT))?;
            limit(&stack.engines.rabbitmq, queue, None).await?;
            return seen;
        }
        (_, Undo::Continue(all)) => all.iter().try_for_each(|process| process.signal(Signal::CONT))?,
        (_, Undo::RefillAll(began, all)) => return refill(stack, &began, &all, open.seen).await,
        (_, Undo::Replay(began)) => return fill(stack, service(planned)?, &began, open.seen).await,
        (Kind::MemoryAlarm, _) => {
            let seen = blocked(stack, &NO_MEMORY).await;
            private_rabbitmq::ctl(&stack.state, &["set_vm_memory_high_watermark", "0.4"]).await?;
            return seen;
        }
        (Kind::DiskAlarm, _) => {
            let seen = blocked(stack, &NO_DISK).await;
            private_rabbitmq::ctl(&stack.state, &["set_disk_free_limit", "256MB"]).await?;
            return seen;
        }
        _ => {}
    }
    Ok(open.seen)
}

fn replay_from() -> String {
    (chrono::Utc::now() - BEFORE).to_rfc3339()
}

/// Connections that the broker does not read from. A broker that was ended meanwhile has forgotten the alarm, so it is raised again.
async fn blocked(stack: &Stack, alarm: &[&str]) -> Result<Evidence> {
    let raised = async || Ok(private_rabbitmq::ctl(&stack.state, alarm).await.ok());
    eventually("an alarm of the broker", SEEN_WITHIN, raised).await?;
    let rabbitmq = &stack.engines.rabbitmq;
    let mut count = 0;
    eventually("a connection to be blocked", SEEN_WITHIN, async || {
        let connections = rabbitmq.get("connections").await?;
        let all = connections.as_array().into_iter().flatten();
        let held = |connection: &&Value| matches!(connection["state"].as_str(), Some("blocked" | "blocking"));
        count = all.filter(held).count() as u64;
        Ok((count > 0).then_some(()))
    })
    .await?;
    Ok(Evidence { count, text: format!("{count} connections were blocked") })
}

/// Has nobody read a queue whose service stands still. The broker may not know yet that a connection of a moment ago is that service's, and
/// closes the others; so it is asked until nobody is left.
async fn cut_off(stack: &Stack, queue: &str) -> Result<()> {
    let vhost = stack.engines.rabbitmq.vhost.as_str();
    eventually("a queue to have no consumer", CUT_OFF_WITHIN, async || {
        private_rabbitmq::ctl(&stack.state, &["close_all_user_connections", queue, "its queue is to be full"]).await?;
        let read =
            private_rabbitmq::ctl(&stack.state, &["list_consumers", "--silent", "-p", vhost, "queue_name"]).await?;
        Ok((!read.lines().any(|read| read.trim() == queue)).then_some(()))
    })
    .await
}

/// Events that wait because the queue did not take them.
async fn refused(stack: &Stack, queue: &str) -> Result<Evidence> {
    let mut count = 0;
    eventually("an event to be refused", REFUSED_WITHIN, async || {
        count = 0;
        for service in SERVICES {
            let held = stack.run_sql(service.name, "select count(*) from messaging.outbox_hold;").await?;
            count += held.trim().parse::<u64>().context("a number of events")?;
        }
        Ok((count > 0).then_some(()))
    })
    .await?;
    Ok(Evidence { count, text: format!("{count} events were refused by the queue {queue} and waited") })
}

/// Has a queue take no more than so many messages, on top of what its policy says; without a limit, as before.
async fn limit(rabbitmq: &RabbitMq, queue: &str, messages: Option<u64>) -> Result<()> {
    let path = format!("policies/{}/{queue}", encode(&rabbitmq.vhost));
    let mut policy = rabbitmq.get(&path).await?;
    let definition = policy["definition"].as_object_mut().context("a policy has a definition")?;
    match messages {
        Some(most) => {
            definition.insert("max-length".to_owned(), json!(most));
            definition.insert("overflow".to_owned(), json!("reject-publish"));
        }
        None => {
            definition.remove("max-length");
        }
    }
    let body = json!({
        "pattern": policy["pattern"], "definition": policy["definition"], "priority": policy["priority"],
        "apply-to": policy["apply-to"],
    });
    let answer = rabbitmq.ask(Method::PUT, &format!("/api/{path}"), Some(&body)).await?;
    answer.success().map(drop)
}

/// Makes the queue and what is bound to it anew, and has everybody send again what it may have missed.
async fn fill(stack: &mut Stack, consumer: &'static str, since: &str, mut seen: Evidence) -> Result<Evidence> {
    stack.import_topology().await?;
    sleep(SETTLED_AFTER).await;
    let sent = replay(stack, consumer, since).await?;
    ensure!(sent > 0, "nobody had anything for {consumer}");
    seen.text += &format!(", {sent} messages were sent to it again");
    Ok(seen)
}

/// Takes the broker's disk away. The services stand still while what the tap holds is brought to safety: nothing that it has not heard
/// may be published. What the other queues hold is lost.
async fn wipe(world: &mut World<'_>) -> Result<Open> {
    let all: Vec<_> = world.stack.state.services.iter().map(|running| running.process.clone()).collect();
    // Whoever stands still has settled what was confirmed before.
    let since = replay_from();
    let wiped = wipe_under(world, &all).await;
    if wiped.is_err() {
        all.iter().try_for_each(|process| process.signal(Signal::CONT))?;
    }
    let (gone, text) = wiped?;
    Ok(Open::new(gone, text, Undo::RefillAll(since, all)))
}

/// The same, under services that are made to stand still.
async fn wipe_under(world: &mut World<'_>, all: &[Tracked]) -> Result<(u64, String)> {
    let stack = &mut *world.stack;
    halt(all).await?;
    // What they have written is read.
    sleep(Duration::from_secs(1)).await;
    world.heard.extend(witness::tapped(stack).await?);
    *world.redelivered += witness::redelivered(stack).await?;
    let lost = witness::queued(&stack.engines.rabbitmq).await?;
    let broker = stack.state.rabbitmq.clone().context("the broker is not this stack's own")?;
    private_rabbitmq::wipe(&stack.state).await?;
    let gone = !broker.is_running();
    Ok((
        gone.into(),
        format!("the broker's process {} ended and its disk was wiped, with {lost} messages", broker.pid()),
    ))
}

async fn refill(stack: &mut Stack, since: &str, stopped: &[Tracked], mut seen: Evidence) -> Result<Evidence> {
    let tapped = async {
        start_engines(stack).await?;
        witness::tap_first(&stack.engines.rabbitmq, witness::TAP).await
    };
    let tapped = tapped.await;
    // They meet a broker that knows none of them.
    stopped.iter().try_for_each(|process| process.signal(Signal::CONT))?;
    tapped?;
    stack.import_topology().await?;
    sleep(SETTLED_AFTER).await;
    let mut sent = 0;
    for consumer in CONSUMERS {
        sent += replay(stack, consumer, since).await?;
    }
    ensure!(sent > 0, "nobody had anything for anybody");
    seen.text += &format!(", {sent} messages were sent again");
    Ok(seen)
}

/// Has every producer send to a consumer what it published since then, of the types that the consumer hears.
pub(super) async fn replay(stack: &Stack, consumer: &str, since: &str) -> Result<u64> {
    let bound = witness::bindings(stack).await?;
    let mut sent = 0;
    for producer in SERVICES {
        let own = bound.iter().filter(|binding| binding.consumer == consumer);
        let types: Vec<&str> = own
            .filter(|binding| binding.kind.split('.').next() == Some(producer.name))
            .map(|binding| binding.kind.as_str())
            .collect();
        if !types.is_empty() {
            sent += stack.replay(producer.name, consumer, since, &types).await?;
        }
    }
    Ok(sent)
}
