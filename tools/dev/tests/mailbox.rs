//! The mailbox through its doors: SMTP as a client speaks it, and HTTP.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use dev::mailbox::{Behaviour, Mailbox, Stage};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

const PATIENCE: Duration = Duration::from_secs(10);

async fn mailbox() -> Mailbox {
    Mailbox::start(([127, 0, 0, 1], 0), ([127, 0, 0, 1], 0)).await.unwrap()
}

/// An SMTP client that says what it is told to.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(mailbox: &Mailbox) -> Self {
        Self(BufReader::new(TcpStream::connect(mailbox.smtp_addr()).await.unwrap()))
    }

    /// One that is past the greeting.
    async fn greeted(mailbox: &Mailbox) -> Self {
        let mut client = Self::connect(mailbox).await;
        assert_eq!(client.code().await, Some(220));
        assert_eq!(client.say("EHLO test").await, Some(250));
        client
    }

    async fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    /// The code of a whole answer; nothing when the server has hung up.
    async fn code(&mut self) -> Option<u16> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await.unwrap_or(0) == 0 {
                return None;
            }
            if line.as_bytes()[3] == b' ' {
                return Some(line[..3].parse().unwrap());
            }
        }
    }

    async fn say(&mut self, line: &str) -> Option<u16> {
        self.send(&format!("{line}\r\n")).await;
        self.code().await
    }

    /// From MAIL to the dot; the code of the last answer.
    async fn deliver(&mut self, to: &str, content: &str) -> Option<u16> {
        assert_eq!(self.say("MAIL FROM:<shop@shop.test>").await, Some(250));
        let recipient = self.say(&format!("RCPT TO:<{to}>")).await;
        if recipient != Some(250) {
            return recipient;
        }
        let data = self.say("DATA").await;
        if data != Some(354) {
            return data;
        }
        self.say(&format!("{content}\r\n.")).await
    }
}

