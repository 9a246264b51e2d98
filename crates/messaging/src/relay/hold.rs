//! Keys whose next event the broker would not take. Everything of such a key waits, in order, and is tried again with backoff; other keys flow.

use std::time::Duration;

use tracing::warn;

use crate::{Envelope, Outbox, publisher::Answer, relay::lanes::Lease, retry::Backoff};

/// A full queue drains, and a missing binding appears: both are found out by trying again.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Holds the key of a refused event until its next try.
pub(super) async fn hold(
    outbox: &Outbox,
    lease: &Lease,
    lane: i16,
    envelope: &Envelope,
    answer: Answer,
) -> Result<(), sqlx::Error> {
    let reason = match answer {
        Answer::Unroutable => "unroutable",
        Answer::Refused => "refused",
        Answer::Nacked | Answer::Published => "nacked",
    };
    let attempts = sqlx::query_scalar!(
        "select attempts from messaging.outbox_hold where lane = $1 and key = $2 and message_id = $3",
        lane,
        envelope.key,
        envelope.message_id,
    )
    .fetch_optional(&outbox.pool)
    .await?
    .unwrap_or_default();
    let delay = RETRY.delay(u32::try_from(attempts).unwrap_or_default() + 1);
    sqlx::query!(
        "insert into messaging.outbox_hold as hold (lane, key, message_id, type, reason, attempts, retry_at)
         select $1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7)
         from messaging.relay_lane where lane = $1 and holder = $8
         on conflict (lane, key) do update
             set message_id = excluded.message_id, type = excluded.type, reason = excluded.reason,
                 attempts = excluded.attempts, retry_at = excluded.retry_at,
                 held_since = case when hold.message_id = excluded.message_id then hold.held_since else now() end",
        lane,
        envelope.key,
        envelope.message_id,
        envelope.event_type,
        reason,
        attempts + 1,
        delay.as_secs_f64(),
        lease.token,
    )
    .execute(&outbox.pool)
    .await?;
    warn!(
        event_type = envelope.event_type,
        message_id = %envelope.message_id,
        key = envelope.key,
        trace_id = envelope.trace_id(),
        reason,
        attempts = attempts + 1,
        ?delay,
        "the broker did not take an event; its key is held"
    );
    Ok(())
}

/// The broker took it after all.
pub(super) async fn release(outbox: &Outbox, lease: &Lease, lane: i16, key: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from messaging.outbox_hold using messaging.relay_lane
         where outbox_hold.lane = $1 and outbox_hold.key = $2 and relay_lane.lane = $1 and relay_lane.holder = $3",
        lane,
        key,
        lease.token,
    )
    .execute(&outbox.pool)
    .await?;
    Ok(())
}

impl Outbox {
    /// Has the events of every held key tried again now, such as after a binding was added. Returns how many keys that are.
    pub async fn retry_held(&self) -> Result<u64, sqlx::Error> {
        let done = sqlx::query!("update messaging.outbox_hold set retry_at = now()").execute(&self.pool).await?;
        self.shared.wake.lanes(u16::MAX);
        Ok(done.rows_affected())
    }
}
