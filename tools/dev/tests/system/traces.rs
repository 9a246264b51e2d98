//! The traces of orders that end in different ways, to the last edge, and what each span says.

use std::collections::BTreeMap;

use dev::{
    http,
    shop::{Placed, Shop, Span, Trace},
    stack::Stack,
};

use crate::{eventually, scene::Scene};

/// What the trace of an order consists of: a line for each span, indented under its parent, with the service and the kind. Siblings are in
/// the order of the alphabet; statements are left out.
const CONFIRMED: &str = include_str!("order_trace_confirmed.txt");
const DECLINED: &str = include_str!("order_trace_declined.txt");
/// An attempt at charging: the last lines of the trace of an order whose payment is tried again.
const CHARGED: &str =
    "              perform charge_payment (payments internal)\n                provider charge (payments client)";
/// The event that is in the way of the tests, and where it is handled.
const RESERVED: &str = "        process inventory.v1.StockReserved (orders consumer)";

pub(crate) async fn all(stack: &mut Stack) {
    the_keys_that_a_request_needs_are_fetched_in_its_trace(stack).await;
    let scene = Scene::set(stack, "olga@example.test").await;
    // Also fetches the keys, so that no order has to.
    scene.shop.orders_in(&scene.customer, "placed").await.unwrap();

    a_declined_order_is_one_connected_trace(&scene).await;
    what_a_worker_tries_again_stays_in_the_trace(&scene).await;
    what_a_handler_tries_again_stays_in_the_trace(stack, &scene).await;
    a_dead_letter_names_its_trace_and_stays_in_it_when_it_is_redriven(stack, &scene).await;
    a_confirmed_order_is_one_connected_trace_though_its_relay_died_before_it_was_published(stack, &scene).await;
}

async fn the_keys_that_a_request_needs_are_fetched_in_its_trace(stack: &Stack) {
    let shop = stack.shop();
    let operator = shop.operator().await.unwrap();
    let path = "/payments/01a20a43-268f-74eb-bf52-dbfb22993196";
    let answer = http::get_as(stack.port("payments").unwrap(), path, &operator.token).await.unwrap();
    let wanted = "GET /payments/{order_id} (payments server)\n  GET (payments client)\n    \
                  GET /.well-known/jwks.json (users server)";
    trace_like(&shop, &answer.trace_id().unwrap(), wanted).await;
}

async fn a_declined_order_is_one_connected_trace(scene: &Scene) {
    let placed = scene.order("pm_declined").await;
    scene.ends(&placed, "cancelled (payment_declined)").await;
    let trace = scene.has_trace(&placed, DECLINED).await;
    assert_eq!(failures(&trace), [""; 0], "a no of the provider is no failure");
}

async fn what_a_worker_tries_again_stays_in_the_trace(scene: &Scene) {
    let placed = scene.order("pm_flaky").await;
    scene.is_confirmed(&placed).await;
    let wanted = format!("{}\n{CHARGED}\n{CHARGED}", CONFIRMED.trim_end());
    let trace = scene.has_trace(&placed, &wanted).await;
    let failed = ["perform charge_payment: retry", "provider charge: transient"];
    assert_eq!(failures(&trace), [failed[0], failed[0], failed[1], failed[1]]);
}

/// A handler that fails twice: each try is a span of its own under the event that it reacts to, and what follows is under the one that worked.
async fn what_a_handler_tries_again_stays_in_the_trace(stack: &Stack, scene: &Scene) {
    // A sequence goes on counting when a transaction is rolled back.
    let obstacle = "
        create sequence tries;
        create function fail() returns trigger language plpgsql security definer as $$
        begin
            if nextval('tries') <= 2 then raise exception 'in its way, for a test'; end if;
            return new;
        end $$;
        create trigger fail before insert on order_history
            for each row when (new.event = 'stock_reserved') execute function fail();";
    stack.run_sql("orders", obstacle).await.unwrap();
    let placed = scene.order("pm_ok").await;
    scene.is_confirmed(&placed).await;
    stack.run_sql("orders", "drop function fail cascade; drop sequence tries;").await.unwrap();

    let wanted = CONFIRMED.replace(RESERVED, &format!("{RESERVED}\n{RESERVED}\n{RESERVED}"));
    let trace = scene.has_trace(&placed, &wanted).await;
    let failed = "process inventory.v1.StockReserved: retry";
    assert_eq!(failures(&trace), [failed, failed]);
    let attempts = trace.named("process inventory.v1.StockReserved");
    let attempts: Vec<String> = attempts.iter().map(|span| span.tag("postrider.attempt")).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
}

