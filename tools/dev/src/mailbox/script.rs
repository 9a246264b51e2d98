//! What the SMTP server does instead of taking mail: for tests of whoever sends it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

/// The moments of an SMTP conversation at which the server can be told to behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A client has connected and waits for the greeting.
    Connect,
    /// `MAIL FROM`.
    Sender,
    /// `RCPT TO`.
    Recipient,
    /// `DATA`, before anything of the mail is sent.
    Data,
    /// The whole mail was sent and its answer is due: the moment at which it is decided whether it counts as taken.
    Accept,
}

/// What the server does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// Answers with this code and text; a 4xx means "later", a 5xx "never".
    Reply(u16, String),
    /// Says nothing any more and keeps the connection.
    Hang,
    /// Drops the connection without a word, and keeps nothing.
    Cut,
    /// Keeps the mail and drops the connection before its 250: the sender cannot know. Only at [`Stage::Accept`]; elsewhere it is
    /// [`Behaviour::Cut`].
    KeepAndCut,
}

impl Behaviour {
    /// An answer with a code and a text.
    #[must_use]
    pub fn reply(code: u16, text: &str) -> Self {
        Self::Reply(code, text.to_owned())
    }
}

/// A list of what to do, worked off in order; with nothing left for a stage, the server behaves.
#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<Steps>>);

#[derive(Default)]
struct Steps {
    ahead: VecDeque<Step>,
    /// Of each order that was not withdrawn, how often it was followed.
    happened: BTreeMap<u64, u64>,
    orders: u64,
}

struct Step {
    order: u64,
    stage: Stage,
    behaviour: Behaviour,
}

impl Script {
    /// Adds a behaviour for the next `times` that the stage is reached, after what is already in the list for it.
    pub fn next(&self, times: usize, stage: Stage, behaviour: Behaviour) {
        self.order(times, stage, &behaviour);
    }

    /// The same, under a number with which it can be withdrawn.
    pub(super) fn order(&self, times: usize, stage: Stage, behaviour: &Behaviour) -> u64 {
        let mut steps = self.lock();
        steps.orders += 1;
        let order = steps.orders;
        steps.happened.insert(order, 0);
        let step = || Step { order, stage, behaviour: behaviour.clone() };
        steps.ahead.extend(std::iter::repeat_with(step).take(times));
        order
    }

    /// How often an order was followed, if it stands.
    pub(super) fn happened(&self, order: u64) -> Option<u64> {
        self.lock().happened.get(&order).copied()
    }

    /// Takes back what is left of an order; how often it was followed, if it stood.
    pub(super) fn withdraw(&self, order: u64) -> Option<u64> {
        let mut steps = self.lock();
        steps.ahead.retain(|step| step.order != order);
        steps.happened.remove(&order)
    }

    /// From now on the server behaves.
    pub fn clear(&self) {
        self.lock().ahead.clear();
    }

    /// How much of the script has not happened yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.lock().ahead.len()
    }

    pub(super) fn take(&self, stage: Stage) -> Option<Behaviour> {
        let mut steps = self.lock();
        let index = steps.ahead.iter().position(|step| step.stage == stage)?;
        let step = steps.ahead.remove(index)?;
        if let Some(happened) = steps.happened.get_mut(&step.order) {
            *happened += 1;
        }
        Some(step.behaviour)
    }

    fn lock(&self) -> MutexGuard<'_, Steps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
