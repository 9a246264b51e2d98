//! One trace, from what happened in another service to the mail server.

use std::collections::HashMap;

use telemetry::testing::spans_of;
use testkit::eventually;
use tracing::Instrument as _;

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn the_smtp_span_is_connected_to_what_caused_the_mail() {
    let shop = Shop::open().await;
    let cause = tracing::info_span!("registration");
    let traceparent = cause.in_scope(telemetry::traceparent).expect("a trace");
    let trace_id = traceparent.split('-').nth(1).expect("a trace id");
    let user_id = shop.register("ada@example.org", "s3cr3t-t0ken").instrument(cause).await;
    let mail = shop.mails_to("ada@example.org", 1).await.remove(0);
    let sent = shop.notification(user_id, "verify_email", "sent").await;
    assert_eq!(mail.header("X-Trace-Id").as_deref(), Some(trace_id));
    assert_eq!(sent["trace_id"], trace_id);

    eventually("the spans are finished", async || {
        let names: Vec<_> = spans_of(trace_id).into_iter().map(|span| span.name).collect();
        ["registration", "smtp send", "perform send_email"].iter().all(|name| names.iter().any(|found| found == name))
    })
    .await;
    let spans: HashMap<_, _> = spans_of(trace_id).into_iter().map(|span| (span.span_context.span_id(), span)).collect();
    let smtp = spans.values().find(|span| span.name == "smtp send").expect("the conversation");
    assert_eq!(format!("{:?}", smtp.span_kind), "Client", "{smtp:?}");

    let (mut chain, mut span) = (Vec::new(), Some(smtp));
    while let Some(found) = span {
        chain.push(found.name.to_string());
        span = spans.get(&found.parent_span_id);
    }
    let event = "users.v1.EmailVerificationRequested";
    let expected =
        ["smtp send", "perform send_email", &format!("process {event}"), &format!("create {event}"), "registration"];
    assert_eq!(chain, expected);

    let attribute = |name: &str| {
        smtp.attributes.iter().find(|attribute| attribute.key.as_str() == name).map(|found| found.value.to_string())
    };
    assert_eq!(attribute("server.address").as_deref(), Some("127.0.0.1"));
    assert!(attribute("server.port").is_some_and(|port| port.parse::<u16>().is_ok()), "{smtp:?}");
    for span in spans.values() {
        let everything = format!("{span:?}");
        for private in ["ada@example.org", "s3cr3t-t0ken", "Confirm your"] {
            assert!(!everything.contains(private), "{private} in {everything}");
        }
    }
    shop.close().await;
}
