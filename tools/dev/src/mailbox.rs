//! A mailbox for development and tests: an SMTP server on loopback that keeps every mail it is sent and delivers none, with a page
//! to read them and the part of Mailpit's API that finds and shows them.
//!
//! Tests start one of their own on free ports and may script it to refuse, hang or hang up:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use dev::mailbox::{Behaviour, Mailbox, Stage};
//!
//! let mailbox = Mailbox::start(([127, 0, 0, 1], 0), ([127, 0, 0, 1], 0)).await?;
//! // The first two mails are refused for now, as by a greylisting server.
//! mailbox.script().next(2, Stage::Recipient, Behaviour::reply(451, "4.7.1 Try again later"));
//! let url = format!("smtp://{}", mailbox.smtp_addr());
//! # let _ = url;
//! # Ok(())
//! # }
//! ```

mod api;
mod command;
mod orders;
mod pages;
mod script;
mod smtp;
mod store;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{http_server, look::Stack};
use store::Store;

pub(crate) use orders::Order;
pub use script::{Behaviour, Script, Stage};
pub use store::Mail;

/// A running mailbox. It stops when it is dropped.
pub struct Mailbox {
    smtp: SocketAddr,
    http: SocketAddr,
    store: Arc<Store>,
    script: Script,
    obeys: Arc<AtomicBool>,
    stack: Stack,
    _tasks: JoinSet<()>,
}

impl Mailbox {
    /// Listens for SMTP and for HTTP; port 0 is any free port.
    ///
    /// # Errors
    /// When one of the addresses cannot be listened on.
    pub async fn start(smtp: impl Into<SocketAddr>, http: impl Into<SocketAddr>) -> io::Result<Self> {
        let smtp_listener = TcpListener::bind(smtp.into()).await?;
        let http_listener = TcpListener::bind(http.into()).await?;
        let (store, script) = (Arc::new(Store::default()), Script::default());
        let (smtp, http) = (smtp_listener.local_addr()?, http_listener.local_addr()?);
        let mut tasks = JoinSet::new();
        tasks.spawn(smtp::serve(smtp_listener, Arc::clone(&store), script.clone()));
        let pages = Arc::clone(&store);
        // Dropping the set ends the tasks; nobody asks them to stop before.
        let stack = Stack::default();
        let home = stack.clone();
        let (orders, obeys) = (script.clone(), Arc::new(AtomicBool::new(false)));
        let obedient = Arc::clone(&obeys);
        let answer = move |ask| {
            let ordered = if obedient.load(Ordering::Relaxed) { orders::answer(&orders, &ask) } else { None };
            std::future::ready(ordered.or_else(|| home.answer(&ask)).unwrap_or_else(|| api::answer(&pages, &ask)))
        };
        tasks.spawn(http_server::serve(http_listener, CancellationToken::new(), answer));
        Ok(Self { smtp, http, store, script, obeys, stack, _tasks: tasks })
    }

    /// Where mail is taken.
    #[must_use]
    pub fn smtp_addr(&self) -> SocketAddr {
        self.smtp
    }

    /// Makes it part of a stack, to whose page its own lead back.
    pub(crate) fn is_part_of(&self, page: u16) {
        self.stack.is_at(page);
    }

    /// Where the page and the API are.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// From now on whoever reaches its HTTP side may script it: for the mailbox of a stack that something is to be done to, which runs in
    /// another process than whoever does it. It also keeps every mail: all of them are looked at in the end.
    pub fn obeys(&self) {
        self.store.keep_all();
        self.obeys.store(true, Ordering::Relaxed);
    }

    /// What the server does next, instead of taking mail.
    #[must_use]
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// All mails, oldest first.
    #[must_use]
    pub fn mails(&self) -> Vec<Arc<Mail>> {
        self.store.all()
    }

    /// Waits until `count` mails or more to `address` are there, and answers with them, oldest first; with what there is when
    /// `patience` is over.
    pub async fn mails_to(&self, address: &str, count: usize, patience: Duration) -> Vec<Arc<Mail>> {
        let to =
            || self.store.all().into_iter().filter(|mail| mail.to.iter().any(|to| to == address)).collect::<Vec<_>>();
        let mut changes = self.store.changes();
        let enough = async {
            while to().len() < count {
                // The store lives as long as this mailbox.
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // Running out of time is an answer too: the caller looks at what arrived.
        let _ = tokio::time::timeout(patience, enough).await;
        to()
    }

    /// Forgets all mails.
    pub fn clear(&self) {
        self.store.clear();
    }
}
