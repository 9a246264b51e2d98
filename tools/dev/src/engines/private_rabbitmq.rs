//! The brokers of a stack: one, or three as a cluster; own node names, data, ports, Erlang cookie and port mapper, loopback only, stopped
//! with the stack. They are of the system's package or of another release. A broker that is already on the machine is neither used nor
//! touched.

pub(crate) mod debian_root;
mod installation;
mod node;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{
    Origin,
    choice::{Brokers, Choice},
    rabbitmq::{Place, RabbitMq, version},
};
use crate::{
    console::Step,
    files,
    process::{Tracked, spawn_detached},
    state::{self, MAX_BROKERS, State},
    workspace::{self, Account},
};
use installation::Installation;
use node::ADMIN;

pub(crate) use node::Node;

const BOOT_PATIENCE: Duration = Duration::from_secs(120);
const STOP_PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn is_installed() -> bool {
    installation::system().is_some()
}

/// The brokers that this stack has, in their order.
pub(crate) fn nodes(state: &State) -> Vec<Node> {
    let count = state.brokers.as_ref().map_or(1, |brokers| brokers.count);
    (0..count).map(|number| Node::of(state, number)).collect()
}

/// The folders with what they say themselves; what they print is with the logs of the stack.
pub(crate) fn logs(state: &State) -> Vec<PathBuf> {
    nodes(state).into_iter().map(|node| node.logs()).filter(|folder| folder.exists()).collect()
}

/// Starts those that do not run, and waits until all of them answer.
pub(super) async fn start(state: &mut State, choice: &Choice) -> Result<RabbitMq> {
    let Brokers { version: chosen, count } = choice.settle(state)?;
    let installation = Installation::of(chosen.as_deref()).await?;
    let mut step = Step::start("RabbitMQ", "starting");
    let account = workspace::engine_account()?;
    let mut nodes = nodes(state);
    let rabbitmq = reached(state, &nodes);
    let first_start = !nodes.iter().any(Node::has_data);
    let mut started: Vec<Option<Tracked>> = nodes.iter().map(|_| None).collect();
    for number in 0..nodes.len() {
        if nodes[number].process().is_some() {
            continue;
        }
        let all = nodes.clone();
        nodes[number].prepare(state, &all, account.as_ref())?;
        if started.iter().all(Option::is_none) {
            state.epmd = Some(start_epmd(state, &nodes[number], &installation, account.as_ref()).await?);
        }
        let process = nodes[number].spawn(&installation, account.as_ref())?;
        if number == 0 {
            state.rabbitmq = Some(process.clone());
            state.save()?;
        }
        started[number] = Some(process);
        if first_start && number == 0 {
            // Of nodes that are new, one has to be there for the others to join. Later on each waits for the others.
            wait(&mut step, &rabbitmq, &nodes[0], started[0].as_ref()).await?;
        }
    }
    let mut overview = None;
    for (node, starter) in nodes.iter().zip(&started) {
        // Whoever suspended one does not want to wait for it.
        if !node.process().is_some_and(|process| process.is_stopped()) {
            overview = Some(wait(&mut step, &rabbitmq, node, starter.as_ref()).await?);
        }
    }
    let overview = overview.context("all brokers are suspended")?;
    all_joined(&mut step, &rabbitmq, &nodes).await?;
    state.rabbitmq = nodes.first().and_then(Node::process);
    state.other_brokers = nodes.iter().skip(1).filter_map(Node::process).collect();
    state.rabbitmq_version = Some(version(&overview).to_owned());
    state.save()?;
    let verb = if started.iter().all(Option::is_none) { "runs" } else { "ready" };
    let cluster = if count > 1 { format!(", {count} nodes") } else { String::new() };
    step.done(format_args!(
        "{}{cluster} {verb} on 127.0.0.1:{}, management on {}",
        version(&overview),
        state.ports.amqp(),
        state.ports.management()
    ));
    Ok(rabbitmq)
}

/// How all of them are reached.
fn reached(state: &State, nodes: &[Node]) -> RabbitMq {
    let first = place(&Node::of(state, 0));
    let others = nodes.iter().skip(1).map(place).collect();
    RabbitMq::own(Origin::Private, first, others, ADMIN, &state.admin_password)
}

fn place(node: &Node) -> Place {
    Place::local(node.ports.amqp, node.ports.management)
}

