//! The transaction that handles messages: inbox first, then the handlers, then their events, and one commit.

use std::{collections::HashSet, panic::AssertUnwindSafe};

use chrono::Utc;
use failpoints::{hit, without};
use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{
    Consumer, Envelope, HandlerError, OutboxTransaction, consumer::channel::Message, context::spans, error::Verdict,
    transaction::Plans,
};

/// What became of a message in a committed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its effect is committed.
    Handled,
    /// It had its effect before, or it is parked: nothing was done.
    Absorbed,
    /// An earlier message of its key is parked: nothing was done, and it must wait behind that.
    Behind,
}

/// What the inbox says of an incoming message.
struct Admission {
    fresh: bool,
    parked: bool,
    behind: bool,
    head: Option<i64>,
}

impl Consumer {
    /// Handles messages in one transaction, all or nothing.
    pub(super) async fn try_messages(&self, messages: &[Message]) -> Result<Vec<Fate>, HandlerError> {
        hit("consumer.before_transaction").await.map_err(sqlx::Error::Io)?;
        let mut tx = OutboxTransaction::by_index(&self.outbox, Plans::Kept).await?;
        let envelopes: Vec<_> = messages.iter().map(|message| &message.envelope).collect();
        let admissions = self.outbox.answered(self.admit(&mut tx, &envelopes)).await?;
        if without("inbox-in-transaction") {
            tx.commit().await?;
            tx = self.outbox.begin().await?;
        }
        hit("consumer.after_inbox").await.map_err(sqlx::Error::Io)?;
        let mut fates = Vec::with_capacity(messages.len());
        let mut seen = HashSet::new();
        let mut heads = std::collections::HashMap::new();
        for (message, admission) in messages.iter().zip(&admissions) {
            let fate = match admission {
                _ if without("inbox") => Fate::Handled,
                Admission { behind: true, parked: false, .. } if without("waiting") => Fate::Handled,
                _ if !seen.insert(message.envelope.message_id) => Fate::Absorbed,
                Admission { parked: true, .. } => Fate::Absorbed,
                Admission { behind: true, .. } => Fate::Behind,
                Admission { fresh: false, .. } => Fate::Absorbed,
                _ => Fate::Handled,
            };
            if fate == Fate::Handled {
                let head = heads
                    .entry((message.envelope.producer.as_str(), message.envelope.key.as_str()))
                    .or_insert(admission.head.unwrap_or_default());
                let envelope = Envelope { late: message.envelope.seq <= *head, ..message.envelope.clone() };
                *head = envelope.seq.max(*head);
                let handled = self.call(envelope, Some(message.tag), &message.payload, &mut tx).await;
                if handled.is_err() && without("atomic-effect") {
                    tx.commit().await?;
                    return Err(handled.err().unwrap_or_else(|| HandlerError::retry("unreachable")));
                }
                handled?;
            }
            fates.push(fate);
        }
        hit("consumer.after_handlers").await.map_err(sqlx::Error::Io)?;
        tx.commit().await?;
        self.count(messages, &fates);
        Ok(fates)
    }

