//! What is shown on the terminal: one aligned line per step, with the time it took. It never decides anything.

use std::{
    fmt::Display,
    io::{IsTerminal, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

const LABEL_WIDTH: usize = 16;
/// Where nobody watches a line change, a long wait says so once in this time.
const QUIET_NOTE: Duration = Duration::from_secs(10);

/// One line of text.
pub(crate) fn line(text: impl Display) {
    // A closed pipe is no reason to stop in the middle of the work.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A heading, set off from what was before.
pub(crate) fn heading(text: impl Display) {
    line(format_args!("\n{}", bold(&text.to_string())));
}

/// A label and what belongs to it, aligned with the steps.
pub(crate) fn row(label: &str, text: impl Display) {
    line(format_args!("  {label:LABEL_WIDTH$} {text}"));
}

/// Says why the command ends without having done its job.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "\nerror: {error:#}");
    ExitCode::FAILURE
}

/// Whether a person is watching.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Bold on a terminal, plain elsewhere.
pub(crate) fn bold(text: &str) -> String {
    if is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// A duration as people say it: `0.8 s`, `1 min 12 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

/// Something that takes a while. On a terminal its line changes while it runs; elsewhere only the end is written, and now and
/// then what it is waiting for.
pub(crate) struct Step {
    label: String,
    started: Instant,
    noted: Instant,
}

impl Step {
    pub(crate) fn start(label: &str, doing: &str) -> Self {
        let now = Instant::now();
        let step = Self { label: label.to_owned(), started: now, noted: now };
        step.rewrite(doing);
        step
    }

    /// What it is doing or waiting for right now.
    pub(crate) fn note(&mut self, doing: &str) {
        if is_terminal() {
            self.rewrite(doing);
        } else if self.noted.elapsed() >= QUIET_NOTE {
            self.noted = Instant::now();
            row(&self.label, format_args!("… {doing} ({})", duration(self.started.elapsed())));
        }
    }

    pub(crate) fn done(self, result: impl Display) {
        self.end(result);
    }

    /// The step did not do its job; the caller says the rest.
    pub(crate) fn failed(self, reason: impl Display) {
        self.end(format_args!("FAILED: {reason}"));
    }

    fn end(self, text: impl Display) {
        clear_line();
        row(&self.label, format_args!("{text} ({})", duration(self.started.elapsed())));
    }

    fn rewrite(&self, doing: &str) {
        if !is_terminal() {
            return;
        }
        clear_line();
        let mut out = std::io::stdout();
        let short: String = doing.chars().take(90).collect();
        let _ = write!(out, "  {:LABEL_WIDTH$} … {short} ({})", self.label, duration(self.started.elapsed()));
        let _ = out.flush();
    }
}

fn clear_line() {
    if is_terminal() {
        let _ = write!(std::io::stdout(), "\r\x1b[2K");
    }
}
