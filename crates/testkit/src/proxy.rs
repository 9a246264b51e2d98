//! A proxy in front of RabbitMQ that understands AMQP frames, to lose exactly what a test wants lost.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Listens on a port of its own and passes on what it is not told to swallow.
pub struct AmqpProxy {
    url: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    swallow_confirms: AtomicBool,
    swallowed: AtomicU64,
}

/// Class and method of the frames that confirm (AMQP 0-9-1 basic.ack and basic.nack).
const CONFIRMS: [[u8; 4]; 2] = [[0, 60, 0, 80], [0, 60, 0, 120]];
const METHOD_FRAME: u8 = 1;

impl AmqpProxy {
    /// A proxy in front of the broker of this address.
    pub async fn start(url: &str) -> Self {
        let (scheme, rest) = url.split_once("//").expect("an AMQP address");
        let (user, rest) = rest.split_once('@').expect("a user in the address");
        let (broker, vhost) = rest.split_once('/').expect("a virtual host in the address");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State::default());
        #[expect(clippy::disallowed_methods, reason = "aborted on drop")]
        let task = tokio::spawn(serve(listener, broker.to_owned(), Arc::clone(&state)));
        Self { url: proxied(scheme, user, address, vhost), state, task }
    }

    /// The address to connect to instead.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on the broker's confirms are lost; everything else passes.
    pub fn swallow_confirms(&self) {
        self.state.swallow_confirms.store(true, Ordering::SeqCst);
    }

    /// Everything passes again. What was swallowed stays lost.
    pub fn heal(&self) {
        self.state.swallow_confirms.store(false, Ordering::SeqCst);
    }

    /// How many confirms were lost: the evidence that the fault bit.
    pub fn swallowed(&self) -> u64 {
        self.state.swallowed.load(Ordering::SeqCst)
    }
}

impl Drop for AmqpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn proxied(scheme: &str, user: &str, address: SocketAddr, vhost: &str) -> String {
    format!("{scheme}//{user}@{address}/{vhost}")
}

async fn serve(listener: TcpListener, broker: String, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let (broker, state) = (broker.clone(), Arc::clone(&state));
        #[expect(clippy::disallowed_methods, reason = "ends with either side's connection")]
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(&broker).await else { return };
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::select! {
                _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                _ = pass_frames(&mut from_server, &mut to_client, &state) => {}
            }
        });
    }
}

/// Frame by frame: type (1 byte), channel (2), size (4), payload, end (1).
async fn pass_frames(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    state: &State,
) -> io::Result<()> {
    loop {
        let mut frame = vec![0; 7];
        from.read_exact(&mut frame).await?;
        let size = u32::from_be_bytes([frame[3], frame[4], frame[5], frame[6]]);
        frame.resize(7 + usize::try_from(size).unwrap_or(usize::MAX) + 1, 0);
        from.read_exact(&mut frame[7..]).await?;
        let confirm = frame[0] == METHOD_FRAME && CONFIRMS.iter().any(|method| frame[7..].starts_with(method));
        if confirm && state.swallow_confirms.load(Ordering::SeqCst) {
            state.swallowed.fetch_add(1, Ordering::SeqCst);
        } else {
            to.write_all(&frame).await?;
        }
    }
}
