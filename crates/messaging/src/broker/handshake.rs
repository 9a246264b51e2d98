//! Connecting within a deadline. lapin connects on a thread of its own, which goes on when nobody waits for it any more: with a peer that accepts
//! and says nothing, a broker that is stopped or a balancer without one behind it, each try would keep its thread and its socket.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use async_compat::{Compat, CompatExt as _};
use failpoints::without;
use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties,
    runtime::default_runtime,
    tcp::TLSConfig,
    uri::{AMQPScheme, AMQPUri},
};
use socket2::{SockRef, Socket};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::sync::CancellationToken;

use super::REQUEST_TIMEOUT;
use crate::error::Error;

/// A connection, unless the peer takes too long over it. Whoever stops waiting leaves nothing behind.
pub(super) async fn connect(uri: AMQPUri, properties: ConnectionProperties) -> Result<Connection, Error> {
    let attempt = Arc::new(Attempt::default());
    let mut ends = GiveUp(Some(Arc::clone(&attempt)));
    let open = async move |uri: AMQPUri, _| Ok(attempt.open(&uri).await?);
    let connecting = Connection::connector(uri, default_runtime()?, open, properties);
    let silent = |_| lapin::Error::from(io::Error::new(io::ErrorKind::TimedOut, "the broker does not answer"));
    let connection = timeout(REQUEST_TIMEOUT, connecting).await.map_err(silent)??;
    ends.keep();
    Ok(connection)
}

#[derive(Default)]
struct Attempt {
    over: CancellationToken,
    /// As long as the handshake is not done: whoever holds it keeps it open.
    socket: Mutex<Option<Socket>>,
}

impl Attempt {
    /// On lapin's thread.
    async fn open(&self, uri: &AMQPUri) -> io::Result<AsyncTcpStream<Compat<TcpStream>>> {
        self.over.run_until_cancelled(self.reach(uri)).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn reach(&self, uri: &AMQPUri) -> io::Result<AsyncTcpStream<Compat<TcpStream>>> {
        let host = &uri.authority.host;
        let stream = TcpStream::connect((host.as_str(), uri.authority.port)).await?;
        stream.set_nodelay(true)?;
        self.hold(SockRef::from(&stream).try_clone()?)?;
        let stream = AsyncTcpStream::Plain(stream.compat());
        match uri.scheme {
            AMQPScheme::AMQP => Ok(stream),
            AMQPScheme::AMQPS => stream.into_tls(host, TLSConfig::default()).await,
        }
    }

    fn hold(&self, opened: Socket) -> io::Result<()> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever gives up says so before they look for the socket.
        if self.over.is_cancelled() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        *socket = Some(opened);
        Ok(())
    }

    fn socket(&self) -> Option<Socket> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Ends the attempt when it is dropped, unless that is to be kept.
struct GiveUp(Option<Arc<Attempt>>);

impl GiveUp {
    fn keep(&mut self) {
        if let Some(attempt) = self.0.take() {
            attempt.socket();
        }
    }
}

impl Drop for GiveUp {
    fn drop(&mut self) {
        let Some(attempt) = self.0.take() else { return };
        if without("handshake-deadline") {
            return;
        }
        attempt.over.cancel();
        if let Some(socket) = attempt.socket() {
            // Its thread reads the end of it, and ends. What is not connected any more needs nothing.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}
