//! The leases of a relay: which lanes it may work, and until when.
//!
//! The clock is the database's; the relay's own monotonic clock only makes it stop earlier, never later.

use std::{
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use failpoints::{hit, without};
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use crate::{Error, event::LANES, outbox::lane_bit, relay::Relay};

/// The lanes that a relay holds.
pub(crate) struct Lanes {
    token: Uuid,
    ttl: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Vec<i16>,
    /// Held, but another relay should have them: given back when nothing of them is in hand.
    surplus: Vec<i16>,
    deadline: Option<Instant>,
    /// Since when there has been nobody to publish to.
    idle_since: Option<Instant>,
}

/// What a relay may work on now.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) token: Uuid,
    pub(crate) lanes: Vec<i16>,
    /// Nothing is published after this.
    pub(crate) deadline: Instant,
}

impl Lanes {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { token: Uuid::now_v7(), ttl, state: Mutex::default() }
    }

    pub(crate) fn count(&self) -> usize {
        self.state().held.len()
    }

    /// Whether it had lanes, and could not renew them in time.
    pub(crate) fn ran_out(&self) -> bool {
        let state = self.state();
        !state.held.is_empty() && state.deadline.is_none_or(|deadline| deadline <= Instant::now())
    }

    /// Nothing can be published from now on.
    pub(crate) fn idle(&self) {
        self.state().idle_since.get_or_insert_with(Instant::now);
    }

    /// Something can be published again. True: for so long nothing could that the lanes were left to others.
    pub(crate) fn at_work(&self) -> bool {
        self.state().idle_since.take().is_some_and(|since| since.elapsed() >= self.ttl)
    }

    /// A relay that has had no broker for longer than a lease leaves its lanes to those that have one.
    fn is_idle(&self) -> bool {
        let idle_since = self.state().idle_since;
        !without("idle-relays") && idle_since.is_some_and(|since| since.elapsed() >= self.ttl)
    }

    /// The lease, while there is one.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let state = self.state();
        let deadline = state.deadline.filter(|deadline| *deadline > Instant::now())?;
        let lanes: Vec<_> = state.held.iter().copied().filter(|lane| !state.surplus.contains(lane)).collect();
        (!lanes.is_empty()).then_some(Lease { token: self.token, lanes, deadline })
    }

    /// Says that this relay is alive, renews its lanes, takes free ones up to its fair share and notes what it has too many.
    pub(crate) async fn refresh(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let renewed_at = Instant::now();
        let ttl_seconds = self.ttl.as_secs_f64();
        let live = sqlx::query_scalar!(
            r#"with gone as (delete from messaging.relay where seen_at < now() - make_interval(secs => $2)),
                    me as (insert into messaging.relay (id, seen_at) values ($1, now())
                           on conflict (id) do update set seen_at = now())
               select count(*) as "count!" from messaging.relay
               where id <> $1 and seen_at >= now() - make_interval(secs => $2)"#,
            self.token,
            ttl_seconds,
        )
        .fetch_one(pool)
        .await?;
        hit("relay.before_renewal").await?;
        let fair = usize::try_from(LANES).unwrap_or(16).div_ceil(usize::try_from(live).unwrap_or_default() + 1);
        let mut held = sqlx::query_scalar!(
            "update messaging.relay_lane set expires_at = now() + make_interval(secs => $2)
             where holder = $1 and expires_at > now() returning lane",
            self.token,
            ttl_seconds,
        )
        .fetch_all(pool)
        .await?;
        if held.len() < fair {
            let taken = sqlx::query_scalar!(
                "update messaging.relay_lane set holder = $1, expires_at = now() + make_interval(secs => $2)
                 where lane in (
                     select lane from messaging.relay_lane where holder is null or expires_at <= now()
                     order by random() limit $3
                     -- two relays that look at the same moment share what is free instead of waiting for each other
                     for update skip locked)
                 returning lane",
                self.token,
                ttl_seconds,
                i64::try_from(fair - held.len()).unwrap_or_default(),
            )
            .fetch_all(pool)
            .await?;
            held.extend(taken);
        }
        hit("relay.after_claim").await?;
        if without("leases") {
            held = (0..LANES).collect();
        }
        held.sort_unstable();
        let mut state = self.state();
        if state.held != held {
            info!(lanes = ?held, "the relay's lanes changed");
        }
        state.surplus = held.iter().copied().skip(if without("leases") { held.len() } else { fair }).collect();
        state.held = held;
        // One tenth earlier than the database, for what the clocks' rates may differ.
        state.deadline = Some(renewed_at + self.ttl * 9 / 10);
        Ok(())
    }

    /// Whether another relay should have some of what is held.
    pub(crate) fn has_surplus(&self) -> bool {
        !self.state().surplus.is_empty()
    }

    /// Gives back what others should have. Called between windows only: a lane moves when nothing of it is in hand.
    pub(crate) async fn release_surplus(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let surplus = self.state().surplus.clone();
        if surplus.is_empty() {
            return Ok(());
        }
        self.release(pool, &surplus).await?;
        let mut state = self.state();
        state.held.retain(|lane| !surplus.contains(lane));
        state.surplus.clear();
        Ok(())
    }

    pub(crate) async fn release_all(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let held = {
            let mut state = self.state();
            state.surplus.clear();
            state.deadline = None;
            // Since when there is nobody to publish to stays: or the next renewal would take the lanes back, and keep them.
            std::mem::take(&mut state.held)
        };
        self.release(pool, &held).await?;
        sqlx::query!("delete from messaging.relay where id = $1", self.token).execute(pool).await?;
        Ok(())
    }

    async fn release(&self, pool: &PgPool, lanes: &[i16]) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "update messaging.relay_lane set holder = null, expires_at = '-infinity' where holder = $1 and lane = any($2)",
            self.token,
            lanes,
        )
        .execute(pool)
        .await?;
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    pub(super) async fn keep_lanes(&self, stop: &CancellationToken) -> Result<(), Error> {
        // A renewal that takes as long as the lease comes too late anyway.
        let deadline = self.options.lease.min(self.outbox.answer_deadline);
        super::every("renewing the lanes", self.options.lease / 3, deadline, stop, || self.renew_lanes()).await
    }

    /// Renews the lanes, or leaves them to relays that can do something with them.
    pub(super) async fn renew_lanes(&self) -> Result<(), sqlx::Error> {
        let wake = &self.outbox.shared.wake;
        let before = wake.held.load(Ordering::Acquire);
        if self.lanes.is_idle() {
            self.lanes.release_all(&self.outbox.pool).await?;
        } else {
            self.lanes.refresh(&self.outbox.pool).await?;
        }
        let held = self.lanes.state().held.iter().fold(0, |lanes, lane| lanes | lane_bit(*lane));
        wake.held.store(held, Ordering::Release);
        metrics::gauge!("messaging_relay_lanes").set(f64::from(held.count_ones()));
        if held & !before != 0 {
            // Whatever has gathered in the new lanes.
            wake.local.notify_one();
        }
        Ok(())
    }
}
