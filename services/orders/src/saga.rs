//! How an order moves from state to state: one pure function, and the words for its states. No clock, no database, no messages;
//! `progress.rs` carries out what is decided here. ARCHITECTURE.md shows the table that [`markdown`] renders.

mod table;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use table::markdown;

/// How far an order has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[schema(as = OrderState)]
pub enum State {
    /// Waits for stock.
    Placed,
    /// Stock is held for it; waits for the payment.
    Reserved,
    /// The payment is authorized; waits for the held stock to become the customer's.
    Paid,
    /// Final: the customer has the goods, the shop has the money.
    Confirmed,
    /// Final: nobody owes anybody anything.
    Cancelled,
}

/// Why an order was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[schema(as = CancellationReason)]
pub enum Reason {
    /// There was too little of a product.
    OutOfStock,
    /// A product is not sold any more.
    UnknownProduct,
    /// The money could not be taken.
    PaymentDeclined,
    /// The customer did not want it any more, or closed their account.
    CancelledByCustomer,
    /// It waited too long, or the stock that was held for it is no longer.
    Expired,
    /// An operator cancelled it, or gave the money back before it was complete.
    CancelledByShop,
}

/// A state that waits for somebody, and not for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Waiting {
    /// For stock.
    Placed,
    /// For the payment.
    Reserved,
    /// For the held stock.
    Paid,
}

/// Why nothing is held for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// There is too little of a product.
    OutOfStock,
    /// There is no such product.
    UnknownProduct,
}

/// Why what was held for an order is free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    /// Its time was over.
    Expired,
    /// We cancelled the order.
    Cancelled,
}

/// Who does not want an order any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// Who placed it.
    Customer,
    /// An operator.
    Shop,
}

/// What can happen to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// Everything it wants is held for it.
    StockReserved,
    /// Nothing is held for it.
    StockRejected(Rejection),
    /// What was held for it is free again.
    StockReleased(Release),
    /// What was held for it is the customer's.
    StockCommitted,
    /// The money is taken.
    PaymentAuthorized,
    /// The money cannot be taken.
    PaymentDeclined,
    /// The money went back.
    PaymentRefunded,
    /// It has waited long enough in this state.
    DeadlineReached(Waiting),
    /// Somebody who may decide that wants it no more.
    CancellationRequested(By),
    /// The customer's account is gone.
    CustomerDeleted,
}

/// What else is done in the transaction that moves an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publish `OrderPlaced`: inventory holds the stock.
    AskForStock,
    /// Publish `PaymentDue`: payments takes the money.
    AskForPayment,
    /// Publish `OrderPaid`: inventory gives the held stock to the customer.
    AskForGoods,
    /// Publish `OrderConfirmed`.
    AnnounceConfirmed,
    /// Publish `OrderCancelled`: whoever holds something for the order gives it back.
    AnnounceCancelled,
    /// Publish `OrderDeadlineReached` for the new state, when its time is over.
    SetDeadline,
}

