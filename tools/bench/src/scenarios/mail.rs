//! The same order with its mail sent before the answer, and with an event of which the mail comes: what the caller waits for, and what becomes of
//! the mails.
//!
//! Both sides have as many places for requests, as many connections to the database, as many mails at once and the same mail server. What is more
//! on the side of the event is the broker. In the end the mail server is the limit of both: what can be won is the answer.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use measure::{Aim, Measurement, Side, in_turn, quantile_of};
use messaging::Outbox;
use sqlx::PgPool;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use uuid::Uuid;

use crate::{
    Plan, limit,
    load::Business,
    ours,
    scene::Scene,
    smtp::{MailServer, Mailer, TAKES, Taken},
};

/// Requests at once, connections to the database and mails at once, on either side.
const PLACES: u32 = 16;
/// Share of the mails that can be sent at all, for the question how long an answer takes: then neither side has a queue.
const PACE: f64 = 0.5;
/// Beyond the time that the mails take.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ByEvent,
    InRequest,
}

/// When the next order is placed.
#[derive(Clone, Copy)]
enum Due {
    /// As soon as there is a place.
    Now,
    /// So many a second; how long an answer takes counts from when its order was due.
    PerSecond(f64),
}

/// How it went.
struct Answers {
    orders: Vec<Uuid>,
    milliseconds: Vec<f64>,
    begin: Instant,
    end: Instant,
}

/// What one round of a side came to.
struct Figures {
    answers_per_second: f64,
    mails_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

struct Bench {
    scene: Scene,
    server: MailServer,
    mailer: Mailer,
    outbox: Outbox,
    pool: PgPool,
}

pub(super) async fn measure(plan: &Plan) -> Result<Measurement> {
    let mut mail = Measurement::new(
        "mail",
        "an order whose mail is sent by event, beside one whose mail is sent before the answer",
    );
    let (burst, paced) = plan.pick((10, 60), (2, 20));
    let (scene, server) = (Scene::set().await?, MailServer::start().await?);
    let (mailer, pool) = (Mailer::new(&server, PLACES), scene.plain_pool(PLACES).await?);
    let (outbox, service) = ours::mail::service(&scene, &mailer, PLACES, PLACES as usize).await?;
    let bench = Bench { scene, server, mailer, outbox, pool };
    // Connections, plans and caches.
    for way in [Way::ByEvent, Way::InRequest] {
        bench.round(way, 1, 5, &mut mail).await?;
    }
    let rounds = in_turn(&[Way::ByEvent, Way::InRequest], plan.rounds(), async |way| {
        bench.round(way, burst, paced, &mut mail).await
    })
    .await?;
    service.stop().await?;
    let late = bench.server.take().len();
    let late = if late == 0 { Vec::new() } else { vec![format!("{late} mails came when all had been sent")] };
    mail.check("no mail comes twice", 0, late);
    let side = |of: fn(&Figures) -> f64, way: usize| {
        Side::new(["by event", "in the request"][way], &rounds[way].iter().map(of).collect::<Vec<_>>())
    };
    let mut compare = |what: &str, unit: &str, of: fn(&Figures) -> f64, aim| {
        mail.compare(what, unit, side(of, 0), side(of, 1), aim);
    };
    compare("answers per second in a rush", "1/s", |of| of.answers_per_second, Aim::AtLeast(4.0));
    compare("p50 of an answer at half of what the mails allow", "ms", |of| of.p50_ms, Aim::AtMost(1.0 / 20.0));
    compare("mails per second after a rush", "1/s", |of| of.mails_per_second, Aim::AtLeast(0.9));
    say(&mut mail, burst, [0, 1].map(|way| side(|of| of.p99_ms, way).median()));
    Ok(mail)
}

/// What limits each side, and what was equal.
fn say(mail: &mut Measurement, waves: usize, p99_ms: [f64; 2]) {
    let most = f64::from(PLACES) / TAKES.as_secs_f64();
    let orders = waves * PLACES as usize;
    mail.note(format!(
        "equal on both sides: {PLACES} requests at once, {PLACES} connections to the database (by event, request, relay, consumer and worker share \
         them), {PLACES} mails at once, the order's statements, the SMTP client, and a mail server that takes {} ms for each mail; only the side \
         of the event needs a broker",
        TAKES.as_millis()
    ));
    mail.note(format!(
        "a rush is {orders} orders. In the request each holds its place until its mail is taken: at most {most:.0} answers a second, whatever \
         database and processors could do. By event it holds its place for a commit, and the mails that are owed wait in PostgreSQL"
    ));
    mail.note(
        "in the end the mail server limits both alike, so a shop that always sells more than its mail server takes gains nothing but the order in \
         the meantime; and whoever gives requests more places than mails moves the limit, on either side",
    );
    mail.note(format!(
        "p99 of an answer at half of what the mails allow: {:.1} ms by event, {:.1} ms in the request",
        p99_ms[0], p99_ms[1]
    ));
    mail.note(
        "a process that dies between commit and mail: by event the mail is sent by the next one; in the request, committed first and sent then, it is \
         never sent",
    );
}

impl Bench {
    /// A rush of so many orders for each place, then so many at a pace that both sides keep up with.
    async fn round(&self, way: Way, waves: usize, paced: usize, mail: &mut Measurement) -> Result<Figures> {
        let rush = self.place(way, waves * PLACES as usize, Due::Now).await?;
        let last = self.all_mails(way, &rush, mail).await?;
        let pace = PACE * f64::from(PLACES) / TAKES.as_secs_f64();
        let calm = self.place(way, paced, Due::PerSecond(pace)).await?;
        self.all_mails(way, &calm, mail).await?;
        let at = |share| quantile_of(&calm.milliseconds, share).context("orders were placed");
        let orders = rush.orders.len() as f64;
        Ok(Figures {
            answers_per_second: orders / (rush.end - rush.begin).as_secs_f64(),
            mails_per_second: orders / (last - rush.begin).as_secs_f64(),
            p50_ms: at(0.5)?,
            p99_ms: at(0.99)?,
        })
    }