async fn a_dead_letter_names_its_trace_and_stays_in_it_when_it_is_redriven(stack: &Stack, scene: &Scene) {
    // As PostgreSQL refuses an id that the inbox has no place for, which no later attempt mends.
    let obstacle = "
        create function refuse() returns trigger language plpgsql security definer as $$
        begin
            raise exception 'never, for a test' using errcode = '23514', table = 'inbox';
        end $$;
        create trigger refuse before insert on order_history
            for each row when (new.event = 'stock_reserved') execute function refuse();";
    stack.run_sql("orders", obstacle).await.unwrap();
    let placed = scene.order("pm_ok").await;
    let letter = eventually("the dead letter", async || {
        let letter = "select trace_id || ' ' || reason from messaging.parked where state = 'dead';";
        Some(stack.run_sql("orders", letter).await.unwrap().trim().to_owned()).filter(|letter| !letter.is_empty())
    })
    .await;
    assert!(letter.starts_with(&placed.trace_id) && letter.contains("never, for a test"), "{letter}");
    stack.run_sql("orders", "drop function refuse cascade;").await.unwrap();
    // What `DeadLetters::retry` does: the shop has no door for it.
    let redrive = "
        update messaging.parked
        set state = 'waiting', attempts = 0, died_at = null, next_attempt_at = now(), context = context || '{\"redrive\": \"\"}'
        where state = 'dead';";
    stack.run_sql("orders", redrive).await.unwrap();
    scene.is_confirmed(&placed).await;

    let wanted = CONFIRMED.replace(RESERVED, &format!("{RESERVED}\n{RESERVED}"));
    let trace = scene.has_trace(&placed, &wanted).await;
    assert_eq!(failures(&trace), ["process inventory.v1.StockReserved: reject"]);
    let attempts = trace.named("process inventory.v1.StockReserved");
    let redriven: Vec<String> = attempts.iter().map(|span| span.tag("postrider.redriven")).collect();
    assert_eq!(redriven, ["", "true"]);
}

async fn a_confirmed_order_is_one_connected_trace_though_its_relay_died_before_it_was_published(
    stack: &mut Stack,
    scene: &Scene,
) {
    stack.stop_rabbitmq().await.unwrap();
    let placed = scene.order("pm_ok").await;
    // What a process has not sent yet dies with it; that is not what this is about.
    eventually("the span of the request", async || {
        let trace = scene.shop.trace(&placed.trace_id).await.unwrap();
        (!trace.named("POST /orders").is_empty()).then_some(())
    })
    .await;
    stack.kill_service("orders").await.unwrap();
    stack.start_rabbitmq().await.unwrap();
    stack.start_services().await.unwrap();
    scene.is_confirmed(&placed).await;
    let trace = scene.has_trace(&placed, CONFIRMED).await;
    assert_eq!(failures(&trace), [""; 0], "{trace}");
    each_event_was_sent_by_a_window_that_links_to_it(scene, &trace).await;
}

async fn each_event_was_sent_by_a_window_that_links_to_it(scene: &Scene, trace: &Trace) {
    let handled = |create: &&Span| {
        create.kind == "producer" && trace.spans.iter().any(|span| span.parent.as_deref() == Some(&create.id))
    };
    for create in trace.spans.iter().filter(handled) {
        eventually(&format!("the window of {}", create.name), async || {
            let windows = scene.shop.traces_with(&create.service, "send events").await.unwrap();
            let link = (trace.id.clone(), create.id.clone());
            let sent = windows.iter().flat_map(|window| &window.spans).find(|span| span.links.contains(&link))?;
            assert_eq!((sent.kind.as_str(), &sent.parent), ("client", &None), "a window is a trace of its own");
            assert_eq!(said(sent, SEND), [""; 0], "{sent:#?}");
            Some(())
        })
        .await;
    }
}

impl Scene {
    /// The trace of the request that placed the order is this one, to the last edge, and each span says what it has to.
    async fn has_trace(&self, placed: &Placed, wanted: &str) -> Trace {
        trace_like(&self.shop, &placed.trace_id, wanted.trim_end()).await
    }
}

async fn trace_like(shop: &Shop, id: &str, wanted: &str) -> Trace {
    let Ok(trace) = shop.whole_trace(id, |trace| outline(trace) == wanted).await else {
        let trace = shop.trace(id).await.unwrap();
        panic!("the trace is\n\n{}\n\nand should be\n\n{wanted}\n\nAs it happened:\n\n{trace}", outline(&trace));
    };
    assert_eq!(trace.spans.iter().filter(|span| span.parent.is_none()).count(), 1, "one root");
    let silent: Vec<String> = trace
        .spans
        .iter()
        .flat_map(|span| said(span, required(span)).into_iter().map(|tag| format!("{} lacks {tag}", span.name)))
        .collect();
    assert!(silent.is_empty(), "{silent:#?}");
    statements_are_where_they_belong(&trace);
    trace
}

