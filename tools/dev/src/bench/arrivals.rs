//! Orders that come whether or not the ones before were answered, as those of many people do. Each waits for its answer as long as a person
//! does, and then gives up; how long it took counts from when it was due, so nothing looks quick because it was asked late.
//!
//! It shares the machine with what it measures, so it does little: a request is one write of bytes that are put together from three pieces, and
//! of an answer it reads what it needs. It is no client for anything else.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::load::Target;
use crate::{files, prove::Random};

/// How long somebody waits for an answer: as long as the objective of every service says.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries of somebody who does not read `Retry-After`.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Connections at once; whoever needs another one has failed.
const CONNECTIONS: usize = 6_000;
/// The largest answer that is read.
const ANSWER_BYTES: usize = 64 * 1024;

/// How many orders come, and how stubborn people are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rush {
    pub(crate) per_second: f64,
    pub(crate) time: Duration,
    /// How often somebody asks who gets no order, with the same key.
    pub(crate) tries: u32,
}

/// What came of one request in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 202, with the id of the order.
    Taken(String),
    /// 503; whether it said when to come back.
    Refused { retry_after: bool },
    /// No answer within the patience of whoever asked.
    Late,
    /// Any other answer, or none.
    Failed(String),
}

/// One order that somebody wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// When it was due, from the beginning of the rush.
    pub(crate) due: Duration,
    /// From when it was due to the last answer, or to giving up.
    pub(crate) took: Duration,
    /// The same for every try that was refused, from when it was sent.
    pub(crate) refusals: Vec<Duration>,
    pub(crate) outcome: Outcome,
}

/// Sends orders at random times, so many a second on average (a Poisson process), and waits until nobody waits any more.
pub(crate) async fn rush(target: &Target, rush: Rush) -> Result<Vec<Wish>> {
    let people = Arc::new(People { target: target.clone(), run: files::secret()?, idle: Mutex::default() });
    let mut random = Gaps::new();
    let (begin, mut due) = (Instant::now(), Duration::ZERO);
    let (mut waiting, mut wishes) = (JoinSet::new(), Vec::new());
    for number in 0_usize.. {
        due += Duration::from_secs_f64(random.next() / rush.per_second);
        if due >= rush.time {
            break;
        }
        sleep_until(begin + due).await;
        if waiting.len() >= CONNECTIONS {
            let outcome = Outcome::Failed("no connection is left to ask with".to_owned());
            wishes.push(Wish { due, took: Duration::ZERO, refusals: Vec::new(), outcome });
        } else {
            let people = Arc::clone(&people);
            waiting.spawn(async move { people.want(number, begin, due, rush.tries).await });
        }
        while let Some(wish) = waiting.try_join_next() {
            wishes.push(wish.context("a request was not sent")?);
        }
    }
    while let Some(wish) = waiting.join_next().await {
        wishes.push(wish.context("a request was not sent")?);
    }
    Ok(wishes)
}

/// Everybody who orders, and the connections that nobody uses just now: the one that was used last is used first.
struct People {
    target: Target,
    /// The same key would be the same order.
    run: String,
    idle: Mutex<Vec<Connection>>,
}

