//! Passwords: which ones are accepted, and the work of hashing them, kept off the async threads and bounded. It knows nothing of accounts.

mod argon2id;

use std::{
    collections::HashSet,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use argon2::{
    Params,
    password_hash::{self, CustomizedPasswordHasher as _, PasswordVerifier as _, phc, try_generate_salt},
};
use argon2id::Argon2id;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use unicode_normalization::UnicodeNormalization as _;

use crate::email::Email;

/// How long a request waits for its turn to hash before it is told to come back.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// How many requests may wait for each slot: more would only wait in vain.
const MAX_WAITING_PER_SLOT: usize = 64;

/// Hashed where there is no account to compare with. Knowing it is of no use.
const NOBODY: &str = "nobody has this password";

/// The rules, as they are told to people. NIST SP 800-63B-4 §3.1.1.2: long, not common, not about its owner; no rules of composition and no
/// forced changes.
pub const RULES: &str = "Choose 12 to 128 characters that nobody would guess, without your name or address in them; a few random words do well.";

const LENGTHS: std::ops::RangeInclusive<usize> = 12..=128;

/// Names and local parts shorter than this are in too many words to be forbidden.
const SHORTEST_PERSONAL_WORD: usize = 4;

static COMMON: LazyLock<HashSet<&str>> = LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

/// A password that was accepted as a new one.
#[derive(Debug, Clone)]
pub struct Password(SecretString);

impl Password {
    /// Accepts a new password for an account; its address is missing if that could not be read. The error is a sentence for its owner.
    pub fn choose(candidate: &SecretString, email: Option<&Email>, name: &str) -> Result<Self, &'static str> {
        let candidate = normalise(candidate);
        let lower = candidate.expose_secret().to_lowercase();
        let length = candidate.expose_secret().chars().count();
        if length < *LENGTHS.start() {
            return Err("A password has at least 12 characters. A few random words do well.");
        }
        if length > *LENGTHS.end() {
            return Err("A password has at most 128 characters.");
        }
        if COMMON.contains(lower.as_str()) || is_one_pattern(&lower) {
            return Err("This password is among the first that anybody would try. A few random words do better.");
        }
        if personal_words(email, name).any(|word| lower.contains(&word)) {
            return Err("A password must not contain your name or your e-mail address.");
        }
        Ok(Self(candidate))
    }
}

/// The same text, typed on two keyboards, can be two byte sequences (NIST SP 800-63B-4 §3.1.1.2 asks for NFC).
fn normalise(password: &SecretString) -> SecretString {
    password.expose_secret().nfc().collect::<String>().into()
}

fn personal_words(email: Option<&Email>, name: &str) -> impl Iterator<Item = String> {
    let name = name.trim().to_lowercase();
    let parts = name.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    email
        .map(|email| email.local_part().to_lowercase())
        .into_iter()
        .chain([name])
        .chain(parts)
        .filter(|word| word.chars().count() >= SHORTEST_PERSONAL_WORD)
}

/// "aaaaaaaaaaaa", "abababababab", "123456789012", "lkjihgfedcba": one step, or a short piece, repeated.
fn is_one_pattern(text: &str) -> bool {
    let chars: Vec<i64> = text.chars().map(|c| i64::from(u32::from(c))).collect();
    let repeats = |piece: usize| chars.iter().skip(piece).zip(&chars).all(|(later, earlier)| later == earlier);
    let steps = |step: i64| {
        let next = |a: i64, b: i64| b - a == step || (b - a).abs() == 9 && a.min(b) == i64::from(b'0');
        chars.windows(2).all(|pair| matches!(pair, [a, b] if next(*a, *b)))
    };
    (1..=4).any(repeats) || steps(1) || steps(-1)
}

/// A hash as it is stored: Argon2id in PHC format.
#[derive(Debug, Clone)]
pub struct PasswordHash(SecretString);

