//! What people get.

use chrono::{TimeDelta, Utc};
use events::users::v1::{PasswordChanged, PasswordResetRequested, RegistrationRepeated, UserRegistered, UserVerified};
use uuid::Uuid;

use crate::shop::{Shop, timestamp};

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_becomes_one_mail_with_its_link() {
    let shop = Shop::open().await;
    let user_id = shop.register("ada@example.org", "t0ken-1").await;
    let mail = shop.mails_to("ada@example.org", 1).await.remove(0);

    assert_eq!(mail.subject(), "Confirm your e-mail address for Bits & Bobs");
    assert!(mail.text().contains("\nhttps://bits.example/email-verifications/t0ken-1\n"), "{}", mail.text());
    assert!(mail.html().contains(r#"href="https://bits.example/email-verifications/t0ken-1""#), "{}", mail.html());
    assert!(mail.html().contains("Bits &#38; Bobs"), "{}", mail.html());

    let sent = shop.notification(user_id, "verify_email", "sent").await;
    let id = sent["id"].as_str().expect("an id");
    assert_eq!(mail.header("Message-ID").as_deref(), Some(&*format!("<{id}@bits.example>")));
    assert_eq!(sent["message_id"], format!("<{id}@bits.example>"));
    assert_eq!((&sent["attempts"], &sent["failure"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(shop.announced(&sent).await, [["EmailSent", &user_id.to_string(), "verify_email", ""]]);
    assert_eq!(shop.mails().len(), 1);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_says_that_a_machine_wrote_it_and_is_no_bulk_mail() {
    let shop = Shop::open().await;
    let user_id = shop.register("ada@example.org", "t0ken").await;
    let mail = shop.mails_to("ada@example.org", 1).await.remove(0);
    let sent = shop.notification(user_id, "verify_email", "sent").await;

    assert_eq!(mail.from, "post@bits.example");
    // The name of the shop, encoded because of its `&`.
    assert_eq!(mail.header("From").as_deref(), Some("=?utf-8?b?Qml0cyAmIEJvYnM=?= <post@bits.example>"));
    assert_eq!(mail.header("Auto-Submitted").as_deref(), Some("auto-generated"));
    assert_eq!(mail.header("X-Trace-Id").as_deref(), sent["trace_id"].as_str());
    assert!(mail.header("Content-Type").is_some_and(|kind| kind.starts_with("multipart/alternative")));
    assert!(mail.header("Date").is_some());
    for absent in ["Precedence", "List-Id", "List-Unsubscribe", "traceparent", "Bcc"] {
        assert_eq!(mail.header(absent), None, "{absent}");
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_that_concerns_somebody_becomes_its_letter() {
    let shop = Shop::open().await;
    let user_id = shop.register("ada@example.org", "t0ken").await;
    shop.mails_to("ada@example.org", 1).await;
    let user = user_id.to_string();
    let expires_at = Some(timestamp(Utc::now() + TimeDelta::hours(1)));
    shop.publish(&PasswordResetRequested { user_id: user.clone(), token: "reset~1".into(), expires_at }).await;
    shop.mails_to("ada@example.org", 2).await;
    shop.publish(&PasswordChanged { user_id: user.clone() }).await;
    shop.mails_to("ada@example.org", 3).await;
    shop.publish(&RegistrationRepeated { user_id: user }).await;
    let mails = shop.mails_to("ada@example.org", 4).await;

    assert_eq!(mails[1].subject(), "Choose a new password for Bits & Bobs");
    assert!(mails[1].text().contains("\nhttps://bits.example/password-resets/reset~1\n"), "{}", mails[1].text());
    assert_eq!(mails[2].subject(), "Your password for Bits & Bobs was changed");
    assert_eq!(mails[3].subject(), "You already have an account at Bits & Bobs");
    for template in ["reset_password", "password_changed", "account_exists"] {
        shop.notification(user_id, template, "sent").await;
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_used_only_after_the_address_is_proven() {
    let shop = Shop::open().await;
    let user_id = Uuid::now_v7().to_string();
    let name = "Claim your prize at evil.example".to_owned();
    shop.publish(&UserRegistered { user_id: user_id.clone(), email: "victim@example.org".into(), name }).await;
    shop.publish(&RegistrationRepeated { user_id: user_id.clone() }).await;
    let before = shop.mails_to("victim@example.org", 1).await.remove(0);
    assert!(!String::from_utf8_lossy(&before.raw).contains("prize"), "{}", before.text());
    assert!(before.text().contains("\nHello,\n"), "{}", before.text());

    shop.publish(&UserVerified { user_id: user_id.clone() }).await;
    shop.publish(&PasswordChanged { user_id }).await;
    let after = shop.mails_to("victim@example.org", 2).await.remove(1);
    assert!(after.text().contains("\nHello Claim your prize at evil.example,\n"), "{}", after.text());
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_delivered_again_is_not_sent_again() {
    let shop = Shop::open().await;
    let user_id = shop.register("ada@example.org", "t0ken").await;
    shop.mails_to("ada@example.org", 1).await;
    let first = shop.notification(user_id, "verify_email", "sent").await;

    // Everything that the users service ever said to this consumer is delivered once more, first with the inbox that remembers it,
    // then with one that has forgotten: the notification's id must be enough.
    for forgotten in [false, true] {
        if forgotten {
            shop.forget_inbox().await;
        }
        shop.replay_users().await;
        // Later in the same order, so once it has arrived the copies were handled.
        shop.publish(&PasswordChanged { user_id: user_id.to_string() }).await;
        shop.mails_to("ada@example.org", if forgotten { 3 } else { 2 }).await;
    }
    let subjects: Vec<_> = shop.mails().iter().map(|mail| mail.subject()).collect();
    assert_eq!(subjects.iter().filter(|subject| subject.starts_with("Confirm")).count(), 1, "{subjects:?}");
    assert_eq!(shop.notification(user_id, "verify_email", "sent").await, first);
    shop.close().await;
}
