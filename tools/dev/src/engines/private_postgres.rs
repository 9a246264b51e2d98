//! A PostgreSQL of our own, from the system's package: own data, own port, loopback only, stopped with the stack. Instances that
//! are already on the machine are neither used nor touched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::postgres::Postgres;
use crate::{
    console::Step,
    endpoint::Endpoint,
    files,
    process::{Tracked, spawn_detached},
    programs,
    state::State,
    workspace::{self, Account},
};

const SUPERUSER: &str = "postgres";
/// Debian and its family, then Red Hat's.
const INSTALLATIONS: [(&str, &str); 2] = [("/usr/lib/postgresql", "bin"), ("/usr", "bin")];
/// The longest path that fits into sockaddr_un, less the name that PostgreSQL gives its socket.
const SOCKET_FOLDER_MAX_BYTES: usize = 107 - ".s.PGSQL.65535".len() - 1;
const START_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// The folders with PostgreSQL's programs, newest version first.
fn installations() -> Vec<(u32, PathBuf)> {
    let mut found = Vec::new();
    for (base, bin) in INSTALLATIONS {
        for entry in fs::read_dir(base).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let programs = entry.path().join(bin);
            let version = name.trim_start_matches("pgsql-").parse();
            if let (Ok(version), true) =
                (version, programs.join("initdb").exists() && programs.join("postgres").exists())
            {
                found.push((version, programs));
            }
        }
    }
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found
}

pub(super) fn is_installed() -> bool {
    !installations().is_empty()
}

/// A `psql`, from wherever.
pub(super) async fn any_psql() -> Option<PathBuf> {
    if programs::is_there("psql", &["--version"]).await {
        return Some(PathBuf::from("psql"));
    }
    installations().into_iter().map(|(_, bin)| bin.join("psql")).find(|psql| psql.exists())
}

pub(super) fn has_data(state: &State) -> bool {
    state.folder().join("postgres/data/PG_VERSION").exists()
}

pub(super) async fn start(state: &mut State) -> Result<Postgres> {
    let mut step = Step::start("PostgreSQL", "starting");
    let account = workspace::engine_account()?;
    let folder = workspace::engine_folder(&state.folder().join("postgres"), account.as_ref())?;
    let data = folder.join("data");
    let bin = programs_for(&data)?;
    let admin = Endpoint::local("postgres", state.ports.postgres(), SUPERUSER, &state.admin_password, "postgres");
    let postgres = Postgres::private(admin, bin.join("psql"));

    let running = state.postgres.clone().filter(Tracked::is_running).or_else(|| from_pid_file(&data));
    let reused = running.is_some();
    let process = match running {
        Some(process) => process,
        None => {
            if !data.join("PG_VERSION").exists() {
                step.note("making its data folder");
                init(&bin, &folder, &data, &state.admin_password, account.as_ref()).await?;
            }
            ensure!(
                crate::state::is_free(state.ports.postgres()),
                "port {} is taken by another program; stop that, or use another --name",
                state.ports.postgres()
            );
            spawn(state, &bin, &folder, &data, account.as_ref())?
        }
    };
    state.postgres = Some(process.clone());
    state.save()?;
    let log = state.log("postgres");
    postgres
        .wait(&mut step, START_PATIENCE, || {
            ensure!(process.is_running(), "PostgreSQL ended while starting:\n{}", files::tail(&log, 15));
            Ok(())
        })
        .await?;
    let verb = if reused { "runs" } else { "ready" };
    let elsewhere =
        if folder.starts_with(state.folder()) { String::new() } else { format!(", data in {}", folder.display()) };
    step.done(format_args!("{verb} on 127.0.0.1:{}{elsewhere}", state.ports.postgres()));
    Ok(postgres)
}

/// The programs of the version that made the data, or the newest.
fn programs_for(data: &Path) -> Result<PathBuf> {
    let installed = installations();
    let made_by =
        fs::read_to_string(data.join("PG_VERSION")).ok().and_then(|version| version.trim().parse::<u32>().ok());
    let found = match made_by {
        Some(version) => installed.into_iter().find(|(installed, _)| *installed == version).with_context(|| {
            format!("the data of this stack is of PostgreSQL {version}, which is not installed any more: install postgresql-{version}, or delete the \
                     data with `cargo dev down --purge`")
        })?,
        None => installed.into_iter().next().context("PostgreSQL is not installed")?,
    };
    Ok(found.1)
}

async fn init(bin: &Path, folder: &Path, data: &Path, password: &str, account: Option<&Account>) -> Result<()> {
    let password_file = folder.join("password");
    files::write_private(&password_file, password.as_bytes(), account)?;
    let mut initdb = tokio::process::Command::new(bin.join("initdb"));
    initdb.arg("-D").arg(data).args(["-U", SUPERUSER, "-E", "UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256"]);
    initdb.arg("--pwfile").arg(&password_file).current_dir(folder);
    if let Some(account) = account {
        initdb.uid(account.uid).gid(account.gid);
    }
    let made = programs::output(&mut initdb).await;
    fs::remove_file(&password_file).with_context(|| format!("cannot remove {}", password_file.display()))?;
    made.map(|_| ())
}

fn spawn(state: &State, bin: &Path, folder: &Path, data: &Path, account: Option<&Account>) -> Result<Tracked> {
    // Where the path is too long for a socket, there is TCP.
    let socket_folder =
        if folder.as_os_str().len() <= SOCKET_FOLDER_MAX_BYTES { folder.display().to_string() } else { String::new() };
    let settings = [
        format!("port={}", state.ports.postgres()),
        "listen_addresses=127.0.0.1".to_owned(),
        format!("unix_socket_directories={socket_folder}"),
        "max_connections=600".to_owned(),
        "fsync=on".to_owned(),
        "logging_collector=off".to_owned(),
        "log_line_prefix=%m [%p] %q%u@%d ".to_owned(),
    ];
    let mut command = Command::new(bin.join("postgres"));
    command.arg("-D").arg(data).current_dir(folder).env("LC_ALL", "C.UTF-8");
    for setting in settings {
        command.arg("-c").arg(setting);
    }
    spawn_detached(&mut command, account, &state.log("postgres"), &data.display().to_string())
}

/// A server that was started here by a run that could not write down so.
fn from_pid_file(data: &Path) -> Option<Tracked> {
    let pid = fs::read_to_string(data.join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()?;
    Tracked::find(pid, &data.display().to_string())
}

pub(super) async fn stop(state: &mut State) -> Result<()> {
    let data = state.folder().join("postgres/data");
    let data = data.canonicalize().unwrap_or(data);
    let Some(process) = state.postgres.clone().filter(Tracked::is_running).or_else(|| from_pid_file(&data)) else {
        return Ok(());
    };
    let step = Step::start("PostgreSQL", "stopping");
    // SIGINT is its fast shutdown: sessions are ended, nothing is lost.
    let clean = process.stop(Signal::INT, STOP_PATIENCE).await?;
    state.postgres = None;
    state.save()?;
    step.done(if clean { "stopped" } else { "killed; it recovers at the next start" });
    Ok(())
}
