//! Slows guessing down: failed logins are counted per account and per client address, in the database, so that replicas count together.
//! It counts for addresses that have no account in the same way, or its answers would tell which have one. Requests for mails are counted per
//! client address: otherwise anybody could have us fill other people's mailboxes.

use std::{net::IpAddr, time::Duration};

use sha2::{Digest as _, Sha256};
use sqlx::PgExecutor;

use crate::email::Email;

/// From this failure on, every further one doubles the pause before the next attempt on the account: 1 s, 2 s, 4 s …
const FREE_FAILURES: i32 = 5;

/// The longest pause. Longer ones would help whoever wants to keep the owner out more than they hinder guessing.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// An account's failures are forgotten after this long without one.
const ACCOUNT_MEMORY: Duration = Duration::from_secs(24 * 3600);

/// A client address is refused until the end of its window once it has failed this often in it, on whatever accounts.
const FAILURES_PER_CLIENT: i32 = 50;

/// The window of a client address; it begins with the first failure, or with the first mail.
const CLIENT_WINDOW: Duration = Duration::from_secs(10 * 60);

/// How long both must wait until their next attempt, if they must. `client` is what counts as one client, see `web::ClientAddr::network`.
pub async fn pause(db: impl PgExecutor<'_>, account: &Email, client: IpAddr) -> Result<Option<Duration>, sqlx::Error> {
    let (account, client) = (account.digest(), digest(client));
    let seconds = sqlx::query_scalar!(
        r#"select max(extract(epoch from blocked_until - now()))::float8 from throttles
           where (scope, subject) in (('account', $1), ('client', $2)) and blocked_until > now()"#,
        &account,
        &client,
    )
    .fetch_one(db)
    .await?;
    Ok(seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))))
}

/// Counts a failed attempt against the account.
pub async fn count_against_account(db: impl PgExecutor<'_>, account: &Email) -> Result<(), sqlx::Error> {
    let account = account.digest();
    sqlx::query!(
        "insert into throttles as t (scope, subject, failures, blocked_until, expires_at)
         values ('account', $1, 1, now(), now() + make_interval(secs => $2))
         on conflict (scope, subject) do update set
            failures = case when t.expires_at <= now() then 1 else t.failures + 1 end,
            blocked_until = case
                when t.expires_at > now() and t.failures + 1 >= $3
                then now() + make_interval(secs => least($4, power(2, least(t.failures + 1 - $3, 30))))
                else now()
            end,
            expires_at = excluded.expires_at",
        &account,
        ACCOUNT_MEMORY.as_secs_f64(),
        FREE_FAILURES,
        LONGEST_PAUSE.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Counts a failed attempt against the client address.
pub async fn count_against_client(db: impl PgExecutor<'_>, client: IpAddr) -> Result<(), sqlx::Error> {
    let client = digest(client);
    sqlx::query!(
        "insert into throttles as t (scope, subject, failures, blocked_until, expires_at)
         values ('client', $1, 1, now(), now() + make_interval(secs => $2))
         on conflict (scope, subject) do update set
            failures = case when t.expires_at <= now() then 1 else t.failures + 1 end,
            blocked_until = case when t.expires_at > now() and t.failures + 1 >= $3 then t.expires_at else now() end,
            expires_at = case when t.expires_at <= now() then excluded.expires_at else t.expires_at end",
        &client,
        CLIENT_WINDOW.as_secs_f64(),
        FAILURES_PER_CLIENT,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets an account's failures: its owner was here.
pub async fn forget_account(db: impl PgExecutor<'_>, account: &Email) -> Result<(), sqlx::Error> {
    let account = account.digest();
    sqlx::query!("delete from throttles where scope = 'account' and subject = $1", &account).execute(db).await?;
    Ok(())
}

/// Counts a request for a mail, whatever comes of it. How long the client must wait if it asked for `most` in its window already.
pub async fn count_mail_request(
    db: impl PgExecutor<'_>,
    client: IpAddr,
    most: u16,
) -> Result<Option<Duration>, sqlx::Error> {
    let (client, most) = (digest(client), i32::from(most));
    let seconds = sqlx::query_scalar!(
        r#"insert into throttles as t (scope, subject, failures, blocked_until, expires_at)
         values ('mails', $1, 1, now(), now() + make_interval(secs => $2))
         on conflict (scope, subject) do update set
            failures = case when t.expires_at <= now() then 1 else least(t.failures, $3) + 1 end,
            blocked_until = case when t.expires_at > now() and t.failures >= $3 then t.expires_at else now() end,
            expires_at = case when t.expires_at <= now() then excluded.expires_at else t.expires_at end
         returning case when failures > $3 then extract(epoch from expires_at - now())::float8 end as "seconds""#,
        &client,
        CLIENT_WINDOW.as_secs_f64(),
        most,
    )
    .fetch_one(db)
    .await?;
    Ok(seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))))
}

fn digest(client: IpAddr) -> [u8; 32] {
    Sha256::digest(client.to_string()).into()
}
