//! What follows from what: one pure function that says what to do about an event in each state of an order's reservation.

use failpoints::without;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How an order stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[schema(as = ReservationState)]
pub(crate) enum State {
    /// Its goods are kept for it.
    Held,
    /// Its goods are the customer's.
    Committed,
    /// Its goods are free again.
    Released,
    /// Nothing was ever held, because something was missing.
    Rejected,
    /// Was cancelled before it was heard of.
    Cancelled,
}

/// Why goods are free again, or were never held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[schema(as = ReservationReason)]
pub(crate) enum Reason {
    /// Nobody paid in time.
    Expired,
    /// The order was cancelled.
    Cancelled,
    /// There is not enough of a product.
    OutOfStock,
    /// There is no such product.
    UnknownProduct,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Committed => "committed",
            Self::Released => "released",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Reason {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::OutOfStock => "out_of_stock",
            Self::UnknownProduct => "unknown_product",
        }
    }
}

/// What happened to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Its goods are wanted.
    Placed,
    /// The money is there.
    Paid,
    /// It came to nothing.
    Cancelled,
    /// The alarm clock of its reservation rang. It may ring early: `is_over` is what the clock says.
    Due { is_over: bool },
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Hold everything that is wanted, or refuse.
    Reserve,
    /// What is held becomes the customer's.
    Commit,
    /// What is held becomes free.
    Release(Reason),
    /// What is the customer's becomes free.
    TakeBack,
    /// Note that there is nothing to be done should the order still arrive.
    Remember,
    /// Set the alarm clock again.
    WaitOn,
    /// Nothing: it was done before, or something else was faster.
    Nothing,
    /// Nothing, and somebody should look: this order was never heard of.
    NeverHeardOf,
}

/// `None`: the order was never heard of.
pub(crate) fn step(state: Option<State>, event: Event) -> Step {
    use State::{Cancelled, Committed, Held, Rejected, Released};
    match (state, event) {
        (None, Event::Placed) => Step::Reserve,
        (None, Event::Cancelled) => Step::Remember,
        (None, Event::Paid | Event::Due { .. }) => Step::NeverHeardOf,

        (Some(Held), Event::Paid) => Step::Commit,
        (Some(Held), Event::Cancelled) => Step::Release(Reason::Cancelled),
        (Some(Held), Event::Due { is_over: true }) => Step::Release(Reason::Expired),
        (Some(Held), Event::Due { is_over: false }) => Step::WaitOn,
        (Some(Committed), Event::Cancelled) => Step::TakeBack,
        (Some(Released), Event::Cancelled) if without("release-once") => Step::Release(Reason::Cancelled),

        (Some(Held | Committed), Event::Placed)
        | (Some(Committed), Event::Paid | Event::Due { .. })
        | (Some(Released | Rejected | Cancelled), _) => Step::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Reason, State, Step, step};

    const EVENTS: [Event; 5] =
        [Event::Placed, Event::Paid, Event::Cancelled, Event::Due { is_over: true }, Event::Due { is_over: false }];

    /// Every event in every state.
    #[test]
    fn what_follows_is_what_the_table_says() {
        use State::{Cancelled, Committed, Held, Rejected, Released};
        use Step::{Commit, NeverHeardOf, Nothing, Release, Remember, Reserve, TakeBack, WaitOn};
        let (lapse, cancel) = (Release(Reason::Expired), Release(Reason::Cancelled));
        #[rustfmt::skip]
        let table = [
            //                  placed    paid          cancelled  due           due too early
            (None,            [Reserve,  NeverHeardOf, Remember,  NeverHeardOf, NeverHeardOf]),
            (Some(Held),      [Nothing,  Commit,       cancel,    lapse,        WaitOn]),
            (Some(Committed), [Nothing,  Nothing,      TakeBack,  Nothing,      Nothing]),
            (Some(Released),  [Nothing,  Nothing,      Nothing,   Nothing,      Nothing]),
            (Some(Rejected),  [Nothing,  Nothing,      Nothing,   Nothing,      Nothing]),
            (Some(Cancelled), [Nothing,  Nothing,      Nothing,   Nothing,      Nothing]),
        ];
        for (state, expected) in table {
            for (event, expected) in EVENTS.into_iter().zip(expected) {
                assert_eq!(step(state, event), expected, "{event:?} in {state:?}");
            }
        }
    }

    /// Where a step leads.
    fn after(state: Option<State>, event: Event, enough: bool) -> Option<State> {
        match step(state, event) {
            Step::Reserve if enough => Some(State::Held),
            Step::Reserve => Some(State::Rejected),
            Step::Commit => Some(State::Committed),
            Step::Release(_) | Step::TakeBack => Some(State::Released),
            Step::Remember => Some(State::Cancelled),
            Step::WaitOn | Step::Nothing | Step::NeverHeardOf => state,
        }
    }

    /// The same event a second time changes nothing, wherever the first one led.
    #[test]
    fn a_duplicate_of_any_event_changes_nothing() {
        for state in all_states() {
            for event in EVENTS {
                for enough in [true, false] {
                    let once = after(state, event, enough);
                    assert_eq!(after(once, event, enough), once, "{event:?} twice in {state:?}");
                }
            }
        }
    }

    /// However it came to be held: once its time is over, nothing stays held.
    #[test]
    fn nothing_is_held_after_its_time() {
        for state in all_states() {
            assert_ne!(after(state, Event::Due { is_over: true }, true), Some(State::Held), "{state:?}");
        }
    }

    fn all_states() -> [Option<State>; 6] {
        use State::{Cancelled, Committed, Held, Rejected, Released};
        [None, Some(Held), Some(Committed), Some(Released), Some(Rejected), Some(Cancelled)]
    }
}
