//! Following an order live.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::Response;
use serde_json::Value;
use testkit::{Method, eventually};
use web::testing::As;

use crate::shop::{Replica, Shop};

/// An open stream of server-sent events.
struct Events {
    body: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<Vec<u8>>> + Send>>,
    text: String,
}

#[derive(Debug, PartialEq)]
struct Event {
    id: i64,
    event: String,
    data: Value,
}

impl Events {
    fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let body = response.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec()));
        Self { body: Box::pin(body), text: String::new() }
    }

    /// The next block of the stream, whatever it is; `None` at its end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let chunk = tokio::time::timeout(Duration::from_secs(30), self.body.next()).await;
            let chunk = chunk.expect("something comes, or the stream ends")?.expect("an intact stream");
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// The next event; comments are passed over, but not for ever.
    async fn next(&mut self) -> Option<Event> {
        let next = tokio::time::timeout(Duration::from_secs(30), self.next_event()).await;
        next.expect("an event comes, or the stream ends")
    }

    async fn next_event(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(id), Some(event), Some(data)) = (field("id: "), field("event: "), field("data: ")) {
                let data = serde_json::from_str(data).expect("JSON");
                return Some(Event { id: id.parse().expect("a number"), event: event.to_owned(), data });
            }
            assert!(block.starts_with(':') || block.starts_with("retry: "), "{block}");
        }
    }

    /// The names of the next events.
    async fn names(&mut self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(self.next().await.expect("another event").event);
        }
        names
    }
}

impl Shop {
    async fn follow_as(&self, token: &str, id: &str, last: Option<i64>) -> Response {
        follow(&self.client().request(Method::GET, &format!("/orders/{id}/stream")).bearer_auth(token), last).await
    }

    async fn follow(&self, id: &str, last: Option<i64>) -> Events {
        Events::of(self.follow_as(&self.ada(), id, last).await)
    }
}

async fn follow(request: &reqwest::RequestBuilder, last: Option<i64>) -> Response {
    let request = request.try_clone().expect("no body");
    let request = if let Some(last) = last { request.header("last-event-id", last) } else { request };
    request.send().await.expect("the service answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_what_has_happened_then_what_happens_and_ends_with_the_order() {
    let shop = Shop::open().await;
    let id = shop.placed().await;
    let mut events = shop.follow(&id, None).await;
    let first = events.next().await.expect("an event");
    assert_eq!((first.id, &*first.event), (1, "order_placed"));
    assert_eq!(first.data, shop.entries(&id).await[0]);
    shop.reserve(&id).await;
    assert_eq!(events.names(1).await, ["stock_reserved"]);
    shop.authorize(&id).await;
    assert_eq!(events.names(1).await, ["payment_authorized"]);
    shop.commit(&id).await;
    let last = events.next().await.expect("an event");
    assert_eq!((last.id, &last.data["state"]), (4, &"confirmed".into()));
    assert_eq!(events.next().await, None);

    // A client that comes late gets everything, and one that has everything is told not to come again.
    let mut late = shop.follow(&id, None).await;
    assert_eq!(late.names(4).await.len(), 4);
    assert_eq!(late.next().await, None);
    let done = shop.follow_as(&shop.ada(), &id, Some(4)).await;
    assert_eq!((done.status().as_u16(), done.bytes().await.expect("no body").len()), (204, 0));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_the_last_one_ended() {
    let shop = Shop::open().await;
    let id = shop.reserved().await;
    let mut events = shop.follow(&id, Some(1)).await;
    assert_eq!(events.names(1).await, ["stock_reserved"]);
    drop(events);
    let mut events = shop.follow(&id, Some(2)).await;
    shop.cancel(&id).await.expect(202);
    let event = events.next().await.expect("an event");
    assert_eq!((event.id, &*event.event), (3, "cancellation_requested"));
    assert_eq!(events.next().await, None);
    // What was noted after the end is there for whoever asks again.
    shop.authorize(&id).await;
    shop.entries_until(&id, 4).await;
    let mut events = shop.follow(&id, Some(3)).await;
    assert_eq!(events.names(1).await, ["payment_authorized"]);
    assert_eq!(events.next().await, None);
    for wrong in ["-1", "x"] {
        let path = format!("/orders/{id}/stream");
        let answer = shop.client().send(Method::GET, &path, Some(&shop.ada()), &[("last-event-id", wrong)], None).await;
        answer.expect_problem(400, "bad-request");
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_another_process_made_is_seen() {
    let shop = Shop::open().await;
    let other: Replica = shop.replica(&[]).await;
    let id = shop.placed().await;
    let mut events = shop.follow(&id, None).await;
    assert_eq!(events.names(1).await, ["order_placed"]);
    let path = format!("/orders/{id}/cancellation");
    other.client.send(Method::POST, &path, Some(&shop.ada()), &[], None).await.expect(202);
    assert_eq!(events.names(1).await, ["cancellation_requested"]);
    assert_eq!(events.next().await, None);
    other.stop().await.expect("the other stops in order");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_stream_says_that_it_is_there_and_ends_in_time() {
    let shop = Shop::open_with(&["--stream-heartbeat-seconds=0.1", "--stream-seconds=1"]).await;
    let id = shop.placed().await;
    let mut events = shop.follow(&id, None).await;
    let mut blocks = Vec::new();
    while let Some(block) = events.block().await {
        blocks.push(block);
    }
    assert!(blocks[0].starts_with("retry: ") && blocks[1].contains("order_placed"), "{blocks:?}");
    assert!(blocks.len() > 3 && blocks[2..].iter().all(|block| block.starts_with(':')), "{blocks:?}");
    // The order waits, so the client comes again.
    assert_eq!(shop.follow_as(&shop.ada(), &id, Some(1)).await.status(), 200);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_only_so_many_streams_and_whoever_leaves_makes_room() {
    let shop = Shop::open_with(&["--max-streams=2", "--stream-heartbeat-seconds=0.1"]).await;
    let id = shop.placed().await;
    let path = format!("/orders/{id}/stream");
    let (first, _second) = (shop.follow(&id, None).await, shop.follow(&id, None).await);
    let full = shop.client().get(&path, Some(&shop.ada())).await;
    full.expect_problem(503, "unavailable");
    assert_eq!(full.header("retry-after"), "2");
    // Strangers learn nothing of it.
    let stranger = shop.client().get(&path, Some(&shop.token(As::Customer(uuid::Uuid::now_v7())))).await;
    stranger.expect_problem(404, "not-found");
    drop(first);
    let room = async || shop.follow_as(&shop.ada(), &id, None).await.status() == 200;
    eventually("there is room again", room).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_the_process_stops() {
    let mut shop = Shop::open().await;
    let id = shop.placed().await;
    let mut events = shop.follow(&id, None).await;
    assert_eq!(events.names(1).await, ["order_placed"]);
    shop.tell_to_stop();
    assert_eq!(events.next().await, None);
    shop.stop_service().await.expect("it stops in order");
    // The next process goes on.
    shop.start().await;
    let mut events = shop.follow(&id, Some(1)).await;
    shop.cancel(&id).await.expect(202);
    assert_eq!(events.names(1).await, ["cancellation_requested"]);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token_though_the_order_goes_on() {
    let shop = Shop::open().await;
    let id = shop.placed().await;
    let token = shop.token_for(As::Customer(shop.ada), Duration::from_secs(3));
    let mut events = Events::of(shop.follow_as(&token, &id, None).await);
    assert_eq!(events.names(1).await, ["order_placed"]);
    assert_eq!(events.next().await, None);
    shop.close().await;
}