impl People {
    async fn want(&self, number: usize, begin: Instant, due: Duration, tries: u32) -> Wish {
        let request = self.request(number);
        let (at, mut refusals) = (begin + due, Vec::new());
        let mut tried = 0;
        loop {
            let sent = Instant::now();
            // The first try is late if it was sent late.
            let until = if tried == 0 { at + PATIENCE } else { sent + PATIENCE };
            let left = until.saturating_duration_since(sent);
            let outcome = match timeout(left, self.ask(&request)).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(error)) => Outcome::Failed(error.to_string()),
                Err(_) => Outcome::Late,
            };
            if matches!(outcome, Outcome::Refused { .. }) {
                refusals.push(if tried == 0 { at.elapsed() } else { sent.elapsed() });
            }
            tried += 1;
            if matches!(outcome, Outcome::Taken(_)) || tried >= tries {
                return Wish { due, took: at.elapsed(), refusals, outcome };
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    fn request(&self, number: usize) -> Vec<u8> {
        let Target { port, tokens, bodies } = &self.target;
        let body = bodies.get(number % bodies.len().max(1)).map_or(&[][..], |body| body);
        let token = tokens.get(number % tokens.len().max(1)).map_or("", String::as_str);
        let mut request = format!(
            "POST /orders HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\nauthorization: Bearer {token}\r\n\
             idempotency-key: {}-{number}\r\ncontent-length: {}\r\n\r\n",
            self.run,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        request
    }

    /// A connection whose answer never came is closed with this.
    async fn ask(&self, request: &[u8]) -> io::Result<Outcome> {
        let known = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match known {
            Some(connection) => connection,
            None => Connection::open(self.target.port).await?,
        };
        let (outcome, reusable) = connection.ask(request).await?;
        if reusable {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        Ok(outcome)
    }
}

struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    async fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(4096) })
    }

    /// Sends and reads the whole answer; whether the connection can be used again.
    async fn ask(&mut self, request: &[u8]) -> io::Result<(Outcome, bool)> {
        self.stream.write_all(request).await?;
        self.read.clear();
        loop {
            if let Some(answer) = Answer::parse(&self.read) {
                return Ok((answer.outcome(), !answer.closes));
            }
            if self.read.len() > ANSWER_BYTES || self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// What is looked at of an answer that is there as a whole.
#[derive(Debug, PartialEq, Eq)]
struct Answer<'a> {
    status: &'a str,
    location: &'a str,
    retry_after: bool,
    closes: bool,
}

impl<'a> Answer<'a> {
    /// `None` as long as something of it is missing. Every answer of the shop has a `content-length`.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let mut lines = std::str::from_utf8(bytes.get(..end)?).ok()?.lines();
        let status = lines.next()?.split(' ').nth(1)?;
        let mut answer = Self { status, location: "", retry_after: false, closes: false };
        let mut length = 0;
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            match name {
                "content-length" => length = value.parse::<usize>().ok()?,
                "location" => answer.location = value,
                "retry-after" => answer.retry_after = true,
                "connection" => answer.closes = value == "close",
                _ => {}
            }
        }
        (bytes.len() >= end + 4 + length).then_some(answer)
    }

    fn outcome(&self) -> Outcome {
        match self.status {
            "202" => Outcome::Taken(self.location.trim_start_matches("/orders/").to_owned()),
            "503" => Outcome::Refused { retry_after: self.retry_after },
            other => Outcome::Failed(format!("it was answered with {other}")),
        }
    }
}

/// Times between arrivals of a Poisson process with one a second. The same in every run: the runs shall differ in what is measured only.
struct Gaps(Random);

impl Gaps {
    fn new() -> Self {
        Self(Random::new(1, 0))
    }

    fn next(&mut self) -> f64 {
        // From above 0 to 1, in steps that a float can tell apart.
        let share = ((self.0.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -share.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_all_of_it_is_there() {
        let whole = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\nlocation: /orders/7\r\n\r\n{}";
        assert_eq!(Answer::parse(&whole[..whole.len() - 1]), None);
        let answer = Answer::parse(whole).unwrap();
        assert_eq!((answer.outcome(), answer.closes), (Outcome::Taken("7".to_owned()), false));
        let refused =
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let answer = Answer::parse(refused).unwrap();
        assert_eq!((answer.outcome(), answer.closes), (Outcome::Refused { retry_after: true }, true));
    }

    #[test]
    fn arrivals_are_as_many_as_wanted_on_average() {
        let mut gaps = Gaps::new();
        let mean = (0..100_000).map(|_| gaps.next()).sum::<f64>() / 100_000.0;
        assert!((0.99..1.01).contains(&mean), "{mean}");
    }
}
