//! What the SMTP server does instead of taking mail: for tests of whoever sends it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The moments of an SMTP conversation at which the server can be told to behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
pub struct Script(Arc<Mutex<VecDeque<(Stage, Behaviour)>>>);

impl Script {
    /// Adds a behaviour for the next `times` that the stage is reached, after what is already in the list for it.
    pub fn next(&self, times: usize, stage: Stage, behaviour: Behaviour) {
        self.lock().extend(std::iter::repeat_n((stage, behaviour), times));
    }

    /// From now on the server behaves.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// How much of the script has not happened yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn take(&self, stage: Stage) -> Option<Behaviour> {
        let mut steps = self.lock();
        let index = steps.iter().position(|(of, _)| *of == stage)?;
        steps.remove(index).map(|(_, behaviour)| behaviour)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Stage, Behaviour)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
