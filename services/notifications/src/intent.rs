//! Intents: mails that somebody should get, before they are stored. Stored once, however often the event arrives.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{details::Details, notification::Content, state::Template};

/// A mail that somebody should get.
pub(crate) struct Intent {
    pub(crate) id: Uuid,
    /// `None`: the people who run the shop.
    pub(crate) user_id: Option<Uuid>,
    pub(crate) template: Template,
    pub(crate) content: Option<Content>,
    pub(crate) details: Option<Details>,
    /// Nothing was heard of the account yet.
    pub(crate) waits_for_address: bool,
    /// The end of the token; `None` for news.
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) occurred_at: DateTime<Utc>,
    pub(crate) message_id: String,
    pub(crate) trace_id: Option<String>,
}

impl Intent {
    /// The id of the notification that an event asks for: the same one each time the event arrives.
    pub(crate) fn id_for(event_message_id: Uuid, template: Template) -> Uuid {
        Uuid::new_v5(&event_message_id, template.name().as_bytes())
    }

    /// Stores the intent. `false` if it was there already.
    pub(crate) async fn insert(self, db: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let expires_at = self.expires_at.unwrap_or(self.occurred_at + self.template.lifetime());
        let inserted = sqlx::query!(
            // The clock, not the transaction's start: what one batch asks for keeps its order in lists.
            "insert into notifications
                 (id, user_id, template, content, details, waits_for_address, expires_at, occurred_at, message_id,
                  trace_id, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp())
             on conflict (id) do nothing",
            self.id,
            self.user_id,
            self.template.name(),
            self.content.map(Json) as _,
            self.details.map(Json) as _,
            self.waits_for_address,
            expires_at,
            self.occurred_at,
            self.message_id,
            self.trace_id
        )
        .execute(db)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }
}
