//! Who is let in. Of each route so many requests are worked on at once, some more wait for a moment, and the rest is told when to come back. So a
//! rush for one route costs those who come too many an answer, at once, instead of costing everybody a second, and it does not
//! take the other routes with it. Health, metrics and documentation are never limited.
//!
//! The limit is fixed. It does not learn from latencies, which on a service that waits for a database say more about the database's mood than
//! about how many requests it can bear; how many connections there are is known.

use std::{
    io,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix_web::http::StatusCode;
use failpoints::without;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use telemetry::AtScrape;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use utoipa::openapi::OpenApi;

use crate::{HttpOptions, Problem, openapi, route::Route};

/// Whoever is refused comes back after one of so many seconds, in turn: told the same time, all would come back at once.
const COME_BACK_WITHIN_SECONDS: u64 = 3;
/// A backlog of events does not go away within a moment.
const BACKLOG_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Whether changes are refused now.
type Held = Arc<dyn Fn() -> bool + Send + Sync>;

/// Why a request is not worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Everybody who may wait does.
    Full,
    /// No place became free in time.
    Waited,
    /// What was announced before has not left yet, so nothing more is to be announced.
    Backlog,
}

/// When changes are refused.
#[derive(Clone)]
pub(crate) struct Hold {
    pub(crate) held: Held,
    /// Changes that announce nothing, such as `POST /sessions`.
    pub(crate) except: &'static [&'static str],
}

/// The entrances of a server, one for each route.
pub(crate) struct Admission {
    limits: Option<Limits>,
    hold: Option<Hold>,
    entrances: RwLock<Vec<Arc<Entrance>>>,
    /// How many were refused, to spread those who come back.
    refused: AtomicU64,
}

#[derive(Clone, Copy)]
struct Limits {
    places: usize,
    line: usize,
    wait: Duration,
}

/// The entrance of one route.
struct Entrance {
    method: &'static str,
    pattern: String,
    places: Arc<Semaphore>,
    /// A permit for each request that may wait for a place.
    line: Semaphore,
    admitted: Counter,
    refused: [Counter; 3],
    working: Gauge,
    waiting: Gauge,
}

/// The place of a request that is worked on. It is free again when this is dropped, in whatever way the request ends.
pub(crate) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    working: Gauge,
}

