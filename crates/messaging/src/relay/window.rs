//! A window of pending events: read, published in waves, settled in one statement.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::atomic::{AtomicI64, Ordering},
};

use chrono::Utc;
use failpoints::without;

use crate::{
    Envelope, Outbox,
    context::TraceContext,
    meters::Answers,
    publisher::{Answer, Outgoing},
    relay::{Progress, hold, lanes::Lease},
};

/// Pending events of the lanes that a relay holds, by key, each key in order.
pub(crate) struct Window {
    lanes: HashMap<String, VecDeque<PendingEvent>>,
    /// The keys in the order of their first event, so that the oldest goes first.
    keys: Vec<String>,
    wave: Vec<PendingEvent>,
    settled: Vec<PendingEvent>,
    refused: Vec<(PendingEvent, Answer)>,
    size: usize,
    left: usize,
}

pub(crate) struct PendingEvent {
    pub(crate) outgoing: Outgoing,
    lane: i16,
    position: i64,
    required: bool,
    /// Refused before, and due again.
    held: bool,
}

impl Window {
    /// Reads the oldest pending events of each lane, but nothing of a key that is held.
    pub(crate) async fn read(outbox: &Outbox, lease: &Lease, size: u16) -> Result<Self, sqlx::Error> {
        let per_lane = i64::from(size).div_euclid(i64::try_from(lease.lanes.len()).unwrap_or(1)).max(1);
        let rows = sqlx::query!(
            r#"select event.lane, event.position, event.message_id, event.type as event_type, event.key, event.seq,
                      event.payload, event.context as "context: sqlx::types::Json<TraceContext>",
                      event.required, event.deadline, event.occurred_at, hold.key is not null as "held!"
               from messaging.relay_lane
               cross join lateral (
                   select * from messaging.outbox
                   where outbox.lane = relay_lane.lane and not exists (
                       select from messaging.outbox_hold as hold
                       where hold.lane = outbox.lane and hold.key = outbox.key and hold.retry_at > now())
                   order by position limit $3
               ) as event
               left join messaging.outbox_hold as hold on hold.lane = event.lane and hold.key = event.key
               where relay_lane.lane = any($1) and (relay_lane.holder = $2 and relay_lane.expires_at > now() or $4)
               order by event.position"#,
            &lease.lanes,
            lease.token,
            per_lane,
            without("leases"),
        )
        .fetch_all(&outbox.pool)
        .await?;

        let mut window = Self {
            lanes: HashMap::new(),
            keys: Vec::new(),
            wave: Vec::new(),
            settled: Vec::new(),
            refused: Vec::new(),
            size: rows.len(),
            left: 0,
        };
        for row in rows {
            if without("pending-rows") && row.position <= CURSOR.load(Ordering::Relaxed) {
                window.size -= 1;
                continue;
            }
            let envelope = Envelope {
                message_id: row.message_id,
                event_type: row.event_type,
                producer: outbox.shared.producer.to_owned(),
                key: row.key,
                seq: row.seq,
                occurred_at: row.occurred_at,
                attempt: 1,
                late: false,
                replayed: false,
                deadline: row.deadline,
                context: row.context.0,
            };
            let key = envelope.key.clone();
            let event = PendingEvent {
                outgoing: Outgoing { envelope, payload: row.payload },
                lane: row.lane,
                position: row.position,
                required: row.required,
                held: row.held,
            };
            let queue = window.lanes.entry(key.clone()).or_insert_with(|| {
                window.keys.push(key);
                VecDeque::new()
            });
            queue.push_back(event);
        }
        Ok(window)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.size == 0
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &PendingEvent> {
        self.lanes.values().flatten()
    }

    /// The next event of each key. At most one of a key is unsettled at any time: should k:5 be refused, k:6 must not pass it.
    pub(crate) fn next_wave(&mut self) -> Vec<&Outgoing> {
        self.wave = self.keys.iter().filter_map(|key| self.lanes.get_mut(key)?.pop_front()).collect();
        if without("one-per-key") {
            self.wave.extend(self.lanes.values_mut().flat_map(|events| std::mem::take(events).into_iter().rev()));
        }
        self.wave.iter().map(|event| &event.outgoing).collect()
    }

    /// For the mutant that settles before the broker has answered.
    pub(crate) fn answer_unasked(&mut self) -> Vec<Outgoing> {
        let sent = self.wave.iter().map(|event| Outgoing {
            envelope: event.outgoing.envelope.clone(),
            payload: event.outgoing.payload.clone(),
        });
        let sent = sent.collect();
        self.settled.append(&mut self.wave);
        sent
    }

    /// Takes the broker's answers to the last wave. What follows a refused event of the same key is left in the outbox.
    pub(crate) fn answer(&mut self, answers: &[Answer]) {
        let mut counts = Answers::default();
        for (event, answer) in std::mem::take(&mut self.wave).into_iter().zip(answers) {
            match answer {
                Answer::Published => {
                    counts.confirmed += 1;
                    self.settled.push(event);
                }
                Answer::Unroutable if !event.required => {
                    counts.unheard += 1;
                    self.settled.push(event);
                }
                Answer::Unroutable | Answer::Nacked => {
                    *(if *answer == Answer::Nacked { &mut counts.nacked } else { &mut counts.returned }) += 1;
                    if let Some(behind) = self.lanes.remove(&event.outgoing.envelope.key) {
                        self.left += behind.len();
                    }
                    self.refused.push((event, *answer));
                }
            }
        }
        counts.count();
    }

    /// Moves what was published to the journal and holds the keys of what was refused. Fenced: where the lease has moved on, nothing
    /// changes, and the new holder publishes again.
    pub(crate) async fn settle(self, outbox: &Outbox, lease: &Lease) -> Result<Progress, sqlx::Error> {
        let left = self.left + self.lanes.values().map(VecDeque::len).sum::<usize>();
        for (event, answer) in &self.refused {
            hold::hold(outbox, lease, event.lane, &event.outgoing.envelope, *answer).await?;
        }
        let released: HashSet<_> = self
            .settled
            .iter()
            .filter(|event| event.held)
            .map(|event| (event.lane, event.outgoing.envelope.key.as_str()))
            .collect();
        for (lane, key) in released {
            hold::release(outbox, lease, lane, key).await?;
        }
        let settled = if self.settled.is_empty() { 0 } else { settle(outbox, lease, &self.settled).await? };
        let (now, dwells) = (Utc::now(), metrics::histogram!("messaging_dwell_seconds"));
        for event in &self.settled {
            let dwell = (now - event.outgoing.envelope.occurred_at).to_std().unwrap_or_default();
            dwells.record(dwell.as_secs_f64());
        }
        metrics::counter!("messaging_published_total").increment(settled);
        Ok(Progress { published: usize::try_from(settled).unwrap_or_default(), held: self.refused.len(), left })
    }
}

/// For the switch `pending-rows`: how far a relay has come that remembers that.
static CURSOR: AtomicI64 = AtomicI64::new(0);

/// One statement deletes from the outbox and appends to the journal, for lanes that are still this relay's.
async fn settle(outbox: &Outbox, lease: &Lease, events: &[PendingEvent]) -> Result<u64, sqlx::Error> {
    let lanes: Vec<_> = events.iter().map(|event| event.lane).collect();
    let positions: Vec<_> = events.iter().map(|event| event.position).collect();
    let settled = sqlx::query_scalar!(
        r#"with gone as (
               delete from messaging.outbox
               using unnest($1::smallint[], $2::bigint[]) as done (lane, position), messaging.relay_lane
               where outbox.lane = done.lane and outbox.position = done.position
                 and relay_lane.lane = done.lane and (relay_lane.holder = $3 or $5)
               returning outbox.*
           ), journaled as (
               insert into messaging.journal
                   (position, message_id, lane, type, key, seq, payload, context, sensitive, deadline, occurred_at)
               select position, message_id, lane, type, key, seq, payload, context, sensitive, deadline, occurred_at
               from gone where $4
           )
           select count(*) as "count!" from gone"#,
        &lanes,
        &positions,
        lease.token,
        outbox.shared.retention.journal_days > 0,
        without("leases"),
    )
    .fetch_one(&outbox.pool)
    .await?;
    if without("pending-rows") {
        CURSOR.fetch_max(positions.into_iter().max().unwrap_or_default(), Ordering::Relaxed);
    }
    Ok(u64::try_from(settled).unwrap_or_default())
}
