//! What is remembered about a stack between two runs of this command: its ports, its passwords, its processes. One file,
//! readable by its owner only.

use std::{collections::BTreeMap, fs, net::TcpListener, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    console,
    engines::Brokers,
    files,
    process::Tracked,
    services::{SERVICES, Service},
    workspace,
};

/// Ports of two stacks are this far apart. Replicas of a stack take every tenth port within.
const STACK_DISTANCE: u16 = 200;
const STACKS: u16 = 30;

/// Brokers of one stack, at most.
pub(crate) const MAX_BROKERS: u16 = 3;

/// What one broker listens on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrokerPorts {
    pub(crate) amqp: u16,
    pub(crate) management: u16,
    /// Erlang's own protocol between nodes and their tools.
    pub(crate) distribution: u16,
    /// RabbitMQ's own metrics.
    pub(crate) metrics: u16,
}

/// Everything that a stack listens on, all on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    /// How far all of them are from the documented ones.
    pub(crate) offset: u16,
}

impl Ports {
    pub(crate) fn postgres(self) -> u16 {
        25432 + self.offset
    }
    /// Of the first broker.
    pub(crate) fn amqp(self) -> u16 {
        self.broker(0).amqp
    }
    /// Of the first broker.
    pub(crate) fn management(self) -> u16 {
        self.broker(0).management
    }
    /// Brokers of a cluster take every tenth port.
    pub(crate) fn broker(self, number: u16) -> BrokerPorts {
        let first = 26720 + 10 * number + self.offset;
        BrokerPorts { amqp: first, management: first + 1, distribution: first + 2, metrics: first + 4 }
    }
    /// Where Erlang's nodes are asked for; one for all brokers.
    pub(crate) fn epmd(self) -> u16 {
        26723 + self.offset
    }
    pub(crate) fn smtp(self) -> u16 {
        1025 + self.offset
    }
    pub(crate) fn mailbox(self) -> u16 {
        8025 + self.offset
    }
    pub(crate) fn otlp(self) -> u16 {
        4317 + self.offset
    }
    pub(crate) fn traces(self) -> u16 {
        16686 + self.offset
    }
    /// The page of the stack.
    pub(crate) fn page(self) -> u16 {
        8080 + self.offset
    }
    pub(crate) fn postgres_metrics(self) -> u16 {
        9187 + self.offset
    }
    pub(crate) fn prometheus(self) -> u16 {
        9090 + self.offset
    }
    pub(crate) fn service(self, service: &Service, replica: u16) -> u16 {
        service.port + 10 * replica + self.offset
    }

    fn all(self) -> Vec<u16> {
        let BrokerPorts { amqp, management, distribution, metrics } = self.broker(0);
        let engines = [self.postgres(), amqp, management, distribution, self.epmd()];
        let tools = [self.smtp(), self.mailbox(), self.otlp(), self.traces(), self.page()];
        let metrics = [metrics, self.postgres_metrics(), self.prometheus()];
        let services = SERVICES.iter().map(|service| self.service(service, 0));
        engines.into_iter().chain(tools).chain(metrics).chain(services).collect()
    }

    fn first_in_use(self) -> Option<u16> {
        self.all().into_iter().find(|port| !is_free(*port))
    }
}

/// Whether nobody listens on a port of this machine.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// As [`is_free`], but waits for a process that was killed: the kernel closes what it held when its last thread is gone, and until then
/// it is neither running nor out of the way.
pub(crate) async fn becomes_free(port: u16) -> bool {
    for _ in 0..100 {
        if is_free(port) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

/// Passwords of one service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) database_password: String,
    pub(crate) broker_password: String,
}

/// A person with an account in the shop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) email: String,
    pub(crate) password: String,
}

/// One running process of a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServiceProcess {
    pub(crate) service: String,
    pub(crate) replica: u16,
    pub(crate) port: u16,
    pub(crate) process: Tracked,
    /// Of the binary and the environment that it was started with.
    pub(crate) fingerprint: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) ports: Ports,
    /// Of the administrators of both private engines, and of the first operator of the shop.
    pub(crate) admin_password: String,
    pub(crate) operator_password: String,
    /// The sample customer, once there is one.
    #[serde(default)]
    pub(crate) customer: Option<Account>,
    #[serde(default)]
    pub(crate) credentials: BTreeMap<String, Credentials>,
    /// The private engines that run, or ran.
    #[serde(default)]
    pub(crate) postgres: Option<Tracked>,
    #[serde(default)]
    pub(crate) epmd: Option<Tracked>,
    /// The first broker.
    #[serde(default)]
    pub(crate) rabbitmq: Option<Tracked>,
    #[serde(default)]
    pub(crate) other_brokers: Vec<Tracked>,
    /// Which brokers this stack was made with, and what they said of themselves.
    #[serde(default)]
    pub(crate) brokers: Option<Brokers>,
    #[serde(default)]
    pub(crate) rabbitmq_version: Option<String>,
    /// The page of the stack, the mailbox and the traces, with the fingerprint of their binary.
    #[serde(default)]
    pub(crate) backend: Option<(Tracked, u64)>,
    #[serde(default)]
    pub(crate) prometheus: Option<Tracked>,
    #[serde(default)]
    pub(crate) postgres_exporter: Option<Tracked>,
    /// Containers of this stack were started.
    #[serde(default)]
    pub(crate) docker: bool,
    #[serde(default)]
    pub(crate) services: Vec<ServiceProcess>,
    #[serde(skip)]
    folder: PathBuf,
}

