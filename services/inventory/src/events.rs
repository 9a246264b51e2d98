//! Everything this service reacts to: one handler per event. Each locks the order's row, asks [`step`] what is to be done, and does it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::{
    inventory::v1::{
        RejectionReason, ReleaseReason, ReservationDue, StockCommitted, StockLow, StockRejected, StockReleased,
        StockReserved,
    },
    orders::v1::{OrderCancelled, OrderPaid, OrderPlaced},
};
use failpoints::{hit, without};
use messaging::{Broker, Consumer, ConsumerOptions, Handler, HandlerError, Outbox, OutboxTransaction};
use prost_types::Timestamp;
use uuid::Uuid;

use crate::{
    app::NAME,
    metrics,
    reservation::{Event, Reason, Reservation, Standing, State, Step, step},
    stock::{self, Cause, Lines, Movement, Reserved},
};

/// How stock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// For how long, without payment.
    pub(crate) hold_for: Duration,
    /// At or below this many, there is little left.
    pub(crate) low_stock_threshold: i64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { hold_for: Duration::from_secs(1800), low_stock_threshold: 5 }
    }
}

/// All of them, on the service's one queue.
pub(crate) fn consumer(broker: &Broker, outbox: &Outbox, rules: Rules) -> Consumer {
    // One order to a transaction: two orders in one would lock products in the order of the orders, not of the SKUs, and two such
    // transactions could wait for each other. It also keeps the locks of products that everybody wants short.
    let options = ConsumerOptions { batch: 1, ..ConsumerOptions::default() };
    Consumer::new(NAME, broker, outbox)
        .options(options)
        .on::<OrderPlaced>(ReserveStock(rules))
        .on::<OrderPaid>(CommitStock)
        .on::<OrderCancelled>(GiveBack)
        .on::<ReservationDue>(EndReservation)
}

/// Holds an order's goods, all of them or none.
struct ReserveStock(Rules);

impl Handler<OrderPlaced> for ReserveStock {
    async fn handle(&self, event: OrderPlaced, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let user_id = id("user_id", &event.user_id)?;
        let lines = Lines::of(&event.lines).map_err(HandlerError::reject)?;
        let order = Order::lock(tx, &event.order_id).await?;
        match order.step(Event::Placed) {
            Step::Reserve => order.reserve(tx, user_id, &lines, self.0).await,
            _ => Ok(()),
        }
    }
}

/// Makes what is held the customer's. Comes the payment after the end, nothing happens: the orders service is already told of the end.
struct CommitStock;

impl Handler<OrderPaid> for CommitStock {
    async fn handle(&self, event: OrderPaid, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let order = Order::lock(tx, &event.order_id).await?;
        match order.step(Event::Paid) {
            Step::Commit => {
                order.shift(tx, Movement::Commit, State::Committed, None).await?;
                tx.publish(&StockCommitted { order_id: order.order_id.to_string() })?;
                Ok(())
            }
            Step::NeverHeardOf => Err(HandlerError::reject("the order was paid, but never placed here")),
            _ => Ok(()),
        }
    }
}

/// Makes free what an order has, or had. Should the order itself arrive later (after a redrive), nothing is held for it.
struct GiveBack;

