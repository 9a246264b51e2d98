//! Limits on every request body, whoever reads it: size, total time, and speed. Handlers cannot forget them, because the
//! payload that they get is already the limited one.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::{
    HttpMessage as _,
    dev::{Payload, ServiceRequest},
    error::PayloadError,
    http::{StatusCode, header},
    web::{Bytes, BytesMut},
};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, Sleep};

use crate::{HttpOptions, Problem};

/// Before the slowest speed counts: a connection may start slowly.
const SPEED_GRACE: Duration = Duration::from_secs(5);

/// Replaces the payload by one that keeps the limits. A body that announces its size is refused before it is read.
pub(crate) fn limit(request: &mut ServiceRequest, options: &HttpOptions) -> Result<(), Problem> {
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > options.max_body_bytes as u64) {
        return Err(too_large(Some(options.max_body_bytes)));
    }
    match request.take_payload() {
        Payload::None => {}
        payload => request.set_payload(Payload::Stream { payload: Box::pin(Limited::new(payload, options)) }),
    }
    Ok(())
}

/// Waits for the whole body, so that a client that is slow to send keeps nobody else out meanwhile. Handlers find it there.
pub(crate) async fn receive(request: &mut ServiceRequest, options: &HttpOptions) -> Result<(), Problem> {
    let mut payload = match request.take_payload() {
        Payload::None => return Ok(()),
        payload => payload,
    };
    let mut whole = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| problem(&error, Some(options.max_body_bytes)))?;
        whole.extend_from_slice(&chunk);
    }
    let whole = stream::iter([Ok(whole.freeze())]);
    request.set_payload(Payload::Stream { payload: Box::pin(whole) });
    Ok(())
}

fn too_large(max_bytes: Option<usize>) -> Problem {
    let problem = Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE);
    match max_bytes {
        Some(max_bytes) => problem.detail(format!("Send at most {max_bytes} bytes.")),
        None => problem,
    }
}

/// What a failed read of the body means for the client.
pub(crate) fn problem(error: &PayloadError, max_bytes: Option<usize>) -> Problem {
    match error {
        PayloadError::Overflow => too_large(max_bytes),
        PayloadError::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            Problem::of_status(StatusCode::REQUEST_TIMEOUT)
        }
        _ => Problem::bad_request("The body ended early or is not encoded correctly; send it again as a whole."),
    }
}

struct Limited {
    payload: Payload,
    received: usize,
    max_bytes: usize,
    timeout: Duration,
    min_bytes_per_second: u32,
    /// Set at the first read: the time that a handler takes before it reads is not the client's.
    clock: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Limited {
    fn new(payload: Payload, options: &HttpOptions) -> Self {
        Self {
            payload,
            received: 0,
            max_bytes: options.max_body_bytes,
            timeout: options.body_timeout,
            min_bytes_per_second: options.min_body_bytes_per_second,
            clock: None,
        }
    }

    /// Every byte received buys time, up to the whole timeout.
    fn allowance(&self) -> Duration {
        let earned = self.received as f64 / f64::from(self.min_bytes_per_second.max(1));
        (SPEED_GRACE + Duration::from_secs_f64(earned)).min(self.timeout)
    }
}

impl Stream for Limited {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let deadline = this.allowance();
        let (started, sleep) = this.clock.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(tokio::time::sleep_until(now + deadline)))
        });
        match Pin::new(&mut this.payload).poll_next(cx) {
            Poll::Ready(Some(Ok(chunk))) => {
                let started = *started;
                this.received = this.received.saturating_add(chunk.len());
                if this.received > this.max_bytes {
                    return Poll::Ready(Some(Err(PayloadError::Overflow)));
                }
                let deadline = started + this.allowance();
                if let Some((_, sleep)) = &mut this.clock {
                    sleep.as_mut().reset(deadline);
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(end) => Poll::Ready(end),
            Poll::Pending => {
                ready!(sleep.as_mut().poll(cx));
                Poll::Ready(Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_buys_time_up_to_the_timeout() {
        let mut options = HttpOptions::new(([127, 0, 0, 1], 0).into());
        options.min_body_bytes_per_second = 100;
        options.body_timeout = Duration::from_secs(60);
        let mut body = Limited::new(Payload::None, &options);
        assert_eq!(body.allowance(), SPEED_GRACE);
        body.received = 1_000;
        assert_eq!(body.allowance(), SPEED_GRACE + Duration::from_secs(10));
        body.received = 1_000_000;
        assert_eq!(body.allowance(), Duration::from_secs(60));
    }

    /// A client that sends one byte a second never pauses for long, and would hold its connection for an hour.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up_long_before_its_end() {
        let trickle = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok(Bytes::from_static(b"x")), ()))
        });
        let options = HttpOptions::new(([127, 0, 0, 1], 0).into());
        let payload: Payload = Payload::Stream { payload: Box::pin(trickle) };
        let mut body = Limited::new(payload, &options);
        let mut bytes = 0;
        let error = loop {
            match body.next().await {
                Some(Ok(_)) => bytes += 1,
                Some(Err(error)) => break error,
                None => panic!("it has no end"),
            }
        };
        assert!(matches!(&error, PayloadError::Io(error) if error.kind() == io::ErrorKind::TimedOut), "{error}");
        assert_eq!(bytes, SPEED_GRACE.as_secs());
        assert_eq!(problem(&error, None).status(), StatusCode::REQUEST_TIMEOUT);
    }
}
