//! What becomes of a mail when the mail server does not simply take it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use dev::mailbox::{Behaviour, Stage};
use testkit::eventually;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    sync::{Mutex, Notify},
    task::JoinSet,
};
use web::testing::As;

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_now_is_sent_later_with_the_same_message_id() {
    let shop = Shop::open().await;
    shop.script().next(1, Stage::Recipient, Behaviour::reply(451, "4.7.1 <ada@example.org>: greylisted"));
    shop.script().next(1, Stage::Accept, Behaviour::reply(452, "4.3.1 disk full"));
    let user_id = shop.register("ada@example.org", "t0ken").await;
    let mails = shop.mails_to("ada@example.org", 1).await;

    let sent = shop.notification(user_id, "verify_email", "sent").await;
    assert_eq!(mails[0].header("Message-ID").as_deref(), sent["message_id"].as_str());
    assert_eq!((shop.mails().len(), shop.script().left()), (1, 0));
    assert_eq!((&sent["attempts"], &sent["last_error"]), (&3.into(), &serde_json::Value::Null));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_good_bounces_at_once_and_is_announced() {
    let shop = Shop::open().await;
    shop.script().next(1, Stage::Recipient, Behaviour::reply(550, "5.1.1 <ada@example.org>: no mailbox ada here"));
    let user_id = shop.register("ada@example.org", "t0ken").await;

    let bounced = shop.notification(user_id, "verify_email", "bounced").await;
    assert_eq!((&bounced["failure"], &bounced["attempts"]), (&"bounced".into(), &1.into()));
    assert_eq!(bounced["last_error"], "550 5.1.1 (address) no mailbox (address) here");
    let fact = ["EmailFailed", &user_id.to_string(), "verify_email", "bounced"];
    assert_eq!(shop.announced(&bounced).await, [fact]);
    assert_eq!(shop.mails().len(), 0);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_at_its_end_bounces_too() {
    let shop = Shop::open().await;
    shop.script().next(1, Stage::Accept, Behaviour::reply(554, "5.6.0 cannot be read: https://bits.example/x/t0ken"));
    let user_id = shop.register("ada@example.org", "t0ken").await;
    let bounced = shop.notification(user_id, "verify_email", "bounced").await;
    assert_eq!(bounced["last_error"], "554 5.6.0 cannot be read: (link)");
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_last_attempt_it_is_failed_and_announced() {
    let shop = Shop::open_with(&["--mail-max-attempts=3"]).await;
    shop.script().next(3, Stage::Recipient, Behaviour::reply(421, "4.3.2 not today"));
    let user_id = shop.register("ada@example.org", "t0ken").await;

    let failed = shop.notification(user_id, "verify_email", "failed").await;
    assert_eq!((&failed["failure"], &failed["attempts"]), (&"exhausted".into(), &3.into()));
    assert_eq!(failed["last_error"], "421 4.3.2 not today");
    let fact = ["EmailFailed", &user_id.to_string(), "verify_email", "exhausted"];
    assert_eq!(shop.announced(&failed).await, [fact]);
    assert_eq!((shop.mails().len(), shop.script().left()), (0, 0));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_is_down_costs_no_attempt() {
    // One attempt is all there is: were it spent while nobody answers, nothing would be left for later.
    let mut shop = Shop::open_with(&["--mail-max-attempts=1"]).await;
    shop.mail_server_down();
    let ada = shop.register("ada@example.org", "t0ken-a").await;
    let bob = shop.register("bob@example.org", "t0ken-b").await;
    eventually("somebody tried", async || {
        shop.count("select count(*) from notifications where last_error is not null").await > 0
    })
    .await;
    for user_id in [ada, bob] {
        let waiting = shop.notification(user_id, "verify_email", "pending").await;
        assert_eq!(waiting["attempts"], 0, "{waiting}");
    }

    shop.mail_server_up().await;
    for (user_id, address) in [(ada, "ada@example.org"), (bob, "bob@example.org")] {
        assert_eq!(shop.mails_to(address, 1).await.len(), 1);
        assert_eq!(shop.notification(user_id, "verify_email", "sent").await["attempts"], 1);
    }
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_the_server_does_not_want_is_no_fault_of_the_mail() {
    let shop = Shop::open_with(&["--mail-max-attempts=1"]).await;
    shop.script().next(1, Stage::Sender, Behaviour::reply(530, "5.7.0 authenticate first"));
    let user_id = shop.register("ada@example.org", "t0ken").await;
    shop.mails_to("ada@example.org", 1).await;
    assert_eq!(shop.notification(user_id, "verify_email", "sent").await["attempts"], 1);
    shop.close().await;
}

/// With Postfix's defaults, what it has against the client or the sender is said where the recipient is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_about_us_where_the_recipient_is_costs_no_attempt() {
    let shop = Shop::open_with(&["--mail-max-attempts=1"]).await;
    shop.script().next(1, Stage::Recipient, Behaviour::reply(554, "5.7.1 <ada@example.org>: Relay access denied"));
    shop.script().next(1, Stage::Data, Behaviour::reply(530, "authenticate first"));
    let user_id = shop.register("ada@example.org", "t0ken").await;
    shop.mails_to("ada@example.org", 1).await;
    let sent = shop.notification(user_id, "verify_email", "sent").await;
    assert_eq!((&sent["attempts"], shop.script().left()), (&1.into(), 0));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_happens_before_the_recipient_is_named_costs_an_attempt() {
    let shop = Shop::open_with(&["--mail-max-attempts=1", "--smtp-timeout-seconds=0.2"]).await;
    shop.script().next(1, Stage::Sender, Behaviour::reply(451, "4.3.0 not now"));
    shop.script().next(1, Stage::Sender, Behaviour::Hang);
    let user_id = shop.register("ada@example.org", "t0ken").await;
    shop.mails_to("ada@example.org", 1).await;
    let sent = shop.notification(user_id, "verify_email", "sent").await;
    assert_eq!((&sent["attempts"], shop.script().left()), (&1.into(), 0));
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_may_be_about_the_mail_is_asked_again() {
    let shop = Shop::open().await;
    shop.script().next(1, Stage::Accept, Behaviour::reply(554, "5.7.1 looks like spam"));
    let user_id = shop.register("ada@example.org", "t0ken").await;
    shop.mails_to("ada@example.org", 1).await;
    assert_eq!(shop.notification(user_id, "verify_email", "sent").await["attempts"], 2);
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_250_makes_a_second_copy_that_can_be_recognised() {
    let shop = Shop::open().await;
    shop.script().next(1, Stage::Accept, Behaviour::KeepAndCut);
    let user_id = shop.register("ada@example.org", "t0ken").await;
    let mails = shop.mails_to("ada@example.org", 2).await;

    shop.notification(user_id, "verify_email", "sent").await;
    assert_eq!(shop.mails().len(), 2);
    for header in ["Message-ID", "Date", "Subject", "X-Trace-Id"] {
        assert_eq!(mails[0].header(header), mails[1].header(header), "{header}");
    }
    assert_eq!(mails[0].text(), mails[1].text());
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_left_after_the_deadline() {
    let shop = Shop::open_with(&["--smtp-timeout-seconds=0.2", "--smtp-answer-timeout-seconds=0.2"]).await;
    shop.script().next(1, Stage::Recipient, Behaviour::Hang);
    shop.script().next(1, Stage::Accept, Behaviour::Hang);
    let user_id = shop.register("ada@example.org", "t0ken").await;
    shop.mails_to("ada@example.org", 1).await;
    let sent = shop.notification(user_id, "verify_email", "sent").await;
    assert_eq!((&sent["attempts"], shop.script().left()), (&3.into(), 0));
    shop.close().await;
}

/// The one thing that a connection must not do after a deadline: go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_comes_too_late_is_not_taken_for_the_answer_to_another_mail() {
    let server = LateServer::start().await;
    let settings = format!("--smtp-url={}", server.url);
    let mut shop = Shop::open_with(&[&settings, "--smtp-answer-timeout-seconds=0.3", "--mail-max-attempts=1"]).await;
    let late = shop.register("late@example.org", "t0ken-l").await;
    shop.notification(late, "verify_email", "failed").await;
    // Now the server says yes to the mail that nobody waits for any more; the next mail is refused. A client that kept the
    // connection would take the one answer for the other.
    server.late_reply.notify_one();
    let next = shop.register("next@example.org", "t0ken-n").await;
    let refused = shop.notification(next, "verify_email", "bounced").await;
    assert_eq!(refused["last_error"], "554 5.6.0 never");
    assert_eq!(*server.recipients.lock().await, ["late@example.org", "next@example.org"]);
    assert_eq!(shop.get("/notifications?state=sent", Some(As::Operator)).await.json, serde_json::json!([]));
    shop.expect_leftovers();
    shop.close().await;
}

/// A server that looks for long at what a mail says has it already: who asks again sends a second copy.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_after_the_last_line_is_waited_for_longer_than_others() {
    let server = LateServer::start().await;
    let mut shop = Shop::open_with(&[&format!("--smtp-url={}", server.url), "--smtp-timeout-seconds=0.3"]).await;
    let user_id = shop.register("late@example.org", "t0ken").await;
    eventually("the server has the mail", async || server.mails_in.load(Ordering::SeqCst) == 1).await;
    // Its silence is what is tried here: longer than it may take for a command.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    server.late_reply.notify_one();
    assert_eq!(shop.notification(user_id, "verify_email", "sent").await["attempts"], 1);
    assert_eq!(*server.recipients.lock().await, ["late@example.org"]);
    shop.expect_leftovers();
    shop.close().await;
}

/// `/readyz` looks at the mail server too, and its connection is used for mails; but the threads that answer HTTP are gone
/// before the last mail is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_in_hand_when_the_service_stops_is_finished() {
    let server = LateServer::start().await;
    let mut shop = Shop::open_with(&[&format!("--smtp-url={}", server.url)]).await;
    let user_id = shop.register("late@example.org", "t0ken").await;
    eventually("the server has the mail", async || server.mails_in.load(Ordering::SeqCst) == 1).await;
    shop.begin_to_stop().await;
    server.late_reply.notify_one();
    shop.stop_service().await.expect("it stops in order");

    assert_eq!(shop.count("select count(*) from notifications where state = 'sent'").await, 1);
    assert_eq!(shop.count("select count(*) from messaging.job").await, 0);
    shop.start().await;
    shop.notification(user_id, "verify_email", "sent").await;
    assert_eq!(*server.recipients.lock().await, ["late@example.org"]);
    shop.close().await;
}

/// Takes its time for the first mail, and refuses all others at their end.
struct LateServer {
    url: String,
    late_reply: Arc<Notify>,
    recipients: Arc<Mutex<Vec<String>>>,
    /// Mails whose last line has arrived.
    mails_in: Arc<AtomicUsize>,
    _running: JoinSet<()>,
}

impl LateServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("smtp://{}", listener.local_addr().expect("an address"));
        let (late_reply, recipients, mails_in) = (Arc::new(Notify::new()), Arc::default(), Arc::default());
        let mut running = JoinSet::new();
        let (reply, seen, ended) = (Arc::clone(&late_reply), Arc::clone(&recipients), Arc::clone(&mails_in));
        running.spawn(async move {
            let mut conversations = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (reply, seen, ended) = (Arc::clone(&reply), Arc::clone(&seen), Arc::clone(&ended));
                conversations.spawn(async move {
                    // Whoever hangs up is gone.
                    let _ = converse(socket, &reply, &seen, &ended).await;
                });
            }
        });
        Self { url, late_reply, recipients, mails_in, _running: running }
    }
}

async fn converse(
    mut socket: tokio::net::TcpStream,
    late_reply: &Notify,
    recipients: &Mutex<Vec<String>>,
    mails_in: &AtomicUsize,
) -> std::io::Result<()> {
    let (reader, mut writer) = socket.split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 late.example\r\n").await?;
    let mut in_mail = false;
    while let Some(line) = lines.next_line().await? {
        if line == "." {
            mails_in.fetch_add(1, Ordering::SeqCst);
        }
        let reply: &[u8] = match line.as_str() {
            "." if recipients.lock().await.len() == 1 => {
                in_mail = false;
                late_reply.notified().await;
                b"250 2.0.0 taken after all\r\n"
            }
            "." => {
                in_mail = false;
                b"554 5.6.0 never\r\n"
            }
            _ if in_mail => continue,
            "DATA" => {
                in_mail = true;
                b"354 go on\r\n"
            }
            line => {
                if let Some(recipient) = line.strip_prefix("RCPT TO:<").and_then(|rest| rest.split('>').next()) {
                    recipients.lock().await.push(recipient.to_owned());
                }
                b"250 ok\r\n"
            }
        };
        writer.write_all(reply).await?;
    }
    Ok(())
}
