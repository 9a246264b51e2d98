//! A transaction that publishes: rows and events, both or neither.

mod rows;

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use chrono::{DateTime, Utc};
use failpoints::{hit, without};
use sqlx::{PgConnection, Postgres, Transaction};
use tracing::Span;
use uuid::{NoContext, Timestamp, Uuid};

use crate::{
    Audience, Envelope, Event, Outbox, PublishError,
    context::{TraceContext, spans},
    event::{self, MAX_KEY_BYTES, MAX_PAYLOAD_BYTES},
    outbox::lane_bit,
    pool,
};

/// A Postgres transaction that can publish. Derefs to [`PgConnection`], so every query runs on it; dropping it rolls back.
pub struct OutboxTransaction {
    tx: Transaction<'static, Postgres>,
    outbox: Outbox,
    pending: Vec<Pending>,
    scheduled: Vec<(Pending, DateTime<Utc>)>,
    jobs: Vec<Job>,
    envelope: Option<Envelope>,
}

/// How statements by an index are planned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plans {
    /// Once. For short statements with arrays: left alone, PostgreSQL plans them anew each time, which takes longer than they do, because it knows
    /// how long the arrays are only then.
    Kept,
    /// For their values, and with nothing but indexes: for windows of a backlog.
    OfValues,
}

impl Plans {
    // What is off counts as very dear, and what is dear is compiled, which takes longer than all else: hence `jit`.
    fn begin(self) -> &'static str {
        match self {
            Self::Kept => {
                "begin; set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off; set local jit = off"
            }
            Self::OfValues => {
                "begin; set local plan_cache_mode = force_custom_plan; set local enable_seqscan = off; set local jit = off;
                 set local enable_bitmapscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off"
            }
        }
    }
}

/// The last time that 48 bits of milliseconds can say, in the year 10889.
const LAST_IN_AN_ID: Duration = Duration::from_millis((1 << 48) - 1);

/// An event on its way into the outbox.
pub(crate) struct Pending {
    pub(crate) message_id: Uuid,
    pub(crate) event_type: String,
    pub(crate) key: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) context: TraceContext,
    pub(crate) required: bool,
    pub(crate) sensitive: bool,
    pub(crate) deadline: bool,
    pub(crate) occurred_at: DateTime<Utc>,
}

/// Work that is to be done after the commit.
struct Job {
    task: &'static str,
    id: Uuid,
    urgent: bool,
    context: TraceContext,
}

impl OutboxTransaction {
    pub(crate) fn new(tx: Transaction<'static, Postgres>, outbox: Outbox) -> Self {
        Self { tx, outbox, pending: Vec::new(), scheduled: Vec::new(), jobs: Vec::new(), envelope: None }
    }

