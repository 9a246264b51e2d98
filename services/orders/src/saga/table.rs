//! The transition function as a table, for people.

use std::fmt::Write as _;

use super::{Action, By, Fact, Rejection, Release, State, Transition, Waiting, transition};

/// Every state and every fact, as a Markdown table: one row for each fact, one column for each state.
pub fn markdown() -> String {
    let mut table = String::from("| |");
    for state in State::ALL {
        let _infallible = write!(table, " {} |", state.name());
    }
    table.push_str("\n|---|---|---|---|---|---|\n");
    for fact in Fact::ALL {
        let _infallible = write!(table, "| {} |", words(fact));
        for state in State::ALL {
            let _infallible = write!(table, " {} |", cell(transition(state, fact)));
        }
        table.push('\n');
    }
    table
}

/// A fact as the head of a row.
fn words(fact: Fact) -> &'static str {
    match fact {
        Fact::StockReserved => "`StockReserved`",
        Fact::StockRejected(Rejection::OutOfStock) => "`StockRejected`: out of stock",
        Fact::StockRejected(Rejection::UnknownProduct) => "`StockRejected`: unknown product",
        Fact::StockReleased(Release::Expired) => "`StockReleased`: expired",
        Fact::StockReleased(Release::Cancelled) => "`StockReleased`: cancelled",
        Fact::StockCommitted => "`StockCommitted`",
        Fact::PaymentAuthorized => "`PaymentAuthorized`",
        Fact::PaymentDeclined => "`PaymentDeclined`",
        Fact::PaymentRefunded => "`PaymentRefunded`",
        Fact::DeadlineReached(Waiting::Placed) => "`OrderDeadlineReached`: placed",
        Fact::DeadlineReached(Waiting::Reserved) => "`OrderDeadlineReached`: reserved",
        Fact::DeadlineReached(Waiting::Paid) => "`OrderDeadlineReached`: paid",
        Fact::CancellationRequested(By::Customer) => "the customer cancels",
        Fact::CancellationRequested(By::Shop) => "an operator cancels",
        Fact::CustomerDeleted => "`UserDeleted`",
    }
}

fn cell(transition: Transition) -> String {
    match transition {
        Transition::To { state, reason, actions } => {
            let mut text = format!("→ **{}**", state.name());
            if let Some(reason) = reason {
                let _infallible = write!(text, " ({})", reason.name());
            }
            for action in actions {
                let _infallible = write!(text, ", {}", event(*action));
            }
            text
        }
        Transition::Noted(why) => format!("noted: {why}"),
        Transition::Ignored(why) => format!("ignored: {why}"),
    }
}

/// What an action publishes.
fn event(action: Action) -> &'static str {
    match action {
        Action::AskForStock => "`OrderPlaced`",
        Action::AskForPayment => "`PaymentDue`",
        Action::AskForGoods => "`OrderPaid`",
        Action::AnnounceConfirmed => "`OrderConfirmed`",
        Action::AnnounceCancelled => "`OrderCancelled`",
        Action::SetDeadline => "a deadline",
    }
}
