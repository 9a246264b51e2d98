//! What this service reacts to: lines of the access log, many at a time.

use events::access_log::v1::RequestLogged;
use messaging::{BulkHandler, HandlerError, Line, OutboxTransaction};

use crate::{line, metrics};

/// Stores what is not there yet.
pub(crate) struct StoreLines;

impl BulkHandler<RequestLogged> for StoreLines {
    async fn handle(&self, lines: &[Line<RequestLogged>], tx: &mut OutboxTransaction) -> Result<(), HandlerError> {
        let usable: Vec<_> = lines.iter().filter_map(usable).collect();
        let stored = line::store(tx, &usable).await?;
        if !stored.today {
            // Housekeeping makes it at the start and every hour.
            return Err(HandlerError::unavailable("there is no partition for today yet"));
        }
        if stored.refused > 0 {
            tracing::warn!(lines = stored.refused, "lines of days that are gone, or not here yet, were refused");
        }
        metrics::count(&stored, lines.len() - usable.len());
        Ok(())
    }
}

/// A line that cannot be stored is a mistake of the service that wrote it, and costs no other its place.
fn usable(line: &Line<RequestLogged>) -> Option<line::Line> {
    let read = line::Line::read(&line.service, &line.event);
    read.inspect_err(|error| tracing::warn!(%error, service = line.service, "a line of the access log is not usable"))
        .ok()
}
