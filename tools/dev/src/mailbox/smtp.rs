//! The SMTP server (RFC 5321, with SIZE, 8BITMIME, SMTPUTF8 and PIPELINING): takes every mail it understands. No TLS, no
//! authentication, no delivery. Everything a client can send is bounded.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

use super::{
    command::{self, Command},
    script::{Behaviour, Script, Stage},
    store::Store,
};

const MAIL_MAX_BYTES: usize = 25 * 1024 * 1024;
/// RFC 5321 §4.5.3.1 asks for 512 at least; parameters need more.
const LINE_MAX_BYTES: usize = 4096;
const RECIPIENTS_MAX: usize = 100;
const CONNECTIONS_MAX: usize = 200;
const MISTAKES_MAX: usize = 20;
/// RFC 5321 §4.5.3.2.7.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// Takes connections for ever; dropping the future ends them all.
pub(super) async fn serve(listener: TcpListener, store: Arc<Store>, script: Script) {
    let mut sessions = JoinSet::new();
    loop {
        let stream = tokio::select! {
            _ = sessions.join_next(), if !sessions.is_empty() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => { tokio::time::sleep(Duration::from_millis(50)).await; continue }
            },
        };
        let (store, script) = (Arc::clone(&store), script.clone());
        let busy = sessions.len() >= CONNECTIONS_MAX;
        sessions.spawn(async move {
            let (input, output) = stream_halves(stream);
            let mut session =
                Session { input, output, store, script, greeted: false, from: None, to: Vec::new(), mistakes: 0 };
            // A connection that breaks is the sender's business.
            let _ = if busy { session.reply(421, "4.3.2 Too many connections").await } else { session.run().await };
        });
    }
}

fn stream_halves(stream: TcpStream) -> (BufReader<OwnedReadHalf>, OwnedWriteHalf) {
    let (input, output) = stream.into_split();
    (BufReader::new(input), output)
}

struct Session {
    input: BufReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
    store: Arc<Store>,
    script: Script,
    greeted: bool,
    /// The sender of the mail that is being taken.
    from: Option<String>,
    to: Vec<String>,
    mistakes: usize,
}

/// Whether the conversation goes on.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

/// What a client sent where a mail was expected.
enum Body {
    Whole(Vec<u8>),
    TooLarge,
    CutOff,
}

impl Session {
    async fn run(&mut self) -> io::Result<()> {
        if let Some(behaviour) = self.script.take(Stage::Connect) {
            self.misbehave(behaviour).await?;
            return Ok(());
        }
        self.reply(220, "postrider-dev mailbox ready").await?;
        loop {
            let Ok(line) = tokio::time::timeout(IDLE_MAX, self.line()).await else {
                return self.reply(421, "4.4.2 Idle for too long").await;
            };
            match line? {
                Line::End => return Ok(()),
                Line::TooLong => self.mistake(500, "5.5.2 Line too long").await?,
                Line::NotText => self.mistake(500, "5.5.2 Not UTF-8").await?,
                Line::Text(line) => {
                    if self.command(command::parse(&line)).await? == Next::End {
                        return Ok(());
                    }
                }
            }
            if self.mistakes > MISTAKES_MAX {
                return self.reply(421, "4.7.0 Too many mistakes").await;
            }
        }
    }

    async fn command(&mut self, command: Command) -> io::Result<Next> {
        match command {
            Command::Ehlo => {
                self.reset();
                self.greeted = true;
                let extensions = format!(
                    "250-postrider-dev\r\n250-SIZE {MAIL_MAX_BYTES}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 PIPELINING\r\n"
                );
                self.output.write_all(extensions.as_bytes()).await?;
            }
            Command::Helo => {
                self.reset();
                self.greeted = true;
                self.reply(250, "postrider-dev").await?;
            }
            Command::Mail { .. } if !self.greeted => self.mistake(503, "5.5.1 Say EHLO first").await?,
            Command::Mail { .. } if self.from.is_some() => self.mistake(503, "5.5.1 One mail at a time").await?,
            Command::Mail { size: Some(size), .. } if size > MAIL_MAX_BYTES => {
                self.reply(552, "5.3.4 Too large").await?
            }
            Command::Mail { from, .. } => match self.script.take(Stage::Sender) {
                Some(behaviour) => return self.misbehave(behaviour).await,
                None => {
                    self.from = Some(from);
                    self.reply(250, "2.1.0 Sender OK").await?;
                }
            },
            Command::Rcpt(_) if self.from.is_none() => self.mistake(503, "5.5.1 MAIL first").await?,
            Command::Rcpt(_) if self.to.len() >= RECIPIENTS_MAX => self.reply(452, "4.5.3 Too many recipients").await?,
            Command::Rcpt(to) => match self.script.take(Stage::Recipient) {
                Some(behaviour) => return self.misbehave(behaviour).await,
                None => {
                    self.to.push(to);
                    self.reply(250, "2.1.5 Recipient OK").await?;
                }
            },
            Command::Data if self.to.is_empty() => self.mistake(503, "5.5.1 RCPT first").await?,
            Command::Data => return self.data().await,
            Command::Rset => {
                self.reset();
                self.reply(250, "2.0.0 Forgotten").await?;
            }
            Command::Noop => self.reply(250, "2.0.0 Still here").await?,
            Command::Vrfy => self.reply(252, "2.5.0 Send it and see").await?,
            Command::Quit => {
                self.reply(221, "2.0.0 Bye").await?;
                return Ok(Next::End);
            }
            Command::Wrong(code, text) => self.mistake(code, text).await?,
        }
        Ok(Next::GoOn)
    }

