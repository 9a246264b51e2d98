//! The end of a stack, with its data or without.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::{Stack, lock};
use crate::{
    backend, console, engines, monitoring, replicas,
    state::{ServiceProcess, State},
    workspace,
};

impl Stack {
    /// Stops everything that belongs to the stack, and deletes its data if `purge`.
    ///
    /// # Errors
    /// When something does not stop.
    pub async fn stop(mut self, purge: bool) -> Result<()> {
        stop_everything(&mut self.state, purge).await
    }

    /// Stops whatever runs of a stack, and deletes its data; nothing if there is none of that name.
    ///
    /// # Errors
    /// When something does not stop, or cannot be deleted.
    pub async fn purge(name: &str) -> Result<()> {
        let folder = workspace::stack_folder(&workspace::root()?, name);
        if !folder.exists() {
            return Ok(());
        }
        let _lock = lock(name)?;
        match State::load(name) {
            Ok(Some(mut state)) => stop_everything(&mut state, true).await,
            // Without a state that can be read, nothing is known to run.
            Ok(None) | Err(_) => delete(&folder),
        }
    }

    /// Stops what this run has started and leaves what ran before. `Ok(false)`: something was left.
    pub(crate) async fn stop_started(self) -> Result<bool> {
        let _lock = lock(&self.state.name)?;
        // Another `cargo dev` may have worked on the stack in the meantime.
        let Some(mut state) = State::load(&self.state.name)? else { return Ok(true) };
        let ours = |process: &&ServiceProcess| self.started.contains(&process.process);
        let ours: Vec<_> = state.services.iter().filter(ours).cloned().collect();
        replicas::stop_all(&mut state, &ours).await?;
        let all = self.engines_started && state.services.is_empty();
        if all {
            stop_everything(&mut state, false).await?;
        }
        Ok(all)
    }
}

pub(crate) async fn stop_everything(state: &mut State, purge: bool) -> Result<()> {
    let all = state.services.clone();
    replicas::stop_all(state, &all).await?;
    monitoring::stop(state).await?;
    if let Some((process, _)) = state.backend.take() {
        process.stop(Signal::TERM, Duration::from_secs(10)).await?;
        state.save()?;
        console::row(backend::label(state), "stopped");
    }
    engines::stop(state, purge).await?;
    if purge {
        delete(state.folder())?;
        console::row("data", format_args!("{} deleted", state.folder().display()));
    }
    Ok(())
}

/// Removes a stack's folder, and the folders of engines that it links to.
fn delete(folder: &PathBuf) -> Result<()> {
    for engine in ["postgres", "rabbitmq", "rabbitmq-2", "rabbitmq-3", "prometheus"] {
        if let Ok(elsewhere) = fs::read_link(folder.join(engine))
            && elsewhere.exists()
        {
            fs::remove_dir_all(&elsewhere).with_context(|| format!("cannot delete {}", elsewhere.display()))?;
        }
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot delete {}", folder.display()))?;
    }
    Ok(())
}
