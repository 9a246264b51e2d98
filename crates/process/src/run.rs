//! Running a process, and its one way to stop.

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, time::Duration};

use anyhow::Context as _;
use clap::Args;
use futures_util::{FutureExt as _, future::join_all};
use messaging::{
    Broker, Collector, Consumer,
    topology::{Management, Service},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use web::BoundServer;

use crate::{
    Command, Options, Process,
    parts::{Core, Part},
    topology,
};

/// How long everything in hand may take to finish after `stop`.
const GRACE: Duration = Duration::from_secs(30);
/// Between two tries to look at the broker's topology, when it breaks off in the middle.
const VERIFY_AGAIN: Duration = Duration::from_secs(1);

/// One part of the process. On the heap: nested into each other they need too much stack where nothing is optimized.
type Running<'a, T = ()> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + Send + 'a>>;

/// The `main` of a service: its command, telemetry, run until told to stop, flush.
///
/// # Errors
/// What ended the process, if it was not told to stop.
#[expect(clippy::print_stdout, reason = "`topology` and `replay` are commands, and this is their output")]
pub async fn main<C, T, B>(
    service: &'static str,
    version: &'static str,
    topology: impl FnOnce() -> T,
    build: impl FnOnce(C) -> B,
    options: impl FnOnce(&C) -> &Options,
) -> anyhow::Result<()>
where
    C: Args,
    T: Future<Output = anyhow::Result<Service>>,
    B: Future<Output = anyhow::Result<Process>>,
{
    let config = match Command::<C>::from_args(service, version) {
        Command::Serve(config) => config,
        Command::Topology => {
            println!("{}", serde_json::to_string_pretty(&topology().await?)?);
            return Ok(());
        }
        Command::Replay(replay) => {
            println!("{}", replay.run(service, options(&replay.config)).await?);
            return Ok(());
        }
    };
    let telemetry = telemetry::init(service, version, &options(&config).telemetry)?;
    let stop = web::stop_signal();
    let ended = match stop.run_until_cancelled(build(*config)).await {
        Some(Ok(process)) => process.run(stop.clone()).await,
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    log_end(&ended, stop.is_cancelled());
    telemetry.shutdown().await;
    ended
}

/// Whoever started the process is told of an error on its error output, too.
fn log_end(ended: &anyhow::Result<()>, told_to: bool) {
    let error = match ended {
        Ok(()) => return tracing::info!("stopped"),
        Err(error) => format!("{error:#}"),
    };
    if told_to {
        tracing::error!(error, "the process was told to stop, and ends with an error");
    } else {
        tracing::error!(error, "the process ends before it was told to");
    }
}

impl Process {
    /// Works until `stop`, then finishes what is in hand. An error of one part stops the others in the same orderly way.
    ///
    /// # Errors
    /// That of the first part that failed, or that not everything in hand was finished in time.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { core, server, parts, at_end, stop: own, measured: _measured, .. } = self;
        let everything = async {
            // Routes announce events too: the relay outlives them, as it outlives the rest.
            let served = CancellationToken::new();
            let serve = async {
                let result = guard(&own, Box::pin(serve(server, &own))).await;
                served.cancel();
                result
            };
            let work: Running<'_> = Box::pin(core.work(parts, &own, &served));
            let (served, worked, ()) = tokio::join!(serve, work, core.log(&served));
            worked.and(served)
        };
        let too_long = async {
            tokio::select! {
                () = stop.cancelled() => own.cancel(),
                () = own.cancelled() => {}
            }
            sleep(GRACE).await;
        };
        let result = tokio::select! {
            result = everything => result,
            () = too_long => Err(anyhow::anyhow!("not everything was finished in time; the next process does")),
        };
        core.broker.close().await;
        join_all(at_end).await;
        result
    }
}

impl Core {
    /// Everything but HTTP. Each thing that may fail is guarded by itself, so that no failure is told twice.
    async fn work(&self, parts: Vec<Part>, stop: &CancellationToken, served: &CancellationToken) -> anyhow::Result<()> {
        let prepare = async { stop.run_until_cancelled(self.prepare()).await.transpose() };
        let Some(()) = guard(stop, Box::pin(prepare)).await? else {
            return Ok(());
        };
        let finished = CancellationToken::new();
        let relay = async { self.relay.run(finished.clone()).await.context("relay") };
        let others = async {
            let consume: Running<'_> = Box::pin(self.run_consumers(stop));
            let parts = join_all(parts.into_iter().map(|part| guard(stop, part(stop.clone()))));
            let (consumed, parts) = tokio::join!(consume, parts);
            served.cancelled().await;
            finished.cancel();
            parts.into_iter().fold(consumed, Result::and)
        };
        let (relayed, others) = tokio::join!(guard(stop, Box::pin(relay)), others);
        others.and(relayed)
    }

    /// Sends lines of the access log as long as requests are answered, whatever else is the matter.
    async fn log(&self, served: &CancellationToken) {
        if let Some(logs) = &self.logs {
            logs.run(served.clone()).await;
        }
    }

    /// Consumes once the broker has what the handlers need; without consumers that is still looked at, for the right to publish.
    async fn run_consumers(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        let needed = topology::needed(self.name, &self.consumers, &self.collectors);
        let verify = async { verify(&self.broker, &needed, self.management.as_ref(), stop).await.context("topology") };
        guard(stop, Box::pin(verify)).await?;
        let consume = async |consumer: &Consumer| consumer.run(stop.clone()).await.context("consumer");
        let collect = async |collector: &Collector| collector.run(stop.clone()).await.context("collector");
        let consuming = self.consumers.iter().map(|consumer| guard(stop, Box::pin(consume(consumer))));
        let collecting = self.collectors.iter().map(|collector| guard(stop, Box::pin(collect(collector))));
        let (consumed, collected) = tokio::join!(join_all(consuming), join_all(collecting));
        consumed.into_iter().chain(collected).collect()
    }
}

/// HTTP until `stop`; without it, just that long.
async fn serve(server: Option<BoundServer>, stop: &CancellationToken) -> anyhow::Result<()> {
    match server {
        Some(server) => server.run(stop.clone()).await.context("HTTP"),
        None => {
            stop.cancelled().await;
            Ok(())
        }
    }
}

/// Looks whether what the service needs of the broker exists. A broker that is away, or does not know the service yet, is waited for; one
/// that differs is a mistake that no waiting repairs.
async fn verify(
    broker: &Broker,
    needed: &Service,
    management: Option<&Management>,
    stop: &CancellationToken,
) -> Result<(), messaging::Error> {
    loop {
        match stop.run_until_cancelled(broker.verify(needed, management)).await {
            None | Some(Ok(())) => return Ok(()),
            Some(Err(error @ (messaging::Error::Topology(_) | messaging::Error::Configuration(_)))) => {
                return Err(error);
            }
            Some(Err(error)) => tracing::warn!(%error, "the broker's topology could not be looked at yet"),
        }
        if stop.run_until_cancelled(sleep(VERIFY_AGAIN)).await.is_none() {
            return Ok(());
        }
    }
}

/// Runs a part; when it fails, or panics, the others are told to stop. That is logged at once: the others may take longer than they have, and
/// may fail too, and the process ends with one error.
async fn guard<T>(stop: &CancellationToken, part: Running<'_, T>) -> anyhow::Result<T> {
    // The panic hook has logged the panic itself.
    let part = AssertUnwindSafe(part).catch_unwind();
    let result = part.await.unwrap_or_else(|_panic| Err(anyhow::anyhow!("a part panicked")));
    if let Err(error) = &result {
        tracing::error!(error = format!("{error:#}"), "a part failed; the others are stopped");
        stop.cancel();
    }
    result
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use tracing::subscriber::DefaultGuard;

    use super::*;

    /// What this thread logs.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn record() -> (Self, DefaultGuard) {
            let lines = Self::default();
            let writer = lines.clone();
            let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
            (lines, tracing::subscriber::set_default(subscriber))
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn why_a_part_failed_is_logged_before_the_others_have_stopped() {
        let ((lines, _recording), stop) = (Lines::record(), CancellationToken::new());
        let fails = async { Err::<(), _>(io::Error::other("no such queue")).context("consumer") };
        assert!(guard(&stop, Box::pin(fails)).await.is_err());
        assert!(stop.is_cancelled());
        let text = lines.text();
        assert!(text.contains("ERROR") && text.contains("consumer: no such queue"), "{text}");
        assert!(text.contains("a part failed; the others are stopped"), "{text}");
    }

    #[tokio::test]
    async fn a_part_that_panics_stops_the_others_like_one_that_fails() {
        let ((lines, _recording), stop) = (Lines::record(), CancellationToken::new());
        let error = guard::<()>(&stop, Box::pin(async { panic!("a part panics on purpose") })).await.unwrap_err();
        assert_eq!(error.to_string(), "a part panicked");
        assert!(stop.is_cancelled());
        assert!(lines.text().contains("a part failed; the others are stopped"), "{}", lines.text());
    }

    #[test]
    fn a_process_that_was_told_to_stop_does_not_claim_the_contrary() {
        for (told_to, expected) in
            [(true, "was told to stop, and ends with an error"), (false, "ends before it was told to")]
        {
            let (lines, _recording) = Lines::record();
            log_end(&Err(anyhow::anyhow!("not everything was finished in time")), told_to);
            assert!(lines.text().contains(expected), "{}", lines.text());
        }
    }
}
