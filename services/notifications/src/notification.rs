//! Notifications: the mails that people should get, their states, and the SQL that loads and changes them. It neither writes
//! letters nor sends them, and knows no address.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    details::Details,
    state::{Failure, State, Template},
};

/// What only one letter knows. Sensitive: it is stored until the letter is sent or expired, and never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) token: String,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content(redacted)")
    }
}

/// A stored notification.
#[derive(Clone, Debug)]
pub(crate) struct Notification {
    pub(crate) id: Uuid,
    /// `None`: the people who run the shop.
    pub(crate) user_id: Option<Uuid>,
    pub(crate) template: Template,
    pub(crate) state: State,
    pub(crate) failure: Option<Failure>,
    pub(crate) content: Option<Json<Content>>,
    pub(crate) details: Option<Json<Details>>,
    pub(crate) waits_for_address: bool,
    pub(crate) expires_at: DateTime<Utc>,
    /// Whether that had come when it was loaded, by the database's clock: the one that also ends it, and that all processes share.
    pub(crate) expired: bool,
    pub(crate) attempts: i32,
    pub(crate) last_error: Option<String>,
    pub(crate) message_id: String,
    pub(crate) trace_id: Option<String>,
    pub(crate) occurred_at: DateTime<Utc>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) queued_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) sent_at: Option<DateTime<Utc>>,
    pub(crate) version: i32,
}

/// What to do with a notification when its turn at the mail server comes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Send it.
    Send,
    /// Its link or its news ran out.
    Expired,
    /// It is no longer waiting: sent by another attempt, or cancelled meanwhile.
    Over,
}

/// Why a notification cannot be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotResendable {
    /// It is still on its way.
    Pending,
    /// Its link was erased or ran out; only a new one helps.
    LinkGone,
    /// It ran out or was cancelled.
    Over,
    /// The account is gone.
    NoAddress,
}

impl Notification {
    /// What to do now that its turn has come.
    pub(crate) fn turn(&self) -> Turn {
        if self.state != State::Pending {
            Turn::Over
        } else if self.expired || (self.template.has_token() && self.content.is_none()) {
            Turn::Expired
        } else {
            Turn::Send
        }
    }

    /// Whether it can be sent again.
    pub(crate) fn resendable(&self) -> Result<(), NotResendable> {
        match self.state {
            State::Pending => Err(NotResendable::Pending),
            State::Expired | State::Cancelled => Err(NotResendable::Over),
            State::Failed if self.failure == Some(Failure::NoAddress) => Err(NotResendable::NoAddress),
            State::Sent | State::Bounced | State::Failed
                if self.template.has_token() && (self.content.is_none() || self.expired) =>
            {
                Err(NotResendable::LinkGone)
            }
            State::Sent | State::Bounced | State::Failed => Ok(()),
        }
    }

