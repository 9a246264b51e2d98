//! Recipients: who can be written to, and where. The only place of this service that holds an address or a name.
//! It never decides whether somebody should get a mail.

use lettre::message::Mailbox;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::words::one_line;

/// Somebody with an address.
#[derive(Clone)]
pub(crate) struct Recipient {
    pub(crate) email: String,
    /// The name given at registration: anybody's words until the address is proven.
    name: String,
    verified: bool,
}

/// What is known of an account.
pub(crate) enum Whereabouts {
    /// Its address.
    Known(Recipient),
    /// It was deleted: there will never be an address again.
    Forgotten,
    /// Nothing yet. Its registration may still be on its way.
    Unknown,
}

impl Recipient {
    /// Somebody whose address stands in the settings.
    pub(crate) fn from_settings(mailbox: &Mailbox) -> Self {
        let name = mailbox.name.clone().unwrap_or_default();
        Self { email: mailbox.email.to_string(), name, verified: true }
    }

    /// What is known of this account.
    pub(crate) async fn find(db: &mut PgConnection, user_id: Uuid) -> Result<Whereabouts, sqlx::Error> {
        let row = sqlx::query!(
            r#"select email, coalesce(name, '') as "name!", verified_at is not null as "verified!"
               from recipients where user_id = $1"#,
            user_id
        )
        .fetch_optional(db)
        .await?;
        Ok(match row {
            None => Whereabouts::Unknown,
            Some(row) => match row.email {
                None => Whereabouts::Forgotten,
                Some(email) => Whereabouts::Known(Self { email, name: row.name, verified: row.verified }),
            },
        })
    }

    /// Whether nothing was heard of the account yet. If so, its registration cannot be remembered before this transaction ends:
    /// one of the two sees the other, and a letter that waits for the address is found when that comes.
    pub(crate) async fn is_awaited(db: &mut PgConnection, user_id: Uuid) -> Result<bool, sqlx::Error> {
        if Self::is_heard_of(db, user_id).await? {
            return Ok(false);
        }
        Self::lock(db, user_id).await?;
        Ok(!Self::is_heard_of(db, user_id).await?)
    }

    async fn is_heard_of(db: &mut PgConnection, user_id: Uuid) -> Result<bool, sqlx::Error> {
        Ok(sqlx::query!("select from recipients where user_id = $1", user_id).fetch_optional(db).await?.is_some())
    }

    /// Until the end of the transaction. There may be no row yet that could be locked.
    async fn lock(db: &mut PgConnection, user_id: Uuid) -> Result<(), sqlx::Error> {
        sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", format!("recipient {user_id}"))
            .execute(db)
            .await
            .map(drop)
    }

    /// The name to greet with. Before the address is proven there is none: whoever registers somebody else's address could
    /// otherwise send them any text in our name.
    pub(crate) fn greeting_name(&self) -> Option<String> {
        let name = one_line(&self.name);
        (self.verified && !name.is_empty()).then_some(name)
    }

    /// Remembers the address of a new account. An account that was already forgotten stays forgotten.
    pub(crate) async fn remember(
        db: &mut PgConnection,
        user_id: Uuid,
        email: &str,
        name: &str,
    ) -> Result<(), sqlx::Error> {
        Self::lock(db, user_id).await?;
        sqlx::query!(
            "insert into recipients (user_id, email, name) values ($1, $2, $3)
             on conflict (user_id) do update set email = excluded.email, name = excluded.name, updated_at = now()
             where recipients.forgotten_at is null",
            user_id,
            email,
            name
        )
        .execute(db)
        .await
        .map(drop)
    }

    /// Notes that the address belongs to whoever registered it.
    pub(crate) async fn verified(db: &mut PgConnection, user_id: Uuid) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "update recipients set verified_at = coalesce(verified_at, now()), updated_at = now()
             where user_id = $1 and forgotten_at is null",
            user_id
        )
        .execute(db)
        .await
        .map(drop)
    }

    /// Erases address and name for good. A letter that waits for the address is there when this returns, or sees that it is in vain.
    pub(crate) async fn forget(db: &mut PgConnection, user_id: Uuid) -> Result<(), sqlx::Error> {
        Self::lock(db, user_id).await?;
        sqlx::query!(
            "insert into recipients (user_id, forgotten_at) values ($1, now())
             on conflict (user_id) do update
             set email = null, name = null, forgotten_at = coalesce(recipients.forgotten_at, now()), updated_at = now()",
            user_id
        )
        .execute(db)
        .await
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::Recipient;

    fn named(name: &str, verified: bool) -> Option<String> {
        Recipient { email: "ada@example.org".into(), name: name.into(), verified }.greeting_name()
    }

    #[test]
    fn a_name_is_only_repeated_once_the_address_is_proven() {
        assert_eq!(named("Ada Lovelace", true).as_deref(), Some("Ada Lovelace"));
        assert_eq!(named("WIN A PRIZE at evil.example", false), None);
    }

    #[test]
    fn a_name_is_one_line() {
        assert_eq!(named(" Ada\r\nBcc: eve@example.org\t", true).as_deref(), Some("Ada Bcc: eve@example.org"));
        assert_eq!(named(" \n", true), None);
    }
}
