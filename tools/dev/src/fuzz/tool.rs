//! Schemathesis, in a virtual environment of its own: installed once, at the version that is pinned here.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::{console::Step, install, programs, workspace};

const VERSION: &str = "4.32.5";
const NEEDED: &str = "Python 3.10 or later with its venv module is needed to try the services with generated requests: install it (on Debian: \
                      sudo apt-get install python3-venv)";

/// Its program.
pub(super) async fn install() -> Result<PathBuf> {
    let folder = workspace::root()?.join(".dev/tools").join(format!("schemathesis-{VERSION}"));
    let program = folder.join("bin/schemathesis");
    let printed = programs::output(Command::new(&program).arg("--version")).await;
    if printed.is_ok_and(|printed| printed.contains(VERSION)) {
        return Ok(program);
    }
    let mut step = Step::start("schemathesis", "installing it, once");
    // Debian's python3 has no pip for new environments without this package.
    if !programs::is_there("python3", &["-c", "import venv, ensurepip"]).await {
        install::packages(&["python3-venv"], NEEDED).await?;
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    let made = programs::watch(&mut make, &mut step).await?;
    ensure!(made.success, "{NEEDED}:\n{}", made.printed);
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
    pip.arg(format!("schemathesis=={VERSION}"));
    let installed = programs::watch(&mut pip, &mut step).await?;
    ensure!(installed.success, "schemathesis {VERSION} cannot be installed from PyPI:\n{}", installed.printed);
    step.done(format_args!("{VERSION} installed"));
    Ok(program)
}
