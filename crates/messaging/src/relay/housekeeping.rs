//! Keeps the crate's tables in shape: partitions made ahead and dropped when they are past, and what has its own retention deleted.

use std::time::Duration;

use failpoints::{hit, without};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Outbox,
    outbox::{Backlog, Retention},
    relay::Relay,
};

const PERIOD: Duration = Duration::from_secs(3600);
const GAUGE_PERIOD: Duration = Duration::from_secs(5);
/// Days for which partitions are made ahead; the service may not run for as long without missing one.
const AHEAD_DAYS: i32 = 7;
/// Rows per statement, so that no deletion holds locks for long.
const BATCH: i64 = 5_000;

impl Relay {
    pub(super) async fn keep_house(&self, stop: &CancellationToken) -> Result<(), Error> {
        let upkeep = super::every("housekeeping", PERIOD, PERIOD, stop, || self.outbox.keep_house());
        let deadline = self.outbox.answer_deadline;
        let gauges = super::every("measuring the outbox", GAUGE_PERIOD, deadline, stop, || self.outbox.measure());
        tokio::try_join!(upkeep, gauges)?;
        Ok(())
    }
}

impl Outbox {
    /// One round of housekeeping. The relay does it every hour.
    pub async fn keep_house(&self) -> Result<(), sqlx::Error> {
        let Retention { sensitive, stream_heads, redrive_log, .. } = self.shared.retention;
        self.maintain_partitions().await?;
        hit("relay.housekeeping").await?;
        while sqlx::query!(
            "update messaging.journal set payload = null where (published_at, position) in (
                 select published_at, position from messaging.journal
                 where sensitive and payload is not null and published_at < now() - make_interval(secs => $1)
                 limit $2)",
            sensitive.as_secs_f64(),
            BATCH,
        )
        .execute(&self.pool)
        .await?
        .rows_affected()
            > 0
        {}
        while sqlx::query!(
            "delete from messaging.stream_head where key in (
                 select key from messaging.stream_head where updated_at < now() - make_interval(secs => $1) limit $2)
             -- again: it may have been advanced by whoever held its lock
             and ($3 or updated_at < now() - make_interval(secs => $1))",
            stream_heads.as_secs_f64(),
            BATCH,
            without("fresh-heads"),
        )
        .execute(&self.pool)
        .await?
        .rows_affected()
            > 0
        {}
        while sqlx::query!(
            "delete from messaging.consumer_head where (consumer, producer, key) in (
                 select consumer, producer, key from messaging.consumer_head as head
                 where updated_at < now() - make_interval(secs => $1)
                   -- a message of it may have its effect yet, and must know that it is late
                   and not exists (select from messaging.parked where parked.consumer = head.consumer
                                   and parked.producer = head.producer and parked.key = head.key)
                 limit $2)
             and ($3 or updated_at < now() - make_interval(secs => $1))",
            // Shorter than the producer keeps its own: a stream that begins again at 1 must not look late.
            (stream_heads / 2).as_secs_f64(),
            BATCH,
            without("fresh-heads"),
        )
        .execute(&self.pool)
        .await?
        .rows_affected()
            > 0
        {}
        sqlx::query!(
            "delete from messaging.redrive_log where at < now() - make_interval(secs => $1)",
            redrive_log.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        // A mark that nobody came back for: the message went another way.
        sqlx::query!("delete from messaging.in_hand where since < now() - interval '7 days'")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Makes the partitions of the next days, and drops those that are past.
    pub(crate) async fn maintain_partitions(&self) -> Result<(), sqlx::Error> {
        let Retention { journal_days, inbox_days, .. } = self.shared.retention;
        sqlx::query!(
            "select messaging.maintain_partitions($1, $2, $3)",
            i32::from(journal_days),
            i32::from(inbox_days),
            AHEAD_DAYS,
        )
        .execute(&self.pool)
        .await
        .map(drop)
    }

    /// Measures what an alert should look at first: how old the oldest event is that nobody has heard. The relay does it every few seconds.
    pub async fn measure(&self) -> Result<(), sqlx::Error> {
        let row = sqlx::query!(
            r#"select (select coalesce(extract(epoch from now() - min(oldest.occurred_at)), 0)::float8
                   from messaging.relay_lane
                   cross join lateral (
                       select occurred_at from messaging.outbox where outbox.lane = relay_lane.lane order by position limit 1
                   ) as oldest) as "age!",
                  -- no more than that is counted: a long outage must not make this the slowest query
                  (select count(*) from (select from messaging.outbox limit 10000) as pending) as "pending!",
                  (select coalesce(extract(epoch from now() - min(due_at)), 0)::float8 from messaging.scheduled) as "late!",
                  (select count(*) from messaging.outbox_hold) as "held!",
                  (select count(*) from messaging.parked where state = 'dead') as "dead!",
                  waiting.count as "parked!", waiting.age as "parked_age!"
           from (select count(*), coalesce(extract(epoch from now() - min(parked_at)), 0)::float8 as age
                 from messaging.parked where state = 'waiting') as waiting"#
        )
        .fetch_one(&self.pool)
        .await?;
        let age = row.age.max(0.0);
        self.set_backlog(Backlog {
            oldest: Duration::try_from_secs_f64(age).unwrap_or(Duration::MAX),
            pending: u32::try_from(row.pending).unwrap_or(Backlog::COUNTED),
        });
        for (name, value) in [
            ("messaging_outbox_oldest_age_seconds", age),
            ("messaging_outbox_pending", row.pending as f64),
            ("messaging_scheduled_late_seconds", row.late.max(0.0)),
            ("messaging_held_keys", row.held as f64),
            ("messaging_parked", row.parked as f64),
            ("messaging_parked_oldest_age_seconds", row.parked_age),
            ("messaging_dead_letters", row.dead as f64),
        ] {
            metrics::gauge!(name).set(value);
        }
        Ok(())
    }
}
