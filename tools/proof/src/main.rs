//! `proof check <folder>`: judges a run that lies in a folder. Ends with 0 if every invariant holds, with 1 if not, with 2 if the folder
//! holds no run.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use proof::{Run, check};

#[derive(Parser)]
#[command(about = "Judges what a run of the shop left behind.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say for each invariant whether it holds, and where it does not.
    Check {
        /// The run.
        folder: PathBuf,
        /// As JSON instead of text.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let Command::Check { folder, json } = Cli::parse().command;
    match judge(&folder, json) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn judge(folder: &std::path::Path, json: bool) -> anyhow::Result<bool> {
    let verdict = check(&Run::load(folder)?);
    let text = if json { serde_json::to_string_pretty(&verdict)? } else { verdict.to_string() };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(verdict.holds())
}
