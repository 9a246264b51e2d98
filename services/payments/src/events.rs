//! Everything this service reacts to: one handler per event. A handler writes down what is to be done and nothing else; the provider is
//! never asked here.

use events::orders::v1::{OrderCancelled, PaymentDue};
use failpoints::{hit, without};
use messaging::{Broker, Consumer, Handler, HandlerError, Outbox, OutboxTransaction};
use money::Money;
use uuid::Uuid;

use crate::{
    app::NAME,
    cancelled_order, charge, metrics,
    payment::{Due, Payment},
    settle::settle,
    state::{Fact, State},
};

/// Longest name of a means of payment.
pub(crate) const METHOD_MAX_CHARS: usize = 255;

/// All of them, on the service's one queue.
pub(crate) fn consumer(broker: &Broker, outbox: &Outbox) -> Consumer {
    Consumer::new(NAME, broker, outbox).on::<PaymentDue>(AskForMoney).on::<OrderCancelled>(GiveMoneyBack)
}

/// Has the order's money taken, unless the order is known to be cancelled. An order is asked about once, whatever it is asked later.
struct AskForMoney;

impl Handler<PaymentDue> for AskForMoney {
    async fn handle(&self, event: PaymentDue, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let due = Due {
            order_id: id("order_id", &event.order_id)?,
            user_id: id("user_id", &event.user_id)?,
            amount: Money::announced(event.amount).map_err(HandlerError::reject)?,
            payment_method: method(event.payment_method)?,
            trace_id: tx.envelope().and_then(|envelope| envelope.trace_id()).map(str::to_owned),
        };
        let payment_id = due.id();
        cancelled_order::alone_with(due.order_id, tx).await?;
        if !cancelled_order::is_remembered(due.order_id, tx).await? && due.insert(tx).await? {
            tx.enqueue(charge::TASK, payment_id);
            metrics::became(State::Pending);
        }
        Ok(())
    }
}

/// Has whatever was taken for the order given back. An order without a payment is remembered, in case it still comes.
struct GiveMoneyBack;

impl Handler<OrderCancelled> for GiveMoneyBack {
    async fn handle(&self, event: OrderCancelled, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let order_id = id("order_id", &event.order_id)?;
        cancelled_order::alone_with(order_id, tx).await?;
        match Payment::lock_of_order(tx, order_id).await? {
            Some(_) if without("refunds") => {}
            Some(mut payment) => {
                // A fact is never refused.
                let _: Result<(), _> = settle(&mut payment, Fact::OrderCancelled, tx).await?;
                hit("payments.compensating").await.map_err(sqlx::Error::Io)?;
            }
            None => cancelled_order::remember(order_id, tx).await?,
        }
        Ok(())
    }
}

fn id(field: &str, text: &str) -> Result<Uuid, HandlerError> {
    text.parse().map_err(|error: uuid::Error| HandlerError::reject(format!("`{field}` is not a UUID: {error}")))
}

/// Any name that can be stored and shown; whether it exists is for the provider to say.
fn method(name: String) -> Result<String, HandlerError> {
    if name.is_empty() || name.chars().count() > METHOD_MAX_CHARS || name.chars().any(char::is_control) {
        return Err(HandlerError::reject("`payment_method` is empty, too long, or not text"));
    }
    Ok(name)
}
