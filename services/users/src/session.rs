//! Sessions and their refresh tokens: opened by a login, renewed with a rotating token, ended by deleting the row. Access tokens are
//! signed in `signing_key.rs`; nothing of them is stored.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    password::PasswordHash,
    token::{Token, TokenHash},
    user::Role,
};

/// A session that is not renewed for this long ends.
pub const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Sessions of an account that live at the same time. A login more ends the one that was renewed longest ago.
pub const MOST_SESSIONS: u8 = 20;

/// Renewals of a session within an hour; six are needed. Every replaced token is remembered for `LIFETIME`, so that one that was stolen is known,
/// and without a limit whoever has an account could fill the database with them.
pub const RENEWALS_PER_HOUR: u8 = 30;

/// A session, with what its access tokens say.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// The `sid` of its access tokens.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// Of the account, now.
    pub role: Role,
    /// Whether control of the address was proved.
    pub verified: bool,
}

/// What came of presenting a refresh token.
#[derive(Debug)]
pub enum Renewal {
    /// The session goes on, with a new refresh token; the old one is used up.
    Renewed(Session, Token),
    /// The token had been exchanged before, so somebody else holds this session, too: it has been ended for both
    /// (RFC 9700 §4.14.2). The transaction must be committed.
    Reused(Session),
    /// The session was renewed too often; its next renewal is possible after this time, with the same token.
    TooOften(Duration),
    /// No living session has this token.
    Unknown,
}

/// Opens a session for somebody who has just shown the password with this hash. None if the account, or that password, has gone meanwhile.
pub async fn open(
    conn: &mut PgConnection,
    user_id: Uuid,
    shown: &PasswordHash,
) -> Result<Option<(Session, Token)>, sqlx::Error> {
    let id = Uuid::now_v7();
    // Locks the account, so that a change of its password either is seen here or ends this session.
    let session = sqlx::query_as!(
        Session,
        r#"with account as (
               select id, role, verified_at from users where id = $2 and password_hash = $3 for update
           ), opened as (
               insert into sessions (id, user_id, expires_at) select $1, id, now() + make_interval(secs => $4) from account
           )
           select $1::uuid as "id!", id as user_id, role as "role: Role", verified_at is not null as "verified!" from account"#,
        id,
        user_id,
        shown.as_str(),
        LIFETIME.as_secs_f64(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(session) = session else { return Ok(None) };
    sqlx::query!(
        "delete from sessions as session
         using (select id, expires_at from sessions where user_id = $1 and id <> $2 order by expires_at desc offset $3) as old
         -- again: it may have been renewed by whoever held its lock
         where session.id = old.id and session.expires_at = old.expires_at",
        user_id,
        id,
        i64::from(MOST_SESSIONS) - 1,
    )
    .execute(&mut *conn)
    .await?;
    Ok(Some((session, add_token(conn, id).await?)))
}

/// Exchanges a refresh token for the next one.
pub async fn renew(conn: &mut PgConnection, presented: Option<TokenHash>) -> Result<Renewal, sqlx::Error> {
    let Some(presented) = presented else {
        return Ok(Renewal::Unknown);
    };
    // The session's row is locked first: of two renewals with one token, the second must see what the first did to it.
    let session = sqlx::query_as!(
        Session,
        r#"select s.id, s.user_id, u.role as "role: Role", u.verified_at is not null as "verified!"
           from sessions s join users u on u.id = s.user_id
           where s.id = (select session_id from refresh_tokens where token_hash = $1) and s.expires_at > now()
           for update of s"#,
        presented.as_bytes()
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(session) = session else {
        return Ok(Renewal::Unknown);
    };
    // The pause is until the oldest of the latest renewals is an hour old.
    let token = sqlx::query!(
        r#"select used_at is null and expires_at > now() as "current!",
                  (select extract(epoch from renewal.created_at + interval '1 hour' - now())::float8
                   from refresh_tokens as renewal where renewal.session_id = $2
                   order by renewal.created_at desc offset $3 limit 1) as pause
           from refresh_tokens where token_hash = $1"#,
        presented.as_bytes(),
        session.id,
        i64::from(RENEWALS_PER_HOUR) - 1,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(token) = token else { return Ok(Renewal::Unknown) };
    if !token.current {
        end(conn, session.user_id, session.id).await?;
        return Ok(Renewal::Reused(session));
    }
    if let Some(seconds) = token.pause.filter(|seconds| *seconds > 0.0) {
        return Ok(Renewal::TooOften(Duration::from_secs_f64(seconds)));
    }
    sqlx::query!("update refresh_tokens set used_at = now() where token_hash = $1", presented.as_bytes())
        .execute(&mut *conn)
        .await?;
    sqlx::query!(
        "update sessions set expires_at = now() + make_interval(secs => $2) where id = $1",
        session.id,
        LIFETIME.as_secs_f64()
    )
    .execute(&mut *conn)
    .await?;
    Ok(Renewal::Renewed(session, add_token(conn, session.id).await?))
}

async fn add_token(conn: &mut PgConnection, session_id: Uuid) -> Result<Token, sqlx::Error> {
    let token = Token::random();
    sqlx::query!(
        "insert into refresh_tokens (token_hash, session_id, expires_at) values ($1, $2, now() + make_interval(secs => $3))",
        token.hash().as_bytes(),
        session_id,
        LIFETIME.as_secs_f64()
    )
    .execute(conn)
    .await?;
    Ok(token)
}

/// The session, if it lives: its account with today's role, whatever an access token of it says.
pub async fn load(conn: &mut PgConnection, id: Uuid) -> Result<Option<Session>, sqlx::Error> {
    sqlx::query_as!(
        Session,
        r#"select s.id, s.user_id, u.role as "role: Role", u.verified_at is not null as "verified!"
           from sessions s join users u on u.id = s.user_id
           where s.id = $1 and s.expires_at > now()"#,
        id
    )
    .fetch_optional(conn)
    .await
}

/// Ends a session of this account. False if the account has no such session.
pub async fn end(conn: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query!("delete from sessions where id = $1 and user_id = $2", id, user_id).execute(conn).await?;
    Ok(ended.rows_affected() > 0)
}

/// Ends all sessions of an account.
pub async fn end_all(conn: &mut PgConnection, user_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from sessions where user_id = $1", user_id).execute(conn).await?;
    Ok(())
}
