//! The engines, the mailbox and the traces in containers, as `docker-compose.yml` describes them. Only used where a Docker engine
//! answers.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::{console::Step, programs, state::State, workspace};

/// The compose project of one stack.
#[derive(Clone, Debug)]
pub(crate) struct Compose {
    root: PathBuf,
    project: String,
    /// Variables of docker-compose.yml: on which ports of this machine the containers listen.
    ports: Vec<(&'static str, String)>,
}

impl Compose {
    pub(crate) fn of(state: &State) -> Result<Self> {
        let ports = state.ports;
        let ports = [
            ("POSTGRES_PORT", ports.postgres()),
            ("RABBITMQ_PORT", ports.amqp()),
            ("RABBITMQ_MANAGEMENT_PORT", ports.management()),
            ("SMTP_PORT", ports.smtp()),
            ("MAILBOX_PORT", ports.mailbox()),
            ("OTLP_PORT", ports.otlp()),
            ("TRACES_PORT", ports.traces()),
        ];
        Ok(Self {
            root: workspace::root()?,
            project: format!("postrider-{}", state.name),
            ports: ports.into_iter().map(|(name, port)| (name, port.to_string())).collect(),
        })
    }

    /// `None` where there is no Docker, or nobody behind its socket.
    pub(crate) async fn if_engine_answers(state: &State) -> Result<Option<Self>> {
        let answers = async {
            programs::is_there("docker", &["info"]).await && programs::is_there("docker", &["compose", "version"]).await
        };
        let compose = Self::of(state)?;
        let answers = tokio::time::timeout(Duration::from_secs(10), answers).await.unwrap_or(false);
        Ok((answers && compose.root.join("docker-compose.yml").exists()).then_some(compose))
    }

    pub(crate) async fn up(&self, services: &[&str]) -> Result<()> {
        let step = Step::start("Docker", &format!("starting {}", services.join(", ")));
        programs::output(self.command(&["up", "--detach"]).args(services)).await?;
        step.done(format_args!("{} started", services.join(", ")));
        Ok(())
    }

    pub(crate) async fn down(&self, purge: bool) -> Result<()> {
        let step = Step::start("Docker", "stopping the containers");
        let mut command = self.command(&["down", "--remove-orphans"]);
        if purge {
            command.arg("--volumes");
        }
        programs::output(&mut command).await?;
        step.done("containers stopped");
        Ok(())
    }

    pub(crate) async fn stop(&self, service: &str) -> Result<()> {
        programs::output(&mut self.command(&["stop", service])).await.map(|_| ())
    }

    /// The port of this machine behind which a container's port is.
    pub(crate) async fn port(&self, service: &str, inside: u16) -> Result<u16> {
        let out = programs::output(&mut self.command(&["port", service, &inside.to_string()])).await?;
        let port = out.lines().find_map(|line| line.trim().rsplit_once(':')?.1.parse().ok());
        let port = port.filter(|port| *port != 0);
        port.with_context(|| format!("docker-compose.yml does not publish port {inside} of {service}"))
    }

    /// A command inside a container; the caller adds what to run.
    pub(crate) fn exec(&self, service: &str) -> Command {
        self.command(&["exec", "-T", service])
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", &self.project, "--file"]).arg(self.root.join("docker-compose.yml"));
        command.args(arguments).stdin(Stdio::null());
        command.envs(self.ports.iter().map(|(name, port)| (name, port)));
        command
    }
}
