//! The script of a mailbox, over HTTP: `PUT /api/script` gives an order and answers with its number, `GET /api/script/<number>` says how often
//! it was followed, and `DELETE` says so too and withdraws the rest of it. No page of another origin can do that. Whether it may be used at all is
//! up to the mailbox.

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::script::{Behaviour, Script, Stage};
use crate::http_server::{Ask, Reply, json};

/// More than any run reaches, and little enough to be listed.
const TIMES_MAX: usize = 100_000;

/// What to do the next `times` that a stage is reached.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) times: usize,
    pub(crate) stage: Stage,
    pub(crate) behaviour: Behaviour,
}

/// The answer, if it is about the script.
pub(super) fn answer(script: &Script, ask: &Ask) -> Option<Reply> {
    let path: Vec<&str> = ask.path.iter().map(String::as_str).collect();
    match (&ask.method, path.as_slice()) {
        (&Method::PUT, ["api", "script"]) => Some(match serde_json::from_slice::<Order>(&ask.body) {
            Ok(order) => {
                let number = script.order(order.times.min(TIMES_MAX), order.stage, &order.behaviour);
                json(StatusCode::OK, &json!({ "order": number }))
            }
            Err(error) => json(StatusCode::BAD_REQUEST, &json!({ "Error": error.to_string() })),
        }),
        (&Method::GET, ["api", "script", number]) => Some(happened(number, |number| script.happened(number))),
        (&Method::DELETE, ["api", "script", number]) => Some(happened(number, |number| script.withdraw(number))),
        _ => None,
    }
}

fn happened(number: &str, of: impl Fn(u64) -> Option<u64>) -> Reply {
    match number.parse().ok().and_then(of) {
        Some(times) => json(StatusCode::OK, &json!({ "happened": times })),
        None => json(StatusCode::NOT_FOUND, &json!({ "Error": "there is no such order" })),
    }
}
