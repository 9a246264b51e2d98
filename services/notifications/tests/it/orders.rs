//! What customers hear of their orders, and the people who run the shop of their stock.

use chrono::{TimeDelta, Utc};
use dev::mailbox::{Behaviour, Mail, Stage};
use events::{
    inventory::v1::StockLow,
    orders::v1::{CancellationReason, OrderCancelled, OrderConfirmed, order_confirmed::Item},
    payments::v1::PaymentRefunded,
    postrider::money::v1::Money,
    users::v1::{
        PasswordChanged, PasswordResetRequested, RegistrationRepeated, UserDeleted, UserRegistered, UserVerified,
    },
};
use messaging::Event;
use serde_json::{Value, json};
use sqlx::Acquire as _;
use testkit::{Playing, StatusCode, eventually};
use uuid::Uuid;
use web::testing::As;

use crate::shop::{Shop, timestamp};

fn money(minor_units: i64, currency: &str) -> Option<Money> {
    Some(Money { minor_units, currency: currency.into() })
}

fn confirmed(user_id: Uuid) -> OrderConfirmed {
    let item = |sku: &str, name: &str, quantity, price| Item {
        sku: sku.into(),
        name: name.into(),
        quantity,
        price: money(price, "BHD"),
    };
    OrderConfirmed {
        order_id: Uuid::now_v7().to_string(),
        user_id: user_id.to_string(),
        items: vec![item("MUG-01", "Mug <blue>", 2, 4500), item("PEN-7", "Pen", 1, 1_250_000)],
        total: money(1_259_000, "BHD"),
    }
}

fn cancelled(user_id: Uuid, reason: i32) -> OrderCancelled {
    let (order_id, user_id) = (Uuid::now_v7().to_string(), user_id.to_string());
    OrderCancelled { order_id, user_id, reason, total: money(1500, "JPY") }
}

fn refunded(user_id: Uuid) -> PaymentRefunded {
    let (order_id, payment_id) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
    PaymentRefunded { order_id, payment_id, user_id: user_id.to_string(), amount: money(3998, "EUR") }
}

fn low() -> StockLow {
    StockLow { sku: "MUG-01".into(), name: "Mug <blue>".into(), available: 3, threshold: 5 }
}

/// Somebody with a proven address, to whom no mail is on its way.
async fn customer(shop: &Shop, email: &str) -> Uuid {
    let user_id = Uuid::now_v7();
    let id = user_id.to_string();
    shop.publish(&UserRegistered { user_id: id.clone(), email: email.into(), name: "Ada".into() }).await;
    shop.publish(&UserVerified { user_id: id }).await;
    eventually("the address is known", async || {
        let known = format!("select count(*) from recipients where user_id = '{user_id}' and verified_at is not null");
        shop.count(&known).await == 1
    })
    .await;
    user_id
}