/// A trace without what differs from run to run.
fn outline(trace: &Trace) -> String {
    fn write(trace: &Trace, parent: Option<&str>, depth: usize) -> Vec<String> {
        let children = trace.spans.iter().filter(|span| span.parent.as_deref() == parent && !span.is_statement());
        let mut branches: Vec<String> = children
            .map(|span| {
                let kind = if span.kind.is_empty() { "internal" } else { &span.kind };
                let line = format!("{}{} ({} {kind})", "  ".repeat(depth), span.name, span.service);
                let below = write(trace, Some(&span.id), depth + 1);
                [line].into_iter().chain(below).collect::<Vec<_>>().join("\n")
            })
            .collect();
        branches.sort();
        branches
    }
    write(trace, None, 0).join("\n")
}

/// The spans that say that they failed, with the kind of the failure.
fn failures(trace: &Trace) -> Vec<String> {
    let failed = trace.spans.iter().filter(|span| span.tag("otel.status_code") == "ERROR");
    let mut failed: Vec<String> = failed.map(|span| format!("{}: {}", span.name, span.tag("error.type"))).collect();
    failed.sort();
    failed
}

const SERVER: &[&str] = &[
    "http.request.method",
    "http.response.status_code",
    "http.route",
    "network.protocol.version",
    "server.address",
    "server.port",
    "url.path",
    "url.scheme",
];
const CLIENT: &[&str] =
    &["http.request.method", "http.response.status_code", "server.address", "server.port", "url.full"];
const CREATE: &[&str] = &[
    "messaging.destination.name",
    "messaging.destination.template",
    "messaging.message.id",
    "messaging.operation.name",
    "messaging.operation.type",
    "messaging.rabbitmq.destination.routing_key",
    "messaging.system",
];
const SEND: &[&str] = &[
    "messaging.destination.name",
    "messaging.operation.name",
    "messaging.operation.type",
    "messaging.system",
    "server.address",
    "server.port",
];
const PROCESS: &[&str] = &[
    "messaging.consumer.group.name",
    "messaging.destination.name",
    "messaging.destination.template",
    "messaging.message.id",
    "messaging.operation.name",
    "messaging.operation.type",
    "messaging.rabbitmq.destination.routing_key",
    "messaging.system",
    "postrider.outcome",
    "server.address",
    "server.port",
];
const STATEMENT: &[&str] = &[
    "db.namespace",
    "db.operation.name",
    "db.query.summary",
    "db.query.text",
    "db.system.name",
    "server.address",
    "server.port",
];
const SMTP: &[&str] = &["network.protocol.name", "network.transport", "server.address", "server.port"];
const PROVIDER: &[&str] = &["peer.service", "postrider.outcome", "postrider.payment"];
const JOB: &[&str] = &["postrider.attempt", "postrider.job", "postrider.task"];

/// What the conventions, and ours, want a span to say.
fn required(span: &Span) -> &'static [&'static str] {
    match (span.kind.as_str(), span.name.split(' ').next().unwrap_or_default()) {
        ("server", _) => SERVER,
        ("producer", "create") => CREATE,
        ("consumer", "process") => PROCESS,
        ("client", _) if span.is_statement() => STATEMENT,
        ("client", "GET") => CLIENT,
        ("client", "smtp") => SMTP,
        ("client", "provider") => PROVIDER,
        ("", "perform") => JOB,
        _ => panic!("nobody has said what this span has to say: {span:#?}"),
    }
}

/// Of these tags, those that are not there.
fn said(span: &Span, required: &[&'static str]) -> Vec<&'static str> {
    required.iter().filter(|tag| span.tag(tag).is_empty()).copied().collect()
}

/// Each service that took part has statements in the trace, in its own database, and their text holds no values.
fn statements_are_where_they_belong(trace: &Trace) {
    let mut databases: BTreeMap<String, String> = BTreeMap::new();
    for statement in trace.spans.iter().filter(|span| span.is_statement()) {
        let (service, database) = (statement.service.clone(), statement.tag("db.namespace"));
        let known = databases.entry(service).or_insert_with(|| database.clone());
        assert_eq!(*known, database, "{statement:#?}");
        let text = statement.tag("db.query.text");
        assert!(!text.contains(&trace.id), "{text}");
    }
    for span in trace.spans.iter().filter(|span| span.kind == "consumer") {
        assert!(databases.contains_key(&span.service), "{} has no statements in {databases:?}", span.service);
    }
}