impl State {
    /// What is known of a stack, or nothing if there is none of that name.
    pub(crate) fn load(name: &str) -> Result<Option<Self>> {
        let folder = workspace::stack_folder(&workspace::root()?, name);
        let path = folder.join("state.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let mut state: Self = serde_json::from_str(&text).with_context(|| {
            format!("{} cannot be understood; `cargo dev down --purge --name {name}` removes it", path.display())
        })?;
        state.folder = folder;
        Ok(Some(state))
    }

    /// What is known of a stack; a new one gets ports that nobody uses, and passwords.
    pub(crate) fn load_or_create(name: &str) -> Result<Self> {
        if let Some(state) = Self::load(name)? {
            return Ok(state);
        }
        let root = workspace::root()?;
        let state = Self {
            name: name.to_owned(),
            ports: choose_ports(&taken_offsets(&root)?, name)?,
            admin_password: files::secret()?,
            operator_password: files::secret()?,
            customer: None,
            credentials: BTreeMap::new(),
            postgres: None,
            epmd: None,
            rabbitmq: None,
            other_brokers: Vec::new(),
            brokers: None,
            rabbitmq_version: None,
            backend: None,
            prometheus: None,
            postgres_exporter: None,
            docker: false,
            services: Vec::new(),
            folder: workspace::stack_folder(&root, name),
        };
        state.save()?;
        Ok(state)
    }

    pub(crate) fn save(&self) -> Result<()> {
        fs::create_dir_all(self.logs()).with_context(|| format!("cannot make {}", self.logs().display()))?;
        files::write_private(&self.folder.join("state.json"), &serde_json::to_vec_pretty(self)?, None)
    }

    pub(crate) fn folder(&self) -> &PathBuf {
        &self.folder
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.logs().join(format!("{process}.log"))
    }

    /// The passwords of a service, made when they are first asked for.
    pub(crate) fn credentials(&mut self, service: &str) -> Result<Credentials> {
        if let Some(known) = self.credentials.get(service) {
            return Ok(known.clone());
        }
        let new = Credentials { database_password: files::secret()?, broker_password: files::secret()? };
        self.credentials.insert(service.to_owned(), new.clone());
        self.save()?;
        Ok(new)
    }

    /// The sample customer, named when first asked for. The address is this stack's own: a database that was given may hold others.
    pub(crate) fn customer(&mut self) -> Result<Account> {
        if let Some(known) = &self.customer {
            return Ok(known.clone());
        }
        let secret = files::secret()?;
        let suffix = secret.get(..4).unwrap_or_default();
        let new = Account { email: format!("ada-{suffix}@example.test"), password: files::secret()? };
        self.customer = Some(new.clone());
        self.save()?;
        Ok(new)
    }
}

/// The offsets that other stacks of this checkout remember, running or not.
fn taken_offsets(root: &std::path::Path) -> Result<Vec<u16>> {
    let mut taken = Vec::new();
    let Ok(entries) = fs::read_dir(root.join(".dev")) else { return Ok(taken) };
    for entry in entries {
        let name = entry.context("cannot read .dev")?.file_name();
        if let Ok(Some(other)) = State::load(&name.to_string_lossy()) {
            taken.push(other.ports.offset);
        }
    }
    Ok(taken)
}

fn choose_ports(taken: &[u16], name: &str) -> Result<Ports> {
    // The documented ports are the default stack's, even when another stack comes first.
    let first = u16::from(name != crate::stack::DEFAULT_NAME);
    let mut busy = None;
    for index in first..STACKS {
        let ports = Ports { offset: index * STACK_DISTANCE };
        if taken.contains(&ports.offset) {
            continue;
        }
        match ports.first_in_use() {
            None => {
                if let Some(port) = busy {
                    console::row(
                        "ports",
                        format_args!("{port} is in use by something else: all ports move up by {}", ports.offset),
                    );
                }
                return Ok(ports);
            }
            port => busy = busy.or(port),
        }
    }
    bail!("no free set of ports was found for the stack {name}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_stacks_and_no_two_replicas_share_a_port() {
        let mut seen = BTreeSet::new();
        for index in 0..STACKS {
            let ports = Ports { offset: index * STACK_DISTANCE };
            let replicas =
                SERVICES.iter().flat_map(|service| (1..8).map(move |replica| ports.service(service, replica)));
            let brokers = (1..MAX_BROKERS).flat_map(|number| {
                let BrokerPorts { amqp, management, distribution, metrics } = ports.broker(number);
                [amqp, management, distribution, metrics]
            });
            for port in ports.all().into_iter().chain(replicas).chain(brokers) {
                assert!(seen.insert(port), "port {port} of stack {index} is taken twice");
            }
        }
    }

    #[test]
    fn ports_stay_below_the_ones_that_outgoing_connections_take() {
        let last = Ports { offset: (STACKS - 1) * STACK_DISTANCE };
        // Linux' default net.ipv4.ip_local_port_range begins here.
        assert!(last.all().into_iter().all(|port| port < 32768));
    }
}
