//! The whole shop on the real system, through public doors only: HTTP of the services, the mailbox, the traces, the page of the stack. Started and stopped as
//! `cargo dev` does it, each stack under a name and on ports of its own.
//!
//! A test is a stack: the parts that share one follow each other on it. A stack whose test has failed is left behind for whoever looks
//! into it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod access_log;
mod canaries;
mod deadlines;
mod expressions;
mod metrics;
mod orders;
mod page;
mod registration;
mod rush;
mod scene;
mod signals;
mod traces;

use std::{path::PathBuf, time::Duration};

use dev::stack::{Monitoring, Options, Stack};
use tokio::sync::Mutex;

const PASSWORD: &str = "a long and unlikely pass phrase";
/// Far more than anything here takes on a slow machine; a part that fails takes this long.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Two stacks at once are too much for a small machine. A runner with a process for each test has its own means.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn the_shop_works_whatever_dies_on_the_way() {
    let _one = ONE_AT_A_TIME.lock().await;
    // No deadline is to come before those that are away for a moment, nor while a trace is looked at.
    let mut stack = start(patient(options("system"))).await;
    registration::all(&mut stack).await;
    orders::all(&mut stack).await;
    access_log::all(&stack).await;
    page::all(&mut stack).await;
    stack.stop(true).await.unwrap();
}

#[tokio::test]
async fn telemetry_shows_everything_that_happens_and_nothing_personal() {
    let _one = ONE_AT_A_TIME.lock().await;
    let mut options = patient(options("telemetry"));
    for service in Stack::services() {
        options = options.setting(service, "LOG_FORMAT", "json");
    }
    let mut stack = start(options).await;
    traces::all(&mut stack).await;
    canaries::all(&stack).await;
    signals::all(&mut stack).await;
    stack.stop(true).await.unwrap();
}

#[tokio::test]
async fn a_rush_for_the_last_goods_sells_each_once() {
    let _one = ONE_AT_A_TIME.lock().await;
    let mut options = options("rush");
    options.replicas = 2;
    for service in Stack::services() {
        // Nobody looks at a thousand traces to the last statement.
        options = options.setting(service, "TRACES_SQL", false);
    }
    let stack = start(patient(options)).await;
    rush::a_thousand_orders_for_a_hundred_goods(&stack).await;
    stack.stop(true).await.unwrap();
}

#[tokio::test]
async fn nothing_waits_for_ever_and_nothing_is_kept() {
    let _one = ONE_AT_A_TIME.lock().await;
    let options = options("deadlines")
        .setting("orders", "STOCK_DEADLINE_SECONDS", 4)
        .setting("orders", "PAYMENT_DEADLINE_SECONDS", 6)
        .setting("orders", "COMMIT_DEADLINE_SECONDS", 4)
        .setting("payments", "PROVIDER_SLOW_SECONDS", 10);
    let mut stack = start(options).await;
    deadlines::all(&mut stack).await;
    stack.stop(true).await.unwrap();
}

#[tokio::test]
async fn what_happens_is_measured_and_what_goes_wrong_is_said() {
    let _one = ONE_AT_A_TIME.lock().await;
    let mut options = options("metrics");
    // The rules are the shipped ones; only how often they are looked at is not.
    options.monitoring = Some(Monitoring { interval_seconds: 1 });
    let stack = start(patient(options)).await;
    metrics::all(&stack).await;
    stack.stop(true).await.unwrap();
}

fn options(name: &str) -> Options {
    let mut options = Options::named(name).tested();
    options.program = PathBuf::from(env!("CARGO_BIN_EXE_dev"));
    options
}

/// Nothing ends because the machine is slow.
fn patient(options: Options) -> Options {
    options
        .setting("orders", "STOCK_DEADLINE_SECONDS", 900)
        .setting("orders", "PAYMENT_DEADLINE_SECONDS", 900)
        .setting("orders", "COMMIT_DEADLINE_SECONDS", 900)
        .setting("inventory", "RESERVATION_SECONDS", 3600)
}

async fn start(options: Options) -> Stack {
    // What a run that failed has left behind.
    Stack::purge(&options.name).await.unwrap();
    Stack::start(options).await.unwrap()
}

/// Looks until there is something to see.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
