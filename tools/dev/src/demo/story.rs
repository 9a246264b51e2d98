//! Where a scenario is told: on the terminal at once, or into a record that is shown later.

use std::{fmt::Display, time::Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::console;

pub(super) struct Story {
    record: Option<UnboundedSender<String>>,
    began: Instant,
}

impl Story {
    pub(super) fn live() -> Self {
        Self { record: None, began: Instant::now() }
    }

    pub(super) fn recorded(record: UnboundedSender<String>) -> Self {
        Self { record: Some(record), began: Instant::now() }
    }

    /// How long ago the scenario began, such as `+1.2 s`.
    pub(super) fn at(&self) -> String {
        format!("+{:.2} s", self.began.elapsed().as_secs_f64())
    }

    pub(super) fn heading(&self, text: &str) {
        self.line(format!("\n{}", console::bold(text)));
    }

    /// A label and what belongs to it.
    pub(super) fn row(&self, label: &str, text: impl Display) {
        self.line(format!("  {label:9} {text}"));
    }

    fn line(&self, text: String) {
        match &self.record {
            // Nobody listening is no reason to stop in the middle.
            Some(record) => drop(record.send(text)),
            None => console::line(text),
        }
    }
}