impl Handler<OrderCancelled> for GiveBack {
    async fn handle(&self, event: OrderCancelled, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let user_id = id("user_id", &event.user_id)?;
        let order = Order::lock(tx, &event.order_id).await?;
        match order.step(Event::Cancelled) {
            Step::Release(_) if without("stock-release") => Ok(()),
            Step::Release(reason) => order.release(tx, Movement::Release, reason).await,
            Step::TakeBack => order.release(tx, Movement::TakeBack, Reason::Cancelled).await,
            Step::Remember => {
                Reservation::remember_cancelled(tx, order.cause(), user_id).await?;
                metrics::became(State::Cancelled, None);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Makes free what is still held when its time is over.
struct EndReservation;

impl Handler<ReservationDue> for EndReservation {
    async fn handle(&self, event: ReservationDue, tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let order = Order::lock(tx, &event.order_id).await?;
        let Some(Standing { is_over, expires_at, .. }) = order.standing else {
            return Err(HandlerError::reject("the end of a reservation that was never made here"));
        };
        match (order.step(Event::Due { is_over }), expires_at) {
            (Step::Release(_), _) if without("reservation-end") => Ok(()),
            (Step::Release(reason), _) => order.release(tx, Movement::Release, reason).await,
            // The clock was set back, or the message came twice, once too early.
            (Step::WaitOn, Some(expires_at)) => {
                tx.publish_at(&event, expires_at)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// An order whose row is locked, in the trace of the event in hand.
struct Order {
    order_id: Uuid,
    standing: Option<Standing>,
    trace_id: Option<String>,
}

impl Order {
    async fn lock(tx: &mut OutboxTransaction, order_id: &str) -> Result<Self, HandlerError> {
        let order_id = id("order_id", order_id)?;
        let standing = Reservation::lock(tx, order_id).await?;
        let trace_id = tx.envelope().and_then(|envelope| envelope.trace_id()).map(str::to_owned);
        Ok(Self { order_id, standing, trace_id })
    }

    fn step(&self, event: Event) -> Step {
        step(self.standing.map(|standing| standing.state), event)
    }

    fn cause(&self) -> Cause<'_> {
        Cause { order_id: self.order_id, trace_id: self.trace_id.as_deref() }
    }

    async fn reserve(
        &self,
        tx: &mut OutboxTransaction,
        user_id: Uuid,
        lines: &Lines,
        rules: Rules,
    ) -> Result<(), HandlerError> {
        let order_id = self.order_id.to_string();
        match stock::reserve(tx, lines, self.cause(), rules.low_stock_threshold).await? {
            Reserved::All(low) => {
                let expires_at = Reservation::hold(tx, self.cause(), user_id, lines, rules.hold_for).await?;
                tx.publish(&StockReserved { order_id: order_id.clone(), expires_at: Some(timestamp(expires_at)) })?;
                tx.publish_at(&ReservationDue { order_id }, expires_at)?;
                for low in low {
                    tx.publish(&StockLow {
                        sku: low.sku.as_str().to_owned(),
                        name: low.name,
                        available: low.available,
                        threshold: rules.low_stock_threshold,
                    })?;
                    metrics::low_stock();
                }
                metrics::became(State::Held, None);
            }
            Reserved::Nothing { missing, reason } => {
                Reservation::reject(tx, self.cause(), user_id, lines, (&missing, reason)).await?;
                let told = match reason {
                    Reason::UnknownProduct => RejectionReason::UnknownProduct,
                    _ => RejectionReason::OutOfStock,
                };
                tx.publish(&StockRejected { order_id, reason: told.into(), sku: missing.as_str().to_owned() })?;
                metrics::became(State::Rejected, Some(reason));
            }
        }
        Ok(())
    }

    /// Makes the order's goods free, and says why.
    async fn release(
        &self,
        tx: &mut OutboxTransaction,
        movement: Movement,
        reason: Reason,
    ) -> Result<(), HandlerError> {
        self.shift(tx, movement, State::Released, Some(reason)).await?;
        hit("inventory.releasing").await.map_err(sqlx::Error::Io)?;
        let told = match reason {
            Reason::Expired => ReleaseReason::Expired,
            _ => ReleaseReason::Cancelled,
        };
        tx.publish(&StockReleased { order_id: self.order_id.to_string(), reason: told.into() })?;
        Ok(())
    }

    /// Moves the order's goods and notes what became of it.
    async fn shift(
        &self,
        tx: &mut OutboxTransaction,
        movement: Movement,
        state: State,
        reason: Option<Reason>,
    ) -> Result<(), HandlerError> {
        let lines = Reservation::lines(tx, self.order_id).await?;
        stock::shift(tx, &lines, self.cause(), movement).await?;
        Reservation::becomes(tx, self.order_id, state, reason).await?;
        metrics::became(state, reason);
        Ok(())
    }
}

fn id(member: &str, text: &str) -> Result<Uuid, HandlerError> {
    text.parse().map_err(|error: uuid::Error| HandlerError::reject(format!("`{member}` is not a UUID: {error}")))
}

fn timestamp(at: DateTime<Utc>) -> Timestamp {
    // A nanosecond of a second fits; chrono says more than that only for leap seconds, which PostgreSQL does not have.
    Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or_default() }
}
