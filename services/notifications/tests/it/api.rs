//! Who sees what, and sending again.

use dev::mailbox::{Behaviour, Stage};
use events::users::v1::{PasswordChanged, UserDeleted};
use testkit::{Answer, Method, StatusCode};
use uuid::Uuid;
use web::testing::As;

use crate::shop::Shop;

/// A problem that says what to do, with a trace to look it up.
fn assert_problem(answer: &Answer, status: StatusCode, says: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json["status"], status.as_u16());
    assert!(answer.json.to_string().contains(says), "{answer:?}");
    assert_eq!(answer.json["trace_id"].as_str().map(str::len), Some(32), "{answer:?}");
}

fn ids(list: &Answer) -> Vec<&str> {
    list.json.as_array().expect("a list").iter().map(|item| item["id"].as_str().expect("an id")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_see_their_own_and_operators_everybodys() {
    let shop = Shop::open().await;
    let ada = shop.register("ada@example.org", "t0ken").await;
    let adas = shop.notification(ada, "verify_email", "sent").await;
    let bob = shop.register("bob@example.org", "t0ken").await;
    let bobs = shop.notification(bob, "verify_email", "sent").await;
    let path = format!("/notifications/{}", adas["id"].as_str().expect("an id"));

    assert_eq!(shop.get("/notifications", Some(As::Customer(ada))).await.json, serde_json::json!([adas]));
    assert_eq!(shop.get("/notifications", Some(As::Operator)).await.json, serde_json::json!([bobs, adas]));
    assert_eq!(shop.get(&path, Some(As::Customer(ada))).await.json, adas);
    assert_eq!(shop.get(&path, Some(As::Operator)).await.json, adas);

    // Somebody else's does not exist, in exactly the same words as one that does not.
    let foreign = shop.get(&path, Some(As::Customer(bob))).await;
    assert_problem(&foreign, StatusCode::NOT_FOUND, "or it is not yours");
    let missing = shop.get(&format!("/notifications/{}", Uuid::now_v7()), Some(As::Customer(bob))).await;
    assert_eq!((missing.status, &missing.json["detail"]), (foreign.status, &foreign.json["detail"]));
    let list = shop.get(&format!("/notifications?user_id={ada}"), Some(As::Customer(bob))).await;
    assert_eq!((list.status, list.json), (StatusCode::OK, serde_json::json!([])));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_come_in_pages() {
    let shop = Shop::open().await;
    shop.script().next(1, Stage::Recipient, Behaviour::reply(550, "5.1.1 unknown"));
    let ada = shop.register("ada@example.org", "t0ken").await;
    shop.notification(ada, "verify_email", "bounced").await;
    for _ in 0..4 {
        shop.publish(&PasswordChanged { user_id: ada.to_string() }).await;
    }
    shop.mails_to("ada@example.org", 4).await;

    let who = Some(As::Customer(ada));
    let all = shop.get("/notifications", who).await;
    assert_eq!((ids(&all).len(), all.header("link")), (5, ""));
    let bounced = shop.get("/notifications?state=bounced", who).await;
    assert_eq!(ids(&bounced), ids(&all)[4..]);
    let changed = shop.get("/notifications?template=password_changed", who).await;
    assert_eq!(ids(&changed), ids(&all)[..4]);

    let (mut path, mut seen, mut pages) = ("/notifications?template=password_changed&limit=3".to_owned(), vec![], 0);
    loop {
        let page = shop.get(&path, who).await;
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        pages += 1;
        // New ones at the top do not move what comes next.
        shop.publish(&PasswordChanged { user_id: ada.to_string() }).await;
        shop.mails_to("ada@example.org", 4 + pages).await;
        let link = page.header("link").to_owned();
        if link.is_empty() {
            break;
        }
        let next = link.strip_prefix('<').and_then(|rest| rest.split_once(">; rel=\"next\""));
        path = next.expect("a link to the next page").0.to_owned();
    }
    assert_eq!(
        (seen.as_slice(), pages),
        (&ids(&all)[..4].iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()[..], 2)
    );
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_answered_with_what_to_do() {
    let shop = Shop::open().await;
    let who = Some(As::Operator);
    for (query, says) in [
        ("stat=sent", "stat"),
        ("state=lost", "expected one of"),
        ("template=spam", "expected one of"),
        ("user_id=7", "user_id"),
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("after=yesterday", "after"),
    ] {
        let answer = shop.get(&format!("/notifications?{query}"), who).await;
        assert_problem(&answer, StatusCode::BAD_REQUEST, says);
    }
    assert_problem(&shop.get("/notifications/7", who).await, StatusCode::BAD_REQUEST, "id");
    assert_problem(&shop.get("/letters", who).await, StatusCode::NOT_FOUND, "/docs");
    let wrong_method = shop.ask(Method::DELETE, "/notifications", Some(&shop.issuer.token(As::Operator)), &[]).await;
    assert_problem(&wrong_method, StatusCode::METHOD_NOT_ALLOWED, "Allow");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_users_service_did_not_sign_opens_nothing() {
    let shop = Shop::open().await;
    let path = format!("/notifications/{}", Uuid::now_v7());
    let requests =
        [(Method::GET, "/notifications".to_owned()), (Method::GET, path.clone()), (Method::POST, path + "/resend")];
    for (method, path) in requests {
        let anonymous = shop.ask(method.clone(), &path, None, &[]).await;
        assert_problem(&anonymous, StatusCode::UNAUTHORIZED, "Bearer");
        for (what, token) in shop.issuer.forged(As::Operator) {
            let answer = shop.ask(method.clone(), &path, Some(&token), &[]).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}: {answer:?}");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}: {answer:?}");
        }
    }
    // The same requests with an honest token are answered.
    assert_eq!(shop.get("/notifications", Some(As::Operator)).await.status, StatusCode::OK);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounced_letter_is_sent_again_by_an_operator_only() {
    let shop = Shop::open().await;
    shop.script().next(1, Stage::Recipient, Behaviour::reply(550, "5.1.1 unknown"));
    let ada = shop.register("ada@example.org", "t0ken").await;
    let bounced = shop.notification(ada, "verify_email", "bounced").await;
    let path = format!("/notifications/{}", bounced["id"].as_str().expect("an id"));
    let resend = format!("{path}/resend");

    let by_customer = shop.post(&resend, Some(As::Customer(ada))).await;
    assert_problem(&by_customer, StatusCode::FORBIDDEN, "operator");
    let accepted = shop.post(&resend, Some(As::Operator)).await;
    assert_eq!((accepted.status, accepted.header("location")), (StatusCode::ACCEPTED, &*path));
    assert_eq!((&accepted.json["state"], &accepted.json["failure"]), (&"pending".into(), &serde_json::Value::Null));

    let mail = shop.mails_to("ada@example.org", 1).await.remove(0);
    assert!(mail.text().contains("/email-verifications/t0ken\n"), "{}", mail.text());
    // Nothing was delivered under this id yet, so it stays.
    assert_eq!(mail.header("Message-ID").as_deref(), bounced["message_id"].as_str());
    let sent = shop.notification(ada, "verify_email", "sent").await;
    assert_eq!(sent["trace_id"], accepted.header("traceparent").split('-').nth(1).expect("a trace id"));

    // Its link is erased now.
    let gone = shop.post(&resend, Some(As::Operator)).await;
    assert_problem(&gone, StatusCode::CONFLICT, "POST /email-verifications");
    let missing = shop.post(&format!("/notifications/{}/resend", Uuid::now_v7()), Some(As::Operator)).await;
    assert_problem(&missing, StatusCode::NOT_FOUND, "no notification");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_without_a_link_can_be_sent_again_under_a_new_name() {
    let shop = Shop::open().await;
    let ada = shop.register("ada@example.org", "t0ken").await;
    shop.mails_to("ada@example.org", 1).await;
    shop.publish(&PasswordChanged { user_id: ada.to_string() }).await;
    let sent = shop.notification(ada, "password_changed", "sent").await;
    let resend = format!("/notifications/{}/resend", sent["id"].as_str().expect("an id"));
    let accepted = shop.post(&resend, Some(As::Operator)).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{accepted:?}");
    let mails = shop.mails_to("ada@example.org", 3).await;
    // A mailbox drops what it has seen before.
    assert_ne!(mails[1].header("Message-ID"), mails[2].header("Message-ID"));
    assert_eq!(mails[2].header("Message-ID").as_deref(), accepted.json["message_id"].as_str());
    assert_eq!(mails[1].text(), mails[2].text());

    shop.notification(ada, "password_changed", "sent").await;
    shop.publish(&UserDeleted { user_id: ada.to_string() }).await;
    testkit::eventually("the account is gone", async || {
        shop.count("select count(*) from recipients where email is not null").await == 0
    })
    .await;
    let nobody = shop.post(&resend, Some(As::Operator)).await;
    assert_problem(&nobody, StatusCode::CONFLICT, "deleted");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_on_its_way_is_not_sent_again_and_two_operators_are_one() {
    let mut shop = Shop::open().await;
    let ada = shop.register("ada@example.org", "t0ken").await;
    shop.publish(&PasswordChanged { user_id: ada.to_string() }).await;
    let sent = shop.notification(ada, "password_changed", "sent").await;
    let resend = format!("/notifications/{}/resend", sent["id"].as_str().expect("an id"));
    // The other letter too, or it would arrive at the server that comes up.
    shop.notification(ada, "verify_email", "sent").await;
    shop.mail_server_down();
    let answers = tokio::join!(shop.post(&resend, Some(As::Operator)), shop.post(&resend, Some(As::Operator)));
    let mut statuses = [answers.0.status, answers.1.status];
    statuses.sort();
    assert_eq!(statuses, [StatusCode::ACCEPTED, StatusCode::CONFLICT], "{answers:?}");
    shop.mail_server_up().await;
    shop.notification(ada, "password_changed", "sent").await;
    assert_eq!(shop.mails().len(), 1);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_spare_transfers_and_prevent_surprises() {
    let shop = Shop::open().await;
    let ada = shop.register("ada@example.org", "t0ken").await;
    shop.publish(&PasswordChanged { user_id: ada.to_string() }).await;
    let sent = shop.notification(ada, "password_changed", "sent").await;
    let path = format!("/notifications/{}", sent["id"].as_str().expect("an id"));
    let token = shop.issuer.token(As::Operator);
    let tag = shop.get(&path, Some(As::Operator)).await.header("etag").to_owned();
    assert!(tag.starts_with('"'), "{tag}");

    let same = shop.ask(Method::GET, &path, Some(&token), &[("if-none-match", &tag)]).await;
    assert_eq!((same.status, same.header("etag")), (StatusCode::NOT_MODIFIED, &*tag));
    let other = shop.ask(Method::GET, &path, Some(&token), &[("if-none-match", "\"0\"")]).await;
    assert_eq!((other.status, other.json), (StatusCode::OK, sent));

    let resend = format!("{path}/resend");
    let stale = shop.ask(Method::POST, &resend, Some(&token), &[("if-match", "\"0\"")]).await;
    assert_problem(&stale, StatusCode::PRECONDITION_FAILED, "ETag");
    let current = shop.ask(Method::POST, &resend, Some(&token), &[("if-match", &tag)]).await;
    assert_eq!(current.status, StatusCode::ACCEPTED, "{current:?}");
    assert_ne!(current.header("etag"), tag);
    shop.notification(ada, "password_changed", "sent").await;
    shop.close().await;
}
