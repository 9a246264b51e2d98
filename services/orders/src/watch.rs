//! Who looks at which order right now, and how they learn of changes. One query of the process asks for all watched orders together,
//! so a stream costs next to nothing; a change made by this process rings at once. Nothing of it is in an order's transaction: a
//! `NOTIFY` there would make all commits wait for each other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::PgPool;
use tokio::{sync::watch, time::sleep};
use uuid::Uuid;

use crate::{error::Error, metrics};

/// How often changes that other processes made are looked for.
pub(crate) const POLL: Duration = Duration::from_millis(250);
/// A bell in this process rings before the commit that it announces, so the change is looked for a few times.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const LOOKS: u32 = 25;

/// The orders that somebody looks at. Cheap to clone; clones are the same.
#[derive(Clone)]
pub(crate) struct Watch {
    watched: Arc<Mutex<HashMap<Uuid, Watched>>>,
    seats: Arc<Seats>,
}

/// Of the streams that are open, how many each customer has.
struct Seats {
    all: usize,
    each: u16,
    taken: Mutex<HashMap<Uuid, u16>>,
}

struct Watched {
    /// The version that the last look saw.
    version: i64,
    bell: watch::Sender<Ring>,
    /// How many look.
    watchers: usize,
}

/// The last thing that a bell said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ring {
    /// This process is about to commit a change.
    Soon,
    /// There is one.
    Now,
}

/// Somebody who looks at an order. Dropping it ends the looking.
pub(crate) struct Watcher {
    order_id: Uuid,
    bell: watch::Receiver<Ring>,
    watch: Watch,
}

/// One of the streams that a process may have open. Dropping it gives it back.
pub(crate) struct Seat {
    customer: Uuid,
    seats: Arc<Seats>,
}

impl Watch {
    /// With room for this many streams, and for this many of one customer.
    pub(crate) fn new(all: usize, each: u16) -> Self {
        Self { watched: Arc::default(), seats: Arc::new(Seats { all, each, taken: Mutex::default() }) }
    }

    /// A seat.
    ///
    /// # Errors
    /// When the customer has too many, or none is left.
    pub(crate) fn seat(&self, customer: Uuid) -> Result<Seat, Error> {
        let mut taken = self.seats.taken();
        if taken.values().map(|count| usize::from(*count)).sum::<usize>() >= self.seats.all {
            return Err(Error::TooManyStreams);
        }
        let own = taken.entry(customer).or_default();
        if *own >= self.seats.each {
            return Err(Error::TooManyOwnStreams);
        }
        *own += 1;
        metrics::streams(1.0);
        Ok(Seat { customer, seats: Arc::clone(&self.seats) })
    }

    /// Looks at an order from now on: what changes after this call rings.
    pub(crate) fn watch(&self, order_id: Uuid) -> Watcher {
        let mut watched = self.lock();
        // Version 0 is none: the first look rings, whatever happened between.
        let new = || Watched { version: 0, bell: watch::Sender::new(Ring::Now), watchers: 0 };
        let entry = watched.entry(order_id).or_insert_with(new);
        entry.watchers += 1;
        Watcher { order_id, bell: entry.bell.subscribe(), watch: self.clone() }
    }

    /// An order is about to change, in a transaction of this process.
    pub(crate) fn ring(&self, order_id: Uuid) {
        if let Some(watched) = self.lock().get(&order_id) {
            watched.bell.send_replace(Ring::Soon);
        }
    }

    /// Asks for all watched orders at once, and rings for those that changed. While nobody watches, nothing is asked.
    pub(crate) async fn look(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let ids: Vec<_> = self.lock().keys().copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let found = sqlx::query!("select id, version from orders where id = any($1)", &ids).fetch_all(pool).await?;
        let mut watched = self.lock();
        for row in found {
            if let Some(watched) = watched.get_mut(&row.id).filter(|watched| watched.version != row.version) {
                watched.version = row.version;
                watched.bell.send_replace(Ring::Now);
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Waits until the order may have changed. Says how often to look for it.
    pub(crate) async fn rung(&mut self) -> u32 {
        // The sender lives as long as there is a watcher.
        if self.bell.changed().await.is_err() {
            return std::future::pending().await;
        }
        match *self.bell.borrow_and_update() {
            Ring::Soon => LOOKS,
            Ring::Now => 1,
        }
    }

    /// Between two looks.
    pub(crate) async fn breathe() {
        sleep(LOOK_AGAIN).await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watched = self.watch.lock();
        // Counted here, because the bell's receivers are: they go when the lock is free again, and of two that go at once neither would be the last.
        if let Some(entry) = watched.get_mut(&self.order_id) {
            entry.watchers -= 1;
            if entry.watchers == 0 {
                watched.remove(&self.order_id);
            }
        }
    }
}

impl Seats {
    fn taken(&self) -> MutexGuard<'_, HashMap<Uuid, u16>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        if let Some(own) = taken.get_mut(&self.customer) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.customer);
            }
        }
        metrics::streams(-1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bell_rings_for_every_watcher_and_for_nobody_else() {
        let watch = Watch::new(1, 1);
        let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
        let (mut first, mut second, mut third) = (watch.watch(one), watch.watch(one), watch.watch(other));
        watch.ring(one);
        assert_eq!((first.rung().await, second.rung().await), (LOOKS, LOOKS));
        assert!(tokio::time::timeout(Duration::from_millis(20), third.rung()).await.is_err());
        drop(first);
        watch.ring(one);
        assert_eq!(second.rung().await, LOOKS);
        drop((second, third));
        assert!(watch.lock().is_empty());
    }

    #[tokio::test]
    async fn a_seat_is_free_again_when_it_is_given_back() {
        let watch = Watch::new(1, 1);
        let (ada, eve) = (Uuid::now_v7(), Uuid::now_v7());
        let seat = watch.seat(ada);
        assert!(seat.is_ok() && matches!(watch.seat(eve), Err(Error::TooManyStreams)));
        drop(seat);
        assert!(watch.seat(eve).is_ok());
    }

    #[tokio::test]
    async fn one_customer_cannot_take_every_seat() {
        let watch = Watch::new(3, 2);
        let (ada, eve) = (Uuid::now_v7(), Uuid::now_v7());
        let seats = [watch.seat(ada), watch.seat(ada)];
        assert!(seats.iter().all(Result::is_ok) && matches!(watch.seat(ada), Err(Error::TooManyOwnStreams)));
        assert!(watch.seat(eve).is_ok());
        drop(seats);
        assert!(watch.seat(ada).is_ok() && watch.seats.taken().is_empty());
    }
}
