//! Another RabbitMQ than the system's, with all that it needs, in a folder of its own: debootstrap makes it once from the Debian mirror
//! that this machine's apt already uses. Nothing in it is run while it is made but the packages' own scripts, and it holds no data.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::{console::Step, install, programs, workspace};

/// Release of RabbitMQ, and the suite of Debian that has it.
const SUITES: [(&str, &str); 1] = [("4.3", "sid")];

/// Everything is mounted in a namespace that ends with the last process in it, so that nothing stays mounted, whatever happens.
pub(super) const NAMESPACE: [&str; 4] = ["unshare", "--mount", "--propagation", "private"];

/// What can be had.
pub(crate) fn versions() -> Vec<&'static str> {
    SUITES.iter().map(|(version, _)| *version).collect()
}

/// The folder of this release, made if it is not there.
pub(super) async fn folder(version: &str) -> Result<PathBuf> {
    let base = workspace::root()?.join(".dev");
    let folder = base.join(format!("_rabbitmq-{version}"));
    if folder.exists() {
        return Ok(folder);
    }
    let suite = SUITES.iter().find(|(known, _)| *known == version).map(|(_, suite)| *suite);
    let suite = suite.with_context(|| format!("there is no RabbitMQ {version} to be had"))?;
    let otherwise = format!(
        "Or let AMQP_URL and RABBITMQ_MANAGEMENT_URL name a RabbitMQ {version} that runs, and leave --rabbitmq away."
    );
    ensure!(
        workspace::is_root(),
        "RabbitMQ {version} is brought into a folder of its own with debootstrap, and run in it: only root may do that.\n{otherwise}"
    );
    if !programs::is_there("debootstrap", &["--version"]).await {
        let explanation =
            format!("debootstrap is needed for RabbitMQ {version}: sudo apt-get install debootstrap\n{otherwise}");
        install::packages(&["debootstrap"], &explanation).await?;
    }
    let lock = base.join(format!("_rabbitmq-{version}.lock"));
    let _one_at_a_time = only_one(&lock)?;
    let mut step = Step::start("RabbitMQ", &format!("bringing {version} into {}", folder.display()));
    let found = make(&folder, version, suite, &mut step).await.with_context(|| {
        format!("RabbitMQ {version} could not be brought into {}; the same command goes on with it", folder.display())
    })?;
    step.done(format_args!("{found} is in {}", folder.display()));
    Ok(folder)
}

/// Under another name first: a folder of the right name is complete. Packages that were loaded are kept until then.
async fn make(folder: &Path, version: &str, suite: &str, step: &mut Step) -> Result<String> {
    let (new, packages) = (folder.with_extension("new"), folder.with_extension("packages"));
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("cannot delete {}", new.display()))?;
    }
    fs::create_dir_all(&packages).with_context(|| format!("cannot make {}", packages.display()))?;
    let mirror = mirror(step).await?;
    let mut command = in_namespace("debootstrap");
    command.args(["--variant=minbase", "--include=rabbitmq-server"]);
    command.arg(format!("--cache-dir={}", packages.display())).arg(suite).arg(&new).arg(&mirror);
    let done = programs::watch(&mut command, step).await?;
    let end: Vec<&str> = done.printed.lines().rev().take(10).collect();
    ensure!(done.success, "debootstrap:\n{}", end.into_iter().rev().collect::<Vec<_>>().join("\n"));
    // Erlang finds its own nodes by this name.
    fs::write(new.join("etc/hosts"), "127.0.0.1 localhost\n").context("cannot write etc/hosts")?;
    let mut asked = Command::new("chroot");
    asked.arg(&new).args(["dpkg-query", "--show", "--showformat=${Version}", "rabbitmq-server"]);
    let found = programs::output(&mut asked).await?;
    ensure!(
        found.starts_with(&format!("{version}.")),
        "Debian's {suite} has RabbitMQ {found} by now, and not {version} any more"
    );
    fs::rename(&new, folder).with_context(|| format!("cannot rename {}", new.display()))?;
    fs::remove_dir_all(&packages).with_context(|| format!("cannot delete {}", packages.display()))?;
    Ok(found)
}

fn in_namespace(program: &str) -> Command {
    let [first, rest @ ..] = NAMESPACE;
    let mut command = Command::new(first);
    command.args(rest).arg(program);
    command
}

fn only_one(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    if file.try_lock().is_err() {
        bail!("another `cargo dev` is bringing the same RabbitMQ here; wait for it");
    }
    Ok(file)
}

/// The Debian mirror that apt uses. Which one is asked is the machine's business, not ours.
async fn mirror(step: &mut Step) -> Result<String> {
    if let Some(mirror) = debian_in(&index_targets().await?) {
        return Ok(mirror);
    }
    // Without lists, apt does not know what its sources are.
    programs::watch(Command::new("apt-get").args(["--quiet", "update"]), step).await?;
    debian_in(&index_targets().await?).context("none of apt's sources is a mirror of Debian; add one")
}

async fn index_targets() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI)|$(ORIGIN)|$(LABEL)", "Created-By: Packages"]);
    programs::output(&mut command).await
}

/// The first of Debian's own archives in what apt says. Its security archive has another label and lacks the rest.
fn debian_in(targets: &str) -> Option<String> {
    let parts = targets.lines().map(|line| line.split('|').collect::<Vec<_>>());
    let mut debian = parts.filter_map(|parts| match parts[..] {
        [uri, "Debian", "Debian"] => Some(uri.to_owned()),
        _ => None,
    });
    debian.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_of_debian_itself() {
        let targets = "https://packages.example/apt|Somebody|Tools\nhttp://mirror.example/debian-security/|Debian|Debian-Security\n\
                       http://mirror.example/debian/|Debian|Debian\nhttp://other.example/debian/|Debian|Debian";
        assert_eq!(debian_in(targets).as_deref(), Some("http://mirror.example/debian/"));
        assert_eq!(debian_in("http://mirror.example/debian/||"), None);
    }
}
