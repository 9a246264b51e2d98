//! The faults that are on, each with its count. What a fault means is up to those who meet it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::{Aim, Fault, fault::Who};

/// A fault that is on until this is dropped.
#[must_use = "the fault is over when this is dropped"]
#[derive(Debug)]
pub struct Injection {
    armed: Arc<Armed>,
    faults: Faults,
}

impl Injection {
    /// How often it bit: the evidence.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.armed.bitten.load(SeqCst)
    }

    /// Ends it, and says how often it bit.
    pub fn end(self) -> u64 {
        self.faults.remove(&self.armed);
        self.count()
    }

    /// Waits until it has bitten, at most so long; how often it did.
    pub async fn bites(&self, patience: Duration) -> u64 {
        let bitten = async {
            while self.count() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Running out of time is an answer too: the count says so.
        let _ = tokio::time::timeout(patience, bitten).await;
        self.count()
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.faults.remove(&self.armed);
    }
}

/// All that are on, and a sign whenever that changes.
#[derive(Clone, Debug)]
pub(crate) struct Faults(watch::Sender<Vec<Arc<Armed>>>);

impl Default for Faults {
    fn default() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }
}

impl Faults {
    pub(crate) fn add(&self, aim: &Aim, fault: Fault) -> Injection {
        let armed =
            Arc::new(Armed { aim: aim.clone(), fault, seen: AtomicU64::default(), bitten: AtomicU64::default() });
        self.0.send_modify(|all| all.push(Arc::clone(&armed)));
        Injection { armed, faults: self.clone() }
    }

    fn remove(&self, armed: &Arc<Armed>) {
        self.0.send_if_modified(|all| {
            let before = all.len();
            all.retain(|known| !Arc::ptr_eq(known, armed));
            all.len() != before
        });
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Vec<Arc<Armed>>> {
        self.0.subscribe()
    }
}

/// A fault and what came of it.
#[derive(Debug)]
pub(crate) struct Armed {
    aim: Aim,
    fault: Fault,
    /// Occasions that it had.
    seen: AtomicU64,
    bitten: AtomicU64,
}

impl Armed {
    pub(crate) fn bites(&self) {
        self.bitten.fetch_add(1, SeqCst);
    }

    /// Whether it bites now: `times` occasions after the first `skip`.
    pub(crate) fn has_its_turn(&self, skip: u64, times: u64) -> bool {
        let number = self.seen.fetch_add(1, SeqCst);
        let now = number >= skip && number - skip < times;
        if now {
            self.bites();
        }
        now
    }
}

/// The faults that are for somebody, such as `which` picks.
pub(crate) fn aimed<'a, T>(
    all: &'a [Arc<Armed>],
    who: &'a Who,
    which: impl Fn(Fault) -> Option<T>,
) -> impl Iterator<Item = (&'a Armed, T)> {
    all.iter().filter_map(move |armed| Some((&**armed, which(armed.fault)?))).filter(|(armed, _)| armed.aim.is_for(who))
}

/// Whether one of these bites on this occasion; `which` says how many pass before and how many are hit then.
pub(crate) fn hit(all: &[Arc<Armed>], who: &Who, which: impl Fn(Fault) -> Option<(u64, u64)>) -> bool {
    // Each has had its occasion, also when another one was faster.
    aimed(all, who, which).fold(false, |hit, (armed, (skip, times))| armed.has_its_turn(skip, times) || hit)
}
