//! A mail server that takes its time, and the client that both sides send with. The server understands what that client says, and keeps of a
//! mail who sent it and when: it is no server for anything else.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::Mailbox,
    transport::smtp::{Error as SmtpError, PoolConfig},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    task::JoinSet,
    time::{Instant, sleep},
};
use uuid::Uuid;

/// From the last line of a mail to the answer, in which real servers look at the mail and store it.
pub(crate) const TAKES: Duration = Duration::from_millis(800);
const DOMAIN: &str = "shop.test";

/// A mail that was taken.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    /// Of the order that it is about.
    pub(crate) order: Uuid,
    /// When the server said yes to it.
    pub(crate) at: Instant,
}

/// Listens until it is dropped.
pub(crate) struct MailServer {
    pub(crate) address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
    _sessions: JoinSet<()>,
}

impl MailServer {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, taken) = (listener.local_addr()?, Arc::new(Mutex::default()));
        let (mut listening, kept) = (JoinSet::new(), Arc::clone(&taken));
        listening.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                // A connection that breaks is the sender's business.
                sessions.spawn(async move { drop(converse(stream, &kept).await) });
            }
        });
        Ok(Self { address, taken, _sessions: listening })
    }

    /// How many mails wait to be looked at.
    pub(crate) fn count(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The mails since the last look.
    pub(crate) fn take(&self) -> Vec<Taken> {
        std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// RFC 5321, without an extension.
async fn converse(stream: TcpStream, taken: &Mutex<Vec<Taken>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (input, mut output) = stream.into_split();
    let mut lines = BufReader::new(input).lines();
    output.write_all(b"220 ready\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let answer: &[u8] = match line.get(..4).unwrap_or_default() {
            "EHLO" | "MAIL" | "RCPT" | "NOOP" | "RSET" => b"250 OK\r\n",
            "DATA" => {
                output.write_all(b"354 go on\r\n").await?;
                let order = body(&mut lines).await?;
                sleep(TAKES).await;
                let mail = Taken { order, at: Instant::now() };
                taken.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
                b"250 taken\r\n"
            }
            "QUIT" => return output.write_all(b"221 bye\r\n").await,
            _ => b"500 not understood\r\n",
        };
        output.write_all(answer).await?;
    }
    Ok(())
}

/// Reads a mail to its end; the order that its Message-ID names.
async fn body(lines: &mut Lines<BufReader<OwnedReadHalf>>) -> io::Result<Uuid> {
    let mut order = None;
    while let Some(line) = lines.next_line().await? {
        if line == "." {
            return order.ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
        let id = line.strip_prefix("Message-ID: <").and_then(|id| id.split_once('@'));
        order = order.or(id.and_then(|(id, _)| id.parse().ok()));
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Sends over connections that are kept. Clones share them.
#[derive(Clone)]
pub(crate) struct Mailer(AsyncSmtpTransport<Tokio1Executor>);

/// A mail that the server did not take.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSent {
    #[error("the mail cannot be put together: {0}")]
    Mail(#[from] lettre::error::Error),
    #[error("an address is none: {0}")]
    Address(#[from] lettre::address::AddressError),
    #[error("the mail server did not take it: {0}")]
    Server(#[from] SmtpError),
}

impl Mailer {
    /// Whoever sends at the same time has a connection each; so many are kept for the next ones.
    pub(crate) fn new(server: &MailServer, connections: u32) -> Self {
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.address.ip().to_string());
        Self(builder.port(server.address.port()).pool_config(PoolConfig::new().max_size(connections)).build())
    }

    /// The mail about an order.
    pub(crate) async fn send(&self, order: Uuid) -> Result<(), NotSent> {
        let mailbox = |user: String| Ok::<_, NotSent>(Mailbox::new(None, format!("{user}@{DOMAIN}").parse()?));
        let mail = Message::builder()
            .from(mailbox("orders".to_owned())?)
            .to(mailbox(order.simple().to_string())?)
            .subject("Your order")
            .message_id(Some(format!("<{order}@{DOMAIN}>")))
            .body(format!("Thank you for your order {order}.\r\n"))?;
        self.0.send(mail).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_is_taken_over_the_same_connection() {
        let server = MailServer::start().await.unwrap();
        let mailer = Mailer::new(&server, 1);
        let orders = [Uuid::now_v7(), Uuid::now_v7()];
        for order in orders {
            mailer.send(order).await.unwrap();
        }
        assert_eq!(server.count(), 2);
        assert_eq!(server.take().iter().map(|mail| mail.order).collect::<Vec<_>>(), orders);
        assert_eq!(server.count(), 0);
    }
}
