//! A whole system on one machine: engines, mailbox, traces and services, under one name and on its own ports. Several run side by
//! side. It says what it does on the terminal, step by step; the commands around it are elsewhere.

mod inspect;
mod options;
mod renew;
mod stopping;

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::{
    backend,
    binaries::{self, Binaries},
    engines::{self, Engines, Origin, Proxies},
    monitoring,
    process::Tracked,
    programs, prove, replicas,
    services::{SERVICES, Service, Setting, Tools, Wiring},
    shop::Shop,
    state::State,
    topology, workspace,
};

pub use crate::{engines::Given, monitoring::Monitoring};
pub use inspect::Tapped;
pub use options::Options;
pub(crate) use options::this_program;
pub(crate) use stopping::stop_everything;

/// The stack that is meant when no name is given; it has the documented ports.
pub const DEFAULT_NAME: &str = "main";

/// A stack that runs.
pub struct Stack {
    pub(crate) state: State,
    pub(crate) engines: Engines,
    pub(crate) tools: Tools,
    /// What the services reach the engines through, if they do not reach them directly.
    pub(crate) proxies: Option<Proxies>,
    binaries: Binaries,
    options: Options,
    /// The processes that this run started; the others ran already.
    started: Vec<Tracked>,
    engines_started: bool,
}

impl Stack {
    /// Starts everything that does not run yet, and waits until it is ready.
    ///
    /// # Errors
    /// Says what does not start and why, with the end of its log.
    pub async fn start(options: Options) -> Result<Self> {
        let _lock = lock(&options.name)?;
        let mut state = State::load_or_create(&options.name)?;
        let engines_ran = state.postgres.as_ref().is_some_and(Tracked::is_running);
        let engines = engines::start(&mut state, &options.engines).await?;
        let tools = start_tools(&mut state, &engines, &options).await?;
        let binaries = binaries::build(options.profile).await?;
        topology::import(&mut state, &engines, &binaries).await?;
        if let Some(queue) = options.tap {
            prove::tap(&engines.rabbitmq, queue).await?;
        }
        for service in SERVICES {
            let password = state.credentials(service.name)?.database_password;
            engines.postgres.ensure_service(service.name, &password).await?;
        }
        let proxies = if options.proved { Some(Proxies::before(&engines).await?) } else { None };
        let (started, engines_started) = (Vec::new(), !engines_ran);
        let mut stack = Self { state, engines, tools, proxies, binaries, options, started, engines_started };
        stack.start_services().await?;
        if let Some(how) = stack.options.monitoring {
            monitoring::start(&mut stack.state, &stack.engines, &stack.options.engines, how).await?;
        }
        Ok(stack)
    }

    /// Gives one service another value of a setting, from its next start on.
    pub(crate) fn set(&mut self, service: &str, name: &str, value: &str) {
        self.options.set(service, name, value);
    }

    /// Takes back what [`Stack::set`] gave, from its next start on.
    pub(crate) fn unset(&mut self, service: &str, name: &str) {
        self.options.settings.retain(|known| known.service != service || known.name != name);
    }

    /// Starts the services that do not run, and waits until all of them are ready.
    ///
    /// # Errors
    /// Says which service does not become ready and why.
    pub async fn start_services(&mut self) -> Result<()> {
        let Self { state, engines, proxies, binaries, options, .. } = self;
        let wiring = wiring(state, engines, proxies.as_ref(), self.tools, &options.settings);
        let started = replicas::reconcile(state, &wiring, binaries, options.replicas).await?;
        self.started.extend(started);
        self.wait_until_ready().await
    }

    /// Starts the processes of one service that do not run, and does not wait for them.
    ///
    /// # Errors
    /// When there is no such service, or one of its processes ends at once.
    pub async fn start_service(&mut self, name: &str) -> Result<()> {
        let Self { state, engines, proxies, binaries, options, .. } = self;
        let wiring = wiring(state, engines, proxies.as_ref(), self.tools, &options.settings);
        let started = replicas::start(state, &wiring, binaries, service(name)?, options.replicas).await?;
        self.started.extend(started);
        Ok(())
    }

    /// Waits until every service that was started is ready.
    ///
    /// # Errors
    /// Says which service does not become ready and why.
    pub async fn wait_until_ready(&self) -> Result<()> {
        replicas::wait_until_ready(&self.state).await
    }

    /// Stops every process of a service, which finishes what it has in hand.
    ///
    /// # Errors
    /// When none runs, or one cannot be stopped.
    pub async fn stop_service(&mut self, name: &str) -> Result<()> {
        let all = self.state.services.iter().filter(|process| process.service == name).cloned().collect::<Vec<_>>();
        ensure!(!all.is_empty(), "no {name} runs");
        replicas::stop_all(&mut self.state, &all).await
    }

    /// Ends every process of a service as a crash would.
    ///
    /// # Errors
    /// When a process survives that.
    pub async fn kill_service(&mut self, name: &str) -> Result<()> {
        let (gone, left): (Vec<_>, Vec<_>) = self.state.services.drain(..).partition(|process| process.service == name);
        self.state.services = left;
        ensure!(!gone.is_empty(), "no {name} runs");
        for process in gone {
            process.process.kill().await?;
        }
        self.state.save()
    }

    /// Runs SQL in the database of a service, as its administrator: for tests that put something into its way.
    ///
    /// # Errors
    /// When the SQL fails.
    pub async fn run_sql(&self, service: &str, script: &str) -> Result<String> {
        let postgres = &self.engines.postgres;
        postgres.run(&postgres.name(service), script).await
    }

