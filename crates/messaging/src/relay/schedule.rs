//! Promotes scheduled events into the outbox when they are due. Only then do they take their number in their key's order.

use std::time::Duration;

use failpoints::{hit, without};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{Error, context::TraceContext, relay::Relay, transaction::Pending};

/// How late a scheduled event may be for want of looking.
const PERIOD: Duration = Duration::from_millis(250);
const BATCH: i64 = 200;

impl Relay {
    pub(super) async fn promote(&self, stop: &CancellationToken) -> Result<(), Error> {
        // One look at a time has a deadline; there may be very many.
        let deadline = Duration::MAX;
        super::every("promoting scheduled events", PERIOD, deadline, stop, || async {
            while self.outbox.answered(self.promote_due()).await? == usize::try_from(BATCH).unwrap_or_default() {}
            Ok(())
        })
        .await
    }

    /// Every replica looks; a due event goes to one of them.
    pub(super) async fn promote_due(&self) -> Result<usize, sqlx::Error> {
        let due =
            sqlx::query_scalar!(r#"select exists (select from messaging.scheduled where due_at <= now()) as "due!""#)
                .fetch_one(&self.outbox.pool)
                .await?;
        if !due {
            return Ok(0);
        }
        let mut tx = self.outbox.begin().await?;
        let rows = sqlx::query!(
            r#"delete from messaging.scheduled where message_id in (
                   select message_id from messaging.scheduled where due_at <= now() order by due_at limit $1
                   -- another replica promotes what it has locked
                   for update skip locked)
               returning message_id, due_at, type as event_type, key, payload,
                         context as "context: sqlx::types::Json<TraceContext>", required, sensitive"#,
            BATCH,
        )
        .fetch_all(&mut *tx)
        .await?;
        hit("relay.promoting").await?;
        let count = rows.len();
        for row in rows.into_iter().filter(|_| !without("promotion")) {
            tx.push(Pending {
                message_id: row.message_id,
                event_type: row.event_type,
                key: row.key,
                payload: row.payload,
                context: row.context.0,
                required: row.required,
                sensitive: row.sensitive,
                deadline: true,
                occurred_at: row.due_at,
            });
        }
        tx.commit().await?;
        hit("relay.promoted").await?;
        debug!(count, "promoted scheduled events");
        Ok(count)
    }
}
