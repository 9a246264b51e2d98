//! Shows the logs of all services of a stack as they are written, until Ctrl-C.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::{console, replicas, state::State};

const LOOK_EVERY: Duration = Duration::from_millis(200);

struct Log {
    label: String,
    path: PathBuf,
    position: u64,
    /// A line whose end is not written yet.
    unfinished: String,
}

/// From the current end of each log on. Also says, once, when a service ends.
pub(crate) async fn follow_until_interrupted(state: &State) -> Result<()> {
    let mut logs: Vec<_> =
        state.services.iter().map(|service| Log::at_end(state, &service.service, service.replica)).collect();
    let mut ended: BTreeMap<String, ()> = BTreeMap::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    loop {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => return interrupted.context("cannot listen for Ctrl-C"),
            _ = terminate.recv() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        for log in &mut logs {
            log.show_new_lines();
        }
        for service in &state.services {
            let label = replicas::label(&service.service, service.replica);
            if !service.process.is_running() && ended.insert(label.clone(), ()).is_none() {
                console::line(format_args!(
                    "{} ended; `cargo dev up --detach` in another terminal starts it again",
                    console::bold(&label)
                ));
            }
        }
    }
}

impl Log {
    fn at_end(state: &State, service: &str, replica: u16) -> Self {
        let label = replicas::label(service, replica);
        let path = state.log(&label);
        let position = path.metadata().map_or(0, |found| found.len());
        Self { label, path, position, unfinished: String::new() }
    }

    fn show_new_lines(&mut self) {
        // A log that cannot be read right now is looked at again in a moment.
        let Ok(new) = self.read_on() else { return };
        self.unfinished.push_str(&new);
        while let Some((line, rest)) = self.unfinished.split_once('\n') {
            console::line(format_args!("{:16} │ {line}", self.label));
            self.unfinished = rest.to_owned();
        }
    }

    fn read_on(&mut self) -> std::io::Result<String> {
        let mut file = File::open(&self.path)?;
        if file.metadata()?.len() < self.position {
            self.position = 0;
        }
        file.seek(SeekFrom::Start(self.position))?;
        let mut bytes = Vec::new();
        self.position += file.read_to_end(&mut bytes)? as u64;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
