//! What a service writes: one handler for each event it reacts to.

use std::{marker::PhantomData, sync::Arc};

use futures_util::future::BoxFuture;

use crate::{Event, HandlerError, OutboxTransaction};

/// Reacts to one event.
///
/// The handler runs inside a transaction that also holds the inbox row: its rows, its events and the fact that the message was handled are
/// committed together or not at all, so the effect happens once however often the message is delivered. It gets the transaction and
/// nothing else: it cannot commit, acknowledge, or publish outside. Whatever is slow or outside Postgres belongs into a
/// [`Worker`](crate::Worker).
///
/// Its statements are planned once, not for their values, and go by an index where there is one (`plan_cache_mode = force_generic_plan`, `enable_seqscan = off`,
/// `jit = off`): right for looking up and writing a few rows. One that reads most of a table, or that needs a partial index whose condition is a
/// parameter, begins with `set local` of what it needs; the next handler of the batch has that, too.
pub trait Handler<E: Event>: Send + Sync + 'static {
    /// Handles one event. Any error rolls everything back; which one decides what becomes of the message, see [`HandlerError`].
    fn handle(&self, event: E, tx: &mut OutboxTransaction) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// A handler whose event type is erased, so that a consumer can hold many.
pub(crate) trait ErasedHandler: Send + Sync {
    /// Decodes and handles. An undecodable payload is rejected.
    fn handle<'a>(
        &'a self,
        payload: &'a [u8],
        tx: &'a mut OutboxTransaction,
    ) -> BoxFuture<'a, Result<(), HandlerError>>;

    /// The event in words, with its sensitive fields redacted.
    fn describe(&self, payload: &[u8]) -> Result<String, String>;
}

struct Erased<H, E> {
    handler: H,
    event: PhantomData<fn() -> E>,
}

pub(crate) fn erase<E: Event + std::fmt::Debug, H: Handler<E>>(handler: H) -> Arc<dyn ErasedHandler> {
    Arc::new(Erased { handler, event: PhantomData })
}

impl<E: Event + std::fmt::Debug, H: Handler<E>> ErasedHandler for Erased<H, E> {
    fn handle<'a>(
        &'a self,
        payload: &'a [u8],
        tx: &'a mut OutboxTransaction,
    ) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(async move {
            let event = E::decode(payload).map_err(HandlerError::reject)?;
            self.handler.handle(event, tx).await
        })
    }

    fn describe(&self, payload: &[u8]) -> Result<String, String> {
        E::decode(payload).map(|event| format!("{event:?}")).map_err(|error| error.to_string())
    }
}
