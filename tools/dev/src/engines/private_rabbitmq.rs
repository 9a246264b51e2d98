//! A RabbitMQ of our own, from the system's package: own node name, data, ports, Erlang cookie and port mapper, loopback only,
//! stopped with the stack. A broker that is already on the machine is neither used nor touched.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{
    Origin,
    rabbitmq::{RabbitMq, version},
};
use crate::{
    console::Step,
    files,
    process::{Tracked, spawn_detached},
    programs,
    state::{self, State},
    workspace::{self, Account},
};

const ADMIN: &str = "admin";
/// Not /usr/sbin/rabbitmq-server: that one switches to the system's user and folder.
const SERVERS: [&str; 3] =
    ["/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/homebrew/sbin/rabbitmq-server", "/usr/local/sbin/rabbitmq-server"];
const BOOT_PATIENCE: Duration = Duration::from_secs(120);
const STOP_PATIENCE: Duration = Duration::from_secs(60);

fn server() -> Option<PathBuf> {
    SERVERS.iter().map(PathBuf::from).find(|server| server.exists())
}

pub(super) fn is_installed() -> bool {
    server().is_some()
}

pub(super) async fn start(state: &mut State) -> Result<RabbitMq> {
    let mut step = Step::start("RabbitMQ", "starting");
    let account = workspace::engine_account()?;
    let folder = workspace::engine_folder(&state.folder().join("rabbitmq"), account.as_ref())?;
    let ports = state.ports;
    let rabbitmq = RabbitMq::own(Origin::Private, ports.amqp(), ports.management(), ADMIN, &state.admin_password);

    let running = running(state, &folder);
    let reused = running.is_some();
    let process = match running {
        Some(process) => process,
        None => {
            let server = server().context("RabbitMQ is not installed")?;
            for port in [ports.amqp(), ports.management(), ports.distribution(), ports.broker_metrics()] {
                ensure!(
                    state::is_free(port),
                    "port {port} is taken by another program; stop that, or use another --name"
                );
            }
            configure(state, &folder, account.as_ref())?;
            state.epmd = Some(start_epmd(state, &folder, account.as_ref()).await?);
            spawn(state, &server, &folder, account.as_ref())?
        }
    };
    state.rabbitmq = Some(process.clone());
    state.save()?;
    let log = state.log("rabbitmq");
    let overview = rabbitmq
        .wait(&mut step, BOOT_PATIENCE, || {
            ensure!(process.is_running(), "RabbitMQ ended while booting:\n{}", files::tail(&log, 25));
            Ok(())
        })
        .await?;
    // The script that started it is one process, the broker another; the broker is the one to remember.
    state.rabbitmq = from_pid_file(&folder).or(Some(process));
    state.save()?;
    let verb = if reused { "runs" } else { "ready" };
    step.done(format_args!(
        "{} {verb} on 127.0.0.1:{}, management on {}",
        version(&overview),
        ports.amqp(),
        ports.management()
    ));
    Ok(rabbitmq)
}

fn configure(state: &State, folder: &Path, account: Option<&Account>) -> Result<()> {
    let ports = state.ports;
    let settings = format!(
        "# Written by cargo dev; changes are lost at the next start.\n\
         listeners.tcp.1 = 127.0.0.1:{amqp}\n\
         management.tcp.ip = 127.0.0.1\n\
         management.tcp.port = {management}\n\
         prometheus.tcp.ip = 127.0.0.1\n\
         prometheus.tcp.port = {metrics}\n\
         default_user = {ADMIN}\n\
         default_pass = {password}\n\
         # A laptop with a full disk should still run the shop; a quorum queue's log needs a little room.\n\
         disk_free_limit.absolute = 256MB\n\
         raft.wal_max_size_bytes = 67108864\n\
         # With the tick below: what is new is seen in the management API after a second, not after seven.\n\
         collect_statistics_interval = 1000\n\
         log.file.level = info\n\
         log.file.rotation.size = 10485760\n\
         log.file.rotation.count = 2\n",
        amqp = ports.amqp(),
        management = ports.management(),
        metrics = ports.broker_metrics(),
        password = state.admin_password,
    );
    files::write_private(&folder.join("rabbitmq.conf"), settings.as_bytes(), account)?;
    files::write_private(&folder.join("advanced.config"), b"[{rabbit, [{quorum_tick_interval, 1000}]}].\n", account)?;
    files::write_private(&folder.join("enabled_plugins"), b"[rabbitmq_management, rabbitmq_prometheus].\n", account)?;
    // Without it the system's /etc/rabbitmq/rabbitmq-env.conf would have a say.
    files::write_private(&folder.join("rabbitmq-env.conf"), b"", account)
}