    async fn place(&self, way: Way, count: usize, due: Due) -> Result<Answers> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut places = JoinSet::new();
        let begin = Instant::now();
        for _ in 0..PLACES {
            let next = Arc::clone(&next);
            let (outbox, pool, mailer) = (self.outbox.clone(), self.pool.clone(), self.mailer.clone());
            places.spawn(async move {
                let mut answered = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return anyhow::Ok(answered);
                    }
                    let due = match due {
                        Due::Now => Instant::now(),
                        Due::PerSecond(pace) => begin + Duration::from_secs_f64(number as f64 / pace),
                    };
                    sleep_until(due).await;
                    let order = Uuid::now_v7();
                    match way {
                        Way::ByEvent => ours::commit(&outbox, Business::Order, &order.to_string()).await?,
                        Way::InRequest => limit::mail::order(&pool, &mailer, order).await?,
                    }
                    answered.push((order, due.elapsed().as_secs_f64() * 1e3));
                }
            });
        }
        let mut answered = Vec::with_capacity(count);
        while let Some(place) = places.join_next().await {
            answered.extend(place.context("a request panicked")??);
        }
        let (orders, milliseconds) = answered.into_iter().unzip();
        Ok(Answers { orders, milliseconds, begin, end: Instant::now() })
    }

    /// Waits until every mail was taken and nothing is left that would send one, and looks at them. When the last one was taken.
    async fn all_mails(&self, way: Way, answers: &Answers, mail: &mut Measurement) -> Result<Instant> {
        let waves = u32::try_from(answers.orders.len())?.div_ceil(PLACES);
        let deadline = Instant::now() + TAKES * waves + PATIENCE;
        while self.server.count() < answers.orders.len() {
            ensure!(
                Instant::now() < deadline,
                "mails are missing: {} of {}",
                self.server.count(),
                answers.orders.len()
            );
            sleep(LOOK).await;
        }
        if way == Way::ByEvent {
            self.scene.until("everything is published", ours::DRAINED).await?;
            self.scene.until("no mail is owed", "select not exists (select from messaging.job)").await?;
            let owed = self.scene.count("select count(*) from letters where sent_at is null").await?;
            let owed = if owed == 0 { Vec::new() } else { vec![format!("{owed} mails are not recorded as sent")] };
            mail.check("each mail that was sent is recorded", answers.orders.len() as u64, owed);
        }
        let taken = self.server.take();
        came_once(mail, way, &answers.orders, &taken);
        taken.iter().map(|mail| mail.at).max().context("mails were taken")
    }
}

/// Looks at the mails of these orders.
fn came_once(mail: &mut Measurement, way: Way, orders: &[Uuid], taken: &[Taken]) {
    let side = if way == Way::ByEvent { "by event" } else { "in the request" };
    let mut times: HashMap<Uuid, usize> = HashMap::new();
    taken.iter().for_each(|mail| *times.entry(mail.order).or_default() += 1);
    let missing = orders.iter().filter(|order| !times.contains_key(order)).count();
    let missing = if missing == 0 { Vec::new() } else { vec![format!("{side}: {missing} orders have no mail")] };
    mail.check("each order has its mail", orders.len() as u64, missing);
    let more = taken.len().saturating_sub(times.len());
    let more = if more == 0 { Vec::new() } else { vec![format!("{side}: {more} mails came twice")] };
    mail.check("no mail comes twice", taken.len() as u64, more);
}
