//! An account, and the SQL that loads and stores it. Sessions and mailed tokens are in files of their own.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{email::Email, password::PasswordHash, throttle};

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Role {
    /// Sees and changes their own things.
    Customer,
    /// Sees everything and administers.
    Operator,
}

/// An account as its owner and the operators see it.
#[derive(Debug, Clone)]
pub struct User {
    /// Also the key of everything that is published about the account.
    pub id: Uuid,
    /// The address.
    pub email: Email,
    /// What to call the person.
    pub name: String,
    /// What the account may do.
    pub role: Role,
    /// When control of the address was proved.
    pub verified_at: Option<DateTime<Utc>>,
    /// Counts changes; the ETag.
    pub version: i64,
    /// When they registered.
    pub created_at: DateTime<Utc>,
}

/// A name that can be shown: 1 to 100 characters, trimmed, none of them a control character.
#[derive(Debug, Clone)]
pub struct Name(String);

impl Name {
    /// Reads a name as somebody typed it. The error is a sentence for that person.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        match text.chars().count() {
            0 => Err("Write a name."),
            1..=100 if text.chars().any(char::is_control) => {
                Err("A name has no control characters, such as line breaks.")
            }
            1..=100 => Ok(Self(text.to_owned())),
            _ => Err("A name has at most 100 characters."),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a registration found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Nobody had this address; the account was made.
    Created(Uuid),
    /// The address has this account already; nothing was changed.
    Known(Uuid),
}

/// What is needed to check a login.
#[derive(Debug)]
pub struct Credentials {
    /// The account.
    pub user_id: Uuid,
    /// Its address.
    pub email: Email,
    /// The name of its owner.
    pub name: String,
    /// Of its password.
    pub password_hash: PasswordHash,
    /// Of the account, when the credentials were read.
    pub version: i64,
}

/// Makes an account, unless the address has one. One statement decides, so any number of registrations at once make one account; and it
/// writes one row either way, so that both cases take the same time.
pub async fn register(
    conn: &mut PgConnection,
    email: &Email,
    name: &Name,
    password_hash: &PasswordHash,
) -> Result<Registration, sqlx::Error> {
    let id = Uuid::now_v7();
    let found = sqlx::query_scalar!(
        "insert into users (id, email, name, password_hash) values ($1, $2, $3, $4)
         on conflict ((lower(email))) do update set email = users.email
         returning id",
        id,
        email.as_str(),
        name.as_str(),
        password_hash.as_str(),
    )
    .fetch_one(conn)
    .await?;
    Ok(if found == id { Registration::Created(id) } else { Registration::Known(found) })
}

