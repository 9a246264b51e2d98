//! One connection: two pumps, one for each direction, and what holds them up or ends them. What is lost on the way is decided by
//! [`Speech`].

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use crate::{
    Fault,
    fault::Who,
    injection::{Armed, aimed},
    postgres,
    speech::{Side, Speech, Then},
};

/// As much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// For a server to hang up when its client is gone.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is known of a connection while it is there.
#[derive(Debug)]
pub(crate) struct Connection {
    speech: Mutex<Speech>,
    cut: Notify,
    strand: Notify,
}

type Watch = watch::Receiver<Vec<Arc<Armed>>>;

/// How a connection ended, if not in order.
enum End {
    /// Because of a fault: the server got all that was passed on.
    Cut,
    /// Because somebody wanted it cut, or a side broke it.
    Broken,
    /// The server is gone, and the client does not know.
    Stranded,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

impl Connection {
    pub(crate) fn new(speech: Speech) -> Self {
        Self { speech: Mutex::new(speech), cut: Notify::new(), strand: Notify::new() }
    }

    pub(crate) fn who(&self) -> Who {
        self.speech().who().clone()
    }

    /// Has it cut, both sides with a reset.
    pub(crate) fn cut(&self) {
        self.cut.notify_one();
    }

    /// Has it lead nowhere: the client is not told.
    pub(crate) fn strand(&self) {
        self.strand.notify_one();
    }

    /// Passes on what both sides say until one has enough. `said`: what the client has said already.
    pub(crate) async fn carry(&self, mut client: TcpStream, engine: &str, said: Vec<u8>, faults: Watch) {
        let Ok(mut server) = TcpStream::connect(engine).await else { return reset(client) };
        // What is small is not to wait for more.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let end = {
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            let asking = self.pump(Side::Client, from_client, to_server, said, faults.clone());
            let answering = self.pump(Side::Server, from_server, to_client, Vec::new(), faults);
            tokio::select! {
                end = async { tokio::try_join!(asking, answering) } => end.err(),
                () = self.cut.notified() => Some(End::Broken),
                () = self.strand.notified() => Some(End::Stranded),
            }
        };
        match end {
            None => {}
            Some(End::Cut) => {
                reset(client);
                // What the server still says is read, or its end would be a reset, too, which can cost it what was passed on.
                let _ = server.shutdown().await;
                let _ = timeout(FAREWELL, tokio::io::copy(&mut server, &mut tokio::io::sink())).await;
            }
            Some(End::Broken) => {
                reset(client);
                reset(server);
            }
            Some(End::Stranded) => {
                reset(server);
                // Whatever is said is received, up to the end, and nobody hears it.
                let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
            }
        }
    }

    async fn pump(
        &self,
        side: Side,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        mut said: Vec<u8>,
        mut faults: Watch,
    ) -> Result<(), End> {
        let mut passes = Vec::new();
        loop {
            loop {
                let (done, then) = self.speech().sift(side, &said, &faults.borrow(), &mut passes);
                said.drain(..done);
                to.write_all(&passes).await?;
                passes.clear();
                match then {
                    Then::Read => break,
                    Then::Wait(time) => sleep(time).await,
                    Then::Cut => return Err(End::Cut),
                }
            }
            said.reserve(CHUNK_BYTES);
            let count = from.read_buf(&mut said).await?;
            if count == 0 {
                // What is half said is passed on as it is.
                to.write_all(&said).await?;
                return Ok(to.shutdown().await?);
            }
            self.hold_up(&mut faults, count).await;
        }
    }

    /// Waits as long as a fault wants so many bytes to.
    async fn hold_up(&self, faults: &mut Watch, bytes: usize) {
        if faults.borrow().is_empty() {
            return;
        }
        let who = self.who();
        silence(faults, &who).await;
        let slow: Duration = {
            let all = faults.borrow();
            let slow = aimed(&all, &who, |fault| match fault {
                Fault::Slow(time) => Some(time),
                Fault::Throttle { bytes_per_second } => {
                    Some(Duration::from_secs(bytes as u64) / bytes_per_second.max(1))
                }
                _ => None,
            });
            slow.inspect(|(armed, _)| armed.bites()).map(|(_, time)| time).sum()
        };
        if !slow.is_zero() {
            sleep(slow).await;
        }
    }

    fn speech(&self) -> MutexGuard<'_, Speech> {
        // Whoever panicked with it has left a conversation that is at worst misunderstood.
        self.speech.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits while nothing may pass.
async fn silence(faults: &mut Watch, who: &Who) {
    let mut counted = false;
    loop {
        {
            let all = faults.borrow_and_update();
            let mut silenced = false;
            for (armed, ()) in aimed(&all, who, |fault| (fault == Fault::Silence).then_some(())) {
                silenced = true;
                if !counted {
                    armed.bites();
                }
            }
            if !silenced {
                return;
            }
            counted = true;
        }
        if faults.changed().await.is_err() {
            return;
        }
    }
}

/// Tells a client that wishes for encryption that there is none, as often as it asks. What it said after that.
pub(crate) async fn without_encryption(client: &mut TcpStream, faults: &mut Watch) -> io::Result<Vec<u8>> {
    loop {
        let mut said = [0; postgres::WISH_BYTES];
        client.read_exact(&mut said).await?;
        silence(faults, &Who::default()).await;
        if !postgres::is_a_wish(said) {
            return Ok(said.to_vec());
        }
        client.write_all(&[postgres::NO]).await?;
    }
}

/// Ends a connection with a RST instead of a FIN: the other side loses what it has not read and is told so.
pub(crate) fn reset(stream: TcpStream) {
    // Where that cannot be set, it ends all the same.
    let _ = stream.set_zero_linger();
}