    /// Publishes an event when this transaction commits, and never otherwise. Returns the message id.
    ///
    /// The current span becomes the parent of whatever the event causes.
    pub fn publish<E: Event>(&mut self, event: &E) -> Result<Uuid, PublishError> {
        let pending = Pending::new(event)?;
        let message_id = pending.message_id;
        if without("rollback") {
            let pool = self.outbox.pool.clone();
            #[expect(
                clippy::disallowed_methods,
                reason = "what is published before the commit is published whatever happens"
            )]
            tokio::spawn(async move { rows::insert(&mut *pool.acquire().await?, &[pending]).await });
            return Ok(message_id);
        }
        self.pending.push(pending);
        Ok(message_id)
    }

    /// As [`publish`](Self::publish), at a time (by the database's clock): the way to wait for something. The event takes its number
    /// in the order of its key when it comes due. The time in its id (RFC 9562 §5.7) is that one, too: who hears it may have to remember for
    /// weeks that it did, and remembers by that time.
    pub fn publish_at<E: Event>(&mut self, event: &E, due_at: DateTime<Utc>) -> Result<Uuid, PublishError> {
        let pending = Pending { deadline: true, ..Pending::with_id(event, id_at(due_at))? };
        let message_id = pending.message_id;
        if without("schedule") {
            return self.publish(event);
        }
        self.scheduled.push((pending, due_at));
        Ok(message_id)
    }

    /// Has a [`Worker`](crate::Worker) of this task work on the thing with this id, after this transaction has committed. Enqueuing
    /// the same thing again before it is done changes nothing.
    pub fn enqueue(&mut self, task: &'static str, id: Uuid) {
        self.add_job(task, id, false);
    }

    /// As [`enqueue`](Self::enqueue), for what somebody waits for: it goes before all work of this task that is not urgent. A job that finds what it
    /// needs down is not urgent any more, so that it cannot keep the others from finding that up. One that was enqueued before stays what it is.
    pub fn enqueue_urgent(&mut self, task: &'static str, id: Uuid) {
        self.add_job(task, id, true);
    }

    fn add_job(&mut self, task: &'static str, id: Uuid, urgent: bool) {
        self.jobs.push(Job { task, id, urgent, context: TraceContext::of(&Span::current()) });
    }

    /// The message in hand, inside a handler.
    pub fn envelope(&self) -> Option<&Envelope> {
        self.envelope.as_ref()
    }

    pub(crate) fn set_envelope(&mut self, envelope: Envelope) {
        self.envelope = Some(envelope);
    }

    pub(crate) fn push(&mut self, pending: Pending) {
        self.pending.push(pending);
    }

    /// A transaction whose statements take their rows by an index, whatever the statistics say: a table can be empty at one moment and full at the
    /// next, and a prepared statement keeps the plan, and statistics the number of rows, of when it was empty. Such a plan would read all of
    /// a backlog for each message.
    pub(crate) async fn by_index(outbox: &Outbox, plans: Plans) -> Result<Self, sqlx::Error> {
        outbox.begin_with(plans.begin()).await
    }

    /// Commits what this crate has done by itself: it publishes nothing, and no error of it was swallowed.
    pub(crate) async fn commit_own(self) -> Result<(), sqlx::Error> {
        self.outbox.answered(self.tx.commit()).await.inspect(|()| pool::heard())
    }

    /// Writes the events and commits. Then, and only then, the relay is woken.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        hit("outbox.before_events").await?;
        let apart = if without("one-transaction") { std::mem::take(&mut self.pending) } else { Vec::new() };
        let outbox = self.outbox.clone();
        let lanes = outbox.answered(self.flush()).await?;
        hit("outbox.before_commit").await?;
        outbox.answered(self.tx.commit()).await?;
        pool::heard();
        hit("outbox.after_commit").await?;
        if !apart.is_empty() {
            rows::insert(&mut *self.outbox.pool.acquire().await?, &apart).await?;
        }
        if lanes != 0 {
            self.outbox.shared.wake.lanes(lanes);
        }
        if !self.jobs.is_empty() {
            self.outbox.shared.jobs.notify_waiters();
        }
        Ok(())
    }

    /// Writes what was published, and always runs at least one statement: Postgres answers the COMMIT of a transaction that has failed
    /// with ROLLBACK and no error, so only a statement before it can tell that an SQL error was swallowed.
    async fn flush(&mut self) -> Result<u16, sqlx::Error> {
        if !self.jobs.is_empty() {
            rows::enqueue(&mut self.tx, &self.jobs).await?;
        }
        match (&self.pending[..], &self.scheduled[..]) {
            ([], []) if !self.jobs.is_empty() || without("commit-check") => {}
            ([], []) => {
                sqlx::query!("select").execute(&mut *self.tx).await?;
            }
            ([event], [deadline]) => rows::insert_with_deadline(&mut self.tx, event, deadline).await?,
            (events, deadlines) => {
                if !deadlines.is_empty() {
                    rows::schedule(&mut self.tx, deadlines).await?;
                }
                rows::insert(&mut self.tx, events).await?;
            }
        }
        Ok(self.pending.iter().fold(0, |lanes, pending| lanes | lane_bit(event::lane(&pending.key))))
    }
}

/// A UUIDv7 of that time, or of now if that is later.
fn id_at(due_at: DateTime<Utc>) -> Uuid {
    let since_epoch = due_at.max(Utc::now()) - DateTime::UNIX_EPOCH;
    let since_epoch = since_epoch.to_std().unwrap_or_default().min(LAST_IN_AN_ID);
    Uuid::new_v7(Timestamp::from_unix(NoContext, since_epoch.as_secs(), since_epoch.subsec_nanos()))
}

impl Pending {
    fn new<E: Event>(event: &E) -> Result<Self, PublishError> {
        Self::with_id(event, Uuid::now_v7())
    }

    fn with_id<E: Event>(event: &E, message_id: Uuid) -> Result<Self, PublishError> {
        if event.key().is_empty() {
            return Err(PublishError::EmptyKey { event_type: E::TYPE });
        }
        let bytes = event.key().len();
        if bytes > MAX_KEY_BYTES {
            return Err(PublishError::KeyTooLong { event_type: E::TYPE, bytes });
        }
        let bytes = event.encoded_len();
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(PublishError::TooLarge { event_type: E::TYPE, bytes });
        }
        let span = spans::create(E::TYPE, message_id, event.key());
        metrics::counter!("messaging_events_created_total", "type" => E::TYPE).increment(1);
        Ok(Self {
            message_id,
            event_type: E::TYPE.to_owned(),
            key: event.key().to_owned(),
            payload: event.encode_to_vec(),
            context: TraceContext::of(&span),
            required: E::AUDIENCE == Audience::Required,
            sensitive: E::SENSITIVE,
            deadline: false,
            occurred_at: Utc::now(),
        })
    }
}

impl Deref for OutboxTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.tx
    }
}

impl DerefMut for OutboxTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.tx
    }
}
