//! What becomes of orders, money and stock: customers are told, and so are the people who run the shop.

use std::sync::Arc;

use events::{
    inventory::v1::StockLow,
    orders::v1::{OrderCancelled, OrderConfirmed},
    payments::v1::PaymentRefunded,
};
use messaging::{Handler, HandlerError, OutboxTransaction};

use super::Letter;
use crate::{
    details::{Details, Untellable},
    mail::Composer,
    state::Template,
};

/// Tells that an order is complete.
pub(super) struct TellOfConfirmation(pub(super) Arc<Composer>);

impl Handler<OrderConfirmed> for TellOfConfirmation {
    async fn handle(&self, event: OrderConfirmed, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let letter = Letter::to_user(Template::OrderConfirmed, &event.user_id)?;
        letter.with_details(details(event)?).intend(&self.0, tx).await
    }
}

/// Tells that an order came to nothing.
pub(super) struct TellOfCancellation(pub(super) Arc<Composer>);

impl Handler<OrderCancelled> for TellOfCancellation {
    async fn handle(&self, event: OrderCancelled, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let letter = Letter::to_user(Template::OrderCancelled, &event.user_id)?;
        letter.with_details(details(event)?).intend(&self.0, tx).await
    }
}

/// Tells that money went back.
pub(super) struct TellOfRefund(pub(super) Arc<Composer>);

impl Handler<PaymentRefunded> for TellOfRefund {
    async fn handle(&self, event: PaymentRefunded, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let letter = Letter::to_user(Template::PaymentRefunded, &event.user_id)?;
        letter.with_details(details(event)?).intend(&self.0, tx).await
    }
}

/// Tells the people who run the shop that there is little left of a product.
pub(super) struct TellOfLowStock(pub(super) Arc<Composer>);

impl Handler<StockLow> for TellOfLowStock {
    async fn handle(&self, event: StockLow, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        Letter::to_operations(Template::StockLow).with_details(event.into()).intend(&self.0, tx).await
    }
}

/// An amount that is none will not become one later.
fn details<E>(event: E) -> Result<Details, HandlerError>
where
    Details: TryFrom<E, Error = Untellable>,
{
    Details::try_from(event).map_err(|error| HandlerError::reject(error.to_string()))
}
