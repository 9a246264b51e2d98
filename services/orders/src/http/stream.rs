//! `GET /orders/{id}/stream`: the timeline, live, as server-sent events (HTML Living Standard §9.2). It tells nothing that the
//! timeline does not tell, so a client that loses it loses nothing.

use std::{
    collections::VecDeque,
    convert::Infallible,
    time::{Duration, SystemTime},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::CACHE_CONTROL,
    web::{Bytes, Data},
};
use futures_util::stream::unfold;
use messaging::pool;
use sqlx::PgPool;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use web::{Path, Problem, auth::Identity};

use super::{State, load, openapi};
use crate::{
    error::Error,
    history::Entry,
    watch::{Seat, Watcher},
};

/// The first thing in a stream: when a client that lost it connects again.
const HELLO: &[u8] = b"retry: 1000\n\n";
/// What keeps proxies from closing a stream in which nothing happens.
const HEARTBEAT: &[u8] = b": still here\n\n";

/// An entry of the timeline as a server-sent event.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what `frame` writes")]
pub(super) struct StreamedEntry {
    /// Its `seq`: what to send as `Last-Event-ID`.
    #[schema(example = "2")]
    id: String,
    /// Its `event`.
    #[schema(example = "stock_reserved")]
    event: String,
    /// The entry, as JSON in one line.
    #[schema(example = r#"{"seq":2,"at":"2026-11-23T09:10:11.305Z","event":"stock_reserved","state":"reserved"}"#)]
    data: String,
}

/// Follow an order
///
/// The entries of its timeline as server-sent events: what has happened, then what happens. `id` is the entry's `seq`, `event` its
/// `event`, `data` the entry as JSON. The stream ends after a final state. It also ends with the access token, after 15 minutes, and when the
/// service stops: connect again with `Last-Event-ID`, and it goes on where it ended. 204 says that there is nothing more to come.
#[utoipa::path(
    get, path = "/orders/{id}/stream", tag = "orders", security(("bearer" = [])), params(openapi::OrderId, openapi::LastEventId),
    responses(
        (status = 200, description = "Entries; the schema is that of each", body = StreamedEntry, content_type = "text/event-stream"),
        (status = 204, description = "The order is final, and you have everything: do not connect again"),
        (status = 429, response = openapi::TooManyOwnStreams),
        openapi::OfOneOrder,
    )
)]
pub(super) async fn stream(
    identity: Identity,
    id: Path<Uuid>,
    request: HttpRequest,
    state: Data<State>,
) -> Result<HttpResponse, Error> {
    let after = last_event_id(&request)?;
    let pool = state.outbox.pool().clone();
    // Before the first look, so that nothing happens unseen between the two.
    let watcher = state.watch.watch(*id);
    let mut db = pool.acquire().await?;
    let order = load(&mut db, *id, identity).await?;
    let ready: VecDeque<_> = Entry::after(&mut db, *id, after).await?.into();
    drop(db);
    if ready.is_empty() && order.state.is_final() {
        return Ok(HttpResponse::NoContent().finish());
    }
    let feed = Feed {
        order_id: *id,
        after,
        hello: true,
        ready,
        ended: false,
        watcher,
        pool,
        ends: Instant::now()
            + state
                .streams
                .stream_seconds
                .min(identity.expires_at.duration_since(SystemTime::now()).unwrap_or_default()),
        heartbeat: state.streams.stream_heartbeat_seconds,
        stop: state.stop.clone(),
        _seat: state.watch.seat(identity.user_id)?,
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would collect the events before it passes them on.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(unfold(feed, Feed::next)))
}

/// One open stream.
struct Feed {
    order_id: Uuid,
    /// The last entry that was sent.
    after: i64,
    hello: bool,
    ready: VecDeque<Entry>,
    /// A final state was sent.
    ended: bool,
    watcher: Watcher,
    pool: PgPool,
    ends: Instant,
    heartbeat: Duration,
    stop: CancellationToken,
    _seat: Seat,
}

impl Feed {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if std::mem::take(&mut self.hello) {
            return Some((Ok(Bytes::from_static(HELLO)), self));
        }
        let heartbeat = Instant::now() + self.heartbeat;
        loop {
            if let Some(entry) = self.ready.pop_front() {
                self.after = entry.seq;
                self.ended = self.ready.is_empty() && entry.state.is_final();
                return Some((Ok(frame(&entry)), self));
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = sleep_until(self.ends) => return None,
                () = sleep_until(heartbeat) => return Some((Ok(Bytes::from_static(HEARTBEAT)), self)),
                looks = self.watcher.rung() => {
                    if let Err(error) = pool::answered(pool::ANSWER_DEADLINE, self.look(looks)).await {
                        // The client connects again, and goes on where this one ended.
                        tracing::warn!(%error, "a stream ends early");
                        return None;
                    }
                }
            }
        }
    }

    async fn look(&mut self, looks: u32) -> Result<(), sqlx::Error> {
        for look in 1..=looks {
            let mut db = self.pool.acquire().await?;
            self.ready = Entry::after(&mut db, self.order_id, self.after).await?.into();
            drop(db);
            if !self.ready.is_empty() || look == looks || self.stop.is_cancelled() {
                break;
            }
            Watcher::breathe().await;
        }
        Ok(())
    }
}

fn frame(entry: &Entry) -> Bytes {
    // An entry has nothing that cannot be written; and no line breaks are in JSON.
    let data = serde_json::to_string(entry).unwrap_or_default();
    format!("id: {}\nevent: {}\ndata: {data}\n\n", entry.seq, entry.event).into()
}

/// Where the client's last stream ended; 0 if it is its first.
fn last_event_id(request: &HttpRequest) -> Result<i64, Problem> {
    let Some(sent) = request.headers().get("last-event-id").filter(|sent| !sent.is_empty()) else {
        return Ok(0);
    };
    let seq = sent.to_str().ok().and_then(|text| text.parse::<u32>().ok());
    seq.map(i64::from).ok_or_else(|| {
        Problem::bad_request("Last-Event-ID must be the id of the last event that came, or be left out.")
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_stream_goes_on_where_the_last_one_ended() {
        let asked = |value: &str| {
            last_event_id(&TestRequest::default().insert_header(("last-event-id", value)).to_http_request())
        };
        assert_eq!((asked("7").ok(), asked("").ok()), (Some(7), Some(0)));
        for wrong in ["-1", "x", "1.5", "99999999999"] {
            assert_eq!(asked(wrong).unwrap_err().status(), 400, "{wrong}");
        }
        assert_eq!(last_event_id(&TestRequest::default().to_http_request()).ok(), Some(0));
    }
}