    /// Puts a message that nobody announced into a queue, as its administrator: for tests that put something into its way.
    ///
    /// # Errors
    /// When there is no such queue.
    pub async fn put_into_queue(&self, queue: &str, payload: &str) -> Result<()> {
        self.engines.rabbitmq.put(queue, payload).await
    }

    /// Runs one process of a service with another build of it, until the service is started again.
    ///
    /// # Errors
    /// When it ends at once.
    pub(crate) async fn start_other(&mut self, name: &str, replica: u16, other: &Binaries) -> Result<Tracked> {
        let Self { state, engines, proxies, options, .. } = self;
        let wiring = wiring(state, engines, proxies.as_ref(), self.tools, &options.settings);
        replicas::start_one(state, &wiring, other, service(name)?, replica).await?;
        let started = state.services.iter().find(|known| known.service == name && known.replica == replica);
        Ok(started.context("it was started")?.process.clone())
    }

    /// Makes what the services need of the broker anew.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub(crate) async fn import_topology(&mut self) -> Result<()> {
        topology::import(&mut self.state, &self.engines, &self.binaries).await
    }

    /// Has a service send to a consumer what it published since then, of these types; how much that was.
    ///
    /// # Errors
    /// Says what the service says.
    pub(crate) async fn replay(&self, producer: &str, consumer: &str, since: &str, types: &[&str]) -> Result<u64> {
        let Self { state, engines, binaries, options, .. } = self;
        let wiring = wiring(state, engines, None, self.tools, &options.settings);
        let environment = service(producer)?.environment(&mut state.clone(), &wiring, 0)?;
        let mut command = Command::new(binaries.path(producer)?);
        let types = types.iter().map(|kind| format!("--type={kind}"));
        command.envs(environment).args(["replay", "--to", consumer, "--since", since]).args(types);
        let printed = programs::output(&mut command).await?;
        printed.trim().parse().with_context(|| format!("{producer} says {printed:?} instead of a number"))
    }

    /// Stops the broker and leaves everything else running.
    ///
    /// # Errors
    /// When the broker is not this stack's own.
    pub async fn stop_rabbitmq(&mut self) -> Result<()> {
        match &self.engines.rabbitmq.origin {
            Origin::Private => engines::private_rabbitmq::stop(&mut self.state).await,
            Origin::Docker(compose) => compose.stop("rabbitmq").await,
            Origin::Given => bail!("the broker of AMQP_URL is not ours to stop"),
        }
    }

    /// Starts the broker again, with what it held.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_rabbitmq(&mut self) -> Result<()> {
        let engines = engines::start(&mut self.state, &self.options.engines).await?;
        self.engines = engines;
        Ok(())
    }

    /// The port of the first replica of a service.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn port(&self, name: &str) -> Result<u16> {
        self.port_of_replica(name, 0)
    }

    /// The port of one replica of a service.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn port_of_replica(&self, name: &str, replica: u16) -> Result<u16> {
        Ok(self.state.ports.service(service(name)?, replica))
    }

    /// The port of the mailbox's page and API.
    #[must_use]
    pub fn mailbox_port(&self) -> u16 {
        self.tools.mailbox
    }

    /// The port of the traces' page and API.
    #[must_use]
    pub fn traces_port(&self) -> u16 {
        self.tools.traces
    }

    /// The port of the page that shows what runs and how it is.
    #[must_use]
    pub fn page_port(&self) -> u16 {
        self.state.ports.page()
    }

    /// The port of Prometheus' page and API.
    #[must_use]
    pub fn prometheus_port(&self) -> u16 {
        self.state.ports.prometheus()
    }

    /// What the shop offers to people.
    #[must_use]
    pub fn shop(&self) -> Shop {
        Shop::of(&self.state)
    }

    /// Has the services reach the engines directly, so that the stack can do without this process.
    pub(crate) async fn leave_proxies(&mut self) -> Result<()> {
        let left = self.proxies.take();
        self.start_services().await?;
        drop(left);
        Ok(())
    }
}

fn service(name: &str) -> Result<&'static Service> {
    SERVICES.into_iter().find(|known| known.name == name).with_context(|| format!("there is no service {name}"))
}

fn wiring<'a>(
    state: &State,
    engines: &'a Engines,
    proxies: Option<&'a Proxies>,
    tools: Tools,
    settings: &'a [Setting],
) -> Wiring<'a> {
    let (ports, operator_password) = (state.ports, state.operator_password.clone());
    Wiring { engines, proxies, tools, ports, operator_password, settings }
}

/// A name that is good for a folder, a node and a container project.
pub(crate) fn parse_name(name: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=20).contains(&name.len()) && name.chars().all(good) && name.starts_with(|c: char| c.is_ascii_lowercase()) {
        Ok(name.to_owned())
    } else {
        Err("up to 20 small letters, digits and dashes, beginning with a letter".to_owned())
    }
}

/// One command at a time works on a stack.
pub(crate) fn lock(name: &str) -> Result<fs::File> {
    let folder = workspace::stack_folder(&workspace::root()?, name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => bail!("another `cargo dev` is working on the stack {name}"),
        Err(fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

async fn start_tools(state: &mut State, engines: &Engines, options: &Options) -> Result<Tools> {
    let elsewhere = match &engines.docker {
        None => None,
        Some(compose) => Some(Tools {
            smtp: compose.port("mailpit", 1025).await?,
            mailbox: compose.port("mailpit", 8025).await?,
            otlp: compose.port("jaeger", 4317).await?,
            traces: compose.port("jaeger", 16686).await?,
        }),
    };
    backend::start(state, &options.program, elsewhere, options.proved).await
}
