//! The processes of the services: started, watched until they are ready, restarted when they were built or configured anew, stopped.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::{
    binaries::Binaries,
    console::{self, Step},
    files, http,
    process::{Tracked, spawn_detached},
    services::{SERVICES, Service, Wiring},
    state::{self, ServiceProcess, State},
    workspace,
};

const READY_PATIENCE: Duration = Duration::from_secs(60);
/// The services drain for up to 30 s.
const STOP_PATIENCE: Duration = Duration::from_secs(40);
/// What a service says of those of its parts that work without being asked: the beginnings of their names.
const PARTS: [&str; 5] = [
    "messaging.publish connection",
    "messaging.consume connection",
    "messaging.relay",
    "messaging.consumer",
    "messaging.collector",
];

/// A replica as it is called in logs and lists.
pub(crate) fn label(service: &str, replica: u16) -> String {
    format!("{service}-{replica}")
}

/// Makes the running processes what they should be: starts what is missing, restarts what was built or configured anew, stops
/// replicas that are no longer wanted. Answers with those that it started.
pub(crate) async fn reconcile(
    state: &mut State,
    wiring: &Wiring<'_>,
    binaries: &Binaries,
    replicas: u16,
) -> Result<Vec<Tracked>> {
    for old in state.services.clone() {
        if old.replica >= replicas || !SERVICES.iter().any(|service| service.name == old.service) {
            stop(state, &old).await?;
        }
    }
    let mut started = Vec::new();
    for service in SERVICES {
        started.extend(start(state, wiring, binaries, service, replicas).await?);
    }
    Ok(started)
}

/// The same for one service, except that it stops no replica for being too many.
pub(crate) async fn start(
    state: &mut State,
    wiring: &Wiring<'_>,
    binaries: &Binaries,
    service: &Service,
    replicas: u16,
) -> Result<Vec<Tracked>> {
    let mut started = Vec::new();
    for replica in 0..replicas {
        started.extend(start_one(state, wiring, binaries, service, replica).await?);
    }
    Ok(started)
}

/// The same for one process; nothing if it runs already, as it should.
pub(crate) async fn start_one(
    state: &mut State,
    wiring: &Wiring<'_>,
    binaries: &Binaries,
    service: &Service,
    replica: u16,
) -> Result<Option<Tracked>> {
    let binary = binaries.path(service.name)?;
    let environment = service.environment(state, wiring, replica)?;
    let wanted = fingerprint(binary, &environment)?;
    let known = state.services.iter().find(|known| known.service == service.name && known.replica == replica);
    if let Some(known) = known.cloned() {
        if known.fingerprint == wanted && known.process.is_running() {
            return Ok(None);
        }
        stop(state, &known).await?;
    }
    let port = wiring.ports.service(service, replica);
    let label = label(service.name, replica);
    ensure!(
        state::becomes_free(port).await,
        "port {port}, for {label}, is taken by another program; stop that, or use another --name"
    );
    let mut command = Command::new(binary);
    command.envs(environment).current_dir(workspace::root()?);
    let process = spawn_detached(&mut command, None, &state.log(&label), &binary.display().to_string())?;
    state.services.push(ServiceProcess {
        service: service.name.to_owned(),
        replica,
        port,
        process: process.clone(),
        fingerprint: wanted,
    });
    state.save()?;
    Ok(Some(process))
}

/// Waits until every process says that it is ready, showing the reason of those that are not.
pub(crate) async fn wait_until_ready(state: &State) -> Result<()> {
    for running in &state.services {
        let label = label(&running.service, running.replica);
        let mut step = Step::start(&label, "starting");
        let started = Instant::now();
        while let Err(reason) = readiness(running.port).await {
            let log = state.log(&label);
            if !running.process.is_running() {
                step.failed("it ended");
                bail!("{label} ended while starting; the end of {}:\n{}", log.display(), files::tail(&log, 25));
            }
            if started.elapsed() > READY_PATIENCE {
                step.failed(&reason);
                bail!(
                    "{label} does not become ready ({reason}); the end of {}:\n{}",
                    log.display(),
                    files::tail(&log, 25)
                );
            }
            step.note(&reason);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        step.done(format_args!("ready on http://localhost:{}", running.port));
    }
    Ok(())
}

/// `Err` says in one line why a service is not ready.
pub(crate) async fn readiness(port: u16) -> Result<(), String> {
    match http::get(port, "/readyz").await {
        Ok(answer) if answer.status.is_success() => Ok(()),
        Ok(answer) => Err(format!("{}: {}", answer.status.as_u16(), answer.text().replace('\n', " "))),
        Err(error) => Err(error.root_cause().to_string()),
    }
}

/// `Err` says in one line what a service does not do yet that it does beside answering: it publishes and consumes.
pub(crate) async fn at_work(port: u16) -> Result<()> {
    let answer = http::get(port, "/readyz").await?;
    let report: Value = serde_json::from_str(&answer.text())?;
    ensure!(answer.status.is_success(), "it is not ready");
    let is_part = |name: &str| PARTS.iter().any(|part| name.starts_with(part));
    let checks = report["checks"].as_array().into_iter().flatten();
    let mut parts = checks.filter(|check| check["name"].as_str().is_some_and(is_part));
    let idle = parts.find(|check| check["ok"] != true);
    idle.map_or(Ok(()), |check| Err(anyhow!("{}: {}", check["name"], check["reason"])))
}

/// Stops one process, letting it finish what it has in hand, and forgets it.
pub(crate) async fn stop(state: &mut State, running: &ServiceProcess) -> Result<()> {
    stop_all(state, std::slice::from_ref(running)).await
}

/// Stops several at the same time.
pub(crate) async fn stop_all(state: &mut State, running: &[ServiceProcess]) -> Result<()> {
    let mut stops = tokio::task::JoinSet::new();
    for process in running {
        let label = label(&process.service, process.replica);
        let process = process.process.clone();
        if process.is_running() {
            stops.spawn(async move { (label, stop_process(&process).await) });
        }
    }
    while let Some(done) = stops.join_next().await {
        let (label, clean) = done.context("a stop was interrupted")?;
        let how = if clean? { "stopped" } else { "killed: it did not stop in time" };
        console::row(&label, how);
    }
    state.services.retain(|known| !running.iter().any(|gone| gone.process == known.process));
    state.save()
}

async fn stop_process(process: &Tracked) -> Result<bool> {
    process.stop(rustix::process::Signal::TERM, STOP_PATIENCE).await
}

/// Changes when the binary was built anew or the environment differs.
pub(crate) fn fingerprint(binary: &Path, environment: &[(String, String)]) -> Result<u64> {
    let found = fs::metadata(binary).with_context(|| format!("{} is not there", binary.display()))?;
    let text = format!("{} {} {} {environment:?}", found.mtime(), found.mtime_nsec(), found.len());
    Ok(workspace::fingerprint(text.as_bytes()))
}
