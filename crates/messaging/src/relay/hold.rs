//! Keys whose next event the broker would not take. Everything of such a key waits, in order, and is tried again with backoff; other keys flow.

use std::{collections::HashMap, time::Duration};

use tracing::{debug, warn};
use uuid::Uuid;

use crate::{
    Envelope, Outbox,
    publisher::Answer,
    relay::{lanes::Lease, window::PendingEvent},
    retry::Backoff,
};

/// A full queue drains, and a missing binding appears: both are found out by trying again.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Holds the keys of refused events until their next try: two statements, however many they are.
pub(super) async fn hold(
    outbox: &Outbox,
    lease: &Lease,
    refused: &[(PendingEvent, Answer)],
) -> Result<(), sqlx::Error> {
    if refused.is_empty() {
        return Ok(());
    }
    let lanes: Vec<_> = refused.iter().map(|(event, _)| event.lane).collect();
    let keys: Vec<_> = refused.iter().map(|(event, _)| event.key().to_owned()).collect();
    let ids: Vec<_> = refused.iter().map(|(event, _)| event.outgoing.envelope.message_id).collect();
    let known: HashMap<Uuid, i32> = sqlx::query!(
        "select hold.message_id, hold.attempts from messaging.outbox_hold as hold
         join unnest($1::smallint[], $2::text[], $3::uuid[]) as event (lane, key, message_id) using (lane, key, message_id)",
        &lanes,
        &keys,
        &ids,
    )
    .fetch_all(&outbox.pool)
    .await?
    .into_iter()
    .map(|row| (row.message_id, row.attempts))
    .collect();
    let attempts: Vec<_> =
        ids.iter().map(|id| known.get(id).map_or(1, |attempts| attempts.saturating_add(1))).collect();
    let delays: Vec<_> =
        attempts.iter().map(|attempts| RETRY.delay(u32::try_from(*attempts).unwrap_or(u32::MAX))).collect();
    let reasons: Vec<_> = refused.iter().map(|(_, answer)| reason(*answer).to_owned()).collect();
    sqlx::query!(
        "insert into messaging.outbox_hold as hold (lane, key, message_id, type, reason, attempts, retry_at)
         select event.lane, event.key, event.message_id, event.type, event.reason, event.attempts,
                now() + make_interval(secs => event.delay)
         from unnest($1::smallint[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::integer[], $7::float8[])
              as event (lane, key, message_id, type, reason, attempts, delay)
         join messaging.relay_lane on relay_lane.lane = event.lane and relay_lane.holder = $8
         on conflict (lane, key) do update
             set message_id = excluded.message_id, type = excluded.type, reason = excluded.reason,
                 attempts = excluded.attempts, retry_at = excluded.retry_at,
                 held_since = case when hold.message_id = excluded.message_id then hold.held_since else now() end",
        &lanes,
        &keys,
        &ids,
        &refused.iter().map(|(event, _)| event.outgoing.envelope.event_type.clone()).collect::<Vec<_>>(),
        &reasons,
        &attempts,
        &delays.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
        lease.token,
    )
    .execute(&outbox.pool)
    .await?;
    for (((event, _), reason), attempts) in refused.iter().zip(&reasons).zip(&attempts) {
        say(&event.outgoing.envelope, reason, *attempts);
    }
    Ok(())
}

fn reason(answer: Answer) -> &'static str {
    match answer {
        Answer::Unroutable => "unroutable",
        Answer::Refused => "refused",
        Answer::Nacked | Answer::Published => "nacked",
    }
}

/// A warning once, and not at every try of a night.
fn say(envelope: &Envelope, reason: &str, attempts: i32) {
    let Envelope { event_type, message_id, key, .. } = envelope;
    if attempts == 1 {
        let trace_id = envelope.trace_id();
        warn!(event_type, %message_id, key, trace_id, reason, "the broker did not take an event; its key is held");
    } else {
        debug!(event_type, %message_id, key, reason, attempts, "the broker did not take an event again");
    }
}

/// The broker took them after all.
pub(super) async fn release(outbox: &Outbox, lease: &Lease, taken: &[&PendingEvent]) -> Result<(), sqlx::Error> {
    if taken.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "delete from messaging.outbox_hold
         using unnest($1::smallint[], $2::text[]) as taken (lane, key), messaging.relay_lane
         where outbox_hold.lane = taken.lane and outbox_hold.key = taken.key
           and relay_lane.lane = taken.lane and relay_lane.holder = $3",
        &taken.iter().map(|event| event.lane).collect::<Vec<_>>(),
        &taken.iter().map(|event| event.key().to_owned()).collect::<Vec<_>>(),
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
