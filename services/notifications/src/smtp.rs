//! The conversation with the mail server: a pool of connections, deadlines, and what each answer means. It knows nothing of
//! notifications, and never logs an address or a line of a mail.
//!
//! The connections are lettre's; the pool is not. lettre's own pool takes a connection back when a send is cancelled by a
//! deadline, in the middle of the conversation: the reply that arrives late is then read as the answer to the next mail's
//! commands, and a mail that was refused counts as accepted. Here a connection is only ever kept after a complete
//! conversation.

use std::{
    collections::VecDeque,
    error::Error,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lettre::{
    Address, Message,
    transport::smtp::{
        Error as LettreError,
        authentication::DEFAULT_MECHANISMS,
        client::AsyncSmtpConnection,
        commands::{Data, Mail, Rcpt},
        extension::{Extension, MailBodyParameter, MailParameter},
        response::Response,
    },
};
use tokio::{
    net::{TcpStream, lookup_host},
    runtime::Handle,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tracing::{Instrument, Span, field::Empty};

use crate::smtp_server::SmtpServer;

/// Idle connections kept for the next mail.
const IDLE_MAX: usize = 8;
/// Mail servers close idle connections, some after a minute.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// Until the server has greeted us, switched to TLS and taken our credentials.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// For one of the addresses behind the server's name, so that a dead one leaves time for the next.
const ADDRESS_DEADLINE: Duration = Duration::from_secs(4);
/// For the answer to a NOOP or a QUIT.
const COURTESY_DEADLINE: Duration = Duration::from_millis(1500);
/// What an attempt can take beside the mail itself: connecting, and goodbyes.
const AROUND_A_MAIL: Duration = Duration::from_secs(15);
/// How long one look at the server's health is believed.
const HEALTH_FOR: Duration = Duration::from_secs(5);

/// The mail server. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Smtp(Arc<Inner>);

struct Inner {
    server: SmtpServer,
    deadlines: Deadlines,
    /// Where connections are opened, whoever asks. A socket dies with the runtime that opened it, and every HTTP thread, which
    /// may ask for the health, has a runtime of its own that ends before the last mail does.
    home: Handle,
    idle: Mutex<VecDeque<Idle>>,
    /// The last look; held while looking, so that many askers look once.
    health: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
}

/// How long the server may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// From `MAIL FROM` until it wants the mail.
    pub(crate) commands: Duration,
    /// For the mail and the answer after its last line. A server that is left while it still looks at the mail may have taken it,
    /// and gets it a second time: RFC 5321 §4.5.3.2.6 asks for ten minutes.
    pub(crate) mail: Duration,
}

impl Deadlines {
    /// The longest that an attempt can take, with connecting and goodbyes.
    pub(crate) fn attempt(self) -> Duration {
        self.commands + self.mail + AROUND_A_MAIL
    }
}

struct Idle {
    connection: AsyncSmtpConnection,
    since: Instant,
}

/// A mail that was not accepted.
#[derive(Debug)]
pub(crate) struct NotAccepted {
    pub(crate) why: Why,
    /// The server's own words; they may repeat the address.
    pub(crate) words: String,
    /// The conversation is intact: the server replied, only not with a yes.
    replied: bool,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The server takes no mail from us at all: nobody answers, or it turns us away before it hears who the mail is for, or
    /// says then that it is about us. It says nothing about this mail.
    Unavailable,
    /// This mail will never be accepted (a 5xx reply to the recipient or to the mail).
    Refused,
    /// Perhaps later (a 4xx reply, a deadline, a connection that broke). The server may even have the mail.
    Deferred,
}

/// How far a conversation has come: the same reply means different things in different places.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// `MAIL FROM`: the server has heard only of us.
    Sender,
    /// `RCPT TO` and `DATA`.
    Recipient,
    /// The mail itself.
    Mail,
}

impl Step {
    /// What a reply with this code, and the text behind it, means here.
    fn refused(self, code: u16, text: &str) -> Why {
        match (self, code, subject(text)) {
            (Self::Sender, ..) => Why::Unavailable,
            (_, ..500, _) => Why::Deferred,
            // Postfix keeps what it has against the client and the sender until it knows the recipient (smtpd_delay_reject):
            // authentication is missing (RFC 4954), the system's own trouble or a policy (RFC 3463, X.3 and X.7).
            (Self::Recipient, 530, _) | (Self::Recipient, _, Some(3 | 7)) => Why::Unavailable,
            // A policy may be about what the mail says, or still about us.
            (Self::Mail, _, Some(7)) => Why::Deferred,
            _ => Why::Refused,
        }
    }

    /// What it means that the conversation broke off here.
    fn broken(self) -> Why {
        match self {
            Self::Sender => Why::Unavailable,
            Self::Recipient | Self::Mail => Why::Deferred,
        }
    }
}

