//! `proof check <folder>`: judges a run that lies in a folder. Ends with 0 if every invariant holds, with 1 if not, with 2 if the folder
//! holds no run. `proof report <folder>…` judges several and prints a page about them.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use proof::{Run, check, report};

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
    /// Judge runs and print a page about them, as HTML.
    Report {
        /// The runs.
        #[arg(required = true)]
        folders: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let judged = match Cli::parse().command {
        Command::Check { folder, json } => judge(&folder, json),
        Command::Report { folders } => write_report(&folders),
    };
    match judged {
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

fn write_report(folders: &[PathBuf]) -> anyhow::Result<bool> {
    let mut runs = Vec::new();
    for folder in folders {
        let run = Run::load(folder)?;
        let verdict = check(&run);
        runs.push((run, verdict));
    }
    let names: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let page = report(&runs, &format!("proof report {}", names.join(" ")));
    writeln!(std::io::stdout(), "{page}")?;
    Ok(runs.iter().all(|(_, verdict)| verdict.holds()))
}
