//! The public keys that tokens are verified with, by key id: given, or taken from a JWKS address and kept. No token causes
//! more than one request every few seconds, and while the address does not answer, the last keys stay in use.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet},
};
use tokio::sync::Mutex;
use tracing::Instrument as _;

use crate::client;

/// Between two requests to the address, whatever tokens come in: made-up key ids must not become a flood.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Keys older than this are renewed beside the request that finds them old.
const MAX_AGE: Duration = Duration::from_secs(300);
const TIMEOUT: Duration = Duration::from_secs(2);
/// A set of keys is a few hundred bytes.
const MAX_BYTES: usize = 64 * 1_024;

pub(super) struct Keys {
    known: RwLock<Option<Known>>,
    remote: Option<Remote>,
}

struct Known {
    keys: HashMap<String, Arc<DecodingKey>>,
    since: Instant,
}

struct Remote {
    url: String,
    /// At least this much between two requests.
    pause: Duration,
    /// Keys older than this are renewed.
    max_age: Duration,
    /// Held during a request, so that there is one at a time.
    last_attempt: Mutex<Option<Attempt>>,
}

#[derive(Clone, Copy)]
struct Attempt {
    at: Instant,
    succeeded: bool,
}

/// Why there is no key for an id.
pub(super) enum Unknown {
    /// The keys are known, this is none of them.
    Key,
    /// No keys are known yet, or it may be among those that could not be fetched.
    Everything,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the keys cannot be fetched")]
    Http(#[source] reqwest::Error),
    #[error("the keys are not a JSON Web Key Set")]
    Json(#[from] serde_json::Error),
    #[error("the answer is larger than {MAX_BYTES} bytes")]
    TooLarge,
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        // It may hold a password.
        Self::Http(error.without_url())
    }
}

impl Keys {
    pub(super) fn fixed(set: &JwkSet) -> Self {
        Self { known: RwLock::new(Some(Known { keys: usable(set), since: Instant::now() })), remote: None }
    }

    pub(super) fn remote(url: String) -> Self {
        Self::paced(url, RETRY_AFTER, MAX_AGE)
    }

    fn paced(url: String, pause: Duration, max_age: Duration) -> Self {
        // reqwest is built without a provider of its own; whoever installed one first keeps it.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        Self { known: RwLock::new(None), remote: Some(Remote { url, pause, max_age, last_attempt: Mutex::new(None) }) }
    }

    pub(super) async fn get(this: &Arc<Self>, kid: &str) -> Result<Arc<DecodingKey>, Unknown> {
        let Some(remote) = &this.remote else {
            return this.find(kid);
        };
        let keys = Arc::clone(this);
        let renewal = async move {
            match &keys.remote {
                Some(remote) => keys.renew(remote).await,
                None => true,
            }
        };
        // A task: whoever asked may go away, and nobody else would ask again for a while.
        let tasks = tokio::runtime::Handle::current();
        let found = this.find(kid);
        if found.is_err() {
            let renewed = tasks.spawn(renewal.in_current_span()).await.unwrap_or(false);
            return this.find(kid).map_err(|unknown| if renewed { unknown } else { Unknown::Everything });
        }
        if this.older_than(remote.max_age) {
            tasks.spawn(renewal);
        }
        found
    }

    fn find(&self, kid: &str) -> Result<Arc<DecodingKey>, Unknown> {
        match &*self.known.read().unwrap_or_else(PoisonError::into_inner) {
            Some(known) => known.keys.get(kid).cloned().ok_or(Unknown::Key),
            None => Err(Unknown::Everything),
        }
    }

    fn older_than(&self, max_age: Duration) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().is_some_and(|known| known.since.elapsed() > max_age)
    }

    /// Fetches the keys, unless that was tried a moment ago (perhaps by the request that this one waited for). `false`: it did not succeed.
    async fn renew(&self, remote: &Remote) -> bool {
        let mut last_attempt = remote.last_attempt.lock().await;
        if let Some(last) = last_attempt.filter(|last| last.at.elapsed() < remote.pause) {
            return last.succeeded;
        }
        let at = Instant::now();
        let fetched = remote.fetch().await;
        let succeeded = fetched.is_ok();
        *last_attempt = Some(Attempt { at, succeeded });
        match fetched {
            Ok(set) => {
                let known = Known { keys: usable(&set), since: Instant::now() };
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
            }
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                let url = reqwest::Url::parse(&remote.url).map(|url| client::without_secrets(&url).to_string());
                let url = url.unwrap_or_else(|_| "no URL".to_owned());
                tracing::warn!(error, url, "the keys for access tokens cannot be renewed");
            }
        }
        succeeded
    }
}

