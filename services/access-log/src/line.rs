//! A line of the access log: how it is read from what a service wrote, and how many of them are stored at once.

use std::{fmt::Write as _, net::IpAddr, str::FromStr as _};

use chrono::{DateTime, Datelike as _, SecondsFormat, Utc};
use events::access_log::v1::RequestLogged;
use sqlx::PgConnection;
use uuid::Uuid;

/// Longer words than these are cut off.
const MAX_CHARS: usize = 200;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) at: DateTime<Utc>,
    pub(crate) id: Uuid,
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) method: String,
    pub(crate) route: String,
    pub(crate) status: i16,
    pub(crate) duration_us: i64,
    pub(crate) request_bytes: Option<i64>,
    pub(crate) response_bytes: i64,
    pub(crate) client_network: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) trace_id: Option<String>,
}

/// What became of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) new: i64,
    /// Stored before.
    pub(crate) repeated: i64,
    /// Of days without a partition.
    pub(crate) refused: i64,
    /// Whether there is a partition for today. If not, nothing can be said of what was refused.
    pub(crate) today: bool,
}

/// Why a line cannot be stored at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("its id is no UUID")]
    Id,
    #[error("it has no time, or one out of reach")]
    Time,
    #[error("its status is no status of HTTP")]
    Status,
}

impl Line {
    /// What a service wrote, made fit for the table. What was not cut off by the service is cut off here.
    pub(crate) fn read(service: &str, event: &RequestLogged) -> Result<Self, Unusable> {
        let at = event.at.as_ref().and_then(|at| {
            // The database keeps microseconds; the same line must have the same time each time.
            let at = DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()? / 1_000 * 1_000)?;
            (2000..=9999).contains(&at.year()).then_some(at)
        });
        let some = |text: &str| (!text.is_empty()).then(|| word(text));
        Ok(Self {
            at: at.ok_or(Unusable::Time)?,
            id: event.request_id.parse().map_err(|_| Unusable::Id)?,
            service: word(service),
            instance: word(&event.instance),
            method: word(&event.method),
            route: word(&event.route),
            status: i16::try_from(event.status).ok().filter(|s| (100..=599).contains(s)).ok_or(Unusable::Status)?,
            duration_us: count(event.duration_us),
            request_bytes: event.request_bytes.map(count),
            response_bytes: count(event.response_bytes),
            client_network: network(&event.client_network),
            user_agent: some(&event.user_agent),
            trace_id: some(&event.trace_id),
        })
    }

    /// A row in the text format of COPY (PostgreSQL documentation, COPY, "Text Format").
    fn write(&self, rows: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(rows, "{}\t{}", self.at.to_rfc3339_opts(SecondsFormat::Micros, true), self.id);
        for text in [&self.service, &self.instance, &self.method, &self.route] {
            rows.push('\t');
            escape(text, rows);
        }
        let _ = write!(rows, "\t{}\t{}\t", self.status, self.duration_us);
        let _ = match self.request_bytes {
            Some(bytes) => write!(rows, "{bytes}"),
            None => write!(rows, "\\N"),
        };
        let _ = write!(rows, "\t{}", self.response_bytes);
        for text in [&self.client_network, &self.user_agent, &self.trace_id] {
            rows.push('\t');
            match text {
                Some(text) => escape(text, rows),
                None => rows.push_str("\\N"),
            }
        }
        rows.push('\n');
    }
}

/// Stores what is not there yet, in the given transaction.
///
/// The lines are copied into a table of this connection first: COPY itself knows no conflict, and a line that was delivered twice, or whose day has
/// no partition, must not cost the others of its batch.
pub(crate) async fn store(db: &mut PgConnection, lines: &[Line]) -> Result<Stored, sqlx::Error> {
    // It would be mentioned each time that the table is there already.
    sqlx::raw_sql(
        "set local client_min_messages = warning;
         create temporary table if not exists incoming_lines (like access_log) on commit delete rows",
    )
    .execute(&mut *db)
    .await?;
    let mut rows = String::with_capacity(lines.len() * 256);
    lines.iter().for_each(|line| line.write(&mut rows));
    let mut copy = db
        .copy_in_raw(
            "copy incoming_lines (at, id, service, instance, method, route, status, duration_us, request_bytes, response_bytes,
                                  client_network, user_agent, trace_id) from stdin",
        )
        .await?;
    copy.send(rows.into_bytes()).await?;
    copy.finish().await?;
    // Not checked at compile time: the table is this connection's own. In the order of the key, so that two collectors cannot deadlock.
    let (new, refused, all, today) = sqlx::query_as::<_, (i64, i64, i64, bool)>(
        "with days as materialized (
             select access_log_days() as day
         ), placed as (
             select * from incoming_lines where (at at time zone 'utc')::date in (select day from days)
         ), stored as (
             insert into access_log (at, id, service, instance, method, route, status, duration_us, request_bytes, response_bytes,
                                     client_network, user_agent, trace_id)
             select at, id, service, instance, method, route, status, duration_us, request_bytes, response_bytes,
                    client_network, user_agent, trace_id
             from placed order by at, id
             on conflict (at, id) do nothing
             returning 1
         )
         select (select count(*) from stored),
                (select count(*) from incoming_lines) - (select count(*) from placed),
                (select count(*) from incoming_lines),
                (now() at time zone 'utc')::date in (select day from days)",
    )
    .fetch_one(&mut *db)
    .await?;
    Ok(Stored { new, repeated: all - refused - new, refused, today })
}

/// Without what Postgres cannot hold in a text, and not too long.
fn word(text: &str) -> String {
    text.chars().filter(|character| *character != '\0').take(MAX_CHARS).collect()
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The first 24 bits of an IPv4 address, 48 of an IPv6 one, whatever was sent.
fn network(text: &str) -> Option<String> {
    let address = text.split('/').next().and_then(|address| IpAddr::from_str(address).ok())?;
    Some(match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    })
}

fn escape(text: &str, rows: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => rows.push_str("\\\\"),
            '\t' => rows.push_str("\\t"),
            '\n' => rows.push_str("\\n"),
            '\r' => rows.push_str("\\r"),
            other => rows.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_of_an_address_is_kept_than_its_network() {
        assert_eq!(network("192.0.2.77").as_deref(), Some("192.0.2.0/24"));
        assert_eq!(network("192.0.2.77/32").as_deref(), Some("192.0.2.0/24"));
        assert_eq!(network("2001:db8:1:2:3:4:5:6/128").as_deref(), Some("2001:db8:1::/48"));
        assert_eq!(network("2001:db8::/48").as_deref(), Some("2001:db8:0::/48"));
        assert_eq!(network("somewhere"), None);
    }

    #[test]
    fn a_word_cannot_leave_its_column_or_its_row() {
        let mut row = String::new();
        escape("a\tb\nc\\N\r", &mut row);
        assert_eq!(row, "a\\tb\\nc\\\\N\\r");
        assert_eq!(word("a\0b"), "ab");
        assert_eq!(word(&"x".repeat(1_000)).len(), MAX_CHARS);
    }
}
