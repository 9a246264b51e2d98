//! The states of a payment, and the one function that says how it moves between them. Nothing here reads or writes anything.

use failpoints::without;
use serde::Serialize;
use utoipa::ToSchema;

/// How far a payment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub(crate) enum State {
    /// The provider is asked for the money.
    Pending,
    /// The provider has taken the money.
    Authorized,
    /// The provider will not take it. Final.
    Declined,
    /// No decision could be had from the provider. Whatever it took goes back; then it counts as declined.
    GivingUp,
    /// The order was cancelled before there was a decision. Whatever was taken goes back.
    Cancelling,
    /// Nothing was taken, and nothing can be taken any more. Final.
    Cancelled,
    /// The money goes back.
    Refunding,
    /// The money went back. Final.
    Refunded,
}

impl State {
    /// Every state.
    pub(crate) const ALL: [Self; 8] = [
        Self::Pending,
        Self::Authorized,
        Self::Declined,
        Self::GivingUp,
        Self::Cancelling,
        Self::Cancelled,
        Self::Refunding,
        Self::Refunded,
    ];

    /// The name that the database and the metrics use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Authorized => "authorized",
            Self::Declined => "declined",
            Self::GivingUp => "giving_up",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
            Self::Refunding => "refunding",
            Self::Refunded => "refunded",
        }
    }

    /// Whether the provider has to be asked to give back what it may hold.
    pub(crate) fn gives_back(self) -> bool {
        matches!(self, Self::GivingUp | Self::Cancelling | Self::Refunding)
    }
}

/// Why money was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum DeclineReason {
    /// The provider says no and does not say why.
    CardDeclined,
    /// There is not enough money.
    InsufficientFunds,
    /// The provider does not know this means of payment.
    UnknownMethod,
    /// For more than a day the provider could not say yes or no. It was told to forget the payment.
    GivenUp,
}

impl DeclineReason {
    /// The name that the database uses.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CardDeclined => "card_declined",
            Self::InsufficientFunds => "insufficient_funds",
            Self::UnknownMethod => "unknown_method",
            Self::GivenUp => "given_up",
        }
    }
}

/// What happened, to a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// The provider has taken the money.
    Charged,
    /// The provider will never take it.
    Declined(DeclineReason),
    /// The provider could not be brought to a decision.
    GaveUp,
    /// The order came to nothing.
    OrderCancelled,
    /// An operator wants the customer to have the money back.
    RefundAsked,
    /// The provider had taken the money, and has given it back. It takes nothing any more.
    MoneyBack,
    /// The provider holds nothing, and takes nothing any more.
    NothingHeld,
}

/// What a fact means for a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transition {
    /// It is in another state now, and this has to be done, in the same transaction.
    To(State, &'static [Effect]),
    /// Nothing: a duplicate, or too late.
    Stays,
    /// It cannot be done.
    Refused(Refusal),
}

/// What has to be done together with a change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Announce `PaymentAuthorized`.
    AnnounceAuthorized,
    /// Announce `PaymentDeclined`.
    AnnounceDeclined,
    /// Announce `PaymentRefunded`.
    AnnounceRefunded,
    /// Have a worker ask the provider to give back what it holds.
    GiveBack,
}

/// Why there is nothing to refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The provider has not decided yet.
    NotDecided,
    /// Whatever was taken goes back already.
    GoesBack,
    /// Nothing was ever taken.
    NothingTaken,
}

/// How a payment moves. Money that may have been taken never stays where nobody waits for it: every way out of `Pending` that is not the
/// provider's own answer goes through the provider once more (`GiveBack`), which then decides what had happened.
pub(crate) fn transition(state: State, fact: Fact) -> Transition {
    use Effect::{AnnounceAuthorized, AnnounceDeclined, AnnounceRefunded, GiveBack};
    use State::{Authorized, Cancelled, Cancelling, Declined, GivingUp, Pending, Refunded, Refunding};
    use Transition::{Refused, Stays, To};
    match (state, fact) {
        (Pending, Fact::Charged) => To(Authorized, &[AnnounceAuthorized]),
        (Pending, Fact::Declined(_)) => To(Declined, &[AnnounceDeclined]),
        (Pending, Fact::GaveUp) => To(GivingUp, &[GiveBack]),
        (Pending, Fact::OrderCancelled) if without("late-payments") => To(Cancelled, &[]),
        (Pending, Fact::OrderCancelled) => To(Cancelling, &[GiveBack]),
        (Authorized, Fact::OrderCancelled | Fact::RefundAsked) => To(Refunding, &[GiveBack]),
        // The order does not wait for a decision any more.
        (GivingUp, Fact::OrderCancelled) => To(Cancelling, &[]),
        (GivingUp, Fact::MoneyBack) => To(Refunded, &[AnnounceRefunded, AnnounceDeclined]),
        (GivingUp, Fact::NothingHeld) => To(Declined, &[AnnounceDeclined]),
        (Cancelling | Refunding, Fact::MoneyBack) => To(Refunded, &[AnnounceRefunded]),
        (Cancelling | Refunding, Fact::NothingHeld) => To(Cancelled, &[]),
        (Pending, Fact::RefundAsked) => Refused(Refusal::NotDecided),
        (GivingUp | Cancelling, Fact::RefundAsked) => Refused(Refusal::GoesBack),
        (Declined | Cancelled, Fact::RefundAsked) => Refused(Refusal::NothingTaken),
        // A charge that comes back while the payment is given back changes nothing: the giving back sees it at the provider.
        (GivingUp | Cancelling | Refunding | Authorized, Fact::Charged | Fact::Declined(_) | Fact::GaveUp)
        | (Cancelling | Refunding, Fact::OrderCancelled)
        | (Refunding | Refunded, Fact::RefundAsked)
        | (Pending | Authorized, Fact::MoneyBack | Fact::NothingHeld)
        | (Declined | Cancelled | Refunded, _) => Stays,
    }
}

