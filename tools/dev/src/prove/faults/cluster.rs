//! Faults of one broker of three. It is always the one that leads the most queues: what happens to a follower is hardly noticed.
//!
//! A partition is made by Erlang's own means: the broker that is cut off gets another cookie for each of its peers and hangs up, so that
//! neither side lets the other in. Network namespaces would cut the services off as well, and need addresses beside loopback and root; this
//! way the services stay connected to the side that may not serve them, which is the harder case. What it does not show is packets that
//! vanish; that is what suspending a broker is for.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use proof::ledger::Evidence;
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::sleep;

use super::{HEAL_PATIENCE, Open, Undo, World, halt, start_engines};
use crate::{
    endpoint::encode,
    engines::private_rabbitmq::{self, Node},
    prove::{kinds::Kind, schedule::PlannedFault},
    shop::eventually,
    stack::Stack,
};

/// A broker that stood still says at first what it knew before that, and then that others are down.
const NOTICED_AFTER: Duration = Duration::from_secs(5);
/// Until the others have chosen leaders among themselves, beyond the time that the fault lasts anyway.
const SEEN_WITHIN: Duration = Duration::from_secs(60);
/// A broker that was suspended needs so long to be one of the cluster again, if it can at all.
const BY_ITSELF: Duration = Duration::from_secs(15);

/// The broker that something is done to.
pub(in crate::prove) struct Victim {
    node: Node,
    /// The queues that it led.
    led: Vec<String>,
    connections: usize,
}

pub(super) async fn begin(world: &mut World<'_>, planned: &PlannedFault) -> Result<Open> {
    let stack = &mut *world.stack;
    let nodes = private_rabbitmq::nodes(&stack.state);
    ensure!(nodes.len() > 1, "one broker is no cluster: run this with --brokers 3");
    if planned.kind == Kind::RollingBrokers {
        let Some((first, others)) = nodes.split_first() else { bail!("there is no broker") };
        let ended = restart(stack, first).await?;
        return Ok(Open::new(ended, "", Undo::RestartBrokers(others.to_vec())));
    }
    let victim = leader_of_most(stack, nodes).await?;
    let process = victim.node.process().context("the broker runs")?;
    let (label, pid) = (victim.node.label(), process.pid());
    let what = match planned.kind {
        Kind::KillLeader => {
            process.kill().await?;
            format!("the process {pid} of {label} ended")
        }
        Kind::PauseNode => {
            ensure!(halt(std::slice::from_ref(&process)).await? == 1, "{label} does not stand still");
            format!("{label} stood still for {:.1} s", planned.for_ms as f64 / 1e3)
        }
        Kind::CutOff => {
            let cut = "[begin erlang:set_cookie(N, cut_off), erlang:disconnect_node(N) end || N <- nodes()].";
            private_rabbitmq::ctl_of(&stack.state, &victim.node, &["eval", cut]).await?;
            format!("{label} was cut off for {:.1} s", planned.for_ms as f64 / 1e3)
        }
        _ => bail!("{:?} is not done to a cluster", planned.kind),
    };
    Ok(Open::new(0, what, Undo::Rejoin(victim)))
}

pub(super) async fn end(world: &mut World<'_>, planned: &PlannedFault, open: Open) -> Result<Evidence> {
    let (stack, mut seen) = (&mut *world.stack, open.seen);
    match open.undo {
        Undo::RestartBrokers(others) => {
            for node in &others {
                seen.count += restart(stack, node).await?;
            }
            seen.text = format!("{} brokers ended and were followed by new ones", seen.count);
        }
        Undo::Rejoin(victim) => {
            seen.count = moved(stack, &victim).await?;
            seen.text += &format!(
                "; {} of the {} queues that it led have another leader, and it had {} connections",
                seen.count,
                victim.led.len(),
                victim.connections
            );
            rejoin(stack, planned.kind, &victim.node).await?;
            if planned.kind == Kind::PauseNode {
                sleep(NOTICED_AFTER).await;
            }
            if planned.kind != Kind::KillLeader && whole(stack, BY_ITSELF).await.is_err() {
                // Mnesia does not merge again what was apart and nobody noticed, nor are queues that only this broker has always there again;
                // the documentation (Clustering and Network Partitions) has the administrator restart the side that is not trusted.
                restart(stack, &victim.node).await?;
                seen.text += ", and had to be restarted afterwards";
            }
        }
        _ => {}
    }
    whole(stack, HEAL_PATIENCE).await?;
    Ok(seen)
}

/// Undoes what was done to the broker.
async fn rejoin(stack: &mut Stack, kind: Kind, node: &Node) -> Result<()> {
    match kind {
        Kind::PauseNode => node.process().context("the broker is there")?.signal(Signal::CONT),
        Kind::CutOff => {
            let others = private_rabbitmq::nodes(&stack.state).into_iter().filter(|other| other.number != node.number);
            let names: Vec<String> = others.map(|other| format!("'{}'", other.name)).collect();
            let heal = format!("[erlang:set_cookie(N, erlang:get_cookie()) || N <- [{}]].", names.join(","));
            private_rabbitmq::ctl_of(&stack.state, node, &["eval", &heal]).await.map(drop)
        }
        _ => start_engines(stack).await,
    }
}

