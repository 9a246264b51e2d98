//! A run as it is in its folder: read completely before anything is judged.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    dumps::{
        Answer, BookEntry, HistoryEntry, KnownProduct, Messaging, Movement, Notification, Order, OrderLine, Payment,
        Product, Reservation, SERVICES, User,
    },
    ledger::{Binding, End, Entry, Fault, Mail, Queue, Sample, Tapped},
    plan::Plan,
};

/// Everything that a run left behind.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each is a file, described where its lines are")]
pub struct Run {
    pub plan: Plan,
    pub end: End,
    pub history: Vec<Entry>,
    pub faults: Vec<Fault>,
    pub samples: Vec<Sample>,
    pub tap: Vec<Tapped>,
    pub mails: Vec<Mail>,
    pub bindings: Vec<Binding>,
    pub queues: Vec<Queue>,
    pub users: Vec<User>,
    pub orders: Vec<Order>,
    pub order_lines: Vec<OrderLine>,
    pub order_history: Vec<HistoryEntry>,
    pub known_products: Vec<KnownProduct>,
    pub order_answers: Vec<Answer>,
    pub products: Vec<Product>,
    pub movements: Vec<Movement>,
    pub reservations: Vec<Reservation>,
    pub restock_answers: Vec<Answer>,
    pub payments: Vec<Payment>,
    pub book: Vec<BookEntry>,
    pub notifications: Vec<Notification>,
    /// Of each of [`SERVICES`], in that order.
    pub messaging: [Messaging; SERVICES.len()],
}

/// A folder that is no run: nothing can be said about it.
#[derive(Debug, Error)]
pub enum BadRun {
    /// A file is missing, or cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] std::io::Error),
    /// A line of a file is not what it should be.
    #[error("{path}:{line}: {source}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Run {
    /// Reads a run.
    ///
    /// # Errors
    /// Names the file that is missing, or the line that is not what it should be.
    pub fn load(folder: &Path) -> Result<Self, BadRun> {
        let table = |service: &str, table: &str| folder.join(service).join(format!("{table}.jsonl"));
        let mut messaging: [Messaging; SERVICES.len()] = Default::default();
        for (service, of) in SERVICES.into_iter().zip(&mut messaging) {
            of.journal = lines(&table(service, "journal"))?;
            of.outbox = lines(&table(service, "outbox"))?;
            of.inbox = lines(&table(service, "inbox"))?;
            of.heads = lines(&table(service, "consumer_head"))?;
            of.parked = lines(&table(service, "parked"))?;
            of.jobs = lines(&table(service, "job"))?;
        }
        Ok(Self {
            plan: whole(&folder.join("plan.json"))?,
            end: whole(&folder.join("end.json"))?,
            history: lines(&folder.join("history.jsonl"))?,
            faults: lines(&folder.join("faults.jsonl"))?,
            samples: lines(&folder.join("samples.jsonl"))?,
            tap: lines(&folder.join("tap.jsonl"))?,
            mails: lines(&folder.join("mails.jsonl"))?,
            bindings: lines(&folder.join("bindings.jsonl"))?,
            queues: lines(&folder.join("queues.jsonl"))?,
            users: lines(&table("users", "users"))?,
            orders: lines(&table("orders", "orders"))?,
            order_lines: lines(&table("orders", "order_lines"))?,
            order_history: lines(&table("orders", "order_history"))?,
            known_products: lines(&table("orders", "products"))?,
            order_answers: lines(&table("orders", "answers"))?,
            products: lines(&table("inventory", "products"))?,
            movements: lines(&table("inventory", "stock_movements"))?,
            reservations: lines(&table("inventory", "reservations"))?,
            restock_answers: lines(&table("inventory", "answers"))?,
            payments: lines(&table("payments", "payments"))?,
            book: lines(&table("payments", "book"))?,
            notifications: lines(&table("notifications", "notifications"))?,
            messaging,
        })
    }

    /// Writes a run into a folder, which is made: what the checker's own tests do, and what an example is made with.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), BadRun> {
        let table = |service: &str, table: &str| folder.join(service).join(format!("{table}.jsonl"));
        for (service, of) in SERVICES.into_iter().zip(&self.messaging) {
            write_lines(&table(service, "journal"), &of.journal)?;
            write_lines(&table(service, "outbox"), &of.outbox)?;
            write_lines(&table(service, "inbox"), &of.inbox)?;
            write_lines(&table(service, "consumer_head"), &of.heads)?;
            write_lines(&table(service, "parked"), &of.parked)?;
            write_lines(&table(service, "job"), &of.jobs)?;
        }
        write_lines(&folder.join("plan.json"), std::slice::from_ref(&self.plan))?;
        write_lines(&folder.join("end.json"), std::slice::from_ref(&self.end))?;
        write_lines(&folder.join("history.jsonl"), &self.history)?;
        write_lines(&folder.join("faults.jsonl"), &self.faults)?;
        write_lines(&folder.join("samples.jsonl"), &self.samples)?;
        write_lines(&folder.join("tap.jsonl"), &self.tap)?;
        write_lines(&folder.join("mails.jsonl"), &self.mails)?;
        write_lines(&folder.join("bindings.jsonl"), &self.bindings)?;
        write_lines(&folder.join("queues.jsonl"), &self.queues)?;
        write_lines(&table("users", "users"), &self.users)?;
        write_lines(&table("orders", "orders"), &self.orders)?;
        write_lines(&table("orders", "order_lines"), &self.order_lines)?;
        write_lines(&table("orders", "order_history"), &self.order_history)?;
        write_lines(&table("orders", "products"), &self.known_products)?;
        write_lines(&table("orders", "answers"), &self.order_answers)?;
        write_lines(&table("inventory", "products"), &self.products)?;
        write_lines(&table("inventory", "stock_movements"), &self.movements)?;
        write_lines(&table("inventory", "reservations"), &self.reservations)?;
        write_lines(&table("inventory", "answers"), &self.restock_answers)?;
        write_lines(&table("payments", "payments"), &self.payments)?;
        write_lines(&table("payments", "book"), &self.book)?;
        write_lines(&table("notifications", "notifications"), &self.notifications)
    }
}

fn read(path: &Path) -> Result<String, BadRun> {
    fs::read_to_string(path).map_err(|error| BadRun::File(path.to_owned(), error))
}

fn whole<T: DeserializeOwned>(path: &Path) -> Result<T, BadRun> {
    serde_json::from_str(&read(path)?).map_err(|source| BadRun::Line { path: path.to_owned(), line: 1, source })
}

fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, BadRun> {
    let text = read(path)?;
    let full = (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty());
    full.map(|(line, text)| {
        serde_json::from_str(text).map_err(|source| BadRun::Line { path: path.to_owned(), line, source })
    })
    .collect()
}

fn write_lines<T: Serialize>(path: &Path, rows: &[T]) -> Result<(), BadRun> {
    let mut text = String::new();
    for row in rows {
        let line = serde_json::to_string(row);
        text += &line.map_err(|source| BadRun::Line { path: path.to_owned(), line: 1, source })?;
        text.push('\n');
    }
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, text)
    };
    write().map_err(|error| BadRun::File(path.to_owned(), error))
}
