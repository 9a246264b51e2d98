//! The page that a newcomer opens first: what runs where and how it is, alerts, the main graphs, and the traces of the latest orders.
//! It reads the stack's state, asks everybody for their health, and asks Prometheus a fixed list of questions; it changes nothing, and
//! shows no password.

mod chart;
mod orders;
mod page;
mod prometheus;
mod system;

use std::{future::Future, time::Duration};

use hyper::{Method, StatusCode};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    http_server::{self, Ask, Reply, asset, text},
    look,
    state::State,
};
use page::Live;

/// Nobody waits longer for a part of the page; the rest is shown without it.
const PART_PATIENCE: Duration = Duration::from_secs(3);

/// Serves for ever; dropping the future ends it.
pub(crate) async fn serve(listener: TcpListener, stack: String) {
    let answer = move |ask: Ask| answer(stack.clone(), ask);
    http_server::serve(listener, CancellationToken::new(), answer).await;
}

async fn answer(stack: String, ask: Ask) -> Reply {
    if ask.method != Method::GET && ask.method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "There is only something to read here.\n");
    }
    if let Some(asset) = look::shared_asset(&ask) {
        return asset;
    }
    match ask.path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["assets", "dev_page.js"] => asset("text/javascript; charset=utf-8", include_str!("dev_page/dev_page.js")),
        ["readyz"] => text(StatusCode::OK, "ok\n"),
        path @ ([] | ["live"]) => match State::load(&stack) {
            Ok(Some(state)) => {
                let live = look_around(&state, prometheus::Range::named(ask.query("range"))).await;
                if path.is_empty() { page::whole(&state.name, &live) } else { page::part(&live) }
            }
            Ok(None) => text(StatusCode::NOT_FOUND, format!("There is no stack \"{stack}\" any more.\n")),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "There is nothing here.\n"),
    }
}

async fn look_around(state: &State, range: prometheus::Range) -> Live {
    let ports = state.ports;
    let (services, graphs, alerts, orders) = tokio::join!(
        system::services(state),
        prometheus::graphs(ports, range),
        prometheus::alerts(ports),
        orders::latest(ports.traces()),
    );
    let places = system::places(state, graphs.is_ok());
    Live {
        services,
        places,
        graphs,
        alerts,
        orders,
        range,
        traces: ports.traces(),
        mailbox: ports.mailbox(),
        docker: state.docker,
    }
}

/// Asks several at the same time; the answers are in the order of the questions.
async fn all<T: Send + 'static>(questions: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let mut asking = JoinSet::new();
    for (number, question) in questions.into_iter().enumerate() {
        asking.spawn(async move { (number, question.await) });
    }
    let mut answers = asking.join_all().await;
    answers.sort_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// The JSON of an answer, or in a few words why there is none.
async fn json(port: u16, path: &str) -> Result<serde_json::Value, String> {
    match tokio::time::timeout(PART_PATIENCE, crate::http::get(port, path)).await {
        Err(_) => Err(format!("no answer within {} s", PART_PATIENCE.as_secs())),
        Ok(Err(error)) => Err(error.root_cause().to_string()),
        Ok(Ok(answer)) => answer.json().map_err(|_| format!("it answers {}, and no JSON", answer.status.as_u16())),
    }
}
