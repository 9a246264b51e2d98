//! Orders in numbers, over connections that are kept: as many as can be taken, or so many a second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

use crate::files;

/// Where orders are placed, and by whom.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) port: u16,
    /// Access tokens of customers, who order in turn.
    pub(crate) tokens: Arc<[String]>,
    /// What they order, as the bodies of requests, in turn.
    pub(crate) bodies: Arc<[Bytes]>,
}

/// When the `n`th order is due.
#[derive(Clone, Copy)]
enum Due {
    /// As soon as somebody has time for it.
    Now,
    /// So many a second. How long an order takes counts from when it was due: a service that falls behind must not look quick because
    /// it was asked less.
    PerSecond(f64),
}

/// Places orders over `connections` connections, each with one request at a time; how long each took, in seconds.
pub(crate) async fn as_fast_as_possible(target: &Target, orders: usize, connections: usize) -> Result<Vec<f64>> {
    place(target, orders, connections, Due::Now).await
}

/// Places orders at a steady pace, whatever the service makes of it; how long each took from when it was due, in seconds.
pub(crate) async fn at_a_pace(
    target: &Target,
    per_second: f64,
    time: Duration,
    connections: usize,
) -> Result<Vec<f64>> {
    let orders = (per_second * time.as_secs_f64()) as usize;
    place(target, orders, connections, Due::PerSecond(per_second)).await
}

async fn place(target: &Target, orders: usize, connections: usize, due: Due) -> Result<Vec<f64>> {
    let next = Arc::new(AtomicUsize::new(0));
    // The same key would be the same order.
    let run: Arc<str> = files::secret()?.into();
    let mut customers = JoinSet::new();
    let begin = Instant::now();
    for _ in 0..connections {
        let mut connection = Connection::open(target.port).await?;
        let (target, next, run) = (target.clone(), Arc::clone(&next), Arc::clone(&run));
        customers.spawn(async move {
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= orders {
                    return anyhow::Ok(times);
                }
                let due = match due {
                    Due::Now => Instant::now(),
                    Due::PerSecond(pace) => begin + Duration::from_secs_f64(number as f64 / pace),
                };
                tokio::time::sleep_until(due).await;
                let token = target.tokens.get(number % target.tokens.len()).context("there are customers")?;
                let body = target.bodies.get(number % target.bodies.len()).context("there are goods")?;
                connection.order(token, &format!("{run}-{number}"), body.clone()).await?;
                times.push(due.elapsed().as_secs_f64());
            }
        });
    }
    let mut times = Vec::with_capacity(orders);
    while let Some(customer) = customers.join_next().await {
        times.extend(customer.context("a customer gave up")??);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// A connection for one request after the other.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    address: String,
    /// Ends with this.
    _driver: JoinSet<()>,
}

impl Connection {
    async fn open(port: u16) -> Result<Self> {
        let address = format!("127.0.0.1:{port}");
        let stream = TcpStream::connect(&address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // An error of it is one of the request, too.
            let _ = connection.await;
        });
        Ok(Self { sender, address, _driver: driver })
    }

    /// Whoever is told to come back does: it takes longer, and it is the same order.
    async fn order(&mut self, token: &str, key: &str, body: Bytes) -> Result<()> {
        while let Some(pause) = self.ask(token, key, body.clone()).await? {
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// After what time to come back, if it was not taken.
    async fn ask(&mut self, token: &str, key: &str, body: Bytes) -> Result<Option<Duration>> {
        let request = Request::post("/orders")
            .header(HOST, &self.address)
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header("idempotency-key", key)
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        if let (StatusCode::SERVICE_UNAVAILABLE, Some(seconds)) = (head.status, retry_after) {
            return Ok(Some(Duration::from_secs(seconds)));
        }
        ensure!(
            head.status == StatusCode::ACCEPTED,
            "an order was answered with {}: {}",
            head.status,
            String::from_utf8_lossy(&body)
        );
        Ok(None)
    }
}
