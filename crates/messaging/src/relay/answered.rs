//! What the broker has answered: settled in one statement, or held. It decides nothing about what is sent next.

use std::{collections::VecDeque, sync::atomic::Ordering};

use chrono::Utc;
use failpoints::{hit, without};
use sqlx::PgConnection;

use crate::{
    Outbox, OutboxTransaction,
    meters::Answers,
    publisher::{Answer, Outgoing},
    relay::{
        Progress, hold,
        lanes::Lease,
        window::{CURSOR, PendingEvent},
    },
    transaction::Plans,
};

/// So many events at once are a backlog.
const MANY: usize = 64;

/// Events that the broker has answered, and that are not settled.
#[derive(Default)]
pub(crate) struct Answered {
    settled: Vec<PendingEvent>,
    refused: Vec<(PendingEvent, Answer)>,
    /// What followed a refused event of its key: left in the outbox.
    left: usize,
}

impl Answered {
    /// Takes the broker's answers. Of a queue, what follows a refused event is left in the outbox: the caller drops it.
    pub(crate) fn add(&mut self, events: Vec<PendingEvent>, answers: &[Answer]) -> Vec<bool> {
        let mut counts = Answers::default();
        let mut taken = Vec::with_capacity(events.len());
        for (event, answer) in events.into_iter().zip(answers) {
            let is_taken = match answer {
                Answer::Published => {
                    counts.confirmed += 1;
                    true
                }
                Answer::Unroutable if !event.required => {
                    counts.unheard += 1;
                    true
                }
                Answer::Unroutable => {
                    counts.returned += 1;
                    false
                }
                Answer::Nacked => {
                    counts.nacked += 1;
                    false
                }
                Answer::Refused => {
                    counts.refused += 1;
                    false
                }
            };
            if is_taken {
                self.settled.push(event);
            } else {
                self.refused.push((event, *answer));
            }
            taken.push(is_taken);
        }
        counts.count();
        taken
    }

    /// These are left in the outbox.
    pub(crate) fn leave(&mut self, events: &VecDeque<PendingEvent>) {
        self.left += events.len();
    }

    /// What another channel brought.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.settled.append(&mut other.settled);
        self.refused.append(&mut other.refused);
        self.left += other.left;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.settled.is_empty() && self.refused.is_empty()
    }

    /// For the mutant that settles before the broker has answered.
    pub(crate) fn unasked(events: Vec<PendingEvent>) -> Self {
        Self { settled: events, ..Self::default() }
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Outgoing> {
        self.settled.iter().map(|event| &event.outgoing)
    }

    /// Moves what was published to the journal and holds the keys of what was refused. Fenced: where the lease has moved on, nothing
    /// changes, and the new holder publishes again.
    pub(crate) async fn settle(&self, outbox: &Outbox, lease: &Lease) -> Result<Progress, sqlx::Error> {
        if self.is_empty() {
            return Ok(Progress { left: self.left, ..Progress::default() });
        }
        hit("relay.before_settle").await?;
        // First: the next event of a key that is free again may have been refused.
        let released: Vec<_> = self.settled.iter().filter(|event| event.held).collect();
        hold::release(outbox, lease, &released).await?;
        hold::hold(outbox, lease, &self.refused).await?;
        let settled = if self.settled.is_empty() { 0 } else { settle(outbox, lease, &self.settled).await? };
        hit("relay.after_settle").await?;
        let (now, dwells) = (Utc::now(), metrics::histogram!("messaging_dwell_seconds"));
        for event in &self.settled {
            let dwell = (now - event.outgoing.envelope.occurred_at).to_std().unwrap_or_default();
            dwells.record(dwell.as_secs_f64());
        }
        metrics::counter!("messaging_published_total").increment(settled);
        let published = usize::try_from(settled).unwrap_or_default();
        Ok(Progress { published, held: self.refused.len(), left: self.left })
    }

    /// Whether an earlier event of this key was refused. Then this one is left, too.
    pub(crate) fn leaves(&mut self, event: &PendingEvent) -> bool {
        let refused = self.refused.iter().any(|(refused, _)| refused.key() == event.key());
        self.left += usize::from(refused);
        refused
    }

    /// How many were refused.
    pub(crate) fn held(&self) -> usize {
        self.refused.len()
    }

    /// A key is free again that was held: its later events were not read.
    pub(crate) fn releases(&self) -> bool {
        self.settled.iter().any(|event| event.held)
    }
}

/// For lanes that are still this relay's.
async fn settle(outbox: &Outbox, lease: &Lease, events: &[PendingEvent]) -> Result<u64, sqlx::Error> {
    if events.len() < MANY {
        return settle_on(&mut *outbox.pool.acquire().await?, outbox, lease, events).await;
    }
    let mut tx = OutboxTransaction::by_index(outbox, Plans::OfValues).await?;
    let settled = settle_on(&mut tx, outbox, lease, events).await?;
    tx.commit_own().await?;
    Ok(settled)
}

/// One statement deletes from the outbox and appends to the journal.
async fn settle_on(
    conn: &mut PgConnection,
    outbox: &Outbox,
    lease: &Lease,
    events: &[PendingEvent],
) -> Result<u64, sqlx::Error> {
    let lanes: Vec<_> = events.iter().map(|event| event.lane).collect();
    let positions: Vec<_> = events.iter().map(|event| event.position).collect();
    // After a failover that lost the latest commits, a position can be given again: what is deleted has to be what was published.
    let ids: Vec<_> = events.iter().map(|event| event.outgoing.envelope.message_id).collect();
    let settled = sqlx::query_scalar!(
        r#"with gone as (
               delete from messaging.outbox
               using unnest($1::smallint[], $2::bigint[], $6::uuid[]) as done (lane, position, message_id), messaging.relay_lane
               where outbox.lane = done.lane and outbox.position = done.position and (outbox.message_id = done.message_id or $7)
                 and relay_lane.lane = done.lane and (relay_lane.holder = $3 or $5)
               returning outbox.*
           ), journaled as (
               insert into messaging.journal
                   (position, message_id, lane, type, key, seq, payload, context, sensitive, deadline, occurred_at)
               select position, message_id, lane, type, key, seq, case when not erased then payload end, context, sensitive, deadline,
                      occurred_at
               from gone where $4
           )
           select count(*) as "count!" from gone"#,
        &lanes,
        &positions,
        lease.token,
        outbox.shared.retention.journal_days > 0,
        without("leases"),
        &ids,
        without("settled-ids"),
    )
    .fetch_one(conn)
    .await?;
    if without("pending-rows") {
        CURSOR.fetch_max(positions.into_iter().max().unwrap_or_default(), Ordering::Relaxed);
    }
    Ok(u64::try_from(settled).unwrap_or_default())
}