impl Admission {
    /// The entrances of what is documented; others are added when somebody comes.
    ///
    /// # Errors
    /// When an exception is not documented.
    pub(crate) fn new(options: &HttpOptions, hold: Option<Hold>, document: &OpenApi) -> io::Result<Self> {
        describe();
        let routes = openapi::routes(document);
        for exception in hold.iter().flat_map(|hold| hold.except) {
            if !routes.iter().any(|(method, pattern)| format!("{method} {pattern}") == *exception) {
                let mistake = format!("{exception} announces nothing, and is no documented route");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, mistake));
            }
        }
        let limits = (options.route_places.unwrap_or(0) > 0).then(|| Limits {
            places: usize::from(options.route_places.unwrap_or(0)),
            line: usize::from(options.route_waiting),
            wait: options.route_wait,
        });
        gauge!("http_server_route_places").set(limits.map_or(0.0, |limits| limits.places as f64));
        let entrance = |(method, pattern): (&'static str, String)| Arc::new(Entrance::new(method, pattern, limits));
        let entrances = RwLock::new(routes.into_iter().map(entrance).collect());
        Ok(Self { limits, hold, entrances, refused: AtomicU64::new(0) })
    }

    /// Whether there is anything to ask before a request of this route is worked on.
    pub(crate) fn concerns(&self, route: &Route) -> bool {
        let always = (route.is_operations() && !without("health-unlimited")) || route.is_documentation();
        route.pattern.is_some() && !always && (self.limits.is_some() || self.hold.is_some())
    }

    /// A place, at once or after a short wait.
    pub(crate) async fn enter(&self, route: &Route) -> Result<Option<Place>, Problem> {
        let Some(pattern) = route.pattern.as_deref() else { return Ok(None) };
        // A HEAD is answered as its GET.
        let method = if route.method == "HEAD" { "GET" } else { route.method };
        let entrance = self.entrance(method, pattern);
        let entered = if self.is_held(method, pattern) {
            Err(Refusal::Backlog)
        } else {
            match self.limits {
                Some(limits) if !without("admission") => entrance.enter(limits.wait).await.map(Some),
                _ => Ok(None),
            }
        };
        match entered {
            Ok(place) => {
                entrance.admitted.increment(1);
                Ok(place)
            }
            Err(refusal) => {
                entrance.refused[refusal as usize].increment(1);
                Err(self.problem(refusal))
            }
        }
    }

    /// Measures whether changes are refused, as long as what is returned is kept.
    pub(crate) fn measure(&self) -> Option<AtScrape> {
        let Hold { held, .. } = self.hold.clone()?;
        let gauge = gauge!("http_server_changes_held");
        Some(telemetry::at_scrape(move || gauge.set(f64::from(held()))))
    }

    fn is_held(&self, method: &str, pattern: &str) -> bool {
        let Some(Hold { held, except }) = &self.hold else { return false };
        method != "GET" && held() && !except.contains(&format!("{method} {pattern}").as_str()) && !without("backlog")
    }

    /// A pattern comes from the table of routes and a method from a short list, so their number is bounded.
    fn entrance(&self, method: &'static str, pattern: &str) -> Arc<Entrance> {
        let find =
            |all: &[Arc<Entrance>]| all.iter().find(|one| one.method == method && one.pattern == pattern).cloned();
        if let Some(known) = find(&self.entrances.read().unwrap_or_else(PoisonError::into_inner)) {
            return known;
        }
        let mut all = self.entrances.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have come to the same route meanwhile.
        find(&all).unwrap_or_else(|| {
            let new = Arc::new(Entrance::new(method, pattern.to_owned(), self.limits));
            all.push(Arc::clone(&new));
            new
        })
    }

    fn problem(&self, refusal: Refusal) -> Problem {
        let number = self.refused.fetch_add(1, Ordering::Relaxed);
        let soon = Duration::from_secs(1 + number % COME_BACK_WITHIN_SECONDS);
        match refusal {
            Refusal::Full | Refusal::Waited => overloaded().retry_after(soon),
            Refusal::Backlog => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "backlog",
                "What was decided before has not been announced yet",
            )
            .detail(
                "Nothing was done, because its consequences could not be announced now; send the request again later.",
            )
            .retry_after(BACKLOG_RETRY_AFTER + soon),
        }
    }
}

/// What a request is refused with when there are too many, but for the time after which to come back.
pub(crate) fn overloaded() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "There are more requests than can be worked on")
        .detail("Nothing was done; send the request again after the time in Retry-After.")
}

impl Entrance {
    fn new(method: &'static str, pattern: String, limits: Option<Limits>) -> Self {
        let (places, line) = limits.map_or((0, 0), |limits| (limits.places, limits.line));
        let refused = ["full", "waited", "backlog"].map(|reason| {
            counter!("http_server_refused_total", "method" => method, "route" => pattern.clone(), "reason" => reason)
        });
        refused.iter().for_each(|counter| counter.increment(0));
        let admitted = counter!("http_server_admitted_total", "method" => method, "route" => pattern.clone());
        admitted.increment(0);
        let [working, waiting] = ["http_server_working_requests", "http_server_waiting_requests"]
            .map(|name| gauge!(name, "method" => method, "route" => pattern.clone()));
        working.increment(0.0);
        waiting.increment(0.0);
        Self {
            method,
            pattern,
            places: Arc::new(Semaphore::new(places)),
            line: Semaphore::new(line),
            admitted,
            refused,
            working,
            waiting,
        }
    }

