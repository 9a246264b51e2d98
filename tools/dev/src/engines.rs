//! PostgreSQL and RabbitMQ for a stack: where they come from, and what an administrator does on them. Each engine is given by a
//! URL, or runs in a container, or is a private instance of the system's packages; whoever uses it does not see which.

mod choice;
pub(crate) mod postgres;
pub(crate) mod private_postgres;
pub(crate) mod private_rabbitmq;
mod proxies;
pub(crate) mod rabbitmq;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{docker::Compose, endpoint::Endpoint, install, state::State};

pub(crate) use choice::Brokers;
pub use choice::Choice;
pub(crate) use postgres::Postgres;
pub(crate) use proxies::Proxies;
pub(crate) use rabbitmq::RabbitMq;

/// Engines that the caller names, by administrators' URLs, instead of having them started; and which ones are started, where there is a choice.
#[derive(Args, Clone, Debug, Default)]
pub struct Given {
    /// A PostgreSQL to use instead of starting one: the URL of a role that may create roles and databases.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// A RabbitMQ to use instead of starting one: the URL of an administrator.
    #[arg(long, env = "AMQP_URL", hide_env_values = true)]
    pub amqp_url: Option<String>,
    /// The management API of that RabbitMQ, `http://user:password@host:port`.
    #[arg(long, env = "RABBITMQ_MANAGEMENT_URL", hide_env_values = true)]
    pub rabbitmq_management_url: Option<String>,
    /// Those that are started.
    #[command(flatten)]
    pub choice: Choice,
}

/// Where an engine comes from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Given,
    Docker(Compose),
    Private,
}

/// Both engines, running and answering.
pub(crate) struct Engines {
    pub(crate) postgres: Postgres,
    pub(crate) rabbitmq: RabbitMq,
    /// The containers of this stack, when there are any.
    pub(crate) docker: Option<Compose>,
}

/// Which of the two are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Both,
    PostgresOnly,
}

/// Makes sure that both engines run.
pub(crate) async fn start(state: &mut State, given: &Given) -> Result<Engines> {
    ensure!(
        given.amqp_url.is_none() || !given.choice.is_made(),
        "--rabbitmq and --brokers are about brokers that are started here, and AMQP_URL names one that runs: unset that, or leave them away"
    );
    let docker = docker_if_needed(state, given, Wanted::Both).await?;
    if docker.is_none() {
        let postgres = given.database_url.is_none() && !private_postgres::is_installed();
        let rabbitmq = given.amqp_url.is_none() && given.choice.rabbitmq.is_none() && !private_rabbitmq::is_installed();
        install_missing(postgres, rabbitmq).await?;
    }
    let postgres = start_postgres(state, given, docker.as_ref()).await?;
    let rabbitmq = match (&given.amqp_url, &docker) {
        (Some(url), _) => given_rabbitmq(url, given.rabbitmq_management_url.as_deref()).await?,
        (None, Some(compose)) => rabbitmq::in_docker(state, compose).await?,
        (None, None) => private_rabbitmq::start(state, &given.choice).await?,
    };
    Ok(Engines { postgres, rabbitmq, docker })
}

/// PostgreSQL alone, for what needs no broker.
pub(crate) async fn start_postgres_only(state: &mut State, given: &Given) -> Result<Postgres> {
    let docker = docker_if_needed(state, given, Wanted::PostgresOnly).await?;
    if docker.is_none() && given.database_url.is_none() {
        install_missing(!private_postgres::is_installed(), false).await?;
    }
    start_postgres(state, given, docker.as_ref()).await
}

/// Installs the engines that are not there, or names exactly what to do.
async fn install_missing(postgres: bool, rabbitmq: bool) -> Result<()> {
    let wanted = [(postgres, "postgresql"), (rabbitmq, "rabbitmq-server")];
    let packages: Vec<&str> = wanted.into_iter().filter_map(|(missing, package)| missing.then_some(package)).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    let explanation = format!(
        "PostgreSQL and RabbitMQ are needed, and this machine lacks: {names}. One of these helps:\n\
         \n  - on Debian or Ubuntu:   sudo apt-get install {names}\
         \n                           (or run `cargo dev up` once as root, which does that without starting system services)\
         \n  - on other systems:      install the packages of PostgreSQL 15 or later and RabbitMQ 3.10 or later\
         \n  - with Docker:           start the Docker engine (with its compose plugin); containers are then used\
         \n  - with existing engines: set DATABASE_URL, AMQP_URL and RABBITMQ_MANAGEMENT_URL to administrators' URLs\n"
    );
    install::packages(&packages, &explanation).await
}

async fn start_postgres(state: &mut State, given: &Given, docker: Option<&Compose>) -> Result<Postgres> {
    match (&given.database_url, docker) {
        (Some(url), _) => postgres::given(Endpoint::parse(url).context("DATABASE_URL")?, &state.name).await,
        (None, Some(compose)) => postgres::in_docker(state, compose).await,
        (None, None) => private_postgres::start(state).await,
    }
}

async fn docker_if_needed(state: &mut State, given: &Given, wanted: Wanted) -> Result<Option<Compose>> {
    let all_given = given.database_url.is_some() && (given.amqp_url.is_some() || wanted == Wanted::PostgresOnly);
    // A stack stays where its data is: private engines that were made once are not left behind for containers. Nor is there a choice of those.
    if all_given || given.choice.is_made() || (!state.docker && private_postgres::has_data(state)) {
        return Ok(None);
    }
    let Some(compose) = Compose::if_engine_answers(state).await? else { return Ok(None) };
    let mut services = Vec::new();
    if given.database_url.is_none() {
        services.push("postgres");
    }
    if wanted == Wanted::Both {
        if given.amqp_url.is_none() {
            services.push("rabbitmq");
        }
        services.extend(["jaeger", "mailpit"]);
    }
    state.docker = true;
    state.save()?;
    compose.up(&services).await?;
    Ok(Some(compose))
}

async fn given_rabbitmq(amqp: &str, management: Option<&str>) -> Result<RabbitMq> {
    let amqp = Endpoint::parse(amqp).context("AMQP_URL")?;
    let management = management.context(
        "AMQP_URL is given, RABBITMQ_MANAGEMENT_URL is not. The topology and the users of the services are imported through the management \
         API: name it as http://user:password@host:15672",
    )?;
    let management = Endpoint::parse(management).context("RABBITMQ_MANAGEMENT_URL")?;
    ensure!(
        management.scheme == "http",
        "RABBITMQ_MANAGEMENT_URL: only http:// is supported here, through a tunnel if need be"
    );
    rabbitmq::given(amqp, management).await
}

/// Stops the private engines and the containers of a stack. Engines that were given are never touched.
pub(crate) async fn stop(state: &mut State, purge: bool) -> Result<()> {
    private_rabbitmq::stop(state).await?;
    private_postgres::stop(state).await?;
    if state.docker {
        Compose::of(state)?.down(purge).await?;
        state.docker = !purge;
        state.save()?;
    }
    Ok(())
}
