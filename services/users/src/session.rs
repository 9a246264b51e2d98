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
    let exchanged = sqlx::query!(
        "update refresh_tokens set used_at = now() where token_hash = $1 and used_at is null and expires_at > now()",
        presented.as_bytes()
    )
    .execute(&mut *conn)
    .await?;
    if exchanged.rows_affected() == 0 {
        end(conn, session.user_id, session.id).await?;
        return Ok(Renewal::Reused(session));
    }
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
