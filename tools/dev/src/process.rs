//! Processes that outlive this command: started in a group of their own, recognised again later, stopped by id. A process is
//! only ever signalled when it is still the one that was started: same birth, and a command line that holds its marker.

use std::{
    fs::{self, OpenOptions},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde::{Deserialize, Serialize};

use crate::{files, workspace::Account};

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A process that was started earlier, perhaps by another run of this command.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Tracked {
    pid: i32,
    /// When it began, as the system counts: a process id is used again, the pair is not.
    birth: String,
    /// Part of the command line.
    marker: String,
}

impl Tracked {
    /// Remembers the running process `pid`, if its command line holds `marker`.
    pub(crate) fn find(pid: i32, marker: &str) -> Option<Self> {
        let seen = look(pid)?;
        (!seen.zombie && seen.command.contains(marker)).then(|| Self {
            pid,
            birth: seen.birth,
            marker: marker.to_owned(),
        })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn is_running(&self) -> bool {
        look(self.pid)
            .is_some_and(|seen| !seen.zombie && seen.birth == self.birth && seen.command.contains(&self.marker))
    }

    /// Asks it to stop, waits, and ends it when it does not. `Ok(false)`: it had to be killed.
    pub(crate) async fn stop(&self, ask: Signal, patience: Duration) -> Result<bool> {
        if !self.is_running() {
            return Ok(true);
        }
        self.signal(ask)?;
        if self.gone_within(patience).await {
            return Ok(true);
        }
        self.kill().await?;
        Ok(false)
    }

    /// Ends it at once, as a crash would.
    pub(crate) async fn kill(&self) -> Result<()> {
        if self.is_running() {
            self.signal(Signal::KILL)?;
            if !self.gone_within(Duration::from_secs(10)).await {
                bail!("process {} survives SIGKILL", self.pid);
            }
            self.bury().await;
        }
        Ok(())
    }

    /// A child of ours is there until somebody asks how it ended, and some programs ask only whether there is a process of its number.
    async fn bury(&self) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        // A large one is not quite dead when it is no longer seen. Somebody else's child is an error here, and theirs to bury.
        for _ in 0..200 {
            if !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)) {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether it stands still, after SIGSTOP.
    pub(crate) fn is_stopped(&self) -> bool {
        look(self.pid).is_some_and(|seen| seen.stopped && seen.birth == self.birth)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid).context("process ids are positive")?;
        match kill_process(pid, signal) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    async fn gone_within(&self, patience: Duration) -> bool {
        let gone = async {
            while self.is_running() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(patience, gone).await.is_ok()
    }
}

struct Seen {
    zombie: bool,
    stopped: bool,
    birth: String,
    command: String,
}

/// What the system says about a process: `/proc` where there is one, `ps` elsewhere.
fn look(pid: i32) -> Option<Seen> {
    if Path::new("/proc/self/stat").exists() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may hold anything; the fields after it do not (proc(5): 3 is the state, 22 the start time).
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let state = *fields.first()?;
        return Some(Seen {
            zombie: state == "Z",
            stopped: state == "T",
            birth: (*fields.get(19)?).to_owned(),
            command,
        });
    }
    let output = Command::new("ps").args(["-o", "stat=,lstart=,command=", "-p", &pid.to_string()]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let (state, rest) = text.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    // lstart is "Mon Nov 23 09:12:01 2026": 24 characters.
    let (birth, command) = rest.split_at_checked(24)?;
    Some(Seen {
        zombie: state.starts_with('Z'),
        stopped: state.starts_with('T'),
        birth: birth.to_owned(),
        command: command.trim().to_owned(),
    })
}

/// Starts `command` so that it goes on after this one ends and Ctrl-C does not reach it; what it prints goes to `log`.
pub(crate) fn spawn_detached(
    command: &mut Command,
    account: Option<&Account>,
    log: &Path,
    marker: &str,
) -> Result<Tracked> {
    let program = command.get_program().to_owned();
    let out = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    command.process_group(0).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    if let Some(account) = account {
        // The standard library drops the supplementary groups too.
        command.uid(account.uid).gid(account.gid);
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    let pid = i32::try_from(child.id()).context("process ids fit")?;
    // The new program's command line can be read a moment after it has taken over the process, not at once.
    for _ in 0..500 {
        if let Some(tracked) = Tracked::find(pid, marker) {
            return Ok(tracked);
        }
        if child.try_wait()?.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("{} ended at once:\n{}", program.display(), files::tail(log, 15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_was_killed_is_there_no_more() {
        let log = std::env::temp_dir().join(format!("dev-process-test-killed-{}.log", std::process::id()));
        let started = spawn_detached(Command::new("sleep").arg("319"), None, &log, "sleep 319").unwrap();
        started.kill().await.unwrap();
        assert!(look(started.pid()).is_none(), "others would take it for one that runs");
        fs::remove_file(log).unwrap();
    }

    #[tokio::test]
    async fn a_process_is_recognised_and_stopped_and_a_stranger_is_not_touched() {
        let log = std::env::temp_dir().join(format!("dev-process-test-{}.log", std::process::id()));
        let started = spawn_detached(Command::new("sleep").arg("317"), None, &log, "sleep 317").unwrap();
        assert!(started.is_running());

        let stranger = Tracked { birth: "1".to_owned(), ..started.clone() };
        assert!(!stranger.is_running(), "another birth is another process");
        assert!(stranger.stop(Signal::TERM, Duration::from_secs(5)).await.unwrap());
        assert!(started.is_running(), "the running process was not ours to stop");

        assert!(Tracked::find(started.pid(), "sleep 318").is_none(), "another command line is another process");
        assert!(started.stop(Signal::TERM, Duration::from_secs(5)).await.unwrap());
        assert!(!started.is_running());
        fs::remove_file(log).unwrap();
    }
}
