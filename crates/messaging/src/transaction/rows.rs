//! The rows of what a transaction publishes: events, deadlines and jobs, each kind in one statement however many there are.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use failpoints::without;
use sqlx::PgConnection;

use super::{Job, Pending};
use crate::event;

/// A statement that writes one event, and more beside it. It does the same as [`insert_all`], and costs the database about half as much.
macro_rules! insert_one {
    ($beside:literal, $event:expr $(, $more:expr)*) => {
        sqlx::query!(
            "with head as (
                 insert into messaging.stream_head as head (key, seq) values ($1, 1)
                 on conflict (key) do update set seq = head.seq + 1, updated_at = now()
                 returning seq
             )"
                + $beside
                + " insert into messaging.outbox
                        (lane, position, message_id, type, key, seq, payload, context, required, sensitive, deadline, occurred_at)
                    select $2, nextval('messaging.outbox_position'), $3, $4, $1, head.seq, $5, $6, $7, $8, $9, $10 from head",
            $event.key,
            event::lane(&$event.key),
            $event.message_id,
            $event.event_type,
            $event.payload,
            serde_json::json!($event.context),
            $event.required,
            $event.sensitive,
            $event.deadline,
            $event.occurred_at
            $(, $more)*
        )
    };
}

/// One statement writes them.
pub(super) async fn insert(conn: &mut PgConnection, pending: &[Pending]) -> Result<(), sqlx::Error> {
    match pending {
        [] => Ok(()),
        [event] => insert_one!("", event).execute(conn).await.map(drop),
        events => insert_all(conn, events).await,
    }
}

/// What a step of a saga publishes: what is to be done, and when that is too late. One statement, for the round trip.
pub(super) async fn insert_with_deadline(
    conn: &mut PgConnection,
    event: &Pending,
    (deadline, due_at): &(Pending, DateTime<Utc>),
) -> Result<(), sqlx::Error> {
    let inserted = insert_one!(
        ", scheduled as (
             insert into messaging.scheduled (message_id, due_at, type, key, payload, context, required, sensitive)
             values ($11, $12, $13, $14, $15, $16, $17, $18)
         )",
        event,
        deadline.message_id,
        due_at,
        deadline.event_type,
        deadline.key,
        deadline.payload,
        serde_json::json!(deadline.context),
        deadline.required,
        deadline.sensitive
    );
    inserted.execute(conn).await.map(drop)
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

/// One statement, and in sorted order, so that two transactions with the same jobs cannot deadlock here.
pub(super) async fn enqueue(conn: &mut PgConnection, jobs: &[Job]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into messaging.job (task, id, context, urgent)
         select * from unnest($1::text[], $2::uuid[], $3::jsonb[], $4::boolean[]) as input (task, id, context, urgent)
         order by task, id, urgent desc
         on conflict do nothing",
        &column(jobs, |job| job.task.to_owned()),
        &column(jobs, |job| job.id),
        &column(jobs, |job| serde_json::json!(job.context)),
        &column(jobs, |job| job.urgent && !without("urgent-first")),
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn schedule(
    conn: &mut PgConnection,
    scheduled: &[(Pending, DateTime<Utc>)],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into messaging.scheduled (message_id, due_at, type, key, payload, context, required, sensitive)
         select * from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::bytea[], $6::jsonb[],
                              $7::boolean[], $8::boolean[])",
        &column(scheduled, |(event, _)| event.message_id),
        &column(scheduled, |(_, due_at)| *due_at),
        &column(scheduled, |(event, _)| event.event_type.clone()),
        &column(scheduled, |(event, _)| event.key.clone()),
        &column(scheduled, |(event, _)| event.payload.clone()),
        &column(scheduled, |(event, _)| serde_json::json!(event.context)),
        &column(scheduled, |(event, _)| event.required),
        &column(scheduled, |(event, _)| event.sensitive),
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn column<T, V>(rows: &[T], value: impl Fn(&T) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}
