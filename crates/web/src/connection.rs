//! Closes connections on which the head of a request does not arrive in time, on the first request and on every later
//! one. The HTTP implementation has such a timer for the first request only: after one good request, a client could send the
//! second one byte by byte for ever. What arrives after the head is the matter of [`crate::body`].

use std::{
    any::Any,
    io::Write as _,
    net::{Shutdown, TcpStream},
    os::fd::AsFd as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use actix_web::{dev::Extensions, http::StatusCode};

use crate::{HttpOptions, Problem, problem};

/// All open connections of a server.
#[derive(Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<Vec<Weak<Connection>>>>);

/// One open connection, reachable from its requests and from the watch.
pub(crate) struct Connection {
    /// A second handle of the same socket, to close it from outside.
    socket: TcpStream,
    /// From the end of one request to the end of the next head.
    patience: Duration,
    phase: Mutex<Phase>,
}

enum Phase {
    /// No request in hand: a whole head has to arrive until then.
    Waiting { until: Instant },
    /// A request is being answered; its own timeouts apply.
    Answering,
    /// Given up. What arrives now is not handled: the client has been told that it took too long.
    Expired,
}

impl Connections {
    /// Starts watching a connection; called when it is accepted.
    pub(crate) fn opened(&self, socket: &dyn Any, extensions: &mut Extensions, options: &HttpOptions) {
        let Some(socket) = socket.downcast_ref::<actix_web::rt::net::TcpStream>() else {
            return;
        };
        // The HTTP implementation waits for ever for a client that does not read. The system counts from the last byte that was taken.
        let unread = u32::try_from(options.unread_timeout.as_millis()).unwrap_or(u32::MAX);
        if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(socket, unread) {
            tracing::debug!(%error, "a connection has no timeout for what its client does not read");
        }
        // Without a file descriptor left nobody could end a connection that says nothing, and such connections would keep the others out for ever.
        let handle = match socket.as_fd().try_clone_to_owned() {
            Ok(handle) => handle,
            Err(error) => {
                tracing::warn!(%error, "a connection is closed, because it cannot be watched");
                let _closed_already = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
                return;
            }
        };
        let connection = Arc::new(Connection {
            socket: TcpStream::from(handle),
            patience: options.keep_alive + options.head_timeout,
            phase: Mutex::new(Phase::Waiting { until: Instant::now() + options.head_timeout }),
        });
        metrics::gauge!("http_server_open_connections").increment(1.0);
        self.lock().push(Arc::downgrade(&connection));
        extensions.insert(connection);
    }

    /// Closes what has expired, for as long as it is polled.
    pub(crate) async fn watch(self, options: HttpOptions) {
        let every = (options.head_timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut ticks = tokio::time::interval(every);
        loop {
            let now = ticks.tick().await.into_std();
            self.lock().retain(|connection| connection.upgrade().is_some_and(|connection| connection.keep(now)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// A head has arrived. `false`: too late.
    pub(crate) fn begin(&self) -> bool {
        let mut phase = self.phase();
        if matches!(*phase, Phase::Expired) {
            return false;
        }
        *phase = Phase::Answering;
        true
    }

    /// The answer is on its way; the wait for the next head begins.
    pub(crate) fn end(&self) {
        let mut phase = self.phase();
        if matches!(*phase, Phase::Answering) {
            *phase = Phase::Waiting { until: Instant::now() + self.patience };
        }
    }

    /// `false` once it has been given up.
    fn keep(&self, now: Instant) -> bool {
        let mut phase = self.phase();
        match *phase {
            Phase::Answering => true,
            Phase::Waiting { until } if now < until => true,
            Phase::Waiting { .. } => {
                *phase = Phase::Expired;
                self.refuse();
                false
            }
            Phase::Expired => false,
        }
    }

    /// Nothing is being written now, so the answer can go to the socket directly. A client that does not read it is closed all the same.
    fn refuse(&self) {
        let status = StatusCode::REQUEST_TIMEOUT;
        let body = Problem::of_status(status).to_json();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            problem::CONTENT_TYPE,
            body.len(),
        );
        let _unread = (&self.socket).write_all(answer.as_bytes());
        let _closed_already = self.socket.shutdown(Shutdown::Both);
        metrics::counter!("http_server_head_timeouts_total").increment(1);
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        metrics::gauge!("http_server_open_connections").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn a_connection_that_cannot_be_watched_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let options = HttpOptions::new(([127, 0, 0, 1], 0).into());
        // For the moment, no further file descriptor can be had.
        let usual = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..usual }).unwrap();
        Connections::default().opened(&accepted, &mut Extensions::new(), &options);
        setrlimit(Resource::Nofile, usual).unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(20), client.read(&mut [0])).await;
        assert_eq!(closed.expect("it is open, and nobody watches it").unwrap(), 0);
    }
}
