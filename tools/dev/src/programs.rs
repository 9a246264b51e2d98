//! Other programs, run to their end. What they print is shown only when it explains a failure.

use std::{ffi::OsStr, path::Path, process::Stdio};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use crate::console::Step;

/// Whether `program` is there and runs.
pub(crate) async fn is_there(program: impl AsRef<OsStr>, probe: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(probe).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

/// Runs a command and answers with what it wrote to its standard output.
pub(crate) async fn output(command: &mut Command) -> Result<String> {
    output_of_input(command, "").await
}

/// The same for a command that reads `input`.
pub(crate) async fn output_of_input(command: &mut Command, input: &str) -> Result<String> {
    let program = Path::new(command.as_std().get_program()).to_path_buf();
    let name = program.file_name().unwrap_or_default().display().to_string();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input says in its own words why not.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let done = child.wait_with_output().await.with_context(|| format!("{name} cannot be waited for"))?;
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    let err = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "{name} ended with {}\n{}{}", done.status, out.trim_end(), err.trim_end());
    Ok(out)
}

/// What a command printed, on both of its outputs, and whether it succeeded.
pub(crate) struct Watched {
    pub(crate) success: bool,
    pub(crate) printed: String,
}

/// Runs a command that takes a while, showing its latest line as what the step is doing.
pub(crate) async fn watch(command: &mut Command, step: &mut Step) -> Result<Watched> {
    let program = Path::new(command.as_std().get_program()).display().to_string();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    let mut out = BufReader::new(child.stdout.take().context("stdout is piped")?).split(b'\n');
    let mut err = BufReader::new(child.stderr.take().context("stderr is piped")?).split(b'\n');
    let (mut out_open, mut err_open, mut printed) = (true, true, String::new());
    while out_open || err_open {
        let line = tokio::select! {
            line = out.next_segment(), if out_open => { let line = line?; out_open = line.is_some(); line }
            line = err.next_segment(), if err_open => { let line = line?; err_open = line.is_some(); line }
        };
        if let Some(line) = line {
            let line = String::from_utf8_lossy(&line).into_owned();
            step.note(line.trim());
            printed.push_str(&line);
            printed.push('\n');
        }
    }
    Ok(Watched { success: child.wait().await?.success(), printed })
}
