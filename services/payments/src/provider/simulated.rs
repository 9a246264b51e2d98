//! A provider that is not one: deterministic as the test mode of a real one, with a book of its own in the schema `provider`. It shares a
//! database with the service and nothing else: its own connections, its own transactions.
//!
//! The payment method decides. `pm_ok` is charged. `pm_declined` and `pm_insufficient_funds` are declined. `pm_slow` is charged after a
//! while, whatever is asked meanwhile: then it can be refunded, and not before. `pm_flaky` fails twice, then is charged. Every other one is
//! unknown, and declined.

use std::time::Duration;

use messaging::Outbox;
use money::Money;
use sqlx::{PgConnection, PgPool};
use tokio::time::sleep;
use uuid::Uuid;

use super::{Charge, Provider, ProviderError, Refund};
use crate::state::DeclineReason;

/// Calls under one key that fail before `pm_flaky` works.
const FLAKY_FAILURES: i32 = 2;

/// How the simulated provider behaves.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedOptions {
    /// How long `pm_slow` takes, from the first call on.
    pub slow: Duration,
    /// How long every answer travels: what it says is in the book before.
    pub latency: Duration,
}

/// The simulated provider.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// Only for its transactions, which `Pool::begin` would leave open where a call is cut off.
    book: Outbox,
    options: SimulatedOptions,
}

/// What the book says of a key.
#[derive(Debug)]
struct Entry {
    minor_units: Option<i64>,
    currency: Option<String>,
    method: Option<String>,
    state: Written,
    attempts: i32,
    decline_reason: Option<DeclineReason>,
    /// Until there is a decision, in seconds; negative when it is time.
    wait_seconds: f64,
}

/// The states of an entry; see the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
enum Written {
    Open,
    Charged,
    Declined,
    Refunded,
    Voided,
}

impl Simulated {
    /// A provider whose book is in the schema `provider` behind this pool, which should be its own.
    #[must_use]
    pub fn new(pool: PgPool, options: SimulatedOptions) -> Self {
        Self { book: Outbox::new(pool, "provider"), options }
    }

    async fn book_charge(&self, key: Uuid, amount: &Money, method: &str) -> Result<Answer, sqlx::Error> {
        let mut tx = self.book.begin().await?;
        let slow = (method == "pm_slow").then_some(self.options.slow.as_secs_f64());
        sqlx::query!(
            "insert into provider.book (key, minor_units, currency, method, ready_at)
             values ($1, $2, $3, $4, now() + make_interval(secs => $5))
             on conflict (key) do nothing",
            key,
            amount.minor_units,
            amount.currency,
            method,
            slow
        )
        .execute(&mut *tx)
        .await?;
        let answer = Entry::lock(&mut tx, key).await?.answer(amount, method);
        let (state, reason) = match &answer {
            Ok(Charge) => (Some("charged"), None),
            Err(ProviderError::Declined(reason)) => (Some("declined"), Some(reason.name())),
            Err(_) => (None, None),
        };
        sqlx::query!(
            "update provider.book
             set attempts = attempts + 1, state = coalesce($2, state), decline_reason = coalesce($3, decline_reason),
                 charged_at = case when $2 = 'charged' then coalesce(charged_at, now()) else charged_at end
             where key = $1",
            key,
            state,
            reason
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(answer)
    }

    async fn book_refund(&self, key: Uuid) -> Result<Result<Refund, ProviderError>, sqlx::Error> {
        let mut tx = self.book.begin().await?;
        // A refund that overtakes its charge: the key is dead before it was used.
        sqlx::query!("insert into provider.book (key, state) values ($1, 'voided') on conflict (key) do nothing", key)
            .execute(&mut *tx)
            .await?;
        let entry = Entry::lock(&mut tx, key).await?;
        let slow = entry.state == Written::Open && entry.method.as_deref() == Some("pm_slow");
        if slow && entry.wait_seconds > 0.0 {
            return Ok(Err(ProviderError::Processing(Duration::from_secs_f64(entry.wait_seconds))));
        }
        sqlx::query!(
            "update provider.book
             set state = case when $2 or state = 'charged' then 'refunded' when state = 'open' then 'voided' else state end,
                 charged_at = case when $2 then ready_at else charged_at end,
                 refunded_at = case when $2 or state = 'charged' then now() else refunded_at end
             where key = $1",
            key,
            slow
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        let taken = slow || matches!(entry.state, Written::Charged | Written::Refunded);
        let amount = entry.minor_units.zip(entry.currency);
        let money = |(minor_units, currency)| Money { minor_units, currency };
        Ok(Ok(Refund { returned: amount.filter(|_| taken).map(money) }))
    }
}

type Answer = Result<Charge, ProviderError>;

impl Entry {
    /// The entry of a key, locked: calls under one key happen one after the other.
    async fn lock(db: &mut PgConnection, key: Uuid) -> Result<Self, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select minor_units, currency, method, state as "state: Written", attempts,
                      decline_reason as "decline_reason: DeclineReason",
                      coalesce(extract(epoch from ready_at - now()), 0)::float8 as "wait_seconds!"
               from provider.book where key = $1 for update"#,
            key
        )
        .fetch_one(db)
        .await
    }