impl PasswordHash {
    /// What to store.
    pub fn as_str(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for PasswordHash {
    fn from(stored: String) -> Self {
        Self(stored.into())
    }
}

/// Why a password could not be hashed or compared.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// All slots are taken and too many wait already; try again after a moment.
    #[error("too many passwords are being hashed")]
    Busy,
    /// A stored hash is damaged, or the system has no randomness: nothing that the caller could mend.
    #[error("a password could not be hashed")]
    Broken(#[from] password_hash::Error),
    /// The hashing thread is gone: the process is stopping.
    #[error("the hashing thread ended")]
    Stopped(#[from] tokio::task::JoinError),
    /// The threads that hash cannot be started.
    #[error("no threads to hash passwords on")]
    NoThreads(#[source] std::io::Error),
}

/// The hasher. Argon2id takes 19 MiB and tens of milliseconds by design, so at most one runs per core, and requests wait for
/// their turn for a bounded time. Cheap to clone; the clones share the slots.
#[derive(Debug, Clone)]
pub struct Passwords {
    slots: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    max_waiting: usize,
    /// Compared with when there is no account, so that the answer takes the same work.
    nobody: Arc<PasswordHash>,
    computed: Arc<AtomicU64>,
    threads: Arc<Threads>,
}

/// One thread for each slot: each keeps the memory of a hash, until it has had nothing to do for a while.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Threads {
    fn new(count: usize) -> Result<Self, HashError> {
        let runtime = Builder::new_current_thread().max_blocking_threads(count).thread_name("hashing").build();
        Ok(Self(Some(runtime.map_err(HashError::NoThreads)?)))
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, HashError> {
        match &self.0 {
            Some(runtime) => Ok(runtime.spawn_blocking(work).await?),
            None => Ok(work()),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Dropped as it is, a runtime waits, which no task may do.
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl Passwords {
    /// As many slots as there are cores.
    pub fn new() -> Result<Self, HashError> {
        let slots = std::thread::available_parallelism().map_or(1, usize::from);
        // On a thread that ends, and its memory with it.
        let nobody = std::thread::spawn(|| hash(NOBODY.as_bytes())).join();
        let nobody = nobody.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Self {
            slots: Arc::new(Semaphore::new(slots)),
            waiting: Arc::new(Semaphore::new(slots * MAX_WAITING_PER_SLOT)),
            max_waiting: slots * MAX_WAITING_PER_SLOT,
            nobody: Arc::new(nobody),
            computed: Arc::default(),
            threads: Arc::new(Threads::new(slots)?),
        })
    }

    /// Waits for a turn.
    pub async fn slot(&self) -> Result<Slot<'_>, HashError> {
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(HashError::Busy);
        };
        match tokio::time::timeout(MAX_WAIT, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Slot { passwords: self, permit }),
            Ok(Err(_)) | Err(_) => Err(HashError::Busy),
        }
    }

    /// Waits for a turn and hashes a new password.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, HashError> {
        let work = move || hash(password.0.expose_secret().as_bytes());
        let (hash, _slot) = self.slot().await?.run(work).await?;
        Ok(hash)
    }

    /// How many requests are waiting for their turn.
    pub fn waiting(&self) -> usize {
        self.max_waiting - self.waiting.available_permits()
    }

    /// How often Argon2id has run: how one can see that two requests meant the same work.
    pub fn hashes_computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }
}

/// A turn to hash, kept until it is dropped: what follows from the result can be done before the next one has its turn.
#[derive(Debug)]
pub struct Slot<'a> {
    passwords: &'a Passwords,
    permit: OwnedSemaphorePermit,
}

impl<'a> Slot<'a> {
    /// Whether the password belongs to the hash. Without a hash the same work is done, and the answer is no.
    pub async fn verify(
        self,
        candidate: &SecretString,
        stored: Option<PasswordHash>,
    ) -> Result<(bool, Self), HashError> {
        let candidate = normalise(candidate);
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| PasswordHash::clone(&self.passwords.nobody));
        let work = move || verify(candidate.expose_secret().as_bytes(), &stored);
        let (matches, slot) = self.run(work).await?;
        Ok((matches && known, slot))
    }

    /// The permit goes to the thread and comes back with the result, so that a request that is dropped meanwhile frees its slot only when
    /// the work is over.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<(T, Self), HashError> {
        let Self { passwords, permit } = self;
        passwords.computed.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("users_password_hashes_total").increment(1);
        let (result, permit) = passwords.threads.run(move || (work(), permit)).await?;
        Ok((result?, Self { passwords, permit }))
    }
}

