//! Everything this service reacts to: one handler for each event, in one list. A handler turns its event into a fact; what the fact
//! means is decided in `saga.rs`.

use chrono::{DateTime, SecondsFormat};
use events::{
    inventory::v1::{
        ProductChanged, RejectionReason, ReleaseReason, StockCommitted, StockRejected, StockReleased, StockReserved,
    },
    orders::v1::{OrderDeadlineReached, OrderState},
    payments::v1::{DeclineReason, PaymentAuthorized, PaymentDeclined, PaymentRefunded},
    users::v1::{UserDeleted, UserVerified},
};
use failpoints::hit;
use messaging::{Broker, Consumer, Handler, HandlerError, Outbox, OutboxTransaction};
use money::Money;
use uuid::Uuid;

use crate::{
    app::NAME,
    customer::Customer,
    order::Order,
    product::Product,
    progress::Progress,
    saga::{Fact, Rejection, Release, Waiting},
};

/// All of them, on the service's one queue.
pub(crate) fn consumer(broker: &Broker, outbox: &Outbox, progress: &Progress) -> Consumer {
    let progress = || progress.clone();
    Consumer::new(NAME, broker, outbox)
        .on::<ProductChanged>(KeepProduct)
        .on::<UserVerified>(MarkVerified)
        .on::<UserDeleted>(CancelOpenOrders(progress()))
        .on::<StockReserved>(AskForPayment(progress()))
        .on::<StockRejected>(CancelWithoutStock(progress()))
        .on::<StockReleased>(CancelWithoutReservation(progress()))
        .on::<StockCommitted>(Confirm(progress()))
        .on::<PaymentAuthorized>(AskForGoods(progress()))
        .on::<PaymentDeclined>(CancelWithoutPayment(progress()))
        .on::<PaymentRefunded>(NoteRefund(progress()))
        .on::<OrderDeadlineReached>(CancelIfStillWaiting(progress()))
}

/// Keeps name and price of a product, for the orders to come.
struct KeepProduct;

impl Handler<ProductChanged> for KeepProduct {
    async fn handle(&self, event: ProductChanged, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let price = Money::announced(event.price).map_err(HandlerError::reject)?;
        Product { sku: event.sku, name: event.name, price }.keep(tx, event.version).await?;
        Ok(())
    }
}

/// Lets somebody order whose token does not know yet that their address is proven.
struct MarkVerified;

impl Handler<UserVerified> for MarkVerified {
    async fn handle(&self, event: UserVerified, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        Customer::verified(tx, id("user_id", &event.user_id)?).await?;
        Ok(())
    }
}

/// Cancels what a customer who is gone will not want any more.
struct CancelOpenOrders(Progress);

impl Handler<UserDeleted> for CancelOpenOrders {
    async fn handle(&self, event: UserDeleted, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let user_id = id("user_id", &event.user_id)?;
        // First, so that whoever orders at this moment is waited for, and found below.
        Customer::deleted(tx, user_id).await?;
        for order_id in Order::open_of(tx, user_id).await? {
            advance(&self.0, tx, order_id, Fact::CustomerDeleted, None).await?;
        }
        Ok(())
    }
}

/// The stock is held: now the money is wanted.
struct AskForPayment(Progress);

impl Handler<StockReserved> for AskForPayment {
    async fn handle(&self, event: StockReserved, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let until = event.expires_at.and_then(|at| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?));
        let detail = until.map(|until| format!("held until {}", until.to_rfc3339_opts(SecondsFormat::Secs, true)));
        advance(&self.0, tx, id("order_id", &event.order_id)?, Fact::StockReserved, detail).await
    }
}

/// There is no stock.
struct CancelWithoutStock(Progress);

impl Handler<StockRejected> for CancelWithoutStock {
    async fn handle(&self, event: StockRejected, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let (rejection, why) = match event.reason() {
            RejectionReason::OutOfStock => (Rejection::OutOfStock, "there is too little of"),
            RejectionReason::UnknownProduct => (Rejection::UnknownProduct, "there is no"),
            RejectionReason::Unspecified => return Err(HandlerError::reject("`reason` is missing or unknown")),
        };
        let detail = Some(format!("{why} {}", event.sku));
        advance(&self.0, tx, id("order_id", &event.order_id)?, Fact::StockRejected(rejection), detail).await
    }
}

/// The stock is no longer held.
struct CancelWithoutReservation(Progress);

