//! Wake-ups between processes: a NOTIFY for lanes that another replica holds.
//!
//! Sent after the commit and outside of it, at most once in a few milliseconds: inside the business transaction NOTIFY takes a lock
//! that defeats group commit (measured at a third of the commits per second with 32 clients).

use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{Error, pool, relay::Relay, retry::RECONNECT};

const CHANNEL: &str = "messaging_outbox";
const DEBOUNCE: Duration = Duration::from_millis(5);
/// After so long without a word, another connection listens.
const SILENCE: Duration = Duration::from_secs(60);

impl Relay {
    pub(super) async fn notify(&self, stop: &CancellationToken) -> Result<(), Error> {
        let wake = &self.outbox.shared.wake;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = wake.remote.notified() => {}
            }
            let lanes = wake.take_remote().to_string();
            let notify = sqlx::query!("select pg_notify($1, $2)", CHANNEL, lanes).execute(&self.outbox.pool);
            let sent = self.outbox.answered(notify).await;
            if let Err(error) = sent {
                // A hint was lost; the other replica finds the events by polling.
                warn!(%error, "could not wake the other relays");
            }
            tokio::time::sleep(DEBOUNCE).await;
        }
    }

    pub(super) async fn listen(&self, stop: &CancellationToken) -> Result<(), Error> {
        if !self.options.listen {
            return Ok(());
        }
        let mut failures = 0;
        loop {
            let listened = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                listened = self.hear(&mut failures) => listened,
            };
            if let Err(error) = listened {
                failures += 1;
                warn!(%error, "cannot listen for other processes' commits; polling finds them");
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(RECONNECT.delay(failures)) => {}
            }
        }
    }

    async fn hear(&self, failures: &mut u32) -> Result<(), sqlx::Error> {
        let mut listener = self.outbox.answered(PgListener::connect_with(&pool::beside(&self.outbox.pool))).await?;
        self.outbox.answered(listener.listen(CHANNEL)).await?;
        *failures = 0;
        let wake = &self.outbox.shared.wake;
        loop {
            // Whether nobody says anything or nothing gets here cannot be told.
            let Ok(heard) = timeout(SILENCE, listener.try_recv()).await else { return Ok(()) };
            let lanes = match heard? {
                Some(notification) => notification.payload().parse().unwrap_or(u16::MAX),
                // The connection was lost and made anew; what was sent meanwhile is unknown.
                None => u16::MAX,
            };
            if lanes & wake.held.load(std::sync::atomic::Ordering::Acquire) != 0 {
                wake.local.notify_one();
            }
        }
    }
}