#[cfg(test)]
mod tests {
    use super::{Effect::*, Refusal::*, State::*, Transition::*, *};

    const STATES: [State; 8] = [Pending, Authorized, Declined, GivingUp, Cancelling, Cancelled, Refunding, Refunded];
    const FACTS: [Fact; 7] = [
        Fact::Charged,
        Fact::Declined(DeclineReason::CardDeclined),
        Fact::GaveUp,
        Fact::OrderCancelled,
        Fact::RefundAsked,
        Fact::MoneyBack,
        Fact::NothingHeld,
    ];

    /// Every fact in every state: the columns are the facts in the order above.
    #[rustfmt::skip]
    const TABLE: [[Transition; 7]; 8] = [
        /* pending    */ [To(Authorized, &[AnnounceAuthorized]), To(Declined, &[AnnounceDeclined]), To(GivingUp, &[GiveBack]),
                          To(Cancelling, &[GiveBack]), Refused(NotDecided), Stays, Stays],
        /* authorized */ [Stays, Stays, Stays, To(Refunding, &[GiveBack]), To(Refunding, &[GiveBack]), Stays, Stays],
        /* declined   */ [Stays, Stays, Stays, Stays, Refused(NothingTaken), Stays, Stays],
        /* giving up  */ [Stays, Stays, Stays, To(Cancelling, &[]), Refused(GoesBack),
                          To(Refunded, &[AnnounceRefunded, AnnounceDeclined]), To(Declined, &[AnnounceDeclined])],
        /* cancelling */ [Stays, Stays, Stays, Stays, Refused(GoesBack), To(Refunded, &[AnnounceRefunded]), To(Cancelled, &[])],
        /* cancelled  */ [Stays, Stays, Stays, Stays, Refused(NothingTaken), Stays, Stays],
        /* refunding  */ [Stays, Stays, Stays, Stays, Stays, To(Refunded, &[AnnounceRefunded]), To(Cancelled, &[])],
        /* refunded   */ [Stays, Stays, Stays, Stays, Stays, Stays, Stays],
    ];

    #[test]
    fn every_fact_in_every_state_does_what_the_table_says() {
        for (state, row) in STATES.into_iter().zip(TABLE) {
            for (fact, expected) in FACTS.into_iter().zip(row) {
                assert_eq!(transition(state, fact), expected, "{fact:?} in {state:?}");
            }
        }
    }

    #[test]
    fn a_fact_that_comes_twice_counts_once() {
        for state in STATES {
            for fact in FACTS {
                if let To(next, _) = transition(state, fact) {
                    assert!(matches!(transition(next, fact), Stays | Refused(_)), "{fact:?} twice in {state:?}");
                }
            }
        }
    }

    /// Work is asked for exactly when a payment begins to need it, so that it is there as long as it is needed.
    #[test]
    fn whoever_begins_to_give_back_has_work_for_it_and_nobody_else() {
        for state in STATES {
            for fact in FACTS {
                if let To(next, effects) = transition(state, fact) {
                    let begins = next.gives_back() && !state.gives_back();
                    assert_eq!(effects.contains(&GiveBack), begins, "{fact:?} in {state:?}");
                }
            }
        }
    }

    /// From every state, whatever comes in whatever order, what was announced is one story: authorized or declined at most once,
    /// refunded at most once, and after a cancellation nothing new about the charge.
    #[test]
    fn no_order_of_facts_tells_two_stories() {
        fn walk(state: State, told: &[Effect], cancelled: bool, depth: usize) {
            if depth == 0 {
                return;
            }
            for fact in FACTS {
                let To(next, effects) = transition(state, fact) else { continue };
                let announced: Vec<_> = effects.iter().filter(|effect| **effect != GiveBack).copied().collect();
                assert!(announced.iter().all(|effect| !told.contains(effect)), "{fact:?} in {state:?} after {told:?}");
                if cancelled {
                    assert!(announced.iter().all(|effect| *effect == AnnounceRefunded), "{fact:?} in {state:?}");
                }
                let told = [told, &announced].concat();
                assert!(!(told.contains(&AnnounceAuthorized) && told.contains(&AnnounceDeclined)), "{told:?}");
                walk(next, &told, cancelled || fact == Fact::OrderCancelled, depth - 1);
            }
        }
        walk(Pending, &[], false, 6);
    }
}