/// What a fact means for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// It moves on, and this is done with it.
    To {
        /// Where to.
        state: State,
        /// Set with [`State::Cancelled`], and only then.
        reason: Option<Reason>,
        /// In this order.
        actions: &'static [Action],
    },
    /// It stays as it is, for this reason. The timeline shows that it happened.
    Noted(&'static str),
    /// It stays as it is, for this reason, and nothing is written.
    Ignored(&'static str),
}

/// In which state an order begins.
pub const FIRST: State = State::Placed;

/// What is done with an order that begins.
pub const BEGINNING: &[Action] = &[Action::AskForStock, Action::SetDeadline];

/// What a fact means for an order in this state.
///
/// Whatever another service says is at least noted; a deadline or a wish that comes too late is not. Services announce what they
/// did in order, but a dead letter that is redriven comes late, and clocks and customers come whenever they want.
pub fn transition(state: State, fact: Fact) -> Transition {
    use {Fact as F, State as S};
    match (state, fact) {
        // The way to a confirmed order.
        (S::Placed, F::StockReserved) => to(S::Reserved, &[Action::AskForPayment, Action::SetDeadline]),
        (S::Reserved, F::PaymentAuthorized) => to(S::Paid, &[Action::AskForGoods, Action::SetDeadline]),
        (S::Paid, F::StockCommitted) => to(S::Confirmed, &[Action::AnnounceConfirmed]),

        // The ways out of it.
        (S::Placed, F::StockRejected(Rejection::OutOfStock)) => cancelled(Reason::OutOfStock),
        (S::Placed, F::StockRejected(Rejection::UnknownProduct)) => cancelled(Reason::UnknownProduct),
        (S::Reserved, F::PaymentDeclined) => cancelled(Reason::PaymentDeclined),
        // In `placed` too: then the event that it was held is a dead letter, and redriving it must not revive the order.
        (S::Placed | S::Reserved | S::Paid, F::StockReleased(Release::Expired)) => cancelled(Reason::Expired),
        // An operator gave the money back before the order was complete: nothing is confirmed without a payment.
        (S::Placed | S::Reserved | S::Paid, F::PaymentRefunded | F::CancellationRequested(By::Shop)) => {
            cancelled(Reason::CancelledByShop)
        }
        (S::Placed | S::Reserved | S::Paid, F::CancellationRequested(By::Customer) | F::CustomerDeleted) => {
            cancelled(Reason::CancelledByCustomer)
        }
        (S::Placed, F::DeadlineReached(Waiting::Placed))
        | (S::Reserved, F::DeadlineReached(Waiting::Reserved))
        | (S::Paid, F::DeadlineReached(Waiting::Paid)) => cancelled(Reason::Expired),

        // What does not fit.
        (_, F::DeadlineReached(_)) => Transition::Ignored("not in this state"),
        (S::Confirmed | S::Cancelled, F::CancellationRequested(_) | F::CustomerDeleted) => Transition::Ignored("final"),
        (S::Cancelled, F::StockReserved | F::StockCommitted) => Transition::Noted("too late; inventory takes it back"),
        (S::Cancelled, F::PaymentAuthorized) => Transition::Noted("too late; payments gives it back"),
        (S::Cancelled, F::StockReleased(_) | F::PaymentRefunded) => Transition::Noted("as it should be"),
        (S::Cancelled, F::StockRejected(_) | F::PaymentDeclined) => Transition::Noted("too late"),
        // An operator's decision after the sale; the goods are not ours any more.
        (S::Confirmed, F::PaymentRefunded) => Transition::Noted("a refund after the sale"),
        (S::Placed, F::StockCommitted | F::PaymentAuthorized | F::PaymentDeclined)
        | (S::Reserved, F::StockCommitted) => Transition::Noted("not asked for yet"),
        (S::Placed | S::Reserved | S::Paid | S::Confirmed, F::StockReleased(_))
        | (S::Reserved | S::Paid | S::Confirmed, F::StockReserved | F::StockRejected(_))
        | (S::Paid | S::Confirmed, F::PaymentAuthorized | F::PaymentDeclined)
        | (S::Confirmed, F::StockCommitted) => Transition::Noted("known or overtaken"),
    }
}

const fn to(state: State, actions: &'static [Action]) -> Transition {
    Transition::To { state, reason: None, actions }
}

const fn cancelled(reason: Reason) -> Transition {
    Transition::To { state: State::Cancelled, reason: Some(reason), actions: &[Action::AnnounceCancelled] }
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Placed, Self::Reserved, Self::Paid, Self::Confirmed, Self::Cancelled];

    /// The name that the API, the database and the metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Reserved => "reserved",
            Self::Paid => "paid",
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
        }
    }

    /// What kind of waiting the state is; `None` if it is final.
    pub fn waiting(self) -> Option<Waiting> {
        match self {
            Self::Placed => Some(Waiting::Placed),
            Self::Reserved => Some(Waiting::Reserved),
            Self::Paid => Some(Waiting::Paid),
            Self::Confirmed | Self::Cancelled => None,
        }
    }

    /// Whether nothing can move it any more.
    pub fn is_final(self) -> bool {
        self.waiting().is_none()
    }
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::OutOfStock,
        Self::UnknownProduct,
        Self::PaymentDeclined,
        Self::CancelledByCustomer,
        Self::Expired,
        Self::CancelledByShop,
    ];

    /// The name that the API, the database and the metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Self::OutOfStock => "out_of_stock",
            Self::UnknownProduct => "unknown_product",
            Self::PaymentDeclined => "payment_declined",
            Self::CancelledByCustomer => "cancelled_by_customer",
            Self::Expired => "expired",
            Self::CancelledByShop => "cancelled_by_shop",
        }
    }

    /// Whether somebody wanted it so: who asks for the same once more has what they want.
    pub fn is_wish(self) -> bool {
        matches!(self, Self::CancelledByCustomer | Self::CancelledByShop)
    }
}

impl Fact {
    /// Every fact.
    pub const ALL: [Self; 15] = [
        Self::StockReserved,
        Self::StockRejected(Rejection::OutOfStock),
        Self::StockRejected(Rejection::UnknownProduct),
        Self::StockReleased(Release::Expired),
        Self::StockReleased(Release::Cancelled),
        Self::StockCommitted,
        Self::PaymentAuthorized,
        Self::PaymentDeclined,
        Self::PaymentRefunded,
        Self::DeadlineReached(Waiting::Placed),
        Self::DeadlineReached(Waiting::Reserved),
        Self::DeadlineReached(Waiting::Paid),
        Self::CancellationRequested(By::Customer),
        Self::CancellationRequested(By::Shop),
        Self::CustomerDeleted,
    ];

    /// Its name in the timeline, in the stream and in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::StockReserved => "stock_reserved",
            Self::StockRejected(_) => "stock_rejected",
            Self::StockReleased(_) => "stock_released",
            Self::StockCommitted => "stock_committed",
            Self::PaymentAuthorized => "payment_authorized",
            Self::PaymentDeclined => "payment_declined",
            Self::PaymentRefunded => "payment_refunded",
            Self::DeadlineReached(_) => "deadline_reached",
            Self::CancellationRequested(_) => "cancellation_requested",
            Self::CustomerDeleted => "customer_deleted",
        }
    }
}

#[cfg(test)]
mod tests;
