//! Lists of notifications, page by page. It never changes one.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    details::Details,
    notification::{Content, Notification},
    state::{Failure, State, Template},
};

/// Which notifications a list shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Only what this person may see: their own. `None` for operators.
    pub(crate) reader: Option<Uuid>,
    pub(crate) user_id: Option<Uuid>,
    pub(crate) state: Option<State>,
    pub(crate) template: Option<Template>,
}

impl Filter {
    /// Up to `limit` notifications, newest first, that are older than the last one of the page before.
    pub(crate) async fn page(
        &self,
        db: &mut PgConnection,
        after: Option<(DateTime<Utc>, Uuid)>,
        limit: i64,
    ) -> Result<Vec<Notification>, sqlx::Error> {
        let (after_time, after_id) = after.unzip();
        sqlx::query_as!(
            Notification,
            r#"select id, user_id, template as "template: Template", state as "state: State",
                      failure as "failure: Failure", content as "content: Json<Content>",
                      details as "details: Json<Details>", waits_for_address, expires_at, expires_at <= now() as "expired!", attempts, last_error, message_id, trace_id, occurred_at,
                      created_at, queued_at, updated_at, sent_at, version
               from notifications
               where ($1::uuid is null or user_id = $1)
                 and ($2::uuid is null or user_id = $2)
                 and ($3::text is null or state = $3)
                 and ($4::text is null or template = $4)
                 and ($5::timestamptz is null or (created_at, id) < ($5, $6::uuid))
               order by created_at desc, id desc
               limit $7"#,
            self.reader,
            self.user_id,
            self.state.map(State::name),
            self.template.map(Template::name),
            after_time,
            after_id,
            limit
        )
        .fetch_all(db)
        .await
    }
}
