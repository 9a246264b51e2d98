//! The whole flow on the real system, through public doors only: HTTP of the services, the mailbox, the traces. Started and stopped as
//! `cargo dev` does it, under a name and on ports of its own.
//!
//! It is one test, because it is one system: the parts follow each other on the same stack.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use dev::{
    http,
    stack::{Options, Stack},
};
use serde_json::{Value, json};

const PASSWORD: &str = "a long and unlikely pass phrase";
/// Far more than anything here takes on a slow machine; a part that fails takes this long.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_registration_becomes_a_mail_whatever_dies_on_the_way() {
    // What a run that failed has left behind.
    Stack::purge("system").await.unwrap();
    let mut options = Options::named("system");
    options.program = PathBuf::from(env!("CARGO_BIN_EXE_dev"));
    let mut stack = Stack::start(options).await.unwrap();

    let trace = a_registration_leads_to_a_mail_with_a_working_link(&stack).await;
    everything_about_it_is_one_connected_trace(&stack, &trace).await;
    a_crash_of_notifications_between_two_registrations_loses_and_doubles_nothing(&mut stack).await;
    without_its_broker_the_shop_takes_registrations_and_catches_up_later(&mut stack).await;

    // Left behind when a part has failed, for whoever looks into it.
    stack.stop(true).await.unwrap();
}

/// Answers with the id of the trace.
async fn a_registration_leads_to_a_mail_with_a_working_link(stack: &Stack) -> String {
    let email = "ann@example.test";
    let trace = register(stack, email).await;
    let mail = mails_to(stack, email, 1).await.remove(0);
    let to: Vec<&Value> = mail["To"].as_array().unwrap().iter().map(|to| &to["Address"]).collect();
    assert_eq!(to, [email]);
    assert!(mail["Subject"].as_str().unwrap().contains("Confirm your e-mail address"), "{}", mail["Subject"]);

    let users = stack.port("users").unwrap();
    let text = mail["Text"].as_str().unwrap();
    let base = format!("http://localhost:{users}");
    let link = text.split_whitespace().find_map(|word| word.strip_prefix(&base)).expect("a link to users");
    assert!(mail["HTML"].as_str().unwrap().contains(link), "both forms hold the same link");

    let token = log_in(stack, email).await;
    assert_eq!(me(stack, &token).await["verified"], false);
    let page = http::get(users, link).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(
        me(stack, &token).await["verified"],
        false,
        "opening the link changes nothing: scanners of mails do that"
    );
    let button = http::post(users, link, None).await.unwrap();
    assert_eq!(button.status, 200, "{}", button.text());
    assert_eq!(me(stack, &token).await["verified"], true);
    let again = http::post(users, link, None).await.unwrap();
    assert_eq!(again.status, 410, "a link works once");
    trace
}

