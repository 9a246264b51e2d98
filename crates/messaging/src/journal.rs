//! What was published: replayed to one consumer that needs it again, and erased where a person asks to be forgotten.

use chrono::{DateTime, Utc};
use failpoints::without;
use sqlx::PgConnection;
use tracing::Instrument as _;

use crate::{
    Broker, Envelope, Error, Outbox,
    context::{TraceContext, spans},
    event::lane,
    publisher::{Answer, CONFIRM_DEADLINE, Outgoing, Publisher, Route},
    topology::REPLAY_EXCHANGE,
};

/// Events per page of a replay.
const PAGE: i64 = 256;

/// Which events of the journal are sent again, and to whom.
#[derive(Clone, Debug)]
pub struct Replay {
    consumer: String,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    key: Option<String>,
    types: Option<Vec<String>>,
}

impl Replay {
    /// Everything in the journal, to one consumer.
    pub fn to(consumer: impl Into<String>) -> Self {
        Self { consumer: consumer.into(), since: DateTime::UNIX_EPOCH, until: Utc::now(), key: None, types: None }
    }

    /// Only what was published at or after this time.
    pub fn since(mut self, since: DateTime<Utc>) -> Self {
        self.since = since;
        self
    }

    /// Only what was published before this time; now by default.
    pub fn until(mut self, until: DateTime<Utc>) -> Self {
        self.until = until;
        self
    }

    /// Only the events of this key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Only these event types.
    pub fn types(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.types = Some(types.into_iter().map(Into::into).collect());
        self
    }
}

impl Outbox {
    /// Sends events of the journal again, with their own ids, to one consumer and nobody else: a consumer that is new, or whose queue was lost. What it
    /// has handled before is absorbed by its inbox; what it has overtaken meanwhile is marked late. Returns how many were sent. Events whose content
    /// was erased are left out.
    pub async fn replay(&self, broker: &Broker, replay: &Replay) -> Result<u64, Error> {
        let publisher = Publisher::open(broker, CONFIRM_DEADLINE).await?;
        let mut after = (DateTime::UNIX_EPOCH, i64::MIN);
        let mut sent = 0;
        loop {
            let page = self.page(replay, after).await?;
            let Some(last) = page.last() else { return Ok(sent) };
            after = last.0;
            // In the order of publishing; the pages wait for each other.
            if without("replay") {
                continue;
            }
            let window: Vec<_> = page.iter().map(|(_, message)| message).collect();
            let span =
                spans::send(REPLAY_EXCHANGE, &broker.publishing_to(), window.iter().map(|message| &message.envelope));
            let publishing = publisher.publish_window(Route::Consumer(&replay.consumer), &window);
            let answers = publishing.instrument(span.clone()).await.inspect_err(|error| {
                spans::fail(&span, error.kind(), &error.to_string());
            })?;
            if let Some(position) = answers.iter().position(|answer| *answer != Answer::Published) {
                let (answer, message) = (answers[position], &window[position].envelope);
                return Err(Error::Unconfirmed(format!(
                    "the replay to {} stopped after {sent} events: message {} was {answer:?}",
                    replay.consumer, message.message_id
                )));
            }
            sent += page.len() as u64;
        }
    }

    async fn page(
        &self,
        replay: &Replay,
        (published_at, position): (DateTime<Utc>, i64),
    ) -> Result<Vec<((DateTime<Utc>, i64), Outgoing)>, sqlx::Error> {
        // A moving position is safe here, unlike in the outbox: nothing is inserted into the past of the journal but what the relay is
        // settling now, and `until` keeps clear of that.
        let rows = sqlx::query!(
            r#"select published_at, position, message_id, type as event_type, key, seq, payload as "payload!",
                      context as "context: sqlx::types::Json<TraceContext>", deadline, occurred_at
               from messaging.journal
               where (published_at, position) > ($1, $2)
                 and published_at >= $3 and published_at < $4 and payload is not null
                 and ($5::text is null or key = $5) and ($6::text[] is null or type = any($6))
               order by published_at, position limit $7"#,
            published_at,
            position,
            replay.since,
            replay.until,
            replay.key,
            replay.types.as_deref(),
            PAGE,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let envelope = Envelope {
                    message_id: row.message_id,
                    event_type: row.event_type,
                    producer: self.shared.producer.to_owned(),
                    key: row.key,
                    seq: row.seq,
                    occurred_at: row.occurred_at,
                    attempt: 1,
                    late: false,
                    replayed: true,
                    deadline: row.deadline,
                    context: row.context.0,
                };
                ((row.published_at, row.position), Outgoing { envelope, payload: row.payload })
            })
            .collect())
    }
}

/// Erases the content of a key's sensitive events from the journal, in the caller's transaction; what is still to be published comes there without
/// its content. That they happened stays on record. Returns how many were erased.
pub async fn erase(conn: &mut PgConnection, key: &str) -> Result<u64, sqlx::Error> {
    // First: this waits for whoever is moving some of them to the journal, where the next statement finds them then.
    let pending = sqlx::query!(
        "update messaging.outbox set erased = true where lane = $1 and key = $2 and sensitive and not erased",
        lane(key),
        key
    )
    .execute(&mut *conn)
    .await?;
    let done = sqlx::query!(
        // Whatever a client had carried along goes with it.
        "update messaging.journal set payload = null, context = context - 'baggage'
         where key = $1 and sensitive and payload is not null",
        key
    )
    .execute(conn)
    .await?;
    Ok(pending.rows_affected() + done.rows_affected())
}
