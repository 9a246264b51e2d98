//! Every state and every fact, written down a second time by hand: a change of the function has to be meant.

use super::{Action, BEGINNING, FIRST, Fact, Reason, State, Transition, markdown, transition};

/// What is expected of a state and a fact: `r` reserved, `p` paid, `C` confirmed; `o`, `u`, `d`, `c`, `e`, `s` cancelled as out of
/// stock, for an unknown product, as declined, by the customer, as expired, by the shop; `n` noted; `-` ignored.
const EXPECTED: [(&str, [char; 5]); 15] = [
    //                              placed reserved paid confirmed cancelled
    ("stock_reserved", ['r', 'n', 'n', 'n', 'n']),
    ("stock_rejected", ['o', 'n', 'n', 'n', 'n']),
    ("stock_rejected", ['u', 'n', 'n', 'n', 'n']),
    ("stock_released", ['e', 'e', 'e', 'n', 'n']),
    ("stock_released", ['n', 'n', 'n', 'n', 'n']),
    ("stock_committed", ['n', 'n', 'C', 'n', 'n']),
    ("payment_authorized", ['n', 'p', 'n', 'n', 'n']),
    ("payment_declined", ['n', 'd', 'n', 'n', 'n']),
    ("payment_refunded", ['s', 's', 's', 'n', 'n']),
    ("deadline_reached", ['e', '-', '-', '-', '-']),
    ("deadline_reached", ['-', 'e', '-', '-', '-']),
    ("deadline_reached", ['-', '-', 'e', '-', '-']),
    ("cancellation_requested", ['c', 'c', 'c', '-', '-']),
    ("cancellation_requested", ['s', 's', 's', '-', '-']),
    ("customer_deleted", ['c', 'c', 'c', '-', '-']),
];

fn sign(transition: Transition) -> char {
    match transition {
        Transition::Noted(_) => 'n',
        Transition::Ignored(_) => '-',
        Transition::To { state: State::Placed, .. } => '?',
        Transition::To { state: State::Reserved, .. } => 'r',
        Transition::To { state: State::Paid, .. } => 'p',
        Transition::To { state: State::Confirmed, .. } => 'C',
        Transition::To { state: State::Cancelled, reason, .. } => match reason.unwrap() {
            Reason::OutOfStock => 'o',
            Reason::UnknownProduct => 'u',
            Reason::PaymentDeclined => 'd',
            Reason::CancelledByCustomer => 'c',
            Reason::Expired => 'e',
            Reason::CancelledByShop => 's',
        },
    }
}

#[test]
fn every_fact_in_every_state_means_what_is_written_down() {
    for (fact, (name, expected)) in Fact::ALL.into_iter().zip(EXPECTED) {
        assert_eq!(fact.name(), name);
        for (state, expected) in State::ALL.into_iter().zip(expected) {
            assert_eq!(sign(transition(state, fact)), expected, "{fact:?} in {state:?}");
        }
    }
}

#[test]
fn whoever_moves_announces_it_and_whoever_waits_has_a_deadline() {
    let moves = State::ALL.into_iter().flat_map(|state| Fact::ALL.map(|fact| transition(state, fact)));
    let begins = Transition::To { state: FIRST, reason: None, actions: BEGINNING };
    for moved in moves.chain([begins]) {
        let Transition::To { state, reason, actions } = moved else { continue };
        assert_eq!(actions.contains(&Action::SetDeadline), !state.is_final(), "{moved:?}");
        assert_eq!(reason.is_some(), state == State::Cancelled, "{moved:?}");
        let announcement = match state {
            State::Placed => Action::AskForStock,
            State::Reserved => Action::AskForPayment,
            State::Paid => Action::AskForGoods,
            State::Confirmed => Action::AnnounceConfirmed,
            State::Cancelled => Action::AnnounceCancelled,
        };
        assert_eq!(actions.iter().filter(|action| **action != Action::SetDeadline).count(), 1, "{moved:?}");
        assert!(actions.contains(&announcement), "{moved:?}");
    }
}

#[test]
fn nothing_leaves_a_final_state() {
    for state in State::ALL.into_iter().filter(|state| state.is_final()) {
        for fact in Fact::ALL {
            assert!(!matches!(transition(state, fact), Transition::To { .. }), "{fact:?} in {state:?}");
        }
    }
}

#[test]
fn the_table_in_architecture_is_this_one() {
    let architecture = include_str!("../../../../ARCHITECTURE.md");
    let written = architecture
        .split_once("<!-- order states: begin -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- order states: end -->"))
        .map(|(table, _)| table.trim());
    let table = markdown();
    assert!(written == Some(table.trim()), "write this between the markers in ARCHITECTURE.md:\n\n{table}");
}
