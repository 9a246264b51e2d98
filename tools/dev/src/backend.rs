//! The page of a stack and, without Docker, its mailbox and its traces: one process of this same program, which outlives the command
//! that starts it. Mails and traces are in its memory.

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    console::Step,
    dev_page, files, http,
    mailbox::Mailbox,
    process::{Tracked, spawn_detached},
    replicas,
    services::Tools,
    state::{self, State},
    traces::TraceStore,
};

const OBEDIENT: &str = "--obedient";

/// Where the mailbox and the traces listen.
pub(crate) struct Own {
    pub(crate) smtp: SocketAddr,
    pub(crate) mailbox: SocketAddr,
    pub(crate) otlp: SocketAddr,
    pub(crate) traces: SocketAddr,
    /// Whether the mailbox does as it is told over HTTP.
    pub(crate) obedient: bool,
}

/// The process itself: serves until it is told to stop.
pub(crate) async fn run(stack: String, page: SocketAddr, own: Option<Own>) -> Result<bool> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let listener = TcpListener::bind(page).await.context("the page of the stack does not start")?;
    let _own = match own {
        None => None,
        Some(own) => {
            let mailbox = Mailbox::start(own.smtp, own.mailbox).await.context("the mailbox does not start")?;
            let traces = TraceStore::start(own.otlp, own.traces).await.context("the trace store does not start")?;
            mailbox.is_part_of(page.port());
            if own.obedient {
                mailbox.obeys();
            }
            traces.is_part_of(page.port());
            Some((mailbox, traces))
        }
    };
    tokio::select! {
        () = dev_page::serve(listener, stack) => Ok(true),
        _ = terminate.recv() => Ok(true),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| true).context("cannot listen for Ctrl-C"),
    }
}

/// Starts that process, unless it runs already and is of this build. `elsewhere`: where Docker has the mailbox and the traces, so that
/// this process needs none. `obedient`: whether its mailbox does as it is told over HTTP.
pub(crate) async fn start(
    state: &mut State,
    program: &Path,
    elsewhere: Option<Tools>,
    obedient: bool,
) -> Result<Tools> {
    let ports = state.ports;
    let tools = elsewhere.unwrap_or(Tools {
        smtp: ports.smtp(),
        mailbox: ports.mailbox(),
        otlp: ports.otlp(),
        traces: ports.traces(),
    });
    let mut listening = vec![("--page", ports.page())];
    if elsewhere.is_none() {
        let own =
            [("--smtp", tools.smtp), ("--mailbox", tools.mailbox), ("--otlp", tools.otlp), ("--traces", tools.traces)];
        listening.extend(own);
    }
    let mut named: Vec<_> = listening.iter().map(|(name, port)| ((*name).to_owned(), port.to_string())).collect();
    let obedient = obedient && elsewhere.is_none();
    named.push((OBEDIENT.to_owned(), obedient.to_string()));
    let wanted = replicas::fingerprint(program, &named)?;
    if let Some((running, fingerprint)) = &state.backend
        && running.is_running()
    {
        if *fingerprint == wanted {
            return Ok(tools);
        }
        running.stop(Signal::TERM, Duration::from_secs(10)).await?;
    }
    let mut step = Step::start(label(state), "starting");
    let mut command = Command::new(program);
    command.args(["backend", "--stack", &state.name]);
    for (name, port) in &listening {
        ensure!(state::is_free(*port), "port {port} is taken by another program; stop that, or use another --name");
        command.arg(name).arg(format!("127.0.0.1:{port}"));
    }
    if obedient {
        command.arg(OBEDIENT);
    }
    let log = state.log("backend");
    let process = spawn_detached(&mut command, None, &log, &format!("--page 127.0.0.1:{}", ports.page()))?;
    state.backend = Some((process.clone(), wanted));
    state.save()?;
    wait(&mut step, &process, (ports.page(), elsewhere.is_none().then_some(tools)), &log).await?;
    if elsewhere.is_none() {
        step.done(format_args!("ready on http://localhost:{} and http://localhost:{}", tools.mailbox, tools.traces));
    } else {
        step.done(format_args!("ready on http://localhost:{}", ports.page()));
    }
    Ok(tools)
}

/// What the process is called in lists.
pub(crate) fn label(state: &State) -> &'static str {
    if state.docker { "page" } else { "mailbox, traces" }
}

async fn wait(step: &mut Step, process: &Tracked, (page, own): (u16, Option<Tools>), log: &Path) -> Result<()> {
    let started = std::time::Instant::now();
    loop {
        let ready = async {
            if let Some(tools) = own {
                http::get(tools.mailbox, "/readyz").await?.success()?;
                http::get(tools.traces, "/api/services").await?.success()?;
            }
            http::get(page, "/readyz").await?.success()
        };
        let Err(reason) = ready.await else { return Ok(()) };
        ensure!(
            process.is_running(),
            "the process of the page, the mailbox and the traces ended while starting:\n{}",
            files::tail(log, 10)
        );
        ensure!(
            started.elapsed() < Duration::from_secs(20),
            "the page, the mailbox and the traces do not answer: {reason:#}"
        );
        step.note(&reason.root_cause().to_string());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
