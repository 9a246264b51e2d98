//! On what was measured: figures of another machine are no figures of this one.

use std::{collections::BTreeMap, fs, thread};

use serde::{Deserialize, Serialize};

/// What the machine, its engines and the program are, as far as it shows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// By what each is of: `processor`, `memory`, `PostgreSQL`, …
    pub facts: BTreeMap<String, String>,
}

impl Machine {
    /// What the system says of itself (Linux; elsewhere the little that is the same everywhere).
    #[must_use]
    pub fn look() -> Self {
        let mut machine = Self::default();
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        machine.add("processor", field(&read("/proc/cpuinfo"), "model name").unwrap_or_default());
        machine.add("cores", thread::available_parallelism().map_or(0, usize::from).to_string());
        machine.add("memory", field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default());
        machine.add("kernel", read("/proc/sys/kernel/osrelease").trim());
        machine.add("load before", read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "));
        machine
    }

    /// How many processes have been running for the last minute, if that is so many that a measurement suffers.
    #[must_use]
    pub fn is_busy(&self) -> Option<f64> {
        let load = self.facts.get("load before")?.split(' ').next()?.parse().ok()?;
        (load > 0.7).then_some(load)
    }

    /// Adds a fact, if there is anything to say.
    pub fn add(&mut self, of: &str, fact: impl Into<String>) {
        let fact = fact.into();
        if !fact.is_empty() {
            self.facts.insert(of.to_owned(), fact);
        }
    }
}
