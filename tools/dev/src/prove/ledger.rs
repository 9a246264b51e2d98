//! The writing side of the ledger: a request is in the file before it is sent, and what came of it, and each fault when it is over.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use proof::ledger::{Entry, Fault, Sample, What};
use serde::Serialize;

/// The history and the faults of a run.
pub(super) struct Ledger {
    seed: u64,
    started: Instant,
    operations: AtomicU64,
    history: Mutex<File>,
    faults: Mutex<File>,
    samples: Mutex<File>,
}

impl Ledger {
    pub(super) fn create(folder: &Path, seed: u64) -> Result<Self> {
        let open = |name: &str| {
            let path = folder.join(name);
            let file = OpenOptions::new().create(true).append(true).open(&path);
            file.map(Mutex::new).with_context(|| format!("cannot write {}", path.display()))
        };
        Ok(Self {
            seed,
            started: Instant::now(),
            operations: AtomicU64::new(0),
            history: open("history.jsonl")?,
            faults: open("faults.jsonl")?,
            samples: open("samples.jsonl")?,
        })
    }

    /// A number for a new request.
    pub(super) fn operation(&self) -> u64 {
        self.operations.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The trace of an attempt, which is sent with it.
    pub(super) fn trace_id(&self, op: u64, attempt: u32) -> String {
        format!("{:08x}{op:016x}{attempt:08x}", (self.seed & 0xffff_ffff) | 0x1000_0000)
    }

    pub(super) fn now_ms(&self) -> u64 {
        milliseconds(self.started.elapsed())
    }

    pub(super) fn write(&self, op: u64, attempt: u32, what: What) -> Result<()> {
        let mut file = locked(&self.history);
        // The clock is read under the lock: the lines are in the order of their times.
        let entry = Entry {
            seed: self.seed,
            op,
            attempt,
            monotonic_ms: self.now_ms(),
            wall_ms: milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            trace_id: self.trace_id(op, attempt),
            what,
        };
        line(&mut file, &entry)
    }

    pub(super) fn write_fault(&self, fault: &Fault) -> Result<()> {
        line(&mut locked(&self.faults), fault)
    }

    pub(super) fn write_sample(&self, sample: &Sample) -> Result<()> {
        line(&mut locked(&self.samples), sample)
    }
}

fn line(file: &mut File, what: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string(what)?;
    text.push('\n');
    file.write_all(text.as_bytes()).context("the ledger cannot be written")
}

/// Each write is one call: whoever panicked has not left half a line.
fn locked(file: &Mutex<File>) -> MutexGuard<'_, File> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