/// Erlang's port mapper. A node starts one by itself, but that one would outlive it unseen; this one is stopped with the stack.
async fn start_epmd(state: &State, folder: &Path, account: Option<&Account>) -> Result<Tracked> {
    if let Some(running) = state.epmd.clone().filter(Tracked::is_running) {
        return Ok(running);
    }
    let port = state.ports.epmd();
    ensure!(state::is_free(port), "port {port} is taken by another program; stop that, or use another --name");
    let mut command = Command::new("epmd");
    command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]).current_dir(folder);
    let epmd = spawn_detached(&mut command, account, &state.log("epmd"), &format!("-port {port}"))?;
    let listening = async {
        while state::is_free(port) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), listening).await.context("epmd does not listen")?;
    Ok(epmd)
}

fn spawn(state: &State, server: &Path, folder: &Path, account: Option<&Account>) -> Result<Tracked> {
    let ports = state.ports;
    let own = |name: &str| folder.join(name);
    let mut command = Command::new(server);
    command
        .current_dir(folder)
        .env("HOME", folder)
        .env("RABBITMQ_NODENAME", node(state))
        .env("RABBITMQ_CONF_ENV_FILE", own("rabbitmq-env.conf"))
        .env("RABBITMQ_CONFIG_FILE", own("rabbitmq"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", own("advanced.config"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", own("enabled_plugins"))
        .env("RABBITMQ_MNESIA_BASE", own("mnesia"))
        .env("RABBITMQ_LOG_BASE", own("log"))
        .env("RABBITMQ_PID_FILE", own("pid"))
        .env("RABBITMQ_SCHEMA_DIR", own("schema"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", own("config"))
        .env("RABBITMQ_NODE_PORT", ports.amqp().to_string())
        .env("RABBITMQ_DIST_PORT", ports.distribution().to_string())
        .env("ERL_EPMD_PORT", ports.epmd().to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
    let _ = fs::remove_file(own("pid"));
    spawn_detached(&mut command, account, &state.log("rabbitmq"), "rabbitmq-server")
}

fn running(state: &State, folder: &Path) -> Option<Tracked> {
    from_pid_file(folder).or_else(|| state.rabbitmq.clone().filter(Tracked::is_running))
}

fn from_pid_file(folder: &Path) -> Option<Tracked> {
    let pid = fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok()?;
    Tracked::find(pid, &format!("-home {}", folder.display()))
}

/// Deletes everything that the broker knows; it must not run.
pub(crate) fn wipe(state: &State) -> Result<()> {
    let folder = workspace::engine_folder(&state.folder().join("rabbitmq"), workspace::engine_account()?.as_ref())?;
    let data = folder.join("mnesia");
    fs::remove_dir_all(&data).with_context(|| format!("cannot delete {}", data.display()))
}

/// Has the broker's own tool say something to it.
pub(crate) async fn ctl(state: &State, arguments: &[&str]) -> Result<String> {
    let account = workspace::engine_account()?;
    let folder = workspace::engine_folder(&state.folder().join("rabbitmq"), account.as_ref())?;
    let server = server().context("RabbitMQ is not installed")?;
    let mut command = Command::new(server.with_file_name("rabbitmqctl"));
    command
        .current_dir(&folder)
        .env("HOME", &folder)
        .env("RABBITMQ_NODENAME", node(state))
        .env("RABBITMQ_CONF_ENV_FILE", folder.join("rabbitmq-env.conf"))
        .env("ERL_EPMD_PORT", state.ports.epmd().to_string())
        .args(arguments);
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    programs::output(&mut command.into()).await
}

fn node(state: &State) -> String {
    format!("postrider-{}@localhost", state.name)
}

pub(crate) async fn stop(state: &mut State) -> Result<()> {
    let folder = state.folder().join("rabbitmq");
    let folder = folder.canonicalize().unwrap_or(folder);
    if let Some(process) = running(state, &folder) {
        let step = Step::start("RabbitMQ", "stopping");
        let clean = process.stop(Signal::TERM, STOP_PATIENCE).await?;
        step.done(if clean { "stopped" } else { "killed; it recovers at the next start" });
    }
    if let Some(epmd) = state.epmd.take() {
        epmd.stop(Signal::TERM, Duration::from_secs(5)).await?;
    }
    state.rabbitmq = None;
    state.save()
}