impl Handler<StockReleased> for CancelWithoutReservation {
    async fn handle(&self, event: StockReleased, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let (release, why) = match event.reason() {
            ReleaseReason::Expired => (Release::Expired, "the reservation has lapsed"),
            ReleaseReason::Cancelled => (Release::Cancelled, "given back"),
            ReleaseReason::Unspecified => return Err(HandlerError::reject("`reason` is missing or unknown")),
        };
        advance(&self.0, tx, id("order_id", &event.order_id)?, Fact::StockReleased(release), Some(why.into())).await
    }
}

/// The stock is the customer's: the order is complete.
struct Confirm(Progress);

impl Handler<StockCommitted> for Confirm {
    async fn handle(&self, event: StockCommitted, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        advance(&self.0, tx, id("order_id", &event.order_id)?, Fact::StockCommitted, None).await
    }
}

/// The money is there: now the held stock is to become the customer's.
struct AskForGoods(Progress);

impl Handler<PaymentAuthorized> for AskForGoods {
    async fn handle(&self, event: PaymentAuthorized, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let amount = Money::announced(event.amount).map_err(HandlerError::reject)?;
        let mut order = lock(tx, id("order_id", &event.order_id)?).await?;
        if amount != order.amount() {
            return Err(HandlerError::reject("another amount was authorized than was asked for"));
        }
        self.0.advance(tx, &mut order, Fact::PaymentAuthorized, None).await?;
        Ok(())
    }
}

/// There will be no money.
struct CancelWithoutPayment(Progress);

impl Handler<PaymentDeclined> for CancelWithoutPayment {
    async fn handle(&self, event: PaymentDeclined, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let why = match event.reason() {
            DeclineReason::Unspecified => None,
            DeclineReason::CardDeclined => Some("the card was declined"),
            DeclineReason::InsufficientFunds => Some("there is not enough money on the account"),
            DeclineReason::UnknownMethod => Some("the payment method is unknown"),
            DeclineReason::GivenUp => Some("the provider could not be asked"),
        };
        let order_id = id("order_id", &event.order_id)?;
        advance(&self.0, tx, order_id, Fact::PaymentDeclined, why.map(str::to_owned)).await
    }
}

/// The money went back.
struct NoteRefund(Progress);

impl Handler<PaymentRefunded> for NoteRefund {
    async fn handle(&self, event: PaymentRefunded, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        advance(&self.0, tx, id("order_id", &event.order_id)?, Fact::PaymentRefunded, None).await
    }
}

/// The order has waited long enough.
struct CancelIfStillWaiting(Progress);

impl Handler<OrderDeadlineReached> for CancelIfStillWaiting {
    async fn handle(&self, event: OrderDeadlineReached, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let (waiting, what) = match event.state() {
            OrderState::Placed => (Waiting::Placed, "nothing was heard about the stock"),
            OrderState::Reserved => (Waiting::Reserved, "nothing was heard about the payment"),
            OrderState::Paid => (Waiting::Paid, "the stock was not handed over"),
            OrderState::Unspecified | OrderState::Confirmed | OrderState::Cancelled => {
                return Err(HandlerError::reject("`state` is none that waits"));
            }
        };
        let seconds = self.0.deadline(waiting).as_seconds_f64();
        let detail = Some(format!("{what} within {seconds} s"));
        hit("orders.at_deadline").await.map_err(sqlx::Error::Io)?;
        advance(&self.0, tx, id("order_id", &event.order_id)?, Fact::DeadlineReached(waiting), detail).await
    }
}

/// Locks the order and tells it what happened.
async fn advance(
    progress: &Progress,
    tx: &mut OutboxTransaction,
    order_id: Uuid,
    fact: Fact,
    detail: Option<String>,
) -> Result<(), HandlerError> {
    let mut order = lock(tx, order_id).await?;
    progress.advance(tx, &mut order, fact, detail).await?;
    Ok(())
}

/// Every event here answers one that was published with the order: without an order it is a mistake.
async fn lock(tx: &mut OutboxTransaction, order_id: Uuid) -> Result<Order, HandlerError> {
    Order::lock(tx, order_id).await?.ok_or_else(|| HandlerError::reject(format!("there is no order {order_id}")))
}

fn id(field: &str, text: &str) -> Result<Uuid, HandlerError> {
    text.parse().map_err(|error: uuid::Error| HandlerError::reject(format!("`{field}` is not a UUID: {error}")))
}