/// The subject of the enhanced status code that a text begins with (RFC 3463): the 7 of `5.7.1`.
fn subject(text: &str) -> Option<u16> {
    let mut numbers = text.split_whitespace().next()?.split('.').map(|number| number.parse().ok());
    match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
        (Some(Some(5)), Some(subject), Some(Some(_)), None) => subject,
        _ => None,
    }
}

impl Why {
    fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::Deferred => "deferred",
        }
    }
}

impl fmt::Display for NotAccepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.words)
    }
}

impl Error for NotAccepted {}

impl Smtp {
    /// A pool without connections yet; they are made when a mail needs one. Needs the runtime that lives longest.
    pub(crate) fn new(server: SmtpServer, deadlines: Deadlines) -> Self {
        Self(Arc::new(Inner {
            server,
            deadlines,
            home: Handle::current(),
            idle: Mutex::default(),
            health: tokio::sync::Mutex::default(),
        }))
    }

    /// Hands one mail over. `Ok` is the server's promise to deliver it.
    pub(crate) async fn send(&self, message: &Message) -> Result<(), NotAccepted> {
        let span = tracing::info_span!(
            "smtp send",
            otel.kind = "client",
            otel.status_code = Empty,
            server.address = self.0.server.host(),
            server.port = i64::from(self.0.server.port()),
            network.transport = "tcp",
            network.protocol.name = "smtp",
            smtp.connection.reused = Empty,
            error.type = Empty,
        );
        let result = self.converse(message).instrument(span.clone()).await;
        if let Err(error) = &result {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", error.why.name());
        }
        result
    }

    async fn converse(&self, message: &Message) -> Result<(), NotAccepted> {
        let (mut connection, reused) =
            self.connection().await.map_err(|words| NotAccepted { why: Why::Unavailable, words, replied: false })?;
        Span::current().record("smtp.connection.reused", reused);
        let outcome = hand_over(&mut connection, message, self.0.deadlines).await;
        match &outcome {
            Ok(()) => self.keep(connection),
            Err(error) if error.replied => quit(connection).await,
            // In the middle of something: whatever comes next on it would be an answer to the wrong question.
            Err(_) => drop(connection),
        }
        outcome
    }

    /// A connection that answered just now, and whether it was used before.
    async fn connection(&self) -> Result<(AsyncSmtpConnection, bool), String> {
        while let Some(mut connection) = self.idle() {
            if timeout(COURTESY_DEADLINE, connection.test_connected()).await == Ok(true) {
                return Ok((connection, true));
            }
        }
        let inner = Arc::clone(&self.0);
        // A set, because dropping it ends the task: whoever asks may give up.
        let mut connecting = JoinSet::new();
        connecting.spawn_on(async move { timeout(CONNECT_DEADLINE, connect(&inner.server)).await }, &self.0.home);
        match connecting.join_next().await {
            Some(Ok(Ok(Ok(connection)))) => Ok((connection, false)),
            Some(Ok(Ok(Err(words)))) => Err(words),
            Some(Ok(Err(_))) => Err(format!("no greeting within {} s", CONNECT_DEADLINE.as_secs())),
            Some(Err(_)) | None => Err("the service is stopping".into()),
        }
    }

    fn idle(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| idle.since.elapsed() < IDLE_FOR);
        idle.pop_back().map(|idle| idle.connection)
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() == IDLE_MAX {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since: Instant::now() });
    }

    /// Whether the server would take a mail from us. Asked at most every few seconds.
    pub(crate) async fn health(&self) -> Result<(), String> {
        let mut last = self.0.health.lock().await;
        if let Some((at, health)) = last.as_ref()
            && at.elapsed() < HEALTH_FOR
        {
            return health.clone();
        }
        let looking = timeout(COURTESY_DEADLINE, self.connection()).await;
        let health = match looking {
            Ok(Ok((connection, _))) => {
                self.keep(connection);
                Ok(())
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err("no answer in time".into()),
        };
        let health = health.map_err(|why| format!("{}:{}: {why}", self.0.server.host(), self.0.server.port()));
        *last = Some((Instant::now(), health.clone()));
        health
    }

    /// Says goodbye on the idle connections.
    pub(crate) async fn close(&self) {
        while let Some(connection) = self.idle() {
            quit(connection).await;
        }
    }
}

async fn connect(server: &SmtpServer) -> Result<AsyncSmtpConnection, String> {
    let greeted = match server.implicit_tls() {
        // lettre opens the connection itself then, with Nagle's algorithm: see `open`.
        Some(tls) => {
            let address = (server.host(), server.port());
            AsyncSmtpConnection::connect_tokio1(address, Some(ADDRESS_DEADLINE), server.hello(), Some(tls), None).await
        }
        None => {
            let stream = open(server).await.map_err(|error| error.to_string())?;
            AsyncSmtpConnection::connect_with_transport(Box::new(stream), server.hello()).await
        }
    };
    let mut connection = greeted.map_err(|error| words(&error))?;
    if let Some(tls) = server.starttls(connection.can_starttls()) {
        connection.starttls(tls, server.hello()).await.map_err(|error| words(&error))?;
    }
    if let Some(credentials) = server.credentials() {
        connection.auth(DEFAULT_MECHANISMS, credentials).await.map_err(|error| words(&error))?;
    }
    Ok(connection)
}

