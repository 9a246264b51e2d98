//! The services of the shop: which there are, what their environment is, and how one is started and becomes ready.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    binaries::Binaries,
    console::Step,
    engines::Engines,
    files, http,
    process::{Tracked, spawn_detached},
    state::{self, Ports, ServiceProcess, State},
    workspace,
};

const READY_PATIENCE: Duration = Duration::from_secs(60);
/// The services drain for up to 30 s.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(40);
pub(crate) const OPERATOR_EMAIL: &str = "operator@shop.test";

/// A service of the shop. Its binary, database role and broker user have its name.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    /// Where its first replica listens in the default stack.
    pub(crate) port: u16,
    /// What it needs beyond what every service has.
    settings: fn(&Wiring<'_>) -> Vec<(&'static str, String)>,
}

pub(crate) const USERS: Service = Service { name: "users", port: 8081, settings: users };
pub(crate) const NOTIFICATIONS: Service = Service { name: "notifications", port: 8085, settings: notifications };

/// In the order in which they are started.
pub(crate) const SERVICES: [&Service; 2] = [&USERS, &NOTIFICATIONS];

/// Ports of the tools that the services talk to, and that people look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools {
    pub(crate) smtp: u16,
    pub(crate) mailbox: u16,
    pub(crate) otlp: u16,
    pub(crate) traces: u16,
}

/// What the environment of a service is made of.
pub(crate) struct Wiring<'a> {
    pub(crate) engines: &'a Engines,
    pub(crate) tools: Tools,
    pub(crate) ports: Ports,
    pub(crate) operator_password: String,
}

fn users(wiring: &Wiring<'_>) -> Vec<(&'static str, String)> {
    vec![("OPERATOR_EMAIL", OPERATOR_EMAIL.to_owned()), ("OPERATOR_PASSWORD", wiring.operator_password.clone())]
}

fn notifications(wiring: &Wiring<'_>) -> Vec<(&'static str, String)> {
    vec![
        ("SMTP_URL", format!("smtp://127.0.0.1:{}", wiring.tools.smtp)),
        ("MAIL_FROM", "shop@shop.test".to_owned()),
        ("SHOP_NAME", "Postrider Shop".to_owned()),
        ("USERS_URL", users_url(wiring)),
        ("JWKS_URL", format!("http://127.0.0.1:{}/.well-known/jwks.json", wiring.ports.service(&USERS, 0))),
    ]
}

fn users_url(wiring: &Wiring<'_>) -> String {
    format!("http://localhost:{}", wiring.ports.service(&USERS, 0))
}

impl Service {
    /// The whole environment of one replica, apart from what it inherits.
    fn environment(&self, state: &mut State, wiring: &Wiring<'_>, replica: u16) -> Result<Vec<(&'static str, String)>> {
        let credentials = state.credentials(self.name)?;
        let (amqp, management) = wiring.engines.rabbitmq.urls(self.name, &credentials.broker_password);
        let mut environment = vec![
            ("DATABASE_URL", wiring.engines.postgres.url(self.name, &credentials.database_password).with_password()),
            ("AMQP_URL", amqp.with_password()),
            ("RABBITMQ_MANAGEMENT_URL", management.with_password()),
            ("LISTEN", format!("127.0.0.1:{}", wiring.ports.service(self, replica))),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", wiring.tools.otlp)),
            ("LOG_FORMAT", "human".to_owned()),
        ];
        environment.extend((self.settings)(wiring));
        Ok(environment)
    }
}

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
    let mut started = Vec::new();
    for old in state.services.clone() {
        if old.replica >= replicas || !SERVICES.iter().any(|service| service.name == old.service) {
            stop(state, &old).await?;
        }
    }
    for service in SERVICES {
        let binary = binaries.path(service.name)?;
        for replica in 0..replicas {
            let environment = service.environment(state, wiring, replica)?;
            let wanted = fingerprint(binary, &environment)?;
            let known =
                state.services.iter().find(|known| known.service == service.name && known.replica == replica).cloned();
            if let Some(known) = known {
                if known.fingerprint == wanted && known.process.is_running() {
                    continue;
                }
                stop(state, &known).await?;
            }
            let port = wiring.ports.service(service, replica);
            let label = label(service.name, replica);
            ensure!(
                state::is_free(port),
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
            started.push(process);
        }
    }
    Ok(started)
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
        crate::console::row(&label, how);
    }
    state.services.retain(|known| !running.iter().any(|gone| gone.process == known.process));
    state.save()
}

async fn stop_process(process: &Tracked) -> Result<bool> {
    process.stop(rustix::process::Signal::TERM, STOP_PATIENCE).await
}

/// Changes when the binary was built anew or the environment differs.
pub(crate) fn fingerprint(binary: &Path, environment: &[(&'static str, String)]) -> Result<u64> {
    let found = fs::metadata(binary).with_context(|| format!("{} is not there", binary.display()))?;
    let text = format!("{} {} {} {environment:?}", found.mtime(), found.mtime_nsec(), found.len());
    Ok(workspace::fingerprint(text.as_bytes()))
}
