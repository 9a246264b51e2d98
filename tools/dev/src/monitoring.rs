//! Prometheus beside a stack: Debian's, run privately like the engines, with the rules and the configuration of `deploy/prometheus`, and with
//! targets of its own: every replica of every service, the broker, and PostgreSQL by way of its exporter. A stack does without it where it is not
//! to be had. In containers, `docker-compose.yml` starts both instead.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    console::{self, Step},
    engines::{Engines, Given, Origin},
    files, http, install,
    process::{Tracked, spawn_detached},
    programs,
    state::{self, State},
    workspace::{self, Account},
};

const PACKAGES: [&str; 2] = ["prometheus", "prometheus-postgres-exporter"];
const EXPLANATION: &str = "Debian's packages prometheus and prometheus-postgres-exporter are not here";
/// What is kept of the past, whichever comes first.
const RETENTION: [&str; 2] = ["--storage.tsdb.retention.time=3d", "--storage.tsdb.retention.size=512MB"];
/// The role that the exporter has: it may read statistics, and nothing of anybody's.
const MONITOR: &str = "postrider_monitor";
const PATIENCE: Duration = Duration::from_secs(30);
/// As deploy/prometheus/prometheus.yml has it for production.
const SHIPPED_INTERVAL: &str = "_interval: 15s";

/// How Prometheus looks at a stack.
#[derive(Clone, Copy, Debug)]
pub struct Monitoring {
    /// Seconds between two scrapes, and between two looks at the rules.
    pub interval_seconds: u16,
}

/// Starts Prometheus, or tells a running one where things are now. A stack that cannot have it is none the worse.
pub(crate) async fn start(state: &mut State, engines: &Engines, given: &Given, monitoring: Monitoring) -> Result<()> {
    if !is_installed().await
        && let Err(reason) = install::packages(&PACKAGES, EXPLANATION).await
    {
        console::row("Prometheus", format_args!("left out: {}", reason.to_string().lines().next().unwrap_or_default()));
        return Ok(());
    }
    let account = workspace::engine_account()?;
    let folder = workspace::engine_folder(&state.folder().join("prometheus"), account.as_ref())?;
    // A server that was given is watched by whoever runs it; nothing is made on it that the shop does not need.
    let exporter = match given.database_url {
        Some(_) => None,
        None => start_exporter(state, engines, account.as_ref()).await?,
    };
    configure(state, engines, exporter, monitoring, &folder, account.as_ref())?;
    if state.prometheus.as_ref().is_some_and(Tracked::is_running) {
        // Targets are read again by themselves, the rest on demand.
        return reload(state.ports.prometheus()).await;
    }
    let mut step = Step::start("Prometheus", "starting");
    let port = state.ports.prometheus();
    ensure!(state::is_free(port), "port {port} is taken by another program; stop that, or use another --name");
    let data = folder.join("data");
    let mut command = Command::new("prometheus");
    command
        .current_dir(&folder)
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--web.enable-lifecycle")
        .args(RETENTION);
    let log = state.log("prometheus");
    let process = spawn_detached(&mut command, account.as_ref(), &log, &data.display().to_string())?;
    state.prometheus = Some(process.clone());
    state.save()?;
    wait(&mut step, "Prometheus", &process, port, "/-/ready", &log).await?;
    step.done(format_args!("ready on http://localhost:{port}"));
    Ok(())
}

/// Stops both, if they run.
pub(crate) async fn stop(state: &mut State) -> Result<()> {
    for (label, process) in [("Prometheus", state.prometheus.take()), ("exporter", state.postgres_exporter.take())] {
        if let Some(process) = process
            && process.is_running()
        {
            process.stop(Signal::TERM, PATIENCE).await?;
            console::row(label, "stopped");
        }
    }
    state.save()
}

async fn is_installed() -> bool {
    programs::is_there("prometheus", &["--version"]).await
}