    /// The notification with this id.
    pub(crate) async fn load(db: &mut PgConnection, id: Uuid) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select id, user_id, template as "template: Template", state as "state: State",
                      failure as "failure: Failure", content as "content: Json<Content>",
                      details as "details: Json<Details>", waits_for_address, expires_at, expires_at <= now() as "expired!", attempts, last_error, message_id, trace_id, occurred_at,
                      created_at, queued_at, updated_at, sent_at, version
               from notifications where id = $1"#,
            id
        )
        .fetch_optional(db)
        .await
    }

    /// The notification with this id, locked: two operators who press the button together queue it once.
    pub(crate) async fn lock(db: &mut PgConnection, id: Uuid) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query!("select from notifications where id = $1 for update", id).fetch_optional(&mut *db).await?;
        Self::load(db, id).await
    }

    /// Accepted by the mail server. This is a fact, so it holds even if the notification was cancelled meanwhile.
    pub(crate) async fn sent(db: &mut PgConnection, id: Uuid, attempts: i32) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "update notifications
             set state = 'sent', failure = null, content = null, last_error = null, attempts = $2, sent_at = now(),
                 updated_at = now(), version = version + 1
             where id = $1",
            id,
            attempts
        )
        .execute(db)
        .await
        .map(drop)
    }

    /// Given up. `false` if it was not waiting any more, for example because the account was deleted meanwhile.
    pub(crate) async fn failed(
        db: &mut PgConnection,
        id: Uuid,
        failure: Failure,
        attempts: i32,
        error: Option<&str>,
    ) -> Result<bool, sqlx::Error> {
        let failed = sqlx::query!(
            "update notifications
             set state = $2, failure = $3, attempts = $4, last_error = $5, updated_at = now(), version = version + 1,
                 content = case when $3 = 'no_address' then null else content end,
                 details = case when $3 = 'no_address' then null else details end
             where id = $1 and state = 'pending'",
            id,
            failure.state().name(),
            failure.reason(),
            attempts,
            error
        )
        .execute(db)
        .await?;
        Ok(failed.rows_affected() == 1)
    }

    /// An attempt failed and another one will follow.
    pub(crate) async fn retrying(
        db: &mut PgConnection,
        id: Uuid,
        attempts: i32,
        error: &str,
    ) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "update notifications set attempts = $2, last_error = $3, updated_at = now(), version = version + 1
             where id = $1 and state = 'pending'",
            id,
            attempts,
            error
        )
        .execute(db)
        .await
        .map(drop)
    }

    /// Waits for its turn again. News starts its lifetime anew; a link keeps its own.
    ///
    /// The Message-ID stays, so that a copy that did arrive is recognised. Only if the mail server had taken the first one
    /// does the second get a new one: mailboxes drop what they have seen before.
    pub(crate) async fn queue_again(
        &mut self,
        db: &mut PgConnection,
        now: DateTime<Utc>,
        trace_id: Option<String>,
    ) -> Result<(), sqlx::Error> {
        if !self.template.has_token() {
            self.expires_at = now + self.template.lifetime();
        }
        if self.state == State::Sent
            && let Some((_, domain)) = self.message_id.split_once('@')
        {
            self.message_id = format!("<{}.{}@{domain}", self.id, self.version);
        }
        (self.state, self.failure, self.attempts, self.last_error) = (State::Pending, None, 0, None);
        (self.queued_at, self.trace_id) = (now, trace_id);
        let changed = sqlx::query!(
            "update notifications
             set state = 'pending', failure = null, attempts = 0, last_error = null, sent_at = null, expires_at = $2,
                 queued_at = $3, message_id = $4, trace_id = $5, updated_at = now(), version = version + 1
             where id = $1
             returning updated_at, version",
            self.id,
            self.expires_at,
            self.queued_at,
            self.message_id,
            self.trace_id
        )
        .fetch_one(db)
        .await?;
        (self.sent_at, self.updated_at, self.version) = (None, changed.updated_at, changed.version);
        Ok(())
    }

    /// Not sent in time.
    pub(crate) async fn expired(db: &mut PgConnection, id: Uuid) -> Result<bool, sqlx::Error> {
        let expired = sqlx::query!(
            "update notifications set state = 'expired', content = null, updated_at = now(), version = version + 1
             where id = $1 and state = 'pending'",
            id
        )
        .execute(db)
        .await?;
        Ok(expired.rows_affected() == 1)
    }

    /// Lets the letters go that waited for this person's address. Returns them; they have no jobs yet.
    pub(crate) async fn address_arrived(
        db: &mut PgConnection,
        user_id: Uuid,
    ) -> Result<Vec<(Uuid, Template)>, sqlx::Error> {
        let rows = sqlx::query!(
            r#"update notifications
             set waits_for_address = false, queued_at = now(), updated_at = now(), version = version + 1
             where user_id = $1 and waits_for_address and state = 'pending'
             returning id, template as "template: Template""#,
            user_id
        )
        .fetch_all(db)
        .await?;
        Ok(rows.into_iter().map(|row| (row.id, row.template)).collect())
    }

    /// Cancels what was not sent and erases what letters to this person knew, for good. Returns what was cancelled.
    pub(crate) async fn forget_user(db: &mut PgConnection, user_id: Uuid) -> Result<Vec<Template>, sqlx::Error> {
        sqlx::query_scalar!(
            r#"with changed as (
                   update notifications
                   set content = null, details = null, last_error = null,
                       state = case when state = 'pending' then 'cancelled' else state end,
                       updated_at = now(), version = version + 1
                   where user_id = $1
                     and (content is not null or details is not null or last_error is not null or state = 'pending')
                   returning template, state
               )
               select template as "template!: Template" from changed where state = 'cancelled'"#,
            user_id
        )
        .fetch_all(db)
        .await
    }

    /// Ends up to `limit` that ran out, wherever they got stuck, and erases their tokens. Returns what they are now: those that
    /// waited are expired by it.
    pub(crate) async fn expire(db: &mut PgConnection, limit: i64) -> Result<Vec<(Template, State)>, sqlx::Error> {
        let rows = sqlx::query!(
            r#"with due as (
                   select id from notifications
                   where (content is not null or state = 'pending') and expires_at <= now()
                   limit $1
                   -- what somebody else has in hand is seen the next time
                   for update skip locked
               )
               update notifications
               set content = null, state = case when state = 'pending' then 'expired' else state end,
                   updated_at = now(), version = version + 1
               where id in (select id from due)
               returning template as "template: Template", state as "state: State""#,
            limit
        )
        .fetch_all(db)
        .await?;
        Ok(rows.into_iter().map(|row| (row.template, row.state)).collect())
    }

    /// Deletes up to `limit` that have been over for this long. Returns how many there were.
    pub(crate) async fn delete_over(db: &mut PgConnection, days: i32, limit: i64) -> Result<u64, sqlx::Error> {
        let deleted = sqlx::query!(
            "delete from notifications
             where id in (
                 select id from notifications
                 where state <> 'pending' and updated_at < now() - make_interval(days => $1)
                 order by updated_at limit $2
                 -- what another replica is deleting, or an operator is sending again, is in good hands
                 for update skip locked)",
            days,
            limit
        )
        .execute(db)
        .await?;
        Ok(deleted.rows_affected())
    }
}
