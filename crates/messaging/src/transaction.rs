//! A transaction that publishes: rows and events, both or neither.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
};

use chrono::{DateTime, Utc};
use failpoints::{hit, without};
use sqlx::{PgConnection, Postgres, Transaction};
use tracing::Span;
use uuid::Uuid;

use crate::{
    Audience, Envelope, Event, Outbox, PublishError,
    context::{TraceContext, spans},
    event::{self, MAX_PAYLOAD_BYTES},
    outbox::lane_bit,
};

/// A Postgres transaction that can publish. Derefs to [`PgConnection`], so every query runs on it; dropping it rolls back.
pub struct OutboxTransaction {
    tx: Transaction<'static, Postgres>,
    outbox: Outbox,
    pending: Vec<Pending>,
    scheduled: Vec<(Pending, DateTime<Utc>)>,
    jobs: Vec<(&'static str, Uuid, TraceContext)>,
    envelope: Option<Envelope>,
}

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
            tokio::spawn(async move { insert(&mut *pool.acquire().await?, &[pending]).await });
            return Ok(message_id);
        }
        self.pending.push(pending);
        Ok(message_id)
    }

    /// As [`publish`](Self::publish), at a time (by the database's clock): the way to wait for something. The event takes its number
    /// in the order of its key when it comes due.
    pub fn publish_at<E: Event>(&mut self, event: &E, due_at: DateTime<Utc>) -> Result<Uuid, PublishError> {
        let pending = Pending { deadline: true, ..Pending::new(event)? };
        let message_id = pending.message_id;
        if without("schedule") {
            self.pending.push(pending);
            return Ok(message_id);
        }
        self.scheduled.push((pending, due_at));
        Ok(message_id)
    }

    /// Has a [`Worker`](crate::Worker) of this task work on the thing with this id, after this transaction has committed. Enqueuing
    /// the same thing again before it is done changes nothing.
    pub fn enqueue(&mut self, task: &'static str, id: Uuid) {
        self.jobs.push((task, id, TraceContext::of(&Span::current())));
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

    /// A transaction whose statements take their rows by an index and nothing but these: for the outbox, which is empty at one moment and full
    /// at the next. A prepared statement keeps the plan of an empty one, and statistics that were taken then say that it is empty still; such a
    /// plan reads all of a backlog for each window.
    pub(crate) async fn by_index(outbox: &Outbox) -> Result<Self, sqlx::Error> {
        let mut tx = outbox.begin().await?;
        sqlx::query!(
            "select count(set_config(name, value, true))
             from (values ('plan_cache_mode', 'force_custom_plan'), ('enable_seqscan', 'off'), ('enable_bitmapscan', 'off'),
                          ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'),
                          -- what is off counts as very dear, and what is dear is compiled, which takes longer than all else
                          ('jit', 'off')) as local (name, value)"
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(tx)
    }

    /// Commits what this crate has done by itself: it publishes nothing, and no error of it was swallowed.
    pub(crate) async fn commit_own(self) -> Result<(), sqlx::Error> {
        self.outbox.answered(self.tx.commit()).await
    }

    /// Writes the events and commits. Then, and only then, the relay is woken.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        hit("outbox.before_events").await?;
        let apart = if without("one-transaction") { std::mem::take(&mut self.pending) } else { Vec::new() };
        let outbox = self.outbox.clone();
        let lanes = outbox.answered(self.flush()).await?;
        hit("outbox.before_commit").await?;
        outbox.answered(self.tx.commit()).await?;
        hit("outbox.after_commit").await?;
        if !apart.is_empty() {
            insert(&mut *self.outbox.pool.acquire().await?, &apart).await?;
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
        for (task, id, context) in &self.jobs {
            sqlx::query!(
                "insert into messaging.job (task, id, context) values ($1, $2, $3) on conflict do nothing",
                task,
                id,
                serde_json::json!(context),
            )
            .execute(&mut *self.tx)
            .await?;
        }
        for (pending, due_at) in &self.scheduled {
            sqlx::query!(
                "insert into messaging.scheduled (message_id, due_at, type, key, payload, context, required, sensitive)
                 values ($1, $2, $3, $4, $5, $6, $7, $8)",
                pending.message_id,
                due_at,
                pending.event_type,
                pending.key,
                pending.payload,
                serde_json::json!(pending.context),
                pending.required,
                pending.sensitive,
            )
            .execute(&mut *self.tx)
            .await?;
        }
        if self.pending.is_empty() && without("commit-check") {
            return Ok(0);
        }
        if self.pending.is_empty() {
            sqlx::query!("select").execute(&mut *self.tx).await?;
            return Ok(0);
        }
        insert(&mut self.tx, &self.pending).await?;
        Ok(self.pending.iter().fold(0, |lanes, pending| lanes | lane_bit(event::lane(&pending.key))))
    }
}

impl Pending {
    fn new<E: Event>(event: &E) -> Result<Self, PublishError> {
        if event.key().is_empty() {
            return Err(PublishError::EmptyKey { event_type: E::TYPE });
        }
        let bytes = event.encoded_len();
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(PublishError::TooLarge { event_type: E::TYPE, bytes });
        }
        let message_id = Uuid::now_v7();
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

/// One statement writes them.
async fn insert(conn: &mut PgConnection, pending: &[Pending]) -> Result<(), sqlx::Error> {
    match pending {
        [event] => insert_one(conn, event).await,
        events => insert_all(conn, events).await,
    }
}

/// What most transactions publish. It does the same as [`insert_all`], and costs the database about half as much.
async fn insert_one(conn: &mut PgConnection, event: &Pending) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with head as (
             insert into messaging.stream_head as head (key, seq) values ($1, 1)
             on conflict (key) do update set seq = head.seq + 1, updated_at = now()
             returning seq
         )
         insert into messaging.outbox
             (lane, position, message_id, type, key, seq, payload, context, required, sensitive, deadline, occurred_at)
         select $2, nextval('messaging.outbox_position'), $3, $4, $1, head.seq, $5, $6, $7, $8, $9, $10 from head",
        event.key,
        event::lane(&event.key),
        event.message_id,
        event.event_type,
        event.payload,
        serde_json::json!(event.context),
        event.required,
        event.sensitive,
        event.deadline,
        event.occurred_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// It advances the heads of the keys in sorted order (so that two transactions with the same keys cannot
/// deadlock here), which holds their locks to the commit, and only then draws the positions.
async fn insert_all(conn: &mut PgConnection, pending: &[Pending]) -> Result<(), sqlx::Error> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    // How many events of the same key come after this one in the statement.
    let mut behind = vec![0_i64; pending.len()];
    for (event, behind) in pending.iter().zip(&mut behind).rev() {
        let count = counts.entry(&event.key).or_default();
        *behind = *count;
        *count += 1;
    }
    let (keys, counts): (Vec<_>, Vec<_>) = counts.into_iter().map(|(key, count)| (key.to_owned(), count)).unzip();
    sqlx::query!(
        "with head as (
             insert into messaging.stream_head as head (key, seq)
             select key, count from unnest($1::text[], $2::bigint[]) as input (key, count) order by key
             on conflict (key) do update set seq = head.seq + excluded.seq, updated_at = now()
             returning key, seq
         )
         insert into messaging.outbox
             (lane, position, message_id, type, key, seq, payload, context, required, sensitive, deadline, occurred_at)
         select lane, nextval('messaging.outbox_position'), message_id, type, input.key, head.seq - behind,
                payload, context, required, sensitive, deadline, occurred_at
         from unnest($3::smallint[], $4::uuid[], $5::text[], $6::text[], $7::bigint[], $8::bytea[], $9::jsonb[],
                     $10::boolean[], $11::boolean[], $12::boolean[], $13::timestamptz[]) with ordinality
              as input (lane, message_id, type, key, behind, payload, context, required, sensitive, deadline, occurred_at, n)
         join head on head.key = input.key
         order by n",
        &keys,
        &counts,
        &column(pending, |event| event::lane(&event.key)),
        &column(pending, |event| event.message_id),
        &column(pending, |event| event.event_type.clone()),
        &column(pending, |event| event.key.clone()),
        &behind,
        &column(pending, |event| event.payload.clone()),
        &column(pending, |event| serde_json::json!(event.context)),
        &column(pending, |event| event.required),
        &column(pending, |event| event.sensitive),
        &column(pending, |event| event.deadline),
        &column(pending, |event| event.occurred_at),
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn column<T>(pending: &[Pending], value: impl Fn(&Pending) -> T) -> Vec<T> {
    pending.iter().map(value).collect()
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