fn hash(password: &[u8]) -> Result<PasswordHash, HashError> {
    let salt = try_generate_salt().map_err(password_hash::Error::from)?;
    Ok(PasswordHash::from(Argon2id.hash_password_with_params(password, &salt, Params::default())?.to_string()))
}

fn verify(password: &[u8], stored: &PasswordHash) -> Result<bool, HashError> {
    let stored = phc::PasswordHash::new(stored.as_str()).map_err(password_hash::Error::from)?;
    match Argon2id.verify_password(password, &stored) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Password, Passwords};
    use crate::email::Email;

    fn choose(password: &str) -> Result<Password, &'static str> {
        Password::choose(&password.into(), Some(&Email::parse("ada.lovelace@example.org").unwrap()), "Ada Lovelace")
    }

    #[test]
    fn a_long_password_that_nobody_guesses_is_accepted() {
        for password in ["quiet-otter-sings-42", "        spaces count        ", "пароль-из-букв", "eighteen legs walk"]
        {
            assert!(choose(password).is_ok(), "{password} was refused");
        }
    }

    #[test]
    fn length_is_counted_in_characters() {
        assert!(choose("elevenchar1").is_err());
        assert!(choose("twelve chars").is_ok());
        assert!(choose("тринадцатьбук").is_ok());
        let of_128: String = "quiet otter "
            .chars()
            .cycle()
            .enumerate()
            .map(|(i, c)| if i % 7 == 0 { 'x' } else { c })
            .take(128)
            .collect();
        assert!(choose(&of_128).is_ok());
        assert!(choose(&format!("{of_128}y")).is_err());
        let cyrillic = of_128.replace('t', "т");
        assert!(cyrillic.len() > 128 && choose(&cyrillic).is_ok());
    }

    #[test]
    fn common_and_patterned_passwords_are_refused() {
        for password in [
            "password1234",
            "PassWord1234",
            "aaaaaaaaaaaaaaa",
            "xyzxyzxyzxyz",
            "123456789012",
            "abcdefghijklm",
            "zyxwvutsrqpon",
            "qwertyuiop123",
        ] {
            assert!(choose(password).is_err(), "{password} was accepted");
        }
    }

    #[test]
    fn a_password_about_its_owner_is_refused() {
        for password in ["my-LOVELACE-password", "ada.lovelace@example.org", "hi ada lovelace hi"] {
            assert!(choose(password).is_err(), "{password} was accepted");
        }
    }

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only_in_either_unicode_form() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash(choose("cafe\u{301} and a croissant").unwrap()).await.unwrap();
        let verify = async |candidate: &str| {
            let slot = passwords.slot().await.unwrap();
            slot.verify(&candidate.into(), Some(hash.clone())).await.unwrap().0
        };
        assert!(verify("caf\u{e9} and a croissant").await);
        assert!(!verify("cafe and a croissant").await);
    }

    #[tokio::test]
    async fn without_an_account_the_same_work_is_done() {
        let passwords = Passwords::new().unwrap();
        let before = passwords.hashes_computed();
        let slot = passwords.slot().await.unwrap();
        assert!(!slot.verify(&super::NOBODY.into(), None).await.unwrap().0);
        assert_eq!(passwords.hashes_computed(), before + 1);
    }

    #[tokio::test]
    async fn when_too_many_wait_the_next_one_is_told_at_once() {
        let mut passwords = Passwords::new().unwrap();
        passwords.waiting = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        assert!(matches!(passwords.slot().await, Err(super::HashError::Busy)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_is_not_waited_for_for_ever() {
        let mut passwords = Passwords::new().unwrap();
        passwords.slots = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        assert!(matches!(passwords.slot().await, Err(super::HashError::Busy)));
    }
}