async fn wait(
    step: &mut Step,
    rabbitmq: &RabbitMq,
    node: &Node,
    starter: Option<&Tracked>,
) -> Result<serde_json::Value> {
    let still_coming = || {
        let runs = node.process().is_some() || starter.is_none_or(Tracked::is_running);
        ensure!(runs, "RabbitMQ ended while booting:\n{}", files::tail(&node.log, 25));
        Ok(())
    };
    let answered = rabbitmq.wait_at(place(node), step, BOOT_PATIENCE, still_coming).await;
    answered.with_context(|| format!("{}:\n{}", node.label(), files::tail(&node.log, 10)))
}

/// Waits until every node that is not suspended sees itself in one cluster with the others.
async fn all_joined(step: &mut Step, rabbitmq: &RabbitMq, nodes: &[Node]) -> Result<()> {
    let awake = nodes.iter().filter(|node| !node.process().is_some_and(|process| process.is_stopped())).count();
    let started = std::time::Instant::now();
    loop {
        let members = rabbitmq.get("nodes").await.unwrap_or_default();
        let running = members.as_array().into_iter().flatten().filter(|member| member["running"] == true).count();
        if running >= awake {
            return Ok(());
        }
        ensure!(started.elapsed() < BOOT_PATIENCE, "{running} of {awake} brokers are in the cluster: {members}");
        step.note(&format!("{running} of {awake} nodes are in the cluster"));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Erlang's port mapper. A node starts one by itself, but that one would outlive it unseen; this one is stopped with the stack.
async fn start_epmd(
    state: &State,
    node: &Node,
    installation: &Installation,
    account: Option<&Account>,
) -> Result<Tracked> {
    if let Some(running) = state.epmd.clone().filter(Tracked::is_running) {
        return Ok(running);
    }
    let port = state.ports.epmd();
    ensure!(state::is_free(port), "port {port} is taken by another program; stop that, or use another --name");
    let mut command = node.command(installation, "epmd", account);
    command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
    let epmd =
        spawn_detached(&mut command, installation.account(account), &state.log("epmd"), &format!("-port {port}"))?;
    let listening = async {
        while state::is_free(port) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), listening).await.context("epmd does not listen")?;
    Ok(epmd)
}

/// Ends the brokers of a stack as a crash would, and deletes everything that they know.
pub(crate) async fn wipe(state: &State) -> Result<()> {
    for node in nodes(state) {
        if let Some(process) = node.process() {
            process.kill().await?;
        }
        node.wipe()?;
    }
    Ok(())
}

/// Has the first broker's own tool say something to it.
pub(crate) async fn ctl(state: &State, arguments: &[&str]) -> Result<String> {
    ctl_of(state, &Node::of(state, 0), arguments).await
}

/// The same of any of the brokers.
pub(crate) async fn ctl_of(state: &State, node: &Node, arguments: &[&str]) -> Result<String> {
    let version = state.brokers.as_ref().and_then(|brokers| brokers.version.as_deref());
    let installation = Installation::of(version).await?;
    node.ctl(&installation, workspace::engine_account()?.as_ref(), arguments).await
}

/// Stops one broker as an administrator would. `Ok(false)`: it had to be killed.
pub(crate) async fn stop_node(node: &Node) -> Result<bool> {
    let Some(process) = node.process() else { return Ok(true) };
    // A suspended one would hear nothing else.
    process.signal(Signal::CONT)?;
    process.stop(Signal::TERM, STOP_PATIENCE).await
}

pub(crate) async fn stop(state: &mut State) -> Result<()> {
    let nodes: Vec<Node> = (0..MAX_BROKERS).map(|number| Node::of(state, number)).collect();
    state.other_brokers.clear();
    let booting = state.rabbitmq.take().filter(Tracked::is_running);
    if booting.is_some() || nodes.iter().any(|node| node.process().is_some()) {
        let step = Step::start("RabbitMQ", "stopping");
        let mut clean = true;
        // At the same time: the last of a cluster that is left alone is a minority, and slower.
        for process in nodes.iter().filter_map(Node::process) {
            process.signal(Signal::CONT)?;
            process.signal(Signal::TERM)?;
        }
        for node in &nodes {
            clean &= stop_node(node).await?;
        }
        if let Some(process) = booting {
            clean &= process.stop(Signal::TERM, STOP_PATIENCE).await?;
        }
        step.done(if clean { "stopped" } else { "killed; it recovers at the next start" });
    }
    if let Some(epmd) = state.epmd.take() {
        epmd.stop(Signal::TERM, Duration::from_secs(5)).await?;
    }
    state.save()
}

/// Whether this stack's broker has ever run.
pub(super) fn has_data(state: &State) -> bool {
    Node::of(state, 0).has_data()
}