/// From the request to the SMTP conversation, parent to child.
async fn everything_about_it_is_one_connected_trace(stack: &Stack, id: &str) {
    let smtp = |trace: &Value| {
        let spans = trace["spans"].as_array().unwrap();
        spans.iter().find(|span| service(trace, span) == "notifications" && tag(span, "span.kind") == "client").cloned()
    };
    let trace = eventually("the span of the SMTP conversation", async || {
        let answer = http::get(stack.traces_port(), &format!("/api/traces/{id}")).await.unwrap();
        let trace = if answer.status == 200 { answer.json().unwrap()["data"][0].take() } else { return None };
        // Parents are sent by other processes, at other times than their children.
        (smtp(&trace).is_some() && orphans(&trace).is_empty()).then_some(trace)
    })
    .await;

    let spans: BTreeMap<&str, &Value> =
        trace["spans"].as_array().unwrap().iter().map(|span| (span["spanID"].as_str().unwrap(), span)).collect();
    let roots: Vec<&Value> = spans.values().copied().filter(|span| parent(span).is_none()).collect();
    assert_eq!(roots.len(), 1, "{roots:#?}");
    assert_eq!((service(&trace, roots[0]), tag(roots[0], "span.kind")), ("users", json!("server")));
    assert_eq!(roots[0]["operationName"], "POST /users");

    let mut path = vec![smtp(&trace).unwrap()];
    while let Some(up) = parent(path.last().unwrap()) {
        path.push(spans[up].clone());
    }
    let kinds: Vec<String> =
        path.iter().rev().map(|span| format!("{} {}", service(&trace, span), tag(span, "span.kind"))).collect();
    assert_eq!(kinds.first().unwrap(), r#"users "server""#, "{kinds:?}");
    assert!(kinds.contains(&r#"users "producer""#.to_owned()), "{kinds:?}");
    assert!(kinds.contains(&r#"notifications "consumer""#.to_owned()), "{kinds:?}");
    assert_eq!(kinds.last().unwrap(), r#"notifications "client""#, "{kinds:?}");
}

async fn a_crash_of_notifications_between_two_registrations_loses_and_doubles_nothing(stack: &mut Stack) {
    register(stack, "bob@example.test").await;
    stack.kill_service("notifications").await.unwrap();
    register(stack, "cid@example.test").await;
    stack.start_services().await.unwrap();
    mails_to(stack, "bob@example.test", 1).await;
    mails_to(stack, "cid@example.test", 1).await;
    // A marker: what is sent twice would have been sent before it.
    register(stack, "dan@example.test").await;
    mails_to(stack, "dan@example.test", 1).await;
    assert_eq!(mails(stack, "cid@example.test").await.len(), 1);
    // Bob's may have been in the middle of its SMTP conversation: what is sent again then is known by its Message-ID.
    let bobs = mails(stack, "bob@example.test").await;
    let ids: BTreeSet<&str> = bobs.iter().map(|mail| mail["MessageID"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

async fn without_its_broker_the_shop_takes_registrations_and_catches_up_later(stack: &mut Stack) {
    let users = stack.port("users").unwrap();
    stack.stop_rabbitmq().await.unwrap();
    let waiting = ["eve@example.test", "fay@example.test"];
    for email in waiting {
        register(stack, email).await;
    }
    eventually("the messaging check to say what is wrong", async || {
        let ready = http::get(users, "/readyz").await.unwrap();
        assert_eq!(ready.status, 200, "HTTP is ready all the time: {}", ready.text());
        let report = ready.json().unwrap();
        assert_eq!(report["ready"], true);
        let checks = report["checks"].as_array().unwrap();
        let failing = checks
            .iter()
            .find(|check| check["name"].as_str().unwrap().starts_with("messaging") && check["ok"] == false)?;
        assert_eq!(failing["required"], false);
        let said = failing.as_object().unwrap().iter().any(|(key, value)| {
            !["name", "required", "ok"].contains(&key.as_str()) && value.as_str().is_some_and(|text| !text.is_empty())
        });
        assert!(said, "a check that fails says why: {failing}");
        Some(())
    })
    .await;
    register(stack, "guy@example.test").await;

    stack.start_rabbitmq().await.unwrap();
    for email in waiting.into_iter().chain(["guy@example.test"]) {
        mails_to(stack, email, 1).await;
    }
    eventually("the messaging check to be content again", async || {
        let report = http::get(users, "/readyz").await.unwrap().json().unwrap();
        report["checks"].as_array().unwrap().iter().all(|check| check["ok"] == true).then_some(())
    })
    .await;
}

/// Registers, and answers with the id of the trace.
async fn register(stack: &Stack, email: &str) -> String {
    let body = json!({ "email": email, "name": "Ann Example", "password": PASSWORD });
    let answer = http::post(stack.port("users").unwrap(), "/users", Some(&body)).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let traceparent = answer.headers["traceparent"].to_str().unwrap();
    traceparent.split('-').nth(1).unwrap().to_owned()
}

async fn log_in(stack: &Stack, email: &str) -> String {
    let body = json!({ "email": email, "password": PASSWORD });
    let answer = http::post(stack.port("users").unwrap(), "/sessions", Some(&body)).await.unwrap().success().unwrap();
    answer.json().unwrap()["access_token"].as_str().unwrap().to_owned()
}

async fn me(stack: &Stack, token: &str) -> Value {
    http::get_as(stack.port("users").unwrap(), "/users/me", token).await.unwrap().success().unwrap().json().unwrap()
}

/// Waits for that many mails to somebody, and answers with all of them.
async fn mails_to(stack: &Stack, email: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} mail(s) to {email}"), async || {
        let mails = mails(stack, email).await;
        (mails.len() >= count).then_some(mails)
    })
    .await
}

async fn mails(stack: &Stack, email: &str) -> Vec<Value> {
    let list = http::get_json(stack.mailbox_port(), "/api/v1/messages?limit=500").await.unwrap();
    let mut mails = Vec::new();
    for summary in list["messages"].as_array().unwrap() {
        if summary["To"].as_array().unwrap().iter().any(|to| to["Address"] == email) {
            let path = format!("/api/v1/message/{}", summary["ID"].as_str().unwrap());
            mails.push(http::get_json(stack.mailbox_port(), &path).await.unwrap());
        }
    }
    mails
}

/// Looks until there is something to see.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

fn parent(span: &Value) -> Option<&str> {
    let references = span["references"].as_array().unwrap();
    references.iter().find(|reference| reference["refType"] == "CHILD_OF")?["spanID"].as_str()
}

/// Spans whose parent is not in the trace.
fn orphans(trace: &Value) -> Vec<&Value> {
    let spans = trace["spans"].as_array().unwrap();
    let here = |id: &str| spans.iter().any(|span| span["spanID"] == id);
    spans.iter().filter(|span| parent(span).is_some_and(|parent| !here(parent))).collect()
}

fn service<'a>(trace: &'a Value, span: &Value) -> &'a str {
    trace["processes"][span["processID"].as_str().unwrap()]["serviceName"].as_str().unwrap()
}

fn tag(span: &Value, name: &str) -> Value {
    let tags = span["tags"].as_array().unwrap();
    tags.iter().find(|tag| tag["key"] == name).map(|tag| tag["value"].clone()).unwrap_or_default()
}
