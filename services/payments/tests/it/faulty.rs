//! The simulated provider behind a connection that can be bad: down, held up, or losing questions and answers.

use money::Money;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use payments::provider::{Charge, Provider, ProviderError, Refund, Simulated};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{sync::watch, time::sleep};
use uuid::Uuid;

/// What goes wrong between the service and its provider.
#[derive(Debug)]
pub struct Faults {
    /// Nobody is there.
    pub down: AtomicBool,
    /// Calls that found nobody.
    pub missed: AtomicUsize,
    /// Charges that set out.
    pub charges: AtomicUsize,
    /// Of 100 calls, so many are lost: half of them before the provider heard of them, half after.
    pub lost_percent: AtomicU32,
    /// Every charge's answer is lost.
    pub lose_answers: AtomicBool,
    /// Every charge is refused as a contradiction.
    pub contradiction: AtomicBool,
    /// Charges wait here: on their way to the provider, or on the way back.
    held: watch::Sender<Held>,
    random: Mutex<StdRng>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Nowhere,
    OnTheWay,
    OnTheWayBack,
}

impl Faults {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            down: AtomicBool::new(false),
            missed: AtomicUsize::new(0),
            charges: AtomicUsize::new(0),
            lost_percent: AtomicU32::new(0),
            lose_answers: AtomicBool::new(false),
            contradiction: AtomicBool::new(false),
            held: watch::Sender::new(Held::Nowhere),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
        })
    }

    pub fn hold(&self, held: Held) {
        self.held.send_replace(held);
    }

    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    async fn pass(&self, place: Held) {
        let mut held = self.held.subscribe();
        held.wait_for(|held| *held != place).await.expect("the faults outlive the calls");
    }

    async fn call<T>(&self, ask: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
        if self.down.load(Ordering::SeqCst) {
            self.missed.fetch_add(1, Ordering::SeqCst);
            return Err(ProviderError::Unavailable("nobody is there".into()));
        }
        let (lost, late_ms) = {
            let mut random = self.random.lock().expect("nobody panics with it");
            (random.random_range(0..100), random.random_range(0..10))
        };
        let percent = self.lost_percent.load(Ordering::SeqCst);
        if percent > 0 {
            sleep(Duration::from_millis(late_ms)).await;
        }
        if lost < percent / 2 {
            return Err(ProviderError::Transient("the question was lost".into()));
        }
        let answer = ask.await;
        if (percent / 2..percent).contains(&lost) {
            return Err(ProviderError::Transient("the answer was lost".into()));
        }
        answer
    }
}

pub struct Faulty {
    pub provider: Simulated,
    pub faults: Arc<Faults>,
}

impl Provider for Faulty {
    async fn charge(&self, key: Uuid, amount: &Money, method: &str) -> Result<Charge, ProviderError> {
        if self.faults.contradiction.load(Ordering::SeqCst) {
            return Err(ProviderError::Contradiction);
        }
        self.faults.charges.fetch_add(1, Ordering::SeqCst);
        self.faults.pass(Held::OnTheWay).await;
        let answer = self.faults.call(self.provider.charge(key, amount, method)).await;
        self.faults.pass(Held::OnTheWayBack).await;
        if answer.is_ok() && self.faults.lose_answers.load(Ordering::SeqCst) {
            return Err(ProviderError::Transient("the answer was lost".into()));
        }
        answer
    }

    async fn refund(&self, key: Uuid) -> Result<Refund, ProviderError> {
        self.faults.call(self.provider.refund(key)).await
    }
}
