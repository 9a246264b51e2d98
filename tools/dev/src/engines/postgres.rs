//! What an administrator does on PostgreSQL: roles and databases. It speaks through `psql`, which comes with every server, so that
//! this tool needs no driver of its own.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::{console::Step, docker::Compose, endpoint::Endpoint, programs, state::State};

/// The role that this tool makes for itself in a container.
const DOCKER_ADMIN: &str = "postrider_dev";

/// A PostgreSQL that answers, and somebody who may create roles and databases on it.
#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    pub(crate) admin: Endpoint,
    psql: Psql,
    /// In front of the names of databases and roles; empty where the whole server is ours.
    prefix: String,
}

#[derive(Clone, Debug)]
enum Psql {
    Program(PathBuf),
    Container(Compose),
}

impl Postgres {
    pub(super) fn private(admin: Endpoint, psql: PathBuf) -> Self {
        Self { admin, psql: Psql::Program(psql), prefix: String::new() }
    }

    /// The name of a service's role and database.
    pub(crate) fn name(&self, service: &str) -> String {
        format!("{}{}", self.prefix, service.replace('-', "_"))
    }

    /// The URL with which a service reaches its own database.
    pub(crate) fn url(&self, service: &str, password: &str) -> Endpoint {
        let name = self.name(service);
        self.admin.for_user(&name, password, &name)
    }

    /// Makes the role and the database of a service, if they are not there, and sets the password. The role owns its database,
    /// may enter no other, and is nobody's administrator.
    pub(crate) async fn ensure_service(&self, service: &str, password: &str) -> Result<()> {
        let name = self.name(service);
        // Names are of this tool's making and passwords are hexadecimal: neither needs quoting.
        let script = format!(
            r#"
            select 'create role "{name}"' where not exists (select from pg_roles where rolname = '{name}') \gexec
            alter role "{name}" login nosuperuser nocreatedb nocreaterole password '{password}';
            select 'grant "{name}" to current_user' from pg_roles where rolname = current_user and not rolsuper \gexec
            select 'create database "{name}" owner "{name}"' where not exists (select from pg_database where datname = '{name}') \gexec
            revoke all on database "{name}" from public;
            "#
        );
        self.run(&self.admin.path, &script).await.with_context(|| format!("cannot prepare the database {name}"))?;
        Ok(())
    }

    /// Drops a database if it is there, with whoever is connected to it, and makes it anew.
    pub(crate) async fn recreate_database(&self, name: &str) -> Result<()> {
        self.run(
            &self.admin.path,
            &format!("drop database if exists \"{name}\" with (force);\ncreate database \"{name}\";"),
        )
        .await?;
        Ok(())
    }

    /// Makes a database with all that the one of a service holds, at a time when nobody is connected to that.
    pub(crate) async fn copy_database(&self, service: &str, copy: &str) -> Result<()> {
        let (name, copy) = (self.name(service), self.name(copy));
        let script = format!(
            "drop database if exists \"{copy}\" with (force);\ncreate database \"{copy}\" template \"{name}\";"
        );
        self.run(&self.admin.path, &script).await.with_context(|| format!("cannot copy the database {name}"))?;
        Ok(())
    }

    pub(crate) async fn drop_database(&self, name: &str) -> Result<()> {
        self.run(&self.admin.path, &format!("drop database if exists \"{name}\" with (force);")).await?;
        Ok(())
    }

    /// Empties the database of a service, and leaves it to the service's role as a new one would be. Dropping it takes seconds: the server
    /// writes everything that it holds to the disk first.
    pub(crate) async fn empty(&self, service: &str) -> Result<()> {
        let name = self.name(service);
        let script = "
            select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid();
            select format('drop schema %I cascade', nspname) from pg_namespace
            where nspname !~ '^pg_' and nspname <> 'information_schema' \\gexec
            create schema public authorization pg_database_owner;
            grant usage on schema public to public;";
        self.run(&name, script).await.with_context(|| format!("cannot empty the database {name}"))?;
        Ok(())
    }

    /// Runs a script in a database, stopping at the first error, and answers with the rows as text.
    pub(crate) async fn run(&self, database: &str, script: &str) -> Result<String> {
        let mut command = self.psql.command(&self.admin, database);
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--file=-"]);
        programs::output_of_input(&mut command, script).await
    }