/// Has one broker end as an administrator would, and waits until the cluster is whole again. 1, if its process has ended.
async fn restart(stack: &mut Stack, node: &Node) -> Result<u64> {
    let process = node.process().with_context(|| format!("{} does not run", node.label()))?;
    ensure!(private_rabbitmq::stop_node(node).await?, "{} does not end when it is asked to", node.label());
    let gone = !process.is_running();
    start_engines(stack).await?;
    whole(stack, HEAL_PATIENCE).await?;
    Ok(gone.into())
}

async fn leader_of_most(stack: &Stack, nodes: Vec<Node>) -> Result<Victim> {
    let rabbitmq = &stack.engines.rabbitmq;
    let queues = rabbitmq.get(&format!("queues/{}", encode(&rabbitmq.vhost))).await?;
    let connections = rabbitmq.get("connections").await?;
    let victims = nodes.into_iter().map(|node| {
        let led = led_by(&queues, &node.name);
        let own = |connection: &&Value| connection["node"] == node.name.as_str();
        let connections = connections.as_array().into_iter().flatten().filter(own).count();
        Victim { node, led, connections }
    });
    let victim = victims.max_by_key(|victim| victim.led.len()).context("there is no broker")?;
    ensure!(!victim.led.is_empty(), "no broker leads a queue");
    Ok(victim)
}

/// The names of the queues with more than one member that this broker leads.
fn led_by(queues: &Value, name: &str) -> Vec<String> {
    let all = queues.as_array().into_iter().flatten();
    let led =
        all.filter(|queue| queue["leader"] == name && queue["members"].as_array().is_some_and(|all| all.len() > 1));
    led.filter_map(|queue| queue["name"].as_str().map(str::to_owned)).collect()
}

/// How many of the queues that a broker led have another leader, as the other brokers see it.
async fn moved(stack: &Stack, victim: &Victim) -> Result<u64> {
    let rabbitmq = &stack.engines.rabbitmq;
    let (path, number) = (format!("queues/{}", encode(&rabbitmq.vhost)), usize::from(victim.node.number));
    let mut count = 0;
    eventually("the queues to have another leader", SEEN_WITHIN, async || {
        // Brokers that miss one of them are slow to answer at first.
        let Ok(queues) = rabbitmq.get_without(number, &path).await else { return Ok(None) };
        let all = queues.as_array().into_iter().flatten();
        let elsewhere = all.filter(|queue| {
            let led = queue["name"].as_str().is_some_and(|name| victim.led.iter().any(|led| led == name));
            led && queue["leader"].as_str().is_some_and(|leader| !leader.is_empty() && leader != victim.node.name)
        });
        count = elsewhere.count();
        Ok((count == victim.led.len()).then_some(()))
    })
    .await?;
    Ok(count as u64)
}

/// Waits until every broker is there, and every queue: what comes next would else meet a cluster that has lost one already. Which
/// members of a queue are online cannot be asked: a broker that was suspended keeps saying what it knew before.
async fn whole(stack: &Stack, patience: Duration) -> Result<()> {
    let rabbitmq = &stack.engines.rabbitmq;
    let path = format!("queues/{}", encode(&rabbitmq.vhost));
    let count = private_rabbitmq::nodes(&stack.state).len();
    eventually("the cluster to be whole", patience, async || {
        let (Ok(nodes), Ok(queues)) = (rabbitmq.get("nodes").await, rabbitmq.get(&path).await) else { return Ok(None) };
        let running = nodes.as_array().into_iter().flatten().filter(|node| node["running"] == true).count();
        let there = queues.as_array().into_iter().flatten().all(is_there);
        Ok((running == count && there).then_some(()))
    })
    .await
}

/// Whether somebody serves this queue, as the brokers see it.
fn is_there(queue: &Value) -> bool {
    if queue["type"] == "quorum" {
        queue["leader"].as_str().is_some_and(|leader| !leader.is_empty())
    } else {
        queue["state"].as_str().is_none_or(|state| !["down", "crashed", "stopped"].contains(&state))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_queues_with_other_members_have_a_leader_that_can_change() {
        let queues = json!([
            { "name": "orders", "leader": "a@localhost", "members": ["a@localhost", "b@localhost", "c@localhost"] },
            { "name": "users", "leader": "b@localhost", "members": ["a@localhost", "b@localhost", "c@localhost"] },
            { "name": "alone", "leader": "a@localhost", "members": ["a@localhost"] },
            { "name": "lines", "node": "a@localhost" },
        ]);
        assert_eq!(led_by(&queues, "a@localhost"), ["orders"]);
    }

    #[test]
    fn a_queue_without_a_leader_or_without_its_only_broker_is_not_there() {
        let there = [
            json!({ "type": "quorum", "leader": "a@localhost", "state": "running" }),
            json!({ "type": "classic", "state": "running" }),
            json!({ "type": "classic", "state": "flow" }),
            // Nobody has counted anything of it yet.
            json!({ "type": "classic" }),
        ];
        let gone = [
            json!({ "type": "quorum", "leader": "", "state": "running" }),
            json!({ "type": "quorum" }),
            json!({ "type": "classic", "state": "down" }),
            json!({ "type": "classic", "state": "crashed" }),
        ];
        assert_eq!((there.map(|queue| is_there(&queue)), gone.map(|queue| is_there(&queue))), ([true; 4], [false; 4]));
    }
}
