//! The mailbox and the traces of a stack without Docker: one process of this same program, which outlives the command that starts
//! it. Mails and traces are in its memory.

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    console::Step,
    files, http,
    mailbox::Mailbox,
    process::{Tracked, spawn_detached},
    replicas,
    services::Tools,
    state::{self, State},
    traces::TraceStore,
};

/// The process itself: serves until it is told to stop.
pub(crate) async fn run(smtp: SocketAddr, mailbox: SocketAddr, otlp: SocketAddr, traces: SocketAddr) -> Result<bool> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let _mailbox = Mailbox::start(smtp, mailbox).await.context("the mailbox does not start")?;
    let _traces = TraceStore::start(otlp, traces).await.context("the trace store does not start")?;
    tokio::select! {
        _ = terminate.recv() => Ok(true),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| true).context("cannot listen for Ctrl-C"),
    }
}

/// Starts that process, unless it runs already and is of this build.
pub(crate) async fn start(state: &mut State, program: &Path) -> Result<Tools> {
    let ports = state.ports;
    let tools = Tools { smtp: ports.smtp(), mailbox: ports.mailbox(), otlp: ports.otlp(), traces: ports.traces() };
    let wanted = replicas::fingerprint(program, &[])?;
    if let Some((running, fingerprint)) = &state.backend
        && running.is_running()
    {
        if *fingerprint == wanted {
            return Ok(tools);
        }
        running.stop(Signal::TERM, Duration::from_secs(10)).await?;
    }
    let mut step = Step::start("mailbox, traces", "starting");
    let mut command = Command::new(program);
    command.arg("backend");
    for (name, port) in
        [("--smtp", tools.smtp), ("--mailbox", tools.mailbox), ("--otlp", tools.otlp), ("--traces", tools.traces)]
    {
        ensure!(state::is_free(port), "port {port} is taken by another program; stop that, or use another --name");
        command.arg(name).arg(format!("127.0.0.1:{port}"));
    }
    let log = state.log("backend");
    let process = spawn_detached(&mut command, None, &log, &format!("--smtp 127.0.0.1:{}", tools.smtp))?;
    state.backend = Some((process.clone(), wanted));
    state.save()?;
    wait(&mut step, &process, tools, &log).await?;
    step.done(format_args!("ready on http://localhost:{} and http://localhost:{}", tools.mailbox, tools.traces));
    Ok(tools)
}

async fn wait(step: &mut Step, process: &Tracked, tools: Tools, log: &Path) -> Result<()> {
    let started = std::time::Instant::now();
    loop {
        let ready = async {
            http::get(tools.mailbox, "/readyz").await?.success()?;
            http::get(tools.traces, "/api/services").await?.success()
        };
        let Err(reason) = ready.await else { return Ok(()) };
        ensure!(process.is_running(), "the mailbox and the traces ended while starting:\n{}", files::tail(log, 10));
        ensure!(started.elapsed() < Duration::from_secs(20), "the mailbox and the traces do not answer: {reason:#}");
        step.note(&reason.root_cause().to_string());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
