//! What a relay has in hand: pending events that were read, by key and in order. Sending them is the round's job, settling them that of what
//! was answered.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use failpoints::without;
use sqlx::PgConnection;
use tokio::time::Instant;

use crate::{
    Envelope, Outbox, OutboxTransaction,
    context::TraceContext,
    publisher::Outgoing,
    relay::{answered::Answered, lanes::Lease},
    transaction::Plans,
};

/// Unsent events of a key beyond which no more of it are read: a key that has many must not keep the others out of the window.
const CROWD: usize = 16;
/// Payloads of so many bytes are read at once, and up to one event more of each lane; no more is read while as many wait. A backlog of large events
/// must fit into a small process.
const WINDOW_BYTES: usize = 8 * 1024 * 1024;
/// What was looked at so recently, and was not much, has not become a backlog since.
const RECENTLY: Duration = Duration::from_secs(2);
/// How often is looked for what is new while something is in hand, when the last look found nothing. To pass by the events of a crowded
/// key, the database has to read over them.
const LOOK: Duration = Duration::from_millis(100);

/// Events that a relay has in hand. Nothing of it outlives an error or the lease that it was read under: the outbox has it all.
#[derive(Default)]
pub(crate) struct Window {
    /// By key, each key in order.
    unsent: HashMap<String, VecDeque<PendingEvent>>,
    /// The keys in the order of their first event, so that the oldest goes first.
    keys: VecDeque<String>,
    answered: Answered,
    /// The outbox may hold more than was read.
    more: bool,
    /// It holds events of keys of which there were enough in hand.
    crowded_out: bool,
    /// More than the last look could take.
    backlog: bool,
    read_at: Option<Instant>,
    /// What it was read under.
    lease: Option<Lease>,
}

/// What goes to the broker at once. At most one event of a key is unsettled at any time: should k:5 be refused, k:6 must not pass it.
#[derive(Default)]
pub(crate) struct Wave {
    /// The only event of its key that is in hand.
    pub(crate) single: Vec<PendingEvent>,
    /// The events of the other keys, which go one after the other.
    pub(crate) queues: Vec<VecDeque<PendingEvent>>,
}

pub(crate) struct PendingEvent {
    pub(crate) outgoing: Outgoing,
    pub(crate) lane: i16,
    pub(crate) position: i64,
    pub(crate) required: bool,
    /// Refused before, and due again.
    pub(crate) held: bool,
}

/// What is to be read: nothing that is in hand already.
pub(crate) struct Wanted {
    per_lane: i64,
    /// Of each lane, an event is read when those before it have fewer.
    bytes_per_lane: i64,
    /// There may be many.
    backlog: bool,
    in_hand: Vec<i64>,
    crowded: Vec<String>,
}

impl Window {
    /// Forgets what was read under another lease, or under one that may have ended in between: somebody else may have sent it.
    pub(crate) fn keep_to(&mut self, lease: &Lease) {
        let same =
            self.lease.as_ref().is_some_and(|known| known.lanes == lease.lanes && known.deadline > Instant::now());
        if !same {
            self.forget_unsent();
        }
        self.lease = Some(lease.clone());
    }

    /// What was not sent is left to whoever reads it next.
    pub(crate) fn forget_unsent(&mut self) {
        self.unsent.clear();
        self.keys.clear();
        // Whatever it was, the next read tells.
        self.more = true;
    }

    /// Nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The outbox may hold what was not read.
    pub(crate) fn has_more(&self) -> bool {
        self.more
    }

    /// The outbox must be looked at again.
    pub(crate) fn look_again(&mut self) {
        self.more = true;
    }

    /// What to read beside what is in hand; None while that is enough.
    pub(crate) fn wanted(&self, lease: &Lease, size: u16, wave: &Wave) -> Option<Wanted> {
        let unsent = self.unsent.values().flatten().chain(wave.queues.iter().flatten());
        let (mut in_hand, mut bytes) = (Vec::new(), 0);
        for event in unsent.chain(&wave.single) {
            in_hand.push(event.position);
            bytes += event.outgoing.payload.len();
        }
        let due = self.more || self.read_at.is_none_or(|at| at.elapsed() >= LOOK);
        if !due || in_hand.len() >= 2 * usize::from(size) || bytes >= WINDOW_BYTES {
            return None;
        }
        let lanes = lease.lanes.len().max(1);
        let per_lane = (usize::from(size) / lanes).max(1);
        let queues = self.unsent.values().chain(&wave.queues);
        let crowded =
            queues.filter(|events| events.len() >= CROWD).filter_map(|events| Some(events.front()?.key().to_owned()));
        let long_ago = self.read_at.is_none_or(|at| at.elapsed() >= RECENTLY);
        let backlog = self.backlog || long_ago || !in_hand.is_empty();
        let [per_lane, bytes_per_lane] =
            [per_lane, WINDOW_BYTES / lanes].map(|most| i64::try_from(most).unwrap_or(i64::MAX));
        Some(Wanted { per_lane, bytes_per_lane, backlog, in_hand, crowded: crowded.collect() })
    }

    /// Takes in what was read, but nothing of a key whose earlier event was refused meanwhile.
    pub(crate) fn take_in(&mut self, wanted: &Wanted, (events, more): (Vec<PendingEvent>, bool)) {
        self.more = more;
        self.crowded_out = !wanted.crowded.is_empty();
        self.backlog = more || self.crowded_out;
        self.read_at = Some(Instant::now());
        for event in events {
            if self.answered.leaves(&event) {
                continue;
            }
            let keys = &mut self.keys;
            let queue = self.unsent.entry(event.key().to_owned()).or_insert_with_key(|key| {
                keys.push_back(key.clone());
                VecDeque::new()
            });
            queue.push_back(event);
        }
    }