    /// Whoever waited longest is first. The line is short: behind a long one everybody would be answered, and everybody too late.
    async fn enter(&self, wait: Duration) -> Result<Place, Refusal> {
        // Does not pass anybody in the line: a place that becomes free is given to the first of it, and is never seen free here.
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(self.place(permit));
        }
        let in_line = self.line.try_acquire();
        if in_line.is_err() || without("waiting-line") {
            return Err(Refusal::Full);
        }
        let _shown = Shown::new(&self.waiting);
        match timeout(wait, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(self.place(permit)),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Refusal::Waited),
        }
    }

    fn place(&self, permit: OwnedSemaphorePermit) -> Place {
        self.working.increment(1.0);
        Place { permit: Some(permit), working: self.working.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.working.decrement(1.0);
        if without("places-back") {
            self.permit.take().into_iter().for_each(OwnedSemaphorePermit::forget);
        }
    }
}

/// Counted for as long as it is there, also when nobody waits for the answer any more.
struct Shown<'a>(&'a Gauge);

impl<'a> Shown<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

fn describe() {
    describe_counter!("http_server_admitted_total", "Requests that were let in.");
    describe_counter!(
        "http_server_refused_total",
        "Requests that were told to come back, by reason: full (nobody else may wait), waited (no place became free in time), backlog (events do not leave)."
    );
    describe_gauge!("http_server_working_requests", "Requests that have a place: they are worked on.");
    describe_gauge!("http_server_waiting_requests", "Requests that wait for a place.");
    describe_gauge!("http_server_route_places", "Requests of one route that are worked on at once; 0: no limit.");
    describe_gauge!("http_server_changes_held", "1 while changes are refused because earlier events do not leave.");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entrance(places: usize, line: usize) -> Entrance {
        Entrance::new("GET", "/things".to_owned(), Some(Limits { places, line, wait: Duration::from_secs(1) }))
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_in_vain_is_refused_and_whoever_finds_the_line_full_is_refused_at_once() {
        let (entrance, second) = (entrance(1, 1), Duration::from_secs(1));
        let place = entrance.enter(second).await.unwrap();
        let began = tokio::time::Instant::now();
        let (first, other) = tokio::join!(entrance.enter(second), async {
            let refused = entrance.enter(second).await.err();
            (refused, began.elapsed())
        });
        assert_eq!(other, (Some(Refusal::Full), Duration::ZERO));
        assert_eq!((first.err(), began.elapsed()), (Some(Refusal::Waited), second));
        drop(place);
        assert!(entrance.enter(second).await.is_ok());
    }

    #[tokio::test]
    async fn nobody_passes_the_line() {
        let (entrance, long) = (entrance(1, 2), Duration::from_secs(60));
        let place = entrance.enter(long).await.unwrap();
        let waits = entrance.enter(long);
        tokio::pin!(waits);
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(place);
        // The place is the waiting one's, though it has not been told yet.
        let comes_late = entrance.enter(long);
        tokio::pin!(comes_late);
        assert!(futures_util::poll!(&mut comes_late).is_pending());
        let place = waits.await.unwrap();
        drop(place);
        assert!(comes_late.await.is_ok());
    }

    #[tokio::test]
    async fn who_goes_away_from_the_line_makes_room_in_it() {
        let (entrance, long) = (entrance(1, 1), Duration::from_secs(60));
        let _place = entrance.enter(long).await.unwrap();
        {
            let waits = entrance.enter(long);
            tokio::pin!(waits);
            assert!(futures_util::poll!(&mut waits).is_pending());
            assert_eq!(entrance.enter(long).await.err(), Some(Refusal::Full));
        }
        let waits = entrance.enter(long);
        tokio::pin!(waits);
        assert!(futures_util::poll!(&mut waits).is_pending());
    }

    #[test]
    fn those_who_are_refused_together_do_not_come_back_together() {
        let admission =
            Admission::new(&HttpOptions::new(([127, 0, 0, 1], 0).into()), None, &OpenApi::default()).unwrap();
        let after = |refusal| {
            let answer = actix_web::ResponseError::error_response(&admission.problem(refusal));
            answer.headers().get("retry-after").unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!([(); 4].map(|()| after(Refusal::Full)), ["1", "2", "3", "1"]);
        assert_eq!(after(Refusal::Backlog), "32");
    }
}
