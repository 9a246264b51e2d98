//! Installs Debian's packages where that is allowed: by root. What is installed here is not left running, and not started at the
//! next boot either: the stack runs instances of its own.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::{console::Step, programs, workspace};

const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Where nobody but root can put anything, such as a link to a file that would be emptied.
const LOCK: &str = "/run/postrider-packages.lock";
/// While somebody else is installing.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Debian's policy layer: 101 means "action forbidden by policy" (invoke-rc.d(8)).
const FORBID_STARTS: &str = "#!/bin/sh\n# Written by cargo dev for the time of one installation.\nexit 101\n";
/// What the packages would start at the next boot.
const UNITS: [&str; 6] = [
    "postgresql.service",
    "rabbitmq-server.service",
    "epmd.service",
    "epmd.socket",
    "prometheus.service",
    "prometheus-postgres-exporter.service",
];

/// Installs packages that are missing, where this may; the error of where it may not is `explanation`.
pub(crate) async fn packages(packages: &[&str], explanation: &str) -> Result<()> {
    if !workspace::is_root() || !programs::is_there("apt-get", &["--version"]).await {
        bail!(explanation.to_owned());
    }
    let mut step = Step::start("packages", &format!("installing {} with apt-get", packages.join(" and ")));
    install(packages, &mut step).await.with_context(|| explanation.to_owned())?;
    step.done(format_args!("{} installed; no system service was started", packages.join(" and ")));
    Ok(())
}

async fn install(packages: &[&str], step: &mut Step) -> Result<()> {
    let _alone = alone(step).await?;
    let units_before = enabled_units().await;
    let policy = Policy::forbid_starts()?;
    // Lists may be missing or old on a fresh machine; a mirror that fails now would fail in the installation with a clearer message.
    let _ = programs::watch(apt().arg("update"), step).await;
    let done =
        programs::watch(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages), step).await?;
    drop(policy);
    ensure!(done.success, "apt-get install:\n{}", done.printed);
    for unit in enabled_units().await {
        if !units_before.contains(&unit) {
            programs::output(Command::new("systemctl").args(["disable", "--quiet", unit])).await?;
        }
    }
    Ok(())
}

/// One `cargo dev` of the machine at a time installs something: apt-get does not wait for another one.
async fn alone(step: &mut Step) -> Result<File> {
    let file = File::create(LOCK).with_context(|| format!("cannot write {LOCK}"))?;
    while let Err(error) = file.try_lock() {
        match error {
            TryLockError::WouldBlock => step.note("another `cargo dev` is installing something"),
            TryLockError::Error(error) => return Err(error).with_context(|| format!("cannot lock {LOCK}")),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(file)
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

async fn enabled_units() -> Vec<&'static str> {
    let mut enabled = Vec::new();
    for unit in UNITS {
        if programs::is_there("systemctl", &["is-enabled", "--quiet", unit]).await {
            enabled.push(unit);
        }
    }
    enabled
}

/// Keeps the package scripts from starting services while it lives. A policy that the machine already has is left as it is.
struct Policy {
    ours: bool,
}

impl Policy {
    fn forbid_starts() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY)
            .with_context(|| format!("cannot write {POLICY}"))?;
        file.write_all(FORBID_STARTS.as_bytes()).with_context(|| format!("cannot write {POLICY}"))?;
        Ok(Self { ours: true })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.ours {
            // It is ours alone and harmless for the stack; whoever owns the machine can remove it too.
            let _ = fs::remove_file(POLICY);
        }
    }
}