    /// Everything that may go to the broker now, the oldest first.
    pub(crate) fn next_wave(&mut self) -> Wave {
        let mut wave = Wave::default();
        for key in std::mem::take(&mut self.keys) {
            match self.unsent.remove(&key) {
                Some(mut events) if events.len() == 1 => wave.single.extend(events.pop_front()),
                Some(events) => wave.queues.push(events),
                None => {}
            }
        }
        if without("one-per-key") {
            wave.single
                .extend(std::mem::take(&mut wave.queues).into_iter().flat_map(|events| events.into_iter().rev()));
        }
        wave
    }

    /// Takes back what the broker has answered, and what was not sent for want of time.
    pub(crate) fn take_back(&mut self, answered: Answered, unsent: Vec<VecDeque<PendingEvent>>) {
        for events in unsent {
            if let Some(key) = events.front().map(|event| event.key().to_owned()) {
                self.keys.push_back(key.clone());
                self.unsent.insert(key, events);
            }
        }
        self.answered = answered;
    }

    /// What is to be settled.
    pub(crate) fn take_answered(&mut self) -> Answered {
        std::mem::take(&mut self.answered)
    }

    pub(crate) fn has_answered(&self) -> bool {
        !self.answered.is_empty()
    }

    /// There is something to do at once: to send, to settle, or to read.
    pub(crate) fn is_in_hand(&self) -> bool {
        !self.is_empty() || self.more || self.crowded_out || self.has_answered()
    }

    /// The lease that it was last read under.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Events that are in hand and were not sent.
    pub(crate) fn unsent(&self) -> usize {
        self.unsent.values().map(VecDeque::len).sum()
    }
}

impl Wave {
    pub(crate) fn is_empty(&self) -> bool {
        self.single.is_empty() && self.queues.is_empty()
    }

    pub(crate) fn envelopes(&self) -> impl Iterator<Item = &Envelope> {
        self.single.iter().chain(self.queues.iter().flatten()).map(|event| &event.outgoing.envelope)
    }

    /// For the mutant that settles before the broker has answered.
    pub(crate) fn answer_unasked(&mut self) -> Vec<PendingEvent> {
        let queued = std::mem::take(&mut self.queues).into_iter().flatten();
        std::mem::take(&mut self.single).into_iter().chain(queued).collect()
    }
}

impl PendingEvent {
    pub(crate) fn key(&self) -> &str {
        &self.outgoing.envelope.key
    }
}

/// Reads the oldest pending events of each lane, but nothing of a key that is held, and nothing that is in hand. Also says whether there may be
/// more.
pub(crate) async fn read(
    outbox: &Outbox,
    lease: &Lease,
    wanted: &Wanted,
) -> Result<(Vec<PendingEvent>, bool), sqlx::Error> {
    // Planned for these values, what is in hand is also looked up in a hash table and not compared one by one.
    let plans = if wanted.backlog { Plans::OfValues } else { Plans::Kept };
    let mut tx = OutboxTransaction::by_index(outbox, plans).await?;
    let read = read_on(&mut tx, outbox, lease, wanted).await?;
    tx.commit_own().await?;
    Ok(read)
}

async fn read_on(
    conn: &mut PgConnection,
    outbox: &Outbox,
    lease: &Lease,
    wanted: &Wanted,
) -> Result<(Vec<PendingEvent>, bool), sqlx::Error> {
    let rows = sqlx::query!(
        r#"select event.lane, event.position, event.message_id, event.type as event_type, event.key, event.seq,
                  event.payload, event.context as "context: sqlx::types::Json<TraceContext>",
                  event.required, event.deadline, event.occurred_at, hold.key is not null as "held!"
           from messaging.relay_lane
           cross join lateral (
               select * from (
                   select oldest.*, sum(octet_length(payload)) over (order by position rows unbounded preceding)
                                    - octet_length(payload) as bytes_before
                   from (
                       select * from messaging.outbox
                       where outbox.lane = relay_lane.lane and outbox.position <> all($5) and outbox.key <> all($6) and not exists (
                           select from messaging.outbox_hold as hold
                           where hold.lane = outbox.lane and hold.key = outbox.key and hold.retry_at > now())
                       order by position limit $3
                   ) as oldest
               ) as sized
               where bytes_before < $7
           ) as event
           left join messaging.outbox_hold as hold on hold.lane = event.lane and hold.key = event.key
           where relay_lane.lane = any($1) and (relay_lane.holder = $2 and relay_lane.expires_at > now() or $4)
           order by event.position"#,
        &lease.lanes,
        lease.token,
        wanted.per_lane,
        without("leases"),
        &wanted.in_hand,
        &wanted.crowded,
        wanted.bytes_per_lane,
    )
    .fetch_all(conn)
    .await?;

    // How many of each lane, and of how many bytes.
    let mut of_lane = [(0_i64, 0_i64); 16];
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        let (count, bytes) = &mut of_lane[usize::from(row.lane.unsigned_abs() & 15)];
        *count += 1;
        *bytes += i64::try_from(row.payload.len()).unwrap_or(i64::MAX);
        if without("pending-rows") && row.position <= CURSOR.load(Ordering::Relaxed) {
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
        events.push(PendingEvent {
            outgoing: Outgoing { envelope, payload: row.payload },
            lane: row.lane,
            position: row.position,
            required: row.required,
            held: row.held,
        });
    }
    // A lane that gave as much as it was asked for may have more.
    let full = of_lane.iter().any(|(count, bytes)| *count >= wanted.per_lane || *bytes >= wanted.bytes_per_lane);
    let more = full && !events.is_empty();
    Ok((events, more))
}

/// For the switch `pending-rows`: how far a relay has come that remembers that.
pub(crate) static CURSOR: AtomicI64 = AtomicI64::new(0);