/// Makes an account that administers, verified from the start, unless there is an operator.
///
/// An account that has the address already becomes the operator, with this password: whoever registered it has not proved to be the
/// operator, so the caller ends its sessions.
pub async fn create_first_operator(
    conn: &mut PgConnection,
    email: &Email,
    name: &Name,
    password_hash: &PasswordHash,
) -> Result<Option<Registration>, sqlx::Error> {
    // Two replicas that start together must not both find that there is none.
    sqlx::query!("lock table users in share row exclusive mode").execute(&mut *conn).await?;
    let id = Uuid::now_v7();
    let made = sqlx::query_scalar!(
        "insert into users as u (id, email, name, password_hash, role, verified_at)
         select $1, $2, $3, $4, 'operator', now() where not exists (select from users where role = 'operator')
         on conflict ((lower(email))) do update
            set role = 'operator', password_hash = excluded.password_hash, verified_at = coalesce(u.verified_at, now()),
                version = u.version + 1, updated_at = now()
         returning id",
        id,
        email.as_str(),
        name.as_str(),
        password_hash.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(made.map(|made| if made == id { Registration::Created(id) } else { Registration::Known(made) }))
}

/// Whether anybody can administer.
pub async fn has_operator(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(r#"select exists (select from users where role = 'operator') as "exists!""#)
        .fetch_one(conn)
        .await
}

/// What a login with this address is checked against.
pub async fn credentials_by_email(conn: &mut PgConnection, email: &Email) -> Result<Option<Credentials>, sqlx::Error> {
    sqlx::query_as!(
        Credentials,
        "select id as user_id, email, name, password_hash, version from users where lower(email) = lower($1)",
        email.as_str()
    )
    .fetch_optional(conn)
    .await
}

/// The account with this address, if its owner has not proved it yet.
pub async fn awaiting_verification(conn: &mut PgConnection, email: &Email) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar!("select id from users where lower(email) = lower($1) and verified_at is null", email.as_str())
        .fetch_optional(conn)
        .await
}

/// What a change that asks for the password again is checked against.
pub async fn credentials(conn: &mut PgConnection, id: Uuid) -> Result<Option<Credentials>, sqlx::Error> {
    sqlx::query_as!(
        Credentials,
        "select id as user_id, email, name, password_hash, version from users where id = $1",
        id
    )
    .fetch_optional(conn)
    .await
}

/// The account.
pub async fn load(conn: &mut PgConnection, id: Uuid) -> Result<Option<User>, sqlx::Error> {
    sqlx::query_as!(
        User,
        r#"select id, email, name, role as "role: Role", verified_at, version, created_at from users where id = $1"#,
        id
    )
    .fetch_optional(conn)
    .await
}

/// Accounts in the order of registration, after the given one.
pub async fn list(conn: &mut PgConnection, after: Option<Uuid>, limit: i64) -> Result<Vec<User>, sqlx::Error> {
    sqlx::query_as!(
        User,
        r#"select id, email, name, role as "role: Role", verified_at, version, created_at
           from users where $1::uuid is null or id > $1 order by id limit $2"#,
        after,
        limit
    )
    .fetch_all(conn)
    .await
}

/// Changes name or password, or both, if the account is still at this version. None if it has moved on.
pub async fn change(
    conn: &mut PgConnection,
    id: Uuid,
    version: i64,
    name: Option<&Name>,
    password_hash: Option<&PasswordHash>,
) -> Result<Option<User>, sqlx::Error> {
    sqlx::query_as!(
        User,
        r#"update users
           set name = coalesce($3, name), password_hash = coalesce($4, password_hash), version = version + 1, updated_at = now()
           where id = $1 and version = $2
           returning id, email, name, role as "role: Role", verified_at, version, created_at"#,
        id,
        version,
        name.map(Name::as_str),
        password_hash.map(PasswordHash::as_str),
    )
    .fetch_optional(conn)
    .await
}

/// Notes that the owner of the address is the owner of the account. Whether that is news.
pub async fn mark_verified(conn: &mut PgConnection, id: Uuid) -> Result<bool, sqlx::Error> {
    let changed = sqlx::query!(
        "update users set verified_at = now(), version = version + 1, updated_at = now() where id = $1 and verified_at is null",
        id
    )
    .execute(conn)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// Sets a password without asking for the old one: its owner has followed a link that only they can have.
pub async fn reset_password(
    conn: &mut PgConnection,
    id: Uuid,
    password_hash: &PasswordHash,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update users set password_hash = $2, version = version + 1, updated_at = now() where id = $1",
        id,
        password_hash.as_str()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives an account a role. The caller has made sure that an operator remains, see [`is_last_operator`].
pub async fn set_role(conn: &mut PgConnection, id: Uuid, role: Role) -> Result<Option<User>, sqlx::Error> {
    sqlx::query_as!(
        User,
        r#"update users
           set role = $2, version = version + (role is distinct from $2)::int, updated_at = now()
           where id = $1
           returning id, email, name, role as "role: Role", verified_at, version, created_at"#,
        id,
        role as Role,
    )
    .fetch_optional(conn)
    .await
}

/// Whether nobody could administer without this account. Locks it and the operators, in the order of their ids, to the end of the
/// transaction: two that leave at once must see each other, or nobody remains.
pub async fn is_last_operator(conn: &mut PgConnection, id: Uuid) -> Result<bool, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select id, role as "role: Role" from users where role = 'operator' or id = $1 order by id for update"#,
        id
    )
    .fetch_all(conn)
    .await?;
    let mut operators = rows.iter().filter(|row| row.role == Role::Operator).map(|row| row.id);
    Ok(operators.next() == Some(id) && operators.next().is_none())
}

/// Removes the account with everything that hangs on it: sessions, tokens, counters.
pub async fn delete(conn: &mut PgConnection, id: Uuid, email: &Email) -> Result<bool, sqlx::Error> {
    throttle::forget_account(&mut *conn, email).await?;
    let address = email.digest();
    sqlx::query!("delete from mails where address = $1", &address).execute(&mut *conn).await?;
    let deleted = sqlx::query!("delete from users where id = $1", id).execute(conn).await?;
    Ok(deleted.rows_affected() > 0)
}
