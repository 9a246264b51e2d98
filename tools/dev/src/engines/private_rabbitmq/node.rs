//! One broker of a stack: its name, its ports, its folder, its settings, its process. How several become a cluster is decided elsewhere.

use std::{fs, os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use super::installation::Installation;
use crate::{
    files,
    process::{Tracked, spawn_detached},
    programs,
    state::{self, BrokerPorts, State},
    workspace::{self, Account},
};

pub(super) const ADMIN: &str = "admin";
/// After so long without an answer a node takes another one for gone. A suspended one is to be noticed while somebody watches; Erlang's
/// own 60 s are for networks.
const TICK_SECONDS: u16 = 8;

/// One of the brokers of a stack.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// From 0 on.
    pub(crate) number: u16,
    /// What Erlang calls it.
    pub(crate) name: String,
    pub(super) ports: BrokerPorts,
    epmd: u16,
    /// As the broker has it: the folder itself, where it is a link.
    pub(super) folder: PathBuf,
    pub(super) log: PathBuf,
}

impl Node {
    /// A broker of this stack, whether it runs or not.
    pub(super) fn of(state: &State, number: u16) -> Self {
        let suffix = if number == 0 { String::new() } else { format!("-{}", number + 1) };
        let folder = state.folder().join(format!("rabbitmq{suffix}"));
        Self {
            number,
            name: format!("postrider-{}{suffix}@localhost", state.name),
            ports: state.ports.broker(number),
            epmd: state.ports.epmd(),
            folder: folder.canonicalize().unwrap_or(folder),
            log: state.log(&format!("rabbitmq{suffix}")),
        }
    }

    /// As people call it.
    pub(crate) fn label(&self) -> String {
        format!("broker {}", self.number + 1)
    }

    /// Its process, if it runs. The script that starts it is one process, the broker another, which writes down who it is.
    pub(crate) fn process(&self) -> Option<Tracked> {
        let pid = fs::read_to_string(self.folder.join("pid")).ok()?.trim().parse().ok()?;
        Tracked::find(pid, &format!("-home {}", self.folder.display()))
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Whether it has ever run.
    pub(super) fn has_data(&self) -> bool {
        self.folder.join("mnesia").exists()
    }

    /// Deletes everything that it knows; it must not run.
    pub(super) fn wipe(&self) -> Result<()> {
        let data = self.folder.join("mnesia");
        fs::remove_dir_all(&data).with_context(|| format!("cannot delete {}", data.display()))
    }

    /// Makes the folder and the settings. `all` are the nodes of the cluster, this one included.
    pub(super) fn prepare(&mut self, state: &mut State, all: &[Self], account: Option<&Account>) -> Result<()> {
        self.folder = workspace::engine_folder(&self.folder, account)?;
        let write =
            |name: &str, content: &str| files::write_private(&self.folder.join(name), content.as_bytes(), account);
        write("rabbitmq.conf", &self.settings(&state.admin_password, all))?;
        write("advanced.config", "[{rabbit, [{quorum_tick_interval, 1000}]}].\n")?;
        write("enabled_plugins", "[rabbitmq_management, rabbitmq_prometheus].\n")?;
        // Without it the system's /etc/rabbitmq/rabbitmq-env.conf would have a say.
        write("rabbitmq-env.conf", "")?;
        if all.len() > 1 {
            // Nodes let in whoever knows it. A node alone makes one up for itself.
            write(".erlang.cookie", &state.credentials("erlang-cookie")?.broker_password)?;
        }
        Ok(())
    }

    fn settings(&self, password: &str, all: &[Self]) -> String {
        let BrokerPorts { amqp, management, metrics, .. } = self.ports;
        let mut settings = format!(
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
             log.file.rotation.count = 2\n"
        );
        if all.len() > 1 {
            // A minority serves nobody, so that it cannot tell anybody what the majority no longer holds. RabbitMQ 4.3 is always so.
            settings += "cluster_partition_handling = pause_minority\n\
                         cluster_formation.peer_discovery_backend = classic_config\n";
            // Every node joins the first one. A new node would wait minutes for others that are named here and are not there yet.
            for node in all.iter().filter(|node| node.number == 0 || node.number == self.number) {
                settings += &format!("cluster_formation.classic_config.nodes.{} = {}\n", node.number + 1, node.name);
            }
        }
        settings
    }

    /// Starts it, and does not wait for it.
    pub(super) fn spawn(&self, installation: &Installation, account: Option<&Account>) -> Result<Tracked> {
        let BrokerPorts { amqp, management, distribution, metrics } = self.ports;
        for port in [amqp, management, distribution, metrics] {
            ensure!(state::is_free(port), "port {port} is taken by another program; stop that, or use another --name");
        }
        let mut command = self.command(installation, "rabbitmq-server", account);
        let own = |name: &str| self.folder.join(name);
        let erlang = format!("-kernel inet_dist_use_interface {{127,0,0,1}} -kernel net_ticktime {TICK_SECONDS}");
        command
            .env("RABBITMQ_CONFIG_FILE", own("rabbitmq"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", own("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", own("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", own("mnesia"))
            .env("RABBITMQ_LOG_BASE", self.logs())
            .env("RABBITMQ_PID_FILE", own("pid"))
            .env("RABBITMQ_SCHEMA_DIR", own("schema"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", own("config"))
            .env("RABBITMQ_NODE_PORT", amqp.to_string())
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", erlang);
        let _ = fs::remove_file(own("pid"));
        spawn_detached(&mut command, installation.account(account), &self.log, "rabbitmq-server")
    }

    /// Has the broker's own tool say something to it, and answers with what that says.
    pub(super) async fn ctl(
        &self,
        installation: &Installation,
        account: Option<&Account>,
        arguments: &[&str],
    ) -> Result<String> {
        let mut command = self.command(installation, "rabbitmqctl", account);
        command.args(arguments);
        if let Some(account) = installation.account(account) {
            command.uid(account.uid).gid(account.gid);
        }
        let printed = programs::output(&mut command.into()).await;
        printed.with_context(|| self.label()).map(|printed| printed.trim().to_owned())
    }

    /// A program that knows which node it is about.
    pub(super) fn command(&self, installation: &Installation, program: &str, account: Option<&Account>) -> Command {
        let mut command = installation.command(program, &self.folder, account);
        command
            .env("HOME", &self.folder)
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_CONF_ENV_FILE", self.folder.join("rabbitmq-env.conf"))
            .env("ERL_EPMD_PORT", self.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command
    }
}
