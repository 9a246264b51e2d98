//! Builds the programs of the workspace and says where they are.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::{console::Step, programs, workspace};

/// How programs are built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quickly, to work with.
    #[default]
    Dev,
    /// As they run in production, to measure.
    Release,
    /// As [`Profile::Dev`], and so that they can be made to fail from outside ([`failpoints`]); together with the tests, which share all
    /// that they are made of.
    Tested,
    /// Optimized, and so that they can be made to fail: for many orders and faults.
    Campaign,
}

/// Programs by name.
pub(crate) struct Binaries(BTreeMap<String, PathBuf>);

impl Binaries {
    pub(crate) fn path(&self, name: &str) -> Result<&PathBuf> {
        self.0.get(name).with_context(|| format!("the workspace has no program {name}"))
    }
}

/// What cargo says about one thing that it built (cargo's `--message-format=json`), as much as is needed.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Built>,
}

#[derive(Deserialize)]
struct Built {
    /// A program's own tests are a program, too.
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// `cargo` as a caller outside of it would run it: the variables that it gives to what it runs would make it build things anew.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"]
            .iter()
            .any(|own| text.starts_with(own))
        {
            command.env_remove(&name);
        }
    }
    command.current_dir(workspace::root()?).stdin(Stdio::null());
    Ok(command)
}

/// With these every point in the code can fail, if it is asked to. Whoever builds tests or programs that are tested builds with them, so that
/// everything is built once.
pub(crate) const TESTED: [&str; 2] = ["--features", "failpoints/enabled"];

/// Builds every program of the workspace in one go; cargo shows its own progress.
pub(crate) async fn build(profile: Profile) -> Result<Binaries> {
    let step = Step::start("build", "building the services; the first time takes a few minutes");
    let mut command = cargo()?;
    command.args(["build", "--workspace", "--bins"]);
    match profile {
        Profile::Dev => {}
        Profile::Release => drop(command.arg("--release")),
        Profile::Tested => drop(command.arg("--tests").args(TESTED)),
        Profile::Campaign => drop(command.args(["--profile", "campaign"]).args(TESTED)),
    }
    let mut built = build_with(command, step).await?;
    if profile == Profile::Tested {
        set_apart(&mut built.0)?;
    }
    Ok(built)
}

/// Does what this program was asked to do by an optimized one. Whether that ended well.
pub(crate) async fn run_again(profile: Profile) -> Result<bool> {
    let program = build(profile).await?.path("dev")?.clone();
    let mut run = Command::new(&program);
    run.args(std::env::args_os().skip(1)).kill_on_drop(true);
    let ended = run.status().await.with_context(|| format!("cannot run {}", program.display()))?;
    Ok(ended.success())
}

/// Builds one program to measure with, and what it needs.
pub(crate) async fn build_alone(program: &str, profile: Profile) -> Result<PathBuf> {
    let step = Step::start("build", "building what measures; the first time, optimized, takes minutes");
    let mut command = cargo()?;
    command.args(["build", "--package", program, "--bins"]);
    command.args((profile == Profile::Release).then_some("--release"));
    Ok(build_with(command, step).await?.path(program)?.clone())
}

/// Builds every program as it was at a commit, into a folder of its own.
pub(crate) async fn build_at(commit: &str) -> Result<Binaries> {
    let root = workspace::root()?;
    let git = async |arguments: &[&str]| programs::output(Command::new("git").current_dir(&root).args(arguments)).await;
    let hash = git(&["rev-parse", "--short=12", "--verify", &format!("{commit}^{{commit}}")]).await?;
    let hash = hash.trim();
    let tree = root.join(".dev/_commits").join(hash);
    if !tree.exists() {
        let path = tree.to_str().context("the workspace's path is text")?;
        git(&["worktree", "prune"]).await?;
        git(&["worktree", "add", "--detach", path, hash]).await?;
    }
    let step = Step::start("build", &format!("building the services of {hash}; the first time takes minutes"));
    let mut command = cargo()?;
    command.args(["build", "--workspace", "--bins"]).current_dir(&tree);
    command.env("CARGO_TARGET_DIR", root.join("target/commits"));
    let built = build_with(command, step).await?;
    // The next commit is built into the same folder.
    let own = tree.join("bin");
    fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
    let mut kept = BTreeMap::new();
    for (name, path) in built.0 {
        let to = own.join(&name);
        fs::copy(&path, &to).with_context(|| format!("cannot copy {}", path.display()))?;
        kept.insert(name, to);
    }
    Ok(Binaries(kept))
}

async fn build_with(mut command: Command, step: Step) -> Result<Binaries> {
    command.arg("--message-format=json-render-diagnostics");
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().context("cannot run cargo")?;
    let stdout = child.stdout.take().context("cargo's output is piped")?;
    let mut binaries = BTreeMap::new();
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await? {
        let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
        if let (true, Some(executable), Some(target)) =
            (message.reason == "compiler-artifact", message.executable, message.target)
            && target.kind.iter().any(|kind| kind == "bin")
            && message.profile.is_some_and(|built| !built.test)
        {
            binaries.insert(target.name, executable);
        }
    }
    let status = child.wait().await?;
    ensure!(status.success(), "the services do not build; cargo says why above");
    step.done("services built");
    Ok(Binaries(binaries))
}

/// Takes programs to a folder of their own: cargo puts the next ones, built in another way, where these are.
fn set_apart(binaries: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let folder = workspace::root()?.join("target/tested");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, path) in binaries {
        // Somebody may be starting it at this moment: it is there at any time.
        let (apart, new) = (folder.join(name.as_str()), folder.join(format!("{name}.{}", std::process::id())));
        fs::hard_link(&*path, &new).with_context(|| format!("cannot link {}", new.display()))?;
        fs::rename(&new, &apart).with_context(|| format!("cannot link {}", apart.display()))?;
        // Where both are the same file already, nothing was renamed (rename(2)).
        if new.exists() {
            fs::remove_file(&new).with_context(|| format!("cannot delete {}", new.display()))?;
        }
        *path = apart;
    }
    Ok(())
}
