//! The proxy: listens on loopback, and carries each connection to the engine.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    Aim, Fault, Injection,
    amqp::Amqp,
    connection::{Connection, reset, without_encryption},
    fault::Who,
    injection::{Faults, aimed},
    postgres::Postgres,
    speech::{Protocol, Speech},
};

/// A proxy before one engine. Dropping it cuts whatever goes through it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    /// `host:port`.
    engine: String,
    spoken: Spoken,
    faults: Faults,
    connections: Mutex<Vec<Weak<Connection>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Amqp,
    Postgres,
}

impl Proxy {
    /// Before the RabbitMQ at `host:port`, on a free port of loopback.
    ///
    /// # Errors
    /// When nothing can be listened on.
    pub async fn amqp(engine: &str) -> io::Result<Self> {
        Self::start(engine, Spoken::Amqp).await
    }

    /// Before the PostgreSQL at `host:port`, on a free port of loopback.
    ///
    /// # Errors
    /// When nothing can be listened on.
    pub async fn postgres(engine: &str) -> io::Result<Self> {
        Self::start(engine, Spoken::Postgres).await
    }

    async fn start(engine: &str, spoken: Spoken) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let engine = engine.to_owned();
        let shared = Arc::new(Shared { engine, spoken, faults: Faults::default(), connections: Mutex::default() });
        let mut task = JoinSet::new();
        task.spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _task: task })
    }

    /// Where to connect instead.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does this to these until the injection is dropped.
    pub fn inject(&self, aim: &Aim, fault: Fault) -> Injection {
        self.shared.faults.add(aim, fault)
    }

    /// Cuts the connections that are there, on both sides with a reset. How many they were.
    pub fn cut(&self, aim: &Aim) -> u64 {
        let there = self.shared.these(aim);
        there.iter().for_each(|connection| connection.cut());
        there.len() as u64
    }

    /// Has the connections that are there lead nowhere, as when a machine is gone and its address is another one's now: who is connected is not
    /// told, hears nothing any more, and can connect anew. The engine takes them for broken. How many they were.
    pub fn strand(&self, aim: &Aim) -> u64 {
        let there = self.shared.these(aim);
        there.iter().for_each(|connection| connection.strand());
        there.len() as u64
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self, aim: &Aim) -> usize {
        self.shared.these(aim).len()
    }
}

impl Shared {
    fn these(&self, aim: &Aim) -> Vec<Arc<Connection>> {
        let all: Vec<_> = self.connections().iter().filter_map(Weak::upgrade).collect();
        all.into_iter().filter(|connection| aim.is_for(&connection.who())).collect()
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Weak<Connection>>> {
        // Every change to it is one call.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self, mut client: TcpStream) {
        let mut faults = self.faults.watch();
        // Nobody knows yet whose it is; who is refused alone is refused when that is known.
        let nobody = Who::default();
        let refused = aimed(&faults.borrow(), &nobody, |fault| (fault == Fault::Refuse).then_some(()))
            .map(|(armed, ())| armed.bites())
            .count();
        if refused > 0 {
            return reset(client);
        }
        let (protocol, said) = match self.spoken {
            Spoken::Amqp => (Protocol::Amqp(Amqp::default()), Vec::new()),
            Spoken::Postgres => match without_encryption(&mut client, &mut faults).await {
                Ok(said) => (Protocol::Postgres(Postgres::default()), said),
                Err(_) => return,
            },
        };
        let connection = Arc::new(Connection::new(Speech::new(protocol)));
        {
            let mut all = self.connections();
            all.retain(|known| known.strong_count() > 0);
            all.push(Arc::downgrade(&connection));
        }
        connection.carry(client, &self.engine, said, faults).await;
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut taken = JoinSet::new();
    loop {
        tokio::select! {
            _ = taken.join_next(), if !taken.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let shared = Arc::clone(&shared);
                    taken.spawn(async move { shared.take(client).await });
                }
                // Out of files, say: that passes.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
}
