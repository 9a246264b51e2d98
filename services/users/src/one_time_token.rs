//! Tokens that are mailed as links: one use, one purpose, an end, and the newest closes the older ones. The mails themselves are
//! written by whoever hears the events.

use chrono::{DateTime, Utc};
use events::users::v1::{EmailVerificationRequested, PasswordResetRequested};
use prost_types::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    email::Email,
    token::{Token, TokenHash},
};

/// What following the link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Proves control of the address. The link works for a day.
    VerifyEmail,
    /// Sets a new password. The link works for an hour.
    ResetPassword,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
        }
    }

    fn lifetime_secs(self) -> f64 {
        match self {
            Self::VerifyEmail => 24.0 * 3600.0,
            Self::ResetPassword => 3600.0,
        }
    }
}

/// A kind of mail that an address can be sent only so often: see [`may_mail`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mail {
    /// The link for [`Purpose::VerifyEmail`].
    VerifyEmail,
    /// The link for [`Purpose::ResetPassword`].
    ResetPassword,
    /// "Somebody tried to register with your address."
    AccountExists,
}

impl Mail {
    fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => Purpose::VerifyEmail.as_str(),
            Self::ResetPassword => Purpose::ResetPassword.as_str(),
            Self::AccountExists => "account_exists",
        }
    }
}

/// Mails of one kind that an address gets within a day before it gets only one an hour.
const MAILS_OF_A_DAY: i32 = 10;

/// A token that was just made.
#[derive(Debug)]
pub struct Issued {
    user_id: Uuid,
    token: Token,
    expires_at: DateTime<Utc>,
}

/// Whom a link belongs to, or why it does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It works, and belongs to this account.
    Open(Uuid),
    /// It worked once, and that was used.
    Used,
    /// A newer one was mailed.
    Replaced,
    /// The password was changed since, in another way.
    Outdated,
    /// Its time is over.
    Expired,
    /// There is no such token, or no longer.
    Unknown,
}

/// Counts a mail to an address, whether it has an account or not. False if one of this kind was sent within the last minute, or within the last hour
/// after ten of them within a day; then none must be sent now. Two requests at once meet at the row: the second waits for the first to commit, and is refused.
pub async fn may_mail(conn: &mut PgConnection, address: &Email, mail: Mail) -> Result<bool, sqlx::Error> {
    let address = address.digest();
    let counted = sqlx::query!(
        "insert into mails (address, kind) values ($1, $2)
         on conflict (address, kind) do update set
             requested_at = now(),
             count = case when mails.since > now() - interval '1 day' then mails.count + 1 else 1 end,
             since = case when mails.since > now() - interval '1 day' then mails.since else now() end
         where mails.requested_at <= now() - case
             when mails.count >= $3 and mails.since > now() - interval '1 day' then interval '1 hour'
             else interval '1 minute'
         end",
        &address,
        mail.as_str(),
        MAILS_OF_A_DAY,
    )
    .execute(conn)
    .await?;
    Ok(counted.rows_affected() > 0)
}

/// Makes a token and closes the older ones of its purpose. The caller has been through [`may_mail`] in this transaction, which makes
/// requests for one account and purpose take turns.
pub async fn issue(conn: &mut PgConnection, user_id: Uuid, purpose: Purpose) -> Result<Issued, sqlx::Error> {
    close(&mut *conn, user_id, purpose, "newer_token").await?;
    let token = Token::random();
    let expires_at = sqlx::query_scalar!(
        "insert into one_time_tokens (token_hash, user_id, purpose, expires_at)
         values ($1, $2, $3, now() + make_interval(secs => $4))
         returning expires_at",
        token.hash().as_bytes(),
        user_id,
        purpose.as_str(),
        purpose.lifetime_secs(),
    )
    .fetch_one(conn)
    .await?;
    Ok(Issued { user_id, token, expires_at })
}

/// The password was changed by its owner: a link to change it that somebody asked for before does nothing any more.
pub async fn close_resets(conn: &mut PgConnection, user_id: Uuid) -> Result<(), sqlx::Error> {
    close(conn, user_id, Purpose::ResetPassword, "new_password").await
}

async fn close(conn: &mut PgConnection, user_id: Uuid, purpose: Purpose, by: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update one_time_tokens set closed_at = now(), closed_by = $3
         where user_id = $1 and purpose = $2 and closed_at is null",
        user_id,
        purpose.as_str(),
        by
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Looks at a link without using it up.
pub async fn look_at(conn: &mut PgConnection, hash: Option<TokenHash>, purpose: Purpose) -> Result<Link, sqlx::Error> {
    let Some(hash) = hash else { return Ok(Link::Unknown) };
    let row = sqlx::query!(
        r#"select user_id, closed_by, expires_at <= now() as "expired!" from one_time_tokens where token_hash = $1 and purpose = $2"#,
        hash.as_bytes(),
        purpose.as_str()
    )
    .fetch_optional(conn)
    .await?;
    Ok(match row {
        None => Link::Unknown,
        Some(row) => match row.closed_by.as_deref() {
            Some("use") => Link::Used,
            Some("new_password") => Link::Outdated,
            Some(_) => Link::Replaced,
            None if row.expired => Link::Expired,
            None => Link::Open(row.user_id),
        },
    })
}

/// Uses a link up, if it is open. Of two requests at once, one gets [`Link::Open`].
pub async fn redeem(conn: &mut PgConnection, hash: Option<TokenHash>, purpose: Purpose) -> Result<Link, sqlx::Error> {
    let Some(presented) = hash else {
        return Ok(Link::Unknown);
    };
    let user_id = sqlx::query_scalar!(
        "update one_time_tokens set closed_at = now(), closed_by = 'use'
         where token_hash = $1 and purpose = $2 and closed_at is null and expires_at > now()
         returning user_id",
        presented.as_bytes(),
        purpose.as_str()
    )
    .fetch_optional(&mut *conn)
    .await?;
    match user_id {
        Some(user_id) => Ok(Link::Open(user_id)),
        None => look_at(conn, hash, purpose).await,
    }
}

impl Issued {
    /// The event that has the link for [`Purpose::VerifyEmail`] mailed.
    pub fn verification_requested(&self) -> EmailVerificationRequested {
        EmailVerificationRequested {
            user_id: self.user_id.to_string(),
            token: self.token.expose().to_owned(),
            expires_at: Some(timestamp(self.expires_at)),
        }
    }

    /// The event that has the link for [`Purpose::ResetPassword`] mailed.
    pub fn reset_requested(&self) -> PasswordResetRequested {
        PasswordResetRequested {
            user_id: self.user_id.to_string(),
            token: self.token.expose().to_owned(),
            expires_at: Some(timestamp(self.expires_at)),
        }
    }
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0) }
}