/// Connects to one of the server's addresses. Without Nagle's algorithm: lettre writes a mail and its last line apart, and the second would wait until
/// the first is acknowledged, which takes a server 40 ms that has nothing to say before the last line.
async fn open(server: &SmtpServer) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the server's name has no address");
    for address in lookup_host((server.host(), server.port())).await? {
        match timeout(ADDRESS_DEADLINE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// One mail, command by command, because the same reply code means different things in different places: `550` to
/// `MAIL FROM` is about us and would be said to every mail, to `RCPT TO` it is mostly about this recipient.
async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    message: &Message,
    deadlines: Deadlines,
) -> Result<(), NotAccepted> {
    let envelope = message.envelope();
    let bytes = message.formatted();
    let mut parameters = Vec::new();
    if envelope.to().iter().chain(envelope.from()).any(|address: &Address| !AsRef::<str>::as_ref(address).is_ascii()) {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            let words = "the server does not know addresses outside ASCII".into();
            return Err(NotAccepted { why: Why::Refused, words, replied: true });
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !bytes.is_ascii() && connection.server_info().supports_feature(Extension::EightBitMime) {
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let within = Within::from_now(deadlines.commands);
    within.accepted(Step::Sender, connection.command(Mail::new(envelope.from().cloned(), parameters))).await?;
    for recipient in envelope.to() {
        within.accepted(Step::Recipient, connection.command(Rcpt::new(recipient.clone(), vec![]))).await?;
    }
    within.accepted(Step::Recipient, connection.command(Data)).await?;
    Within::from_now(deadlines.mail).accepted(Step::Mail, connection.message(&bytes)).await
}

/// A time that has an end.
#[derive(Clone, Copy)]
struct Within {
    allowed: Duration,
    end: Instant,
}

impl Within {
    fn from_now(allowed: Duration) -> Self {
        Self { allowed, end: Instant::now() + allowed }
    }

    /// Waits for a yes. Says what it means that there is none.
    async fn accepted(
        self,
        step: Step,
        answer: impl Future<Output = Result<Response, LettreError>>,
    ) -> Result<(), NotAccepted> {
        let Ok(answer) = timeout_at(self.end, answer).await else {
            let words = format!("no answer within {} s", self.allowed.as_secs_f32());
            return Err(NotAccepted { why: step.broken(), words, replied: false });
        };
        answer.map(drop).map_err(|error| {
            let why = match error.status() {
                Some(code) => step.refused(code.into(), &text(&error).unwrap_or_default()),
                None => step.broken(),
            };
            NotAccepted { why, words: words(&error), replied: error.status().is_some() }
        })
    }
}

/// The reply with its code, or the error with its cause.
fn words(error: &LettreError) -> String {
    match (error.status(), text(error)) {
        (Some(code), Some(text)) => format!("{code} {text}"),
        (Some(code), None) => code.to_string(),
        (None, _) => error.to_string(),
    }
}

/// The reply without its code, or the cause.
fn text(error: &LettreError) -> Option<String> {
    error.source().map(ToString::to_string)
}

async fn quit(mut connection: AsyncSmtpConnection) {
    // The answer changes nothing.
    let _: Result<(), _> = timeout(COURTESY_DEADLINE, connection.abort()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reply_means_depends_on_how_far_the_conversation_has_come() {
        use Step::{Mail, Recipient, Sender};
        use Why::{Deferred, Refused, Unavailable};
        for (step, code, text, why) in [
            (Sender, 550, "5.7.1 sender refused", Unavailable),
            (Sender, 451, "4.3.0 not now", Unavailable),
            (Recipient, 451, "4.7.1 greylisted", Deferred),
            (Recipient, 554, "5.7.1 <ada@example.org>: Relay access denied", Unavailable),
            (Recipient, 550, "5.7.25 client host rejected", Unavailable),
            (Recipient, 554, "5.3.2 no mail is taken", Unavailable),
            (Recipient, 530, "Must issue a STARTTLS command first", Unavailable),
            (Recipient, 550, "5.1.1 no such mailbox", Refused),
            (Recipient, 552, "5.2.2 mailbox full", Refused),
            (Recipient, 554, "5.5.1 no valid recipients", Refused),
            (Recipient, 550, "no such user, see 5.7.1", Refused),
            (Recipient, 550, "5.7 is not a code", Refused),
            (Mail, 452, "4.3.1 disk full", Deferred),
            (Mail, 554, "5.7.1 looks like spam", Deferred),
            (Mail, 552, "5.3.4 too large", Refused),
            (Mail, 554, "", Refused),
        ] {
            assert_eq!(step.refused(code, text), why, "{step:?} {code} {text}");
        }
    }
}