impl Remote {
    async fn fetch(&self) -> Result<JwkSet, FetchError> {
        // Made anew: requests are minutes apart, and a pooled connection would belong to the worker that opened it.
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        let mut response = client::get(&client, &self.url).await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BYTES {
                return Err(FetchError::TooLarge);
            }
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

/// Ed25519 keys with an id. Others in the set are for others: with them, a token could choose a weaker algorithm.
fn usable(set: &JwkSet) -> HashMap<String, Arc<DecodingKey>> {
    let usable = |jwk: &Jwk| {
        let AlgorithmParameters::OctetKeyPair(parameters) = &jwk.algorithm else {
            return None;
        };
        let kid = jwk.common.key_id.clone().filter(|_| parameters.curve == EllipticCurve::Ed25519)?;
        Some((kid, Arc::new(DecodingKey::from_jwk(jwk).ok()?)))
    };
    set.keys.iter().filter_map(usable).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        task::JoinSet,
    };

    use super::*;

    /// Answers every request with the key set that is current, and counts them.
    struct Users {
        url: String,
        requests: Arc<AtomicUsize>,
        kid: Arc<RwLock<&'static str>>,
        serving: JoinSet<()>,
    }

    async fn users() -> Users {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (requests, kid) = (Arc::new(AtomicUsize::new(0)), Arc::new(RwLock::new("one")));
        let (counter, current) = (Arc::clone(&requests), Arc::clone(&kid));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut head = [0; 1_024];
                let _read = connection.read(&mut head).await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
                let kid = *current.read().unwrap();
                let body = format!(
                    r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}},{{"kty":"oct","kid":"weak","k":"AAAA"}}]}}"#
                );
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Users { url, requests, kid, serving }
    }

    const NEVER: Duration = Duration::from_secs(86_400);

    #[tokio::test]
    async fn made_up_key_ids_cause_one_request_and_no_flood() {
        let users = users().await;
        let keys = Arc::new(Keys::paced(users.url.clone(), NEVER, NEVER));
        let mut asking = JoinSet::new();
        for n in 0..50 {
            let keys = Arc::clone(&keys);
            asking.spawn(async move { Keys::get(&keys, &format!("made up {n}")).await.is_err() });
        }
        assert!(asking.join_all().await.into_iter().all(|unknown| unknown));
        assert_eq!(users.requests.load(Ordering::SeqCst), 1);
        assert!(Keys::get(&keys, "one").await.is_ok());
    }

    #[tokio::test]
    async fn a_new_key_is_found_and_a_withdrawn_one_forgotten() {
        let users = users().await;
        let keys = Arc::new(Keys::paced(users.url.clone(), Duration::ZERO, NEVER));
        assert!(Keys::get(&keys, "one").await.is_ok());
        *users.kid.write().unwrap() = "two";
        assert!(Keys::get(&keys, "two").await.is_ok());
        assert!(matches!(Keys::get(&keys, "one").await, Err(Unknown::Key)));
    }

    #[tokio::test]
    async fn old_keys_stay_in_use_while_they_are_renewed() {
        let users = users().await;
        let keys = Arc::new(Keys::paced(users.url.clone(), Duration::ZERO, Duration::ZERO));
        assert!(Keys::get(&keys, "one").await.is_ok());
        *users.kid.write().unwrap() = "two";
        // Known, though old: answered at once, and renewed beside.
        assert!(Keys::get(&keys, "one").await.is_ok());
        while keys.find("two").is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn keys_of_other_kinds_are_not_usable() {
        let users = users().await;
        let keys = Arc::new(Keys::paced(users.url.clone(), Duration::ZERO, NEVER));
        assert!(matches!(Keys::get(&keys, "weak").await, Err(Unknown::Key)));
    }

    #[tokio::test]
    async fn who_goes_away_does_not_keep_the_keys_from_the_others() {
        let users = users().await;
        let keys = Arc::new(Keys::paced(users.url.clone(), NEVER, NEVER));
        {
            let goes_away = Keys::get(&keys, "one");
            tokio::pin!(goes_away);
            assert!(futures_util::poll!(&mut goes_away).is_pending());
        }
        assert!(Keys::get(&keys, "one").await.is_ok());
        assert_eq!(users.requests.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_key_that_may_be_a_new_one_is_not_denied_while_the_keys_cannot_be_fetched() {
        let mut users = users().await;
        let keys = Arc::new(Keys::paced(users.url.clone(), Duration::ZERO, NEVER));
        assert!(Keys::get(&keys, "one").await.is_ok());
        users.serving.shutdown().await;
        assert!(matches!(Keys::get(&keys, "two").await, Err(Unknown::Everything)));
        assert!(Keys::get(&keys, "one").await.is_ok());
    }

    #[tokio::test]
    async fn before_the_first_answer_nothing_is_known() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let keys = Arc::new(Keys::remote(format!("http://{gone}/")));
        assert!(matches!(Keys::get(&keys, "one").await, Err(Unknown::Everything)));
    }
}
