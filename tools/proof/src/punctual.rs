//! Time: no deadline comes before its time, and nothing waits longer than it may. It knows only what the services wrote down, by the clocks of
//! their databases, and how long the plan says that things may wait.

use crate::{
    index::{Index, rows},
    plan::Patience,
    verdict::{Finding, Look},
};

/// What is lost when times are rounded to milliseconds.
const ROUNDED_MS: u64 = 2;

/// No deadline comes before its time, and nothing waits longer than it may.
pub(crate) fn punctual(index: &Index<'_>) -> Finding {
    let mut look = Look::new("punctual", "no deadline comes before its time, and nothing waits longer than it may");
    let Some(patience) = &index.run.plan.patience else {
        return look.not_applicable("the plan does not say how long things may wait");
    };
    for id in index.orders.keys() {
        order(&mut look, index, patience, id);
        goods(&mut look, index, patience, id);
    }
    look.done()
}

/// How long it may wait in a state; nothing where it does not wait.
fn may_wait(patience: &Patience, state: &str) -> Option<u64> {
    match state {
        "placed" => Some(patience.placed_ms),
        "reserved" => Some(patience.reserved_ms),
        "paid" => Some(patience.paid_ms),
        _ => None,
    }
}

fn order(look: &mut Look, index: &Index<'_>, patience: &Patience, id: &str) {
    let mut history = rows(&index.history, id).to_vec();
    history.sort_by_key(|entry| entry.seq);
    let mut since: Option<(&str, u64)> = None;
    for entry in history {
        let Some(at) = entry.at_ms else { continue };
        // What is only noted leaves it where it is, and since when.
        let before = since.filter(|(state, _)| *state != entry.state);
        if since.is_none() || before.is_some() {
            since = Some((&entry.state, at));
        }
        let Some((state, began)) = before else { continue };
        let Some(limit) = may_wait(patience, state) else { continue };
        let waited = at.saturating_sub(began);
        if entry.event == "deadline_reached" {
            look.expect(waited + ROUNDED_MS >= limit, &[id], || {
                format!("its deadline came after {waited} ms in {state}, not after {limit} ms")
            });
        }
        if let Some(slack) = patience.slack_ms {
            look.expect(waited <= limit + slack, &[id], || {
                format!("waited {waited} ms in {state}, {limit} ms are allowed")
            });
        }
    }
}

/// What is held goes when its time is over, and not because of it before.
fn goods(look: &mut Look, index: &Index<'_>, patience: &Patience, id: &str) {
    let reservation = rows(&index.reservations, id).first();
    let Some((reservation, expires)) = reservation.and_then(|row| Some((row, row.expires_ms?))) else { return };
    let movements = rows(&index.movements, id).iter();
    let ended = movements.filter(|movement| matches!(movement.cause.as_str(), "release" | "commit"));
    let Some(ended) = ended.filter_map(|movement| movement.at_ms).min() else { return };
    if reservation.reason.as_deref() == Some("expired") {
        look.expect(ended + ROUNDED_MS >= expires, &[id], || {
            format!("its goods lapsed {} ms before their time", expires - ended)
        });
    }
    if let Some(slack) = patience.slack_ms {
        look.expect(ended <= expires + slack, &[id], || {
            format!("its goods were held for {} ms after their time", ended - expires)
        });
    }
}
