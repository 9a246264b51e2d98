//! The words that the API, the database, the events and the metrics share: which letter, what became of it, and why not.
//! Nothing here decides anything.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Template {
    /// Asks for a proof of the address.
    VerifyEmail,
    /// Offers a new password.
    ResetPassword,
    /// Tells that the password was changed.
    PasswordChanged,
    /// Tells that somebody registered with an address that has an account.
    AccountExists,
    /// Tells that an order is complete.
    OrderConfirmed,
    /// Tells that an order came to nothing, and why.
    OrderCancelled,
    /// Tells that money went back.
    PaymentRefunded,
    /// Tells the people who run the shop that there is little left of a product.
    StockLow,
}

impl Template {
    /// Every letter.
    pub const ALL: [Self; 8] = [
        Self::VerifyEmail,
        Self::ResetPassword,
        Self::PasswordChanged,
        Self::AccountExists,
        Self::OrderConfirmed,
        Self::OrderCancelled,
        Self::PaymentRefunded,
        Self::StockLow,
    ];

    /// The name that the API, the database and the events use.
    pub fn name(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::PasswordChanged => "password_changed",
            Self::AccountExists => "account_exists",
            Self::OrderConfirmed => "order_confirmed",
            Self::OrderCancelled => "order_cancelled",
            Self::PaymentRefunded => "payment_refunded",
            Self::StockLow => "stock_low",
        }
    }

    /// Whether the letter holds a token: it can only be sent as long as the token is stored.
    pub fn has_token(self) -> bool {
        matches!(self, Self::VerifyEmail | Self::ResetPassword)
    }

    /// Whether somebody sits and waits for it, or should hear of it at once: it goes before the letters that can wait.
    pub(crate) fn is_urgent(self) -> bool {
        matches!(self, Self::VerifyEmail | Self::ResetPassword | Self::PasswordChanged | Self::AccountExists)
    }

    /// For how long it is worth sending, if it has no token whose end says so. Who paid for something wants to know even
    /// after a long outage.
    pub(crate) fn lifetime(self) -> TimeDelta {
        match self {
            Self::OrderConfirmed | Self::OrderCancelled | Self::PaymentRefunded => TimeDelta::days(14),
            _ => TimeDelta::days(3),
        }
    }
}

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum State {
    /// Waits for its turn at the mail server, or for the next attempt.
    Pending,
    /// Accepted by the mail server.
    Sent,
    /// Refused by the mail server for good.
    Bounced,
    /// Given up: every attempt failed, or there is no address.
    Failed,
    /// Its link or its news ran out before it could be sent.
    Expired,
    /// The account was deleted before it could be sent.
    Cancelled,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] = [Self::Pending, Self::Sent, Self::Bounced, Self::Failed, Self::Expired, Self::Cancelled];

    /// The name that the API, the database and the metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Bounced => "bounced",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why a notification will not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Failure {
    /// The mail server refused it with a 5xx reply that is not about us.
    Bounced,
    /// Every attempt failed.
    Exhausted,
    /// There is no address: the account is gone.
    NoAddress,
}

impl Failure {
    /// The reason as `EmailFailed` says it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Bounced => "bounced",
            Self::Exhausted => "exhausted",
            Self::NoAddress => "no_address",
        }
    }

    /// The state that goes with it.
    pub(crate) fn state(self) -> State {
        match self {
            Self::Bounced => State::Bounced,
            Self::Exhausted | Self::NoAddress => State::Failed,
        }
    }
}
