//! Connecting within a deadline. lapin opens and keeps a connection on a thread of its own, which goes on when nobody waits for it any more: with a
//! peer that accepts and says nothing, a broker that is stopped or a balancer without one behind it, each try would keep its thread and its socket.

use std::{
    io,
    net::Shutdown,
    sync::{Mutex, PoisonError},
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

use super::REQUEST_TIMEOUT;
use crate::error::Error;

/// A connection, unless the peer takes too long over it. Whoever stops waiting leaves nothing behind.
pub(super) async fn connect(uri: AMQPUri, properties: ConnectionProperties) -> Result<Connection, Error> {
    let silent = |_| lapin::Error::from(io::Error::new(io::ErrorKind::TimedOut, "the broker does not answer"));
    timeout(REQUEST_TIMEOUT, shake_hands(uri, properties)).await.map_err(silent)?
}

async fn shake_hands(uri: AMQPUri, properties: ConnectionProperties) -> Result<Connection, Error> {
    let host = &uri.authority.host;
    let stream = TcpStream::connect((host.as_str(), uri.authority.port)).await.map_err(lapin::Error::from)?;
    stream.set_nodelay(true).map_err(lapin::Error::from)?;
    let mut abandoned = Abandoned(Some(SockRef::from(&stream).try_clone().map_err(lapin::Error::from)?));
    let stream = secure(stream, &uri).await.map_err(lapin::Error::from)?;
    // lapin asks for one, on its thread, and never for another: it is not to connect again by itself.
    let stream = Mutex::new(Some(stream));
    let ready = async move |_, _| {
        let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(stream.ok_or(io::ErrorKind::NotConnected).map_err(io::Error::from)?)
    };
    let connection = Connection::connector(uri, default_runtime()?, ready, properties).await?;
    // Kept any longer, it would keep the connection open that lapin closes.
    abandoned.0 = None;
    Ok(connection)
}

/// As lapin would.
async fn secure(stream: TcpStream, uri: &AMQPUri) -> io::Result<AsyncTcpStream<Compat<TcpStream>>> {
    let stream = AsyncTcpStream::Plain(stream.compat());
    match uri.scheme {
        AMQPScheme::AMQP => Ok(stream),
        AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, TLSConfig::default()).await,
    }
}

/// Another handle of the socket that lapin's thread reads: when it is dropped, the thread finds the end of what it reads, and ends.
struct Abandoned(Option<Socket>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(socket) = &self.0
            && !without("handshake-deadline")
        {
            // What is not connected any more needs nothing.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
