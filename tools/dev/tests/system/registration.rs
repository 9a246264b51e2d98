//! A registration: account, mail, link; its trace; and what becomes of it when notifications crashes or the broker is away.

use std::collections::BTreeSet;

use dev::{
    http,
    shop::{Mail, Trace},
    stack::Stack,
};
use serde_json::Value;

use crate::{PASSWORD, eventually};

pub(crate) async fn all(stack: &mut Stack) {
    let trace = a_registration_leads_to_a_mail_with_a_working_link(stack).await;
    everything_about_it_is_one_connected_trace(stack, &trace).await;
    a_crash_of_notifications_between_two_registrations_loses_and_doubles_nothing(stack).await;
    without_its_broker_the_shop_takes_registrations_and_catches_up_later(stack).await;
}

/// Answers with the id of the trace.
async fn a_registration_leads_to_a_mail_with_a_working_link(stack: &Stack) -> String {
    let email = "ann@example.test";
    let trace = register(stack, email).await;
    let mail = mails_to(stack, email, 1).await.remove(0);
    assert!(mail.subject.contains("Confirm your e-mail address"), "{}", mail.subject);

    let users = stack.port("users").unwrap();
    let base = format!("http://localhost:{users}");
    let link = mail.text.split_whitespace().find_map(|word| word.strip_prefix(&base)).expect("a link to users");
    assert!(mail.html.contains(link), "both forms hold the same link");

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
    fn smtp(trace: &Trace) -> Option<&dev::shop::Span> {
        trace.spans.iter().find(|span| span.service == "notifications" && span.name == "smtp send")
    }
    let trace = stack.shop().whole_trace(id, |trace| smtp(trace).is_some()).await.unwrap();
    let roots: Vec<_> = trace.spans.iter().filter(|span| span.parent.is_none()).collect();
    assert_eq!(roots.len(), 1, "{trace}");
    assert_eq!((&*roots[0].name, &*roots[0].service, &*roots[0].kind), ("POST /users", "users", "server"), "{trace}");

    let mut path = vec![smtp(&trace).unwrap()];
    while let Some(up) = path.last().unwrap().parent.as_deref() {
        path.push(trace.span(up).unwrap());
    }
    let kinds: Vec<String> = path.iter().rev().map(|span| format!("{} {}", span.service, span.kind)).collect();
    assert_eq!(kinds.first().unwrap(), "users server", "{trace}");
    assert!(kinds.contains(&"users producer".to_owned()), "{trace}");
    assert!(kinds.contains(&"notifications consumer".to_owned()), "{trace}");
    assert_eq!(kinds.last().unwrap(), "notifications client", "{trace}");
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
    assert_eq!(mails_to(stack, "cid@example.test", 1).await.len(), 1);
    // Bob's may have been in the middle of its SMTP conversation: what is sent again then is known by its Message-ID.
    let bobs = mails_to(stack, "bob@example.test", 1).await;
    let ids: BTreeSet<&str> = bobs.iter().map(|mail| mail.message_id.as_str()).collect();
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
    stack.shop().register(email, "Ann Example", PASSWORD).await.unwrap()
}

async fn log_in(stack: &Stack, email: &str) -> String {
    let body = serde_json::json!({ "email": email, "password": PASSWORD });
    let answer = http::post(stack.port("users").unwrap(), "/sessions", Some(&body)).await.unwrap().success().unwrap();
    answer.json().unwrap()["access_token"].as_str().unwrap().to_owned()
}

async fn me(stack: &Stack, token: &str) -> Value {
    http::get_as(stack.port("users").unwrap(), "/users/me", token).await.unwrap().success().unwrap().json().unwrap()
}

/// Waits for that many mails to somebody, and answers with all of them.
async fn mails_to(stack: &Stack, email: &str, count: usize) -> Vec<Mail> {
    eventually(&format!("{count} mail(s) to {email}"), async || {
        let mails = stack.shop().mails_to(email).await.unwrap();
        (mails.len() >= count).then_some(mails)
    })
    .await
}