/// The words of the text version on one line.
fn words(mail: &Mail) -> String {
    mail.text().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Delivers everything of a type once more: first to an inbox that remembers it, then to one that does not.
async fn twice<E: Event>(shop: &Shop, producer: &Playing) {
    assert_eq!(producer.repeat::<E>().await, 1);
    shop.forget_inbox().await;
    producer.repeat::<E>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_complete_is_told_once_with_everything_in_it() {
    let shop = Shop::open().await;
    let orders = shop.enter("orders").await;
    let ada = customer(&shop, "ada@example.org").await;
    let order = confirmed(ada);
    orders.publish(&order).await;
    let mail = shop.mails_to("ada@example.org", 1).await.remove(0);

    assert_eq!(mail.subject(), "Your order at Bits & Bobs is confirmed");
    let text = words(&mail);
    for part in [
        "Hello Ada, Thank you for your order!",
        "Item Quantity Price Amount Mug <blue> 2 4.500 BHD 9.000 BHD Pen 1 1,250.000 BHD 1,250.000 BHD Total 1,259.000 BHD",
        &format!("Your order has the number {}.", order.order_id),
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(mail.html().contains("Mug &#60;blue&#62;") && mail.html().contains("1,259.000 BHD"), "{}", mail.html());

    let sent = shop.notification(ada, "order_confirmed", "sent").await;
    assert_eq!(mail.header("Message-ID").as_deref(), sent["message_id"].as_str());
    assert_eq!(shop.announced(&sent).await, [["EmailSent", &ada.to_string(), "order_confirmed", ""]]);
    assert_eq!(shop.get("/notifications", Some(As::Customer(ada))).await.json, json!([sent]));

    twice::<OrderConfirmed>(&shop, &orders).await;
    // The same key, so once it has arrived the copies were handled.
    let reason = CancellationReason::Unspecified.into();
    orders.publish(&OrderCancelled { order_id: order.order_id.clone(), ..cancelled(ada, reason) }).await;
    shop.notification(ada, "order_cancelled", "sent").await;
    assert_eq!(shop.mails().len(), 2);
    assert_eq!(shop.notification(ada, "order_confirmed", "sent").await, sent);
    orders.close().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_came_to_nothing_is_told_with_the_reason() {
    let shop = Shop::open().await;
    let orders = shop.enter("orders").await;
    let ada = customer(&shop, "ada@example.org").await;
    let reasons = [
        (CancellationReason::OutOfStock.into(), "out of stock"),
        (CancellationReason::UnknownProduct.into(), "no longer sold"),
        (CancellationReason::PaymentDeclined.into(), "Your payment was declined."),
        (CancellationReason::CancelledByCustomer.into(), "You cancelled it yourself."),
        (CancellationReason::Expired.into(), "in time"),
        (CancellationReason::CancelledByShop.into(), "We had to cancel it, and we are sorry."),
        // From a version of the orders service that does not exist yet.
        (99, "it could not be completed."),
    ];
    for (count, (reason, says)) in (1..).zip(reasons) {
        let order = cancelled(ada, reason);
        orders.publish(&order).await;
        let mail = shop.mails_to("ada@example.org", count).await.remove(count - 1);
        assert_eq!(mail.subject(), "Your order at Bits & Bobs was cancelled");
        let text = words(&mail);
        for part in [says, "Your order over 1,500 JPY was cancelled", "You owe us nothing.", &order.order_id] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    orders.close().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_went_back_is_told_once() {
    let shop = Shop::open().await;
    let payments = shop.enter("payments").await;
    let ada = customer(&shop, "ada@example.org").await;
    let refund = refunded(ada);
    payments.publish(&refund).await;
    let mail = shop.mails_to("ada@example.org", 1).await.remove(0);
    assert_eq!(mail.subject(), "Your money from Bits & Bobs is on its way back");
    let text = words(&mail);
    assert!(text.contains("we returned 39.98 EUR to you") && text.contains(&refund.order_id), "{text}");

    shop.notification(ada, "payment_refunded", "sent").await;
    twice::<PaymentRefunded>(&shop, &payments).await;
    payments.publish(&PaymentRefunded { amount: money(1, "EUR"), ..refund }).await;
    let second = shop.mails_to("ada@example.org", 2).await.remove(1);
    assert!(words(&second).contains("we returned 0.01 EUR to you"), "{}", second.text());
    assert_eq!(shop.mails().len(), 2);
    payments.close().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn low_stock_is_told_to_operations_and_shown_to_operators_only() {
    let shop = Shop::open().await;
    let inventory = shop.enter("inventory").await;
    let ada = customer(&shop, "ada@example.org").await;
    inventory.publish(&low()).await;
    let mail = shop.mails_to("stock@bits.example", 1).await.remove(0);
    assert_eq!(mail.subject(), "Little left at Bits & Bobs: Mug <blue> (MUG-01)");
    assert_eq!(mail.header("To").as_deref(), Some("Operations <stock@bits.example>"));
    let text = words(&mail);
    assert!(
        text.contains("Hello Operations,")
            && text.contains("fell to 3.")
            && text.contains("POST /products/MUG-01/restocks"),
        "{text}"
    );

    let list = "/notifications?template=stock_low";
    let mut shown = Value::Null;
    eventually("it is recorded as sent", async || {
        shown = shop.get(list, Some(As::Operator)).await.json;
        shown[0]["state"] == "sent"
    })
    .await;
    assert_eq!(shown.as_array().map(Vec::len), Some(1), "{shown}");
    assert_eq!(shown[0].get("user_id"), None, "{shown}");
    assert_eq!(shop.announced(&shown[0]).await, [["EmailSent", "", "stock_low", ""]]);
    let path = format!("/notifications/{}", shown[0]["id"].as_str().expect("an id"));
    assert_eq!(shop.get(&path, Some(As::Operator)).await.json, shown[0]);
    for customer in [ada, Uuid::nil()] {
        assert_eq!(shop.get(list, Some(As::Customer(customer))).await.json, json!([]));
        assert_eq!(shop.get(&path, Some(As::Customer(customer))).await.status, StatusCode::NOT_FOUND);
    }

    twice::<StockLow>(&shop, &inventory).await;
    inventory.publish(&StockLow { available: 2, ..low() }).await;
    shop.mails_to("stock@bits.example", 2).await;
    let resent = shop.post(&format!("{path}/resend"), Some(As::Operator)).await;
    assert_eq!(resent.status, StatusCode::ACCEPTED, "{resent:?}");
    let mails = shop.mails_to("stock@bits.example", 3).await;
    assert_eq!(words(&mails[2]), text);
    assert_eq!(shop.mails().len(), 3);
    inventory.close().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_overtakes_the_registration_waits_for_the_address() {
    let shop = Shop::open().await;
    let (orders, payments) = (shop.enter("orders").await, shop.enter("payments").await);
    let user_id = Uuid::now_v7();
    orders.publish(&confirmed(user_id)).await;
    payments.publish(&refunded(user_id)).await;
    for template in ["order_confirmed", "payment_refunded"] {
        let waiting = shop.notification(user_id, template, "pending").await;
        assert_eq!((&waiting["waits_for_address"], &waiting["attempts"]), (&true.into(), &0.into()), "{waiting}");
    }

    let registered =
        UserRegistered { user_id: user_id.to_string(), email: "ada@example.org".into(), name: "Ada".into() };
    shop.publish(&registered).await;
    shop.mails_to("ada@example.org", 2).await;
    for template in ["order_confirmed", "payment_refunded"] {
        let sent = shop.notification(user_id, template, "sent").await;
        assert_eq!((sent.get("waits_for_address"), &sent["attempts"]), (None, &1.into()), "{sent}");
    }
    assert_eq!(shop.mails().len(), 2);
    orders.close().await;
    payments.close().await;
    shop.close().await;
}

/// Who comes first is chance, and neither may miss the other.
#[tokio::test(flavor = "multi_thread")]
async fn registrations_and_orders_that_arrive_together_lose_no_letter() {
    let shop = Shop::open().await;
    let orders = shop.enter("orders").await;
    let customers: Vec<_> = (0..60).map(|n| (Uuid::now_v7(), format!("customer-{n}@example.org"))).collect();
    let registering = async {
        for (user_id, email) in &customers {
            let (user_id, email) = (user_id.to_string(), email.clone());
            shop.publish(&UserRegistered { user_id, email, name: "Ada".into() }).await;
        }
    };
    let ordering = async {
        for (user_id, _) in &customers {
            orders.publish(&confirmed(*user_id)).await;
        }
    };
    tokio::join!(registering, ordering);
    for (_, email) in &customers {
        shop.mails_to(email, 1).await;
    }
    let sent = "select count(*) from notifications where state = 'sent'";
    eventually("every letter is recorded", async || shop.count(sent).await == 60).await;
    assert_eq!(shop.mails().len(), 60);
    orders.close().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_deletes_the_account_hears_no_more_of_its_orders() {
    let mut shop = Shop::open().await;
    let orders = shop.enter("orders").await;
    let ada = customer(&shop, "ada@example.org").await;
    orders.publish(&cancelled(ada, CancellationReason::Expired.into())).await;
    let sent = shop.notification(ada, "order_cancelled", "sent").await;
    shop.mail_server_down();
    orders.publish(&confirmed(ada)).await;
    shop.notification(ada, "order_confirmed", "pending").await;
    // Nothing was ever heard of this one.
    let bob = Uuid::now_v7();
    orders.publish(&confirmed(bob)).await;
    shop.notification(bob, "order_confirmed", "pending").await;

    for user_id in [ada, bob] {
        shop.publish(&UserDeleted { user_id: user_id.to_string() }).await;
        shop.notification(user_id, "order_confirmed", "cancelled").await;
    }
    // What somebody bought is nobody's business any more.
    assert_eq!(shop.count("select count(*) from notifications where details is not null").await, 0);
    shop.mail_server_up().await;
    let resent =
        shop.post(&format!("/notifications/{}/resend", sent["id"].as_str().expect("an id")), Some(As::Operator)).await;
    resent.expect_problem(409, "not-resendable");

    // Later news finds nobody, which is another thing than somebody who is not there yet.
    orders.publish(&cancelled(bob, CancellationReason::Expired.into())).await;
    let failed = shop.notification(bob, "order_cancelled", "failed").await;
    assert_eq!((&failed["failure"], &failed["attempts"]), (&"no_address".into(), &0.into()));
    assert_eq!(shop.mails().len(), 0);
    orders.close().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_about_an_order_can_be_sent_again() {
    let shop = Shop::open().await;
    let orders = shop.enter("orders").await;
    let ada = customer(&shop, "ada@example.org").await;
    shop.script().next(1, Stage::Recipient, Behaviour::reply(550, "5.1.1 unknown"));
    orders.publish(&confirmed(ada)).await;
    let bounced = shop.notification(ada, "order_confirmed", "bounced").await;
    let resend = format!("/notifications/{}/resend", bounced["id"].as_str().expect("an id"));
    for count in [1, 2] {
        let accepted = shop.post(&resend, Some(As::Operator)).await;
        assert_eq!(accepted.status, StatusCode::ACCEPTED, "{accepted:?}");
        shop.mails_to("ada@example.org", count).await;
        shop.notification(ada, "order_confirmed", "sent").await;
    }
    let mails = shop.mails();
    assert_eq!(mails[0].text(), mails[1].text());
    assert!(words(&mails[0]).contains("Mug <blue> 2 4.500 BHD 9.000 BHD"), "{}", mails[0].text());
    // Nothing had been delivered under the first id; after that, mailboxes have seen it.
    assert_eq!(mails[0].header("Message-ID").as_deref(), bounced["message_id"].as_str());
    assert_ne!(mails[0].header("Message-ID"), mails[1].header("Message-ID"));
    orders.close().await;
    shop.close().await;
}

/// Whoever intends a letter has seen that nothing was heard of the account, and has not committed yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_finds_the_letter_that_is_just_being_intended() {
    let shop = Shop::open().await;
    let user_id = Uuid::now_v7();
    let mut conn = shop.db().acquire().await.expect("a connection");
    let mut intending = conn.begin().await.expect("a transaction");
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("recipient {user_id}"))
        .execute(&mut *intending)
        .await
        .expect("the lock");
    sqlx::query(
        "insert into notifications (id, user_id, template, waits_for_address, expires_at, message_id, occurred_at)
         values (gen_random_uuid(), $1, 'password_changed', true, now() + interval '1 day', 'waits', now())",
    )
    .bind(user_id)
    .execute(&mut *intending)
    .await
    .expect("the letter");
    shop.publish(&UserDeleted { user_id: user_id.to_string() }).await;
    eventually("the deletion waits, or is done", async || {
        let waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted
                         and database = (select oid from pg_database where datname = current_database())";
        shop.count(waits).await + shop.count("select count(*) from recipients").await > 0
    })
    .await;
    intending.commit().await.expect("a commit");
    shop.notification(user_id, "password_changed", "cancelled").await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_waits_for_an_address_in_vain_expires() {
    let mut shop = Shop::open().await;
    let orders = shop.enter("orders").await;
    let user_id = Uuid::now_v7();
    orders.publish(&confirmed(user_id)).await;
    shop.notification(user_id, "order_confirmed", "pending").await;
    // The clock is moved for this letter; the service looks for such letters when it starts, and then again and again.
    sqlx::raw_sql("update notifications set expires_at = now()").execute(shop.db()).await.expect("the update");
    shop.stop_service().await.expect("it stops in order");
    shop.start().await;
    let expired = shop.notification(user_id, "order_confirmed", "expired").await;
    assert_eq!(expired.get("waits_for_address"), None, "{expired}");
    orders.close().await;
    shop.close().await;
}

/// Nobody waits for the news of a busy day; who wants into the account does.
#[tokio::test(flavor = "multi_thread")]
async fn letters_about_the_account_go_before_those_about_orders() {
    let mut shop = Shop::open_with(&["--mail-concurrency=1", "--smtp-timeout-seconds=600"]).await;
    let orders = shop.enter("orders").await;
    // One letter keeps the mail server, and the others wait for their turn.
    shop.script().next(1, Stage::Recipient, Behaviour::Hang);
    let ada = shop.register("ada@example.org", "t0ken").await;
    let user_id = ada.to_string();
    let expires_at = Some(timestamp(Utc::now() + TimeDelta::hours(1)));
    shop.publish(&PasswordResetRequested { user_id: user_id.clone(), token: "reset".into(), expires_at }).await;
    shop.publish(&PasswordChanged { user_id: user_id.clone() }).await;
    shop.publish(&RegistrationRepeated { user_id }).await;
    orders.publish(&confirmed(ada)).await;
    orders.publish(&cancelled(ada, CancellationReason::OutOfStock.into())).await;
    eventually("all letters wait", async || shop.count("select count(*) from messaging.job").await == 6).await;
    let urgent = "select count(*) from messaging.job where urgent";
    let about_orders = "select count(*) from messaging.job j join notifications n on n.id = j.id
                        where not urgent and template in ('order_confirmed', 'order_cancelled')";
    assert_eq!((shop.count(urgent).await, shop.count(about_orders).await), (4, 2));
    shop.mail_server_down();
    shop.expect_leftovers();
    shop.close().await;
}