/// One HTTP request, written out; the status and the body.
async fn http(mailbox: &Mailbox, request: &str, host: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(mailbox.http_addr()).await.unwrap();
    let text = format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn get(mailbox: &Mailbox, path: &str) -> (u16, String) {
    http(mailbox, &format!("GET {path}"), "localhost", "").await
}

async fn get_json(mailbox: &Mailbox, path: &str) -> Value {
    let (status, body) = get(mailbox, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

const CONTENT: &str = "From: Shop <shop@shop.test>\r\nTo: Ann <ann@example.test>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
                       Message-ID: <1@shop.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n\
                       --b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nFollow http://localhost:8081/verify?token=1\r\n\
                       --b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Follow <script>alert(1)</script></p>\r\n--b--";

#[tokio::test]
async fn a_mail_is_taken_and_found_through_mailpits_paths() {
    let mailbox = mailbox().await;
    assert_eq!(Client::greeted(&mailbox).await.deliver("ann@example.test", CONTENT).await, Some(250));
    assert_eq!(mailbox.mails_to("ann@example.test", 1, PATIENCE).await.len(), 1);

    let list = get_json(&mailbox, "/api/v1/messages").await;
    assert_eq!((&list["total"], &list["count"], &list["messages_count"]), (&1.into(), &1.into(), &1.into()));
    let summary = &list["messages"][0];
    assert_eq!(summary["Subject"], "Grüße");
    assert_eq!(summary["To"][0]["Address"], "ann@example.test");
    assert_eq!(summary["To"][0]["Name"], "Ann");
    assert_eq!(summary["From"]["Address"], "shop@shop.test");
    assert!(summary["Snippet"].as_str().unwrap().starts_with("Follow http"));

    let id = summary["ID"].as_str().unwrap();
    let mail = get_json(&mailbox, &format!("/api/v1/message/{id}")).await;
    assert_eq!(mail["MessageID"], "1@shop.test");
    assert_eq!(mail["Text"].as_str().unwrap().trim(), "Follow http://localhost:8081/verify?token=1");
    assert!(mail["HTML"].as_str().unwrap().contains("<script>"), "the API gives what was sent");
    assert_eq!(get_json(&mailbox, "/api/v1/message/latest").await["ID"], id);
    let (_, raw) = get(&mailbox, &format!("/api/v1/message/{id}/raw")).await;
    assert_eq!(raw, format!("{CONTENT}\r\n"), "byte for byte");

    assert_eq!(get_json(&mailbox, "/api/v1/search?query=to:ann%40example.test").await["messages_count"], 1);
    assert_eq!(get_json(&mailbox, "/api/v1/search?query=to:bob").await["messages_count"], 0);
    assert_eq!(get(&mailbox, "/api/v1/message/none").await.0, 404);

    assert_eq!(http(&mailbox, "DELETE /api/v1/messages", "localhost", r#"{"IDs":["other"]}"#).await.0, 200);
    assert_eq!(mailbox.mails().len(), 1);
    assert_eq!(http(&mailbox, "DELETE /api/v1/messages", "localhost", "").await, (200, "ok".to_owned()));
    assert_eq!(mailbox.mails().len(), 0);
}

#[tokio::test]
async fn the_page_shows_a_mail_and_runs_nothing_of_it() {
    let mailbox = mailbox().await;
    Client::greeted(&mailbox).await.deliver("ann@example.test", CONTENT).await;
    let id = mailbox.mails()[0].id.clone();
    let (_, list) = get(&mailbox, "/").await;
    assert!(list.contains("Grüße") && list.contains(&format!("/view/{id}")), "{list}");
    let (_, page) = get(&mailbox, &format!("/view/{id}")).await;
    assert!(
        page.contains(&format!("<iframe src=\"/view/{id}.html\"")) && page.contains("sandbox=\"allow-popups"),
        "{page}"
    );
    assert!(page.contains("<a href=\"http://localhost:8081/verify?token=1\""), "{page}");
    assert!(!page.contains("<script"), "{page}");

    let mut stream = TcpStream::connect(mailbox.http_addr()).await.unwrap();
    let request = format!("GET /view/{id}.html HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut part = String::new();
    stream.read_to_string(&mut part).await.unwrap();
    let policy = part.lines().find(|line| line.starts_with("content-security-policy:")).unwrap();
    assert!(policy.contains("sandbox allow-popups") && !policy.contains("allow-scripts"), "{policy}");
}

#[tokio::test]
async fn a_page_of_the_internet_cannot_read_mails() {
    let mailbox = mailbox().await;
    assert_eq!(http(&mailbox, "GET /api/v1/messages", "evil.example", "").await.0, 421);
    assert_eq!(http(&mailbox, "GET /api/v1/messages", "127.0.0.1:8025", "").await.0, 200);
}

#[tokio::test]
async fn dots_are_unstuffed_and_commands_may_be_pipelined() {
    let mailbox = mailbox().await;
    let mut client = Client::greeted(&mailbox).await;
    client.send("MAIL FROM:<>\r\nRCPT TO:<a@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n").await;
    for expected in [250, 250, 250, 354] {
        assert_eq!(client.code().await, Some(expected));
    }
    client.send("Subject: dots\r\n\r\n..one\r\n...two\r\nbare\n.\nend\r\n.\r\nNOOP\r\nQUIT\r\n").await;
    for expected in [Some(250), Some(250), Some(221), None] {
        assert_eq!(client.code().await, expected);
    }
    let mail = &mailbox.mails()[0];
    assert_eq!(mail.to, ["a@example.test", "b@example.test"]);
    assert_eq!(mail.from, "");
    assert_eq!(
        String::from_utf8_lossy(&mail.raw),
        "Subject: dots\r\n\r\n.one\r\n..two\r\nbare\n.\nend\r\n",
        "a bare line feed ends no mail"
    );
}

#[tokio::test]
async fn what_is_out_of_order_or_too_much_is_refused() {
    let mailbox = mailbox().await;
    let mut client = Client::connect(&mailbox).await;
    assert_eq!(client.code().await, Some(220));
    for (line, code) in [
        ("MAIL FROM:<a@example.test>", 503),
        ("HELO me", 250),
        ("RCPT TO:<a@example.test>", 503),
        ("DATA", 503),
        ("MAIL FROM:<a@example.test> SIZE=999999999", 552),
        ("MAIL FROM:<a@example.test>", 250),
        ("MAIL FROM:<a@example.test>", 503),
        ("RSET", 250),
        ("DATA", 503),
        ("STARTTLS", 502),
        ("WHAT", 500),
    ] {
        assert_eq!(client.say(line).await, Some(code), "{line}");
    }
    assert_eq!(client.say(&"x".repeat(10_000)).await, Some(500));
    assert_eq!(client.say("NOOP").await, Some(250), "the rest of a long line is no command");
    assert_eq!(client.say("MAIL FROM:<a@example.test>").await, Some(250));
    for index in 0..100 {
        assert_eq!(client.say(&format!("RCPT TO:<{index}@example.test>")).await, Some(250));
    }
    assert_eq!(client.say("RCPT TO:<one-too-many@example.test>").await, Some(452));
    assert_eq!(mailbox.mails().len(), 0);
}

#[tokio::test]
async fn a_mail_that_is_too_large_is_refused_and_the_next_one_is_taken() {
    let mailbox = mailbox().await;
    let mut client = Client::greeted(&mailbox).await;
    let line = format!("{}\r\n", "x".repeat(998)).repeat(1024);
    let large = line.repeat(27);
    assert_eq!(client.deliver("ann@example.test", large.trim_end()).await, Some(552));
    let one_line = format!("{}.", "x".repeat(27 * 1024 * 1024));
    assert_eq!(client.deliver("ann@example.test", &one_line).await, Some(552));
    assert_eq!(client.deliver("ann@example.test", "Subject: small\r\n\r\nhi").await, Some(250));
    assert_eq!(mailbox.mails().len(), 1);
    assert_eq!(mailbox.mails()[0].subject(), "small");
}

#[tokio::test]
async fn a_script_refuses_hangs_and_hangs_up_in_its_order() {
    let mailbox = mailbox().await;
    let script = mailbox.script();
    script.next(2, Stage::Recipient, Behaviour::reply(451, "4.7.1 Later"));
    script.next(1, Stage::Recipient, Behaviour::reply(550, "5.1.1 Never"));
    script.next(1, Stage::Data, Behaviour::reply(421, "4.3.2 Not now"));
    script.next(1, Stage::Accept, Behaviour::reply(452, "4.2.2 Full"));
    script.next(1, Stage::Accept, Behaviour::Cut);
    script.next(1, Stage::Accept, Behaviour::KeepAndCut);
    let mut codes = Vec::new();
    for _ in 0..8 {
        codes.push(Client::greeted(&mailbox).await.deliver("ann@example.test", "Subject: x\r\n\r\nhi").await);
    }
    assert_eq!(codes, [Some(451), Some(451), Some(550), Some(421), Some(452), None, None, Some(250)]);
    assert_eq!(mailbox.mails().len(), 2, "one was kept although its sender cannot know");
    assert_eq!(script.left(), 0);

    script.next(1, Stage::Connect, Behaviour::Hang);
    let mut hanging = Client::connect(&mailbox).await;
    // Whoever comes after it is served; the one that hangs still has no answer by then.
    assert_eq!(Client::greeted(&mailbox).await.deliver("bob@example.test", "hi").await, Some(250));
    hanging.0.get_mut().shutdown().await.unwrap();
    assert_eq!(hanging.code().await, None, "not a word was said");
}

/// Each order has a number of its own, and two at once are counted apart.
#[tokio::test]
async fn a_mailbox_that_obeys_is_scripted_over_http_and_counts() {
    let mailbox = mailbox().await;
    let order =
        |times: u32, behaviour: &str| format!(r#"{{"times":{times},"stage":"accept","behaviour":{behaviour}}}"#);
    let (status, _) = http(&mailbox, "PUT /api/script", "localhost", &order(1, r#""cut""#)).await;
    assert_eq!((status, mailbox.script().left()), (404, 0), "a mailbox that nobody told to obey");

    mailbox.obeys();
    let (status, number) = http(&mailbox, "PUT /api/script", "localhost", &order(1, r#""keep_and_cut""#)).await;
    assert_eq!((status, number.as_str()), (200, r#"{"order":1}"#));
    http(&mailbox, "PUT /api/script", "localhost", &order(9, r#"{"reply":[451,"4.7.1 Later"]}"#)).await;
    assert_eq!(Client::greeted(&mailbox).await.deliver("ann@example.test", "One").await, None);
    assert_eq!(mailbox.mails().len(), 1, "it was kept all the same");
    let mut client = Client::greeted(&mailbox).await;
    for _ in 0..2 {
        assert_eq!(client.deliver("ann@example.test", "Two").await, Some(451));
    }
    let (_, kept) = http(&mailbox, "GET /api/script/1", "localhost", "").await;
    let (_, deferred) = http(&mailbox, "DELETE /api/script/2", "localhost", "").await;
    assert_eq!((kept.as_str(), deferred.as_str()), (r#"{"happened":1}"#, r#"{"happened":2}"#));
    assert_eq!(client.deliver("ann@example.test", "Three").await, Some(250), "the rest of it was taken back");
    let (status, _) = http(&mailbox, "GET /api/script/2", "localhost", "").await;
    assert_eq!(status, 404);
    let (status, _) = http(&mailbox, "PUT /api/script", "localhost", "{}").await;
    assert_eq!(status, 400);
}