    /// `pgbench` in a database.
    pub(crate) fn pgbench(&self, database: &str, arguments: &[String]) -> Command {
        let mut command = self.psql.beside("pgbench", &self.admin);
        command.args(arguments);
        match &self.psql {
            Psql::Program(_) => command.arg(address(&self.admin, database)),
            Psql::Container(_) => command.args(["--username", DOCKER_ADMIN, database]),
        };
        command
    }

    async fn answers(&self) -> Result<()> {
        let asked = tokio::time::timeout(Duration::from_secs(10), self.run(&self.admin.path, "select 1;"));
        asked.await.context("no answer in 10 s")?.map(|_| ())
    }

    /// Waits until it answers; `still_coming` ends the wait early when it cannot come any more.
    pub(super) async fn wait(
        &self,
        step: &mut Step,
        patience: Duration,
        still_coming: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let started = std::time::Instant::now();
        loop {
            let Err(reason) = self.answers().await else { return Ok(()) };
            still_coming()?;
            ensure!(started.elapsed() < patience, "PostgreSQL does not answer: {reason:#}");
            step.note(reason.to_string().lines().last().unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Psql {
    fn command(&self, admin: &Endpoint, database: &str) -> Command {
        let mut command = self.beside("psql", admin);
        match self {
            Self::Program(_) => command.arg("--dbname").arg(address(admin, database)),
            Self::Container(_) => command.args(["--username", DOCKER_ADMIN, "--dbname", database]),
        };
        command
    }

    /// A program that comes with it.
    fn beside(&self, program: &str, admin: &Endpoint) -> Command {
        match self {
            Self::Program(psql) => {
                let mut command = Command::new(psql.with_file_name(program));
                // The password stays out of the process list.
                command.env("PGPASSWORD", &admin.password).env("PGCONNECT_TIMEOUT", "5");
                command
            }
            Self::Container(compose) => {
                let mut command = compose.exec("postgres");
                command.arg(program);
                command
            }
        }
    }
}

/// Without the password.
fn address(admin: &Endpoint, database: &str) -> String {
    let url = admin.for_user(&admin.user, "", database).to_string();
    if admin.user.is_empty() { url.replacen('@', "", 1) } else { url }
}

/// A server that the caller named. Everything made on it carries the stack's name, so that nothing that is already there is touched.
pub(super) async fn given(admin: Endpoint, stack: &str) -> Result<Postgres> {
    let step = Step::start("PostgreSQL", "asking the server of DATABASE_URL");
    let psql = super::private_postgres::any_psql().await.context(
        "psql is needed to prepare the databases on the server of DATABASE_URL: install postgresql-client, or unset DATABASE_URL to have an \
         engine started",
    )?;
    let admin = if admin.path.is_empty() { admin.for_user(&admin.user, &admin.password, "postgres") } else { admin };
    let prefix = format!("postrider_{}_", stack.replace('-', "_"));
    let postgres = Postgres { admin, psql: Psql::Program(psql), prefix };
    postgres.answers().await.with_context(|| format!("DATABASE_URL: {} does not let us in", postgres.admin))?;
    step.done(format_args!("answers at {}; the databases are {}*", postgres.admin, postgres.prefix));
    Ok(postgres)
}

pub(super) async fn in_docker(state: &State, compose: &Compose) -> Result<Postgres> {
    let mut step = Step::start("PostgreSQL", "waiting for the container");
    let port = compose.port("postgres", 5432).await?;
    let password = &state.admin_password;
    let make_admin = format!(
        "psql --no-psqlrc --quiet --username \"${{POSTGRES_USER:-postgres}}\" --dbname postgres --set=ON_ERROR_STOP=1 --command \
         \"do \\$\\$ begin if not exists (select from pg_roles where rolname = '{DOCKER_ADMIN}') then create role {DOCKER_ADMIN}; end if; \
         end \\$\\$\" --command \"alter role {DOCKER_ADMIN} login superuser password '{password}'\""
    );
    let started = std::time::Instant::now();
    // The image restarts its server once while it sets itself up.
    while let Err(reason) = programs::output(compose.exec("postgres").args(["sh", "-c", &make_admin])).await {
        ensure!(started.elapsed() < Duration::from_secs(90), "PostgreSQL in its container does not answer: {reason:#}");
        step.note("the server is not ready");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let admin = Endpoint::local("postgres", port, DOCKER_ADMIN, password, "postgres");
    let postgres = Postgres { admin, psql: Psql::Container(compose.clone()), prefix: String::new() };
    postgres.wait(&mut step, Duration::from_secs(30), || Ok(())).await?;
    step.done(format_args!("in Docker, on port {port}"));
    Ok(postgres)
}