    /// What a charge is told.
    fn answer(&self, amount: &Money, method: &str) -> Answer {
        match self.state {
            Written::Voided | Written::Refunded => return Err(ProviderError::Voided),
            _ if !self.is_for(amount, method) => return Err(ProviderError::Contradiction),
            Written::Charged => return Ok(Charge),
            Written::Declined => {
                return Err(ProviderError::Declined(self.decline_reason.unwrap_or(DeclineReason::CardDeclined)));
            }
            Written::Open => {}
        }
        match method {
            "pm_ok" => Ok(Charge),
            "pm_declined" => Err(ProviderError::Declined(DeclineReason::CardDeclined)),
            "pm_insufficient_funds" => Err(ProviderError::Declined(DeclineReason::InsufficientFunds)),
            "pm_slow" if self.wait_seconds > 0.0 => {
                Err(ProviderError::Processing(Duration::from_secs_f64(self.wait_seconds)))
            }
            "pm_slow" => Ok(Charge),
            "pm_flaky" if self.attempts < FLAKY_FAILURES => {
                Err(ProviderError::Transient("the bank did not answer; try again".into()))
            }
            "pm_flaky" => Ok(Charge),
            _ => Err(ProviderError::Declined(DeclineReason::UnknownMethod)),
        }
    }

    fn is_for(&self, amount: &Money, method: &str) -> bool {
        let known = (self.minor_units, self.currency.as_deref(), self.method.as_deref());
        known == (Some(amount.minor_units), Some(amount.currency.as_str()), Some(method))
    }
}

impl Provider for Simulated {
    async fn charge(&self, key: Uuid, amount: &Money, method: &str) -> Answer {
        let answer = self.book_charge(key, amount, method).await.map_err(unavailable)?;
        sleep(self.options.latency).await;
        answer
    }

    async fn refund(&self, key: Uuid) -> Result<Refund, ProviderError> {
        let refund = self.book_refund(key).await.map_err(unavailable)?;
        sleep(self.options.latency).await;
        refund
    }
}

/// Whatever is wrong with its database says nothing about one payment.
fn unavailable(error: sqlx::Error) -> ProviderError {
    ProviderError::Unavailable(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(method: &str, state: Written, attempts: i32, wait_seconds: f64) -> Entry {
        Entry {
            minor_units: Some(1999),
            currency: Some("EUR".into()),
            method: Some(method.into()),
            state,
            attempts,
            decline_reason: (state == Written::Declined).then_some(DeclineReason::InsufficientFunds),
            wait_seconds,
        }
    }

    fn answer(entry: &Entry, method: &str) -> String {
        let amount = Money { minor_units: 1999, currency: "EUR".into() };
        format!("{:?}", entry.answer(&amount, method))
    }

    #[test]
    fn the_method_decides_the_first_time() {
        for (method, attempts, wait, expected) in [
            ("pm_ok", 0, 0.0, "Ok(Charge)"),
            ("pm_declined", 0, 0.0, "Err(Declined(CardDeclined))"),
            ("pm_insufficient_funds", 0, 0.0, "Err(Declined(InsufficientFunds))"),
            ("pm_slow", 0, 30.0, "Err(Processing(30s))"),
            ("pm_slow", 7, 0.5, "Err(Processing(500ms))"),
            ("pm_slow", 8, -0.1, "Ok(Charge)"),
            ("pm_flaky", 0, 0.0, "Err(Transient(\"the bank did not answer; try again\"))"),
            ("pm_flaky", 1, 0.0, "Err(Transient(\"the bank did not answer; try again\"))"),
            ("pm_flaky", 2, 0.0, "Ok(Charge)"),
            ("pm_OK", 0, 0.0, "Err(Declined(UnknownMethod))"),
        ] {
            assert_eq!(answer(&entry(method, Written::Open, attempts, wait), method), expected, "{method} {attempts}");
        }
    }

    #[test]
    fn what_is_in_the_book_decides_from_then_on() {
        for (state, expected) in [
            (Written::Charged, "Ok(Charge)"),
            (Written::Declined, "Err(Declined(InsufficientFunds))"),
            (Written::Refunded, "Err(Voided)"),
            (Written::Voided, "Err(Voided)"),
        ] {
            assert_eq!(answer(&entry("pm_flaky", state, 0, 9.0), "pm_flaky"), expected, "{state:?}");
        }
    }

    #[test]
    fn a_key_is_for_one_amount_and_one_method() {
        assert_eq!(answer(&entry("pm_ok", Written::Charged, 1, 0.0), "pm_flaky"), "Err(Contradiction)");
        let other = Entry { minor_units: Some(1998), ..entry("pm_ok", Written::Open, 1, 0.0) };
        assert_eq!(answer(&other, "pm_ok"), "Err(Contradiction)");
        let voided = Entry { minor_units: None, currency: None, method: None, ..entry("", Written::Voided, 0, 0.0) };
        assert_eq!(answer(&voided, "pm_ok"), "Err(Voided)");
    }
}