    /// Calls the handler of one message inside the transaction, under its deadline, with panics caught. A message that was parked has no
    /// delivery tag.
    pub(super) async fn call(
        &self,
        envelope: Envelope,
        tag: Option<u64>,
        payload: &[u8],
        tx: &mut OutboxTransaction,
    ) -> Result<(), HandlerError> {
        let Some((event_type, handler)) = self.handlers.get_key_value(envelope.event_type.as_str()) else {
            return Err(HandlerError::reject(format!("no handler for {}", envelope.event_type)));
        };
        let queue = self.queue_of(&envelope);
        let broker = self.broker.consuming_from();
        let source = spans::Source { consumer: self.name, queue: &queue, broker: &broker, delivery_tag: tag };
        let span = spans::process(&source, &envelope, self.trace_mode);
        tx.set_envelope(envelope);
        let started = Instant::now();
        let handling = async {
            hit("consumer.in_handler").await?;
            handler.handle(payload, tx).await
        };
        let handled = AssertUnwindSafe(handling.instrument(span.clone())).catch_unwind();
        let result = match timeout(self.options.handler_deadline, handled).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(HandlerError::retry(format!("the handler panicked: {}", panic_message(&*panic)))),
            Err(_) => {
                Err(HandlerError::retry(format!("the handler took longer than {:?}", self.options.handler_deadline)))
            }
        };
        self.meters().called(event_type, started.elapsed());
        match &result {
            Ok(()) => {
                span.record("postrider.outcome", "handled");
            }
            Err(error) => {
                let outcome = match error.verdict() {
                    Verdict::Again => "again",
                    Verdict::Retry => "retry",
                    Verdict::Reject => "reject",
                    Verdict::Unavailable => "unavailable",
                };
                spans::fail(&span, outcome, &error.message());
                span.record("postrider.outcome", outcome);
            }
        }
        result
    }

    /// One statement that takes messages into the inbox and tells which are new. It waits for a predecessor that is still committing
    /// the same message elsewhere, and sorts, so that two of them cannot deadlock here.
    async fn admit(&self, tx: &mut OutboxTransaction, envelopes: &[&Envelope]) -> Result<Vec<Admission>, sqlx::Error> {
        let ids: Vec<_> = envelopes.iter().map(|envelope| envelope.message_id).collect();
        let producers: Vec<_> = envelopes.iter().map(|envelope| envelope.producer.clone()).collect();
        let keys: Vec<_> = envelopes.iter().map(|envelope| envelope.key.clone()).collect();
        let seqs: Vec<_> = envelopes.iter().map(|envelope| envelope.seq).collect();
        // Deadlines do not wait behind parked messages, and without order nothing does.
        let waits: Vec<_> = envelopes.iter().map(|envelope| self.ordered && !envelope.deadline).collect();
        sqlx::query_as!(
            Admission,
            r#"with incoming as (
                   select input.*,
                          -- by the index, one by one: a plan that reads all of a table once is for tables that stay small
                          coalesce((select true from messaging.parked
                                    where consumer = $1 and parked.message_id = input.message_id), false) as parked,
                          waits and coalesce((
                              select true from messaging.parked
                              where consumer = $1 and state = 'waiting' and not parked.deadline
                                and parked.producer = input.producer and parked.key = input.key limit 1), false) as behind,
                          -- the snapshot of this statement: how it was before it
                          (select head.seq from messaging.consumer_head as head
                           where head.consumer = $1 and head.producer = input.producer and head.key = input.key) as head
                   from unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::boolean[]) with ordinality
                        as input (message_id, producer, key, seq, waits, n)
               ), fresh as (
                   insert into messaging.inbox (message_id, consumer)
                   select message_id, $1 from incoming where not parked and not behind order by message_id
                   on conflict do nothing
                   returning message_id
               ), heads as (
                   insert into messaging.consumer_head as head (consumer, producer, key, seq)
                   select $1, producer, key, max(seq) from incoming join fresh using (message_id)
                   group by producer, key order by producer, key
                   on conflict (consumer, producer, key) do update
                       set seq = greatest(head.seq, excluded.seq), updated_at = now()
               )
               select fresh.message_id is not null as "fresh!", incoming.parked as "parked!", incoming.behind as "behind!",
                      incoming.head as "head?"
               from incoming
               left join fresh using (message_id)
               order by incoming.n"#,
            self.name,
            &ids,
            &producers,
            &keys,
            &seqs,
            &waits,
        )
        .fetch_all(&mut **tx)
        .await
    }

    /// Takes one parked message into the inbox for another attempt. None when it had its effect after all.
    pub(super) async fn readmit(
        &self,
        tx: &mut OutboxTransaction,
        envelope: &Envelope,
    ) -> Result<Option<bool>, sqlx::Error> {
        let head = sqlx::query!(
            r#"with fresh as (
                   insert into messaging.inbox (message_id, consumer) values ($2, $1) on conflict do nothing returning message_id
               ), heads as (
                   insert into messaging.consumer_head as head (consumer, producer, key, seq)
                   select $1, $3, $4, $5::bigint from fresh
                   on conflict (consumer, producer, key) do update
                       set seq = greatest(head.seq, excluded.seq), updated_at = now()
               )
               select (select seq from messaging.consumer_head
                       where consumer = $1 and producer = $3 and key = $4) as head
               from fresh"#,
            self.name,
            envelope.message_id,
            envelope.producer,
            envelope.key,
            envelope.seq,
        )
        .fetch_optional(&mut **tx)
        .await?;
        Ok(head.map(|row| envelope.seq <= row.head.unwrap_or_default()))
    }

    /// Marks a redelivered message as in hand, committed before it is handled. Returns how many processes have died with it in hand.
    pub(super) async fn mark_in_hand(&self, message_id: Uuid) -> Result<i32, sqlx::Error> {
        sqlx::query_scalar!(
            "insert into messaging.in_hand as mark (consumer, message_id, process) values ($1, $2, $3)
             on conflict (consumer, message_id) do update
                 set deaths = mark.deaths + (mark.process <> excluded.process)::integer, process = excluded.process
             returning deaths",
            self.name,
            message_id,
            self.state.process,
        )
        .fetch_one(&self.outbox.pool)
        .await
    }

    pub(super) async fn unmark(&self, message_id: Uuid) -> Result<(), sqlx::Error> {
        sqlx::query!("delete from messaging.in_hand where consumer = $1 and message_id = $2", self.name, message_id)
            .execute(&self.outbox.pool)
            .await?;
        Ok(())
    }

    fn count(&self, messages: &[Message], fates: &[Fate]) {
        let (meters, now) = (self.meters(), Utc::now());
        let (mut handled, mut absorbed) = (0, 0);
        for (message, fate) in messages.iter().zip(fates) {
            match fate {
                Fate::Handled => {
                    handled += 1;
                    let age = (now - message.envelope.occurred_at).to_std().unwrap_or_default();
                    meters.end_to_end.record(age.as_secs_f64());
                }
                Fate::Absorbed => absorbed += 1,
                Fate::Behind => {}
            }
        }
        meters.handled.increment(handled);
        meters.absorbed.increment(absorbed);
        meters.batch.record(f64::from(u32::try_from(messages.len()).unwrap_or(u32::MAX)));
    }
}

pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