    async fn data(&mut self) -> io::Result<Next> {
        if let Some(behaviour) = self.script.take(Stage::Data) {
            self.reset();
            return self.misbehave(behaviour).await;
        }
        self.reply(354, "End with <CRLF>.<CRLF>").await?;
        let Ok(body) = tokio::time::timeout(IDLE_MAX, self.body()).await else { return Ok(Next::End) };
        let (from, to) = (self.from.take().unwrap_or_default(), std::mem::take(&mut self.to));
        match body? {
            Body::CutOff => return Ok(Next::End),
            Body::TooLarge => self.reply(552, "5.3.4 Too large").await?,
            Body::Whole(raw) => match self.script.take(Stage::Accept) {
                Some(Behaviour::KeepAndCut) => {
                    self.store.add(from, to, raw);
                    return Ok(Next::End);
                }
                Some(behaviour) => return self.misbehave(behaviour).await,
                None => {
                    let id = self.store.add(from, to, raw);
                    self.reply(250, &format!("2.0.0 Taken as {id}")).await?;
                }
            },
        }
        Ok(Next::GoOn)
    }

    /// Everything up to the line with a dot alone, with the dots that were stuffed taken out again (RFC 5321 §4.5.2). Only CRLF ends a
    /// line here: a server that takes a bare LF for it can be tricked into a second mail.
    async fn body(&mut self) -> io::Result<Body> {
        let (mut mail, mut line, mut too_large) = (Vec::new(), Vec::new(), false);
        loop {
            line.clear();
            while !line.ends_with(b"\r\n") {
                let room = (MAIL_MAX_BYTES + 3 - line.len().min(MAIL_MAX_BYTES)) as u64;
                if (&mut self.input).take(room).read_until(b'\n', &mut line).await? == 0 {
                    return Ok(Body::CutOff);
                }
                if line.len() > MAIL_MAX_BYTES {
                    too_large = true;
                    // Enough to recognise the end of the line, and not to take it for the end of the mail.
                    let last = line.last().copied();
                    line.clear();
                    line.push(b'x');
                    line.extend(last);
                }
            }
            if line == b".\r\n" {
                return Ok(if too_large { Body::TooLarge } else { Body::Whole(mail) });
            }
            let content = line.strip_prefix(b".").unwrap_or(&line);
            too_large |= mail.len() + content.len() > MAIL_MAX_BYTES;
            if too_large {
                mail.clear();
            } else {
                mail.extend_from_slice(content);
            }
        }
    }

    async fn misbehave(&mut self, behaviour: Behaviour) -> io::Result<Next> {
        match behaviour {
            Behaviour::Reply(code, text) => {
                self.reply(code, &text).await?;
                Ok(Next::GoOn)
            }
            Behaviour::Hang => {
                // Until the client has enough of it.
                tokio::io::copy(&mut self.input, &mut tokio::io::sink()).await?;
                Ok(Next::End)
            }
            Behaviour::Cut | Behaviour::KeepAndCut => Ok(Next::End),
        }
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
    }

    async fn mistake(&mut self, code: u16, text: &str) -> io::Result<()> {
        self.mistakes += 1;
        self.reply(code, text).await
    }

    async fn reply(&mut self, code: u16, text: &str) -> io::Result<()> {
        self.output.write_all(format!("{code} {text}\r\n").as_bytes()).await
    }

    async fn line(&mut self) -> io::Result<Line> {
        let mut line = Vec::new();
        (&mut self.input).take(LINE_MAX_BYTES as u64).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(Line::End);
        }
        if !line.ends_with(b"\n") {
            if line.len() < LINE_MAX_BYTES {
                return Ok(Line::End);
            }
            // The rest of it is skipped, bounded by the time a client may take.
            while !line.ends_with(b"\n") {
                line.clear();
                if (&mut self.input).take(LINE_MAX_BYTES as u64).read_until(b'\n', &mut line).await? == 0 {
                    return Ok(Line::End);
                }
            }
            return Ok(Line::TooLong);
        }
        Ok(String::from_utf8(line).map_or(Line::NotText, Line::Text))
    }
}

enum Line {
    Text(String),
    TooLong,
    NotText,
    /// The client is gone.
    End,
}