/// The configuration as it is shipped, with this stack's targets.
fn configure(
    state: &State,
    engines: &Engines,
    exporter: Option<u16>,
    monitoring: Monitoring,
    folder: &Path,
    account: Option<&Account>,
) -> Result<()> {
    let shipped = workspace::root()?.join("deploy/prometheus");
    for made in ["rules", "targets"] {
        workspace::engine_folder(&folder.join(made), account)?;
    }
    let copy = |from: &Path, to: PathBuf| {
        let text = fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
        let interval = format!("_interval: {}s", monitoring.interval_seconds);
        files::write_private(&to, text.replace(SHIPPED_INTERVAL, &interval).as_bytes(), account)
    };
    copy(&shipped.join("prometheus.yml"), folder.join("prometheus.yml"))?;
    for rule in fs::read_dir(shipped.join("rules")).context("cannot read deploy/prometheus/rules")? {
        let rule = rule?;
        copy(&rule.path(), folder.join("rules").join(rule.file_name()))?;
    }
    let rabbitmq = match &engines.rabbitmq.origin {
        Origin::Private => {
            let count = state.brokers.as_ref().map_or(1, |brokers| brokers.count);
            (0..count).map(|number| state.ports.broker(number).metrics).collect()
        }
        // A container publishes no port for it, and a broker that was given is watched by whoever runs it.
        Origin::Docker(_) | Origin::Given => Vec::new(),
    };
    let targets = [("services", services(state)), ("rabbitmq", at(&rabbitmq)), ("postgres", at(exporter.as_slice()))];
    for (name, targets) in targets {
        let path = folder.join("targets").join(format!("{name}.json"));
        files::write_private(&path, targets.to_string().as_bytes(), account)?;
    }
    Ok(())
}

fn services(state: &State) -> Value {
    let all = state.services.iter().map(|process| {
        json!({
            "targets": [format!("127.0.0.1:{}", process.port)],
            "labels": { "service": process.service, "replica": process.replica.to_string() },
        })
    });
    all.collect()
}

fn at(ports: &[u16]) -> Value {
    ports.iter().map(|port| json!({ "targets": [format!("127.0.0.1:{port}")] })).collect()
}

async fn reload(port: u16) -> Result<()> {
    http::post(port, "/-/reload", None).await?.success().context("Prometheus does not take its configuration")?;
    Ok(())
}

/// PostgreSQL says nothing to Prometheus itself. None where there is no exporter to be had.
async fn start_exporter(state: &mut State, engines: &Engines, account: Option<&Account>) -> Result<Option<u16>> {
    if !programs::is_there(PACKAGES[1], &["--version"]).await {
        return Ok(None);
    }
    let port = state.ports.postgres_metrics();
    if state.postgres_exporter.as_ref().is_some_and(Tracked::is_running) {
        return Ok(Some(port));
    }
    let mut step = Step::start("exporter", "starting");
    ensure!(state::is_free(port), "port {port} is taken by another program; stop that, or use another --name");
    let password = state.credentials(MONITOR)?.database_password;
    let admin = &engines.postgres.admin;
    let script = format!(
        r"select 'create role {MONITOR}' where not exists (select from pg_roles where rolname = '{MONITOR}') \gexec
          alter role {MONITOR} login nosuperuser nocreatedb nocreaterole password '{password}';
          grant pg_monitor to {MONITOR};
          grant connect on database postgres to {MONITOR};"
    );
    engines.postgres.run(&admin.path, &script).await.context("cannot prepare the role of the exporter")?;
    let mut url = admin.for_user(MONITOR, &password, "postgres");
    url.scheme = "postgresql".to_owned();
    url.query = "sslmode=disable".to_owned();
    let address = format!("--web.listen-address=127.0.0.1:{port}");
    let mut command = Command::new(PACKAGES[1]);
    command.current_dir("/").env("DATA_SOURCE_NAME", url.with_password()).arg(&address);
    let log = state.log("postgres-exporter");
    let process = spawn_detached(&mut command, account, &log, &address)?;
    state.postgres_exporter = Some(process.clone());
    state.save()?;
    wait(&mut step, "the exporter", &process, port, "/", &log).await?;
    step.done(format_args!("of PostgreSQL, ready on port {port}"));
    Ok(Some(port))
}

async fn wait(step: &mut Step, what: &str, process: &Tracked, port: u16, path: &str, log: &Path) -> Result<()> {
    let started = std::time::Instant::now();
    loop {
        let Err(reason) = http::get(port, path).await.and_then(http::Answer::success) else { return Ok(()) };
        ensure!(process.is_running(), "{what} ended while starting:\n{}", files::tail(log, 10));
        ensure!(started.elapsed() < PATIENCE, "{what} does not answer: {reason:#}\n{}", files::tail(log, 10));
        step.note(&reason.root_cause().to_string());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
