//! Carries out what `saga.rs` decides: the order's row, the entry of its history, what is announced and the deadline of the new
//! state, in one transaction. Nothing else moves an order; `order.rs` writes its first state and entry. It decides nothing itself.

use chrono::TimeDelta;
use events::orders::v1::{OrderDeadlineReached, OrderState};
use failpoints::without;
use messaging::{Envelope, OutboxTransaction, PublishError};
use thiserror::Error;

use crate::{
    metrics,
    order::{NewOrder, Order},
    saga::{self, Action, Fact, Transition, Waiting},
    watch::Watch,
};

/// How long an order may wait in each state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    pub(crate) placed: TimeDelta,
    pub(crate) reserved: TimeDelta,
    pub(crate) paid: TimeDelta,
}

/// Moves orders.
#[derive(Clone)]
pub(crate) struct Progress {
    deadlines: Deadlines,
    watch: Watch,
}

/// Why an order could not be moved. Nothing is written then, once the transaction is dropped.
#[derive(Debug, Error)]
pub(crate) enum NotMoved {
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// An event is too large.
    #[error("an event cannot be published")]
    Publish(#[from] PublishError),
}

impl Progress {
    pub(crate) fn new(deadlines: Deadlines, watch: Watch) -> Self {
        Self { deadlines, watch }
    }

    /// Begins an order.
    pub(crate) async fn begin(&self, tx: &mut OutboxTransaction, order: NewOrder) -> Result<Order, NotMoved> {
        let trace_id = trace_id(tx);
        let order = order.insert(tx, "order_placed", trace_id).await?;
        self.follow(tx, &order, saga::BEGINNING)?;
        Ok(order)
    }

    /// Something happened to an order, which the caller has locked. Returns what it meant.
    pub(crate) async fn advance(
        &self,
        tx: &mut OutboxTransaction,
        order: &mut Order,
        fact: Fact,
        detail: Option<String>,
    ) -> Result<Transition, NotMoved> {
        let transition = saga::transition(order.state, fact);
        if let Transition::Noted(why) | Transition::Ignored(why) = transition {
            metrics::changed_nothing(order.state, fact);
            tracing::info!(order_id = %order.id, state = order.state.name(), fact = fact.name(), why, "changes nothing");
        }
        self.apply(tx, order, transition, fact.name(), detail).await?;
        Ok(transition)
    }

    async fn apply(
        &self,
        tx: &mut OutboxTransaction,
        order: &mut Order,
        transition: Transition,
        event: &str,
        detail: Option<String>,
    ) -> Result<(), NotMoved> {
        match transition {
            Transition::To { state, reason, actions } => {
                (order.state, order.reason) = (state, reason);
                record(tx, order, event, detail).await?;
                self.follow(tx, order, actions)?;
            }
            Transition::Noted(why) => {
                let detail = detail.map_or_else(|| why.to_owned(), |detail| format!("{detail} ({why})"));
                record(tx, order, event, Some(detail)).await?;
            }
            Transition::Ignored(_) => return Ok(()),
        }
        self.watch.ring(order.id);
        Ok(())
    }

    /// What else is done with an order that has reached its state.
    fn follow(&self, tx: &mut OutboxTransaction, order: &Order, actions: &[Action]) -> Result<(), PublishError> {
        for action in actions {
            self.act(tx, order, *action)?;
        }
        metrics::became(order);
        Ok(())
    }

    fn act(&self, tx: &mut OutboxTransaction, order: &Order, action: Action) -> Result<(), PublishError> {
        match action {
            Action::AskForStock => tx.publish(&order.placed())?,
            Action::AskForPayment => tx.publish(&order.payment_due())?,
            Action::AskForGoods => tx.publish(&order.paid())?,
            Action::AnnounceConfirmed => tx.publish(&order.confirmed())?,
            Action::AnnounceCancelled => tx.publish(&order.cancelled())?,
            Action::SetDeadline if without("deadlines") => return Ok(()),
            Action::SetDeadline => {
                let Some(waiting) = order.state.waiting() else { return Ok(()) };
                let state: OrderState = waiting.into();
                let event = OrderDeadlineReached { order_id: order.id.to_string(), state: state.into() };
                tx.publish_at(&event, order.updated_at + self.deadlines.of(waiting))?
            }
        };
        Ok(())
    }

    /// How long an order may wait in this state.
    pub(crate) fn deadline(&self, waiting: Waiting) -> TimeDelta {
        self.deadlines.of(waiting)
    }
}

impl Deadlines {
    fn of(self, waiting: Waiting) -> TimeDelta {
        match waiting {
            Waiting::Placed => self.placed,
            Waiting::Reserved => self.reserved,
            Waiting::Paid => self.paid,
        }
    }
}

impl From<Waiting> for OrderState {
    fn from(waiting: Waiting) -> Self {
        match waiting {
            Waiting::Placed => Self::Placed,
            Waiting::Reserved => Self::Reserved,
            Waiting::Paid => Self::Paid,
        }
    }
}

/// Writes the order's state and the entry that tells of it, with the next number. The caller holds the row, so there are no gaps.
async fn record(
    tx: &mut OutboxTransaction,
    order: &mut Order,
    event: &str,
    detail: Option<String>,
) -> Result<(), sqlx::Error> {
    let trace_id = trace_id(tx);
    let entry = sqlx::query!(
        r#"with moved as (
               update orders
               set state = $2, reason = $3, version = version + 1,
                   -- a clock that steps back does not make a later entry earlier
                   updated_at = greatest(updated_at, clock_timestamp())
               where id = $1
               returning id, version, updated_at, state
           )
           insert into order_history (order_id, seq, at, event, state, detail, trace_id)
           select id, version, updated_at, $4, state, $5, $6 from moved
           returning seq, at"#,
        order.id,
        order.state.name(),
        order.reason.map(saga::Reason::name),
        event,
        detail,
        trace_id
    )
    .fetch_one(&mut **tx)
    .await?;
    (order.version, order.updated_at) = (entry.seq, entry.at);
    Ok(())
}

/// The trace in which it happens.
fn trace_id(tx: &OutboxTransaction) -> Option<String> {
    tx.envelope().and_then(Envelope::trace_id).map(str::to_owned).or_else(telemetry::current_trace_id)
}
