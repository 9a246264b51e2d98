//! Times that clients send.

use chrono::{DateTime, Datelike as _, Utc};
use serde::{Deserialize, Serialize};

/// A time of the years 0 to 9999, as RFC 3339. Parsers take years of six digits, with a sign; a database does not, and no client means them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "DateTime<Utc>", into = "DateTime<Utc>")]
pub struct Moment(DateTime<Utc>);

impl Moment {
    /// The time itself.
    #[must_use]
    pub fn utc(self) -> DateTime<Utc> {
        self.0
    }
}

impl TryFrom<DateTime<Utc>> for Moment {
    type Error = &'static str;

    fn try_from(time: DateTime<Utc>) -> Result<Self, Self::Error> {
        if (0..=9999).contains(&time.year()) { Ok(Self(time)) } else { Err("must be of the years 0 to 9999") }
    }
}

impl From<Moment> for DateTime<Utc> {
    fn from(moment: Moment) -> Self {
        moment.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_no_database_keeps_is_refused() {
        let read = |text: &str| serde_json::from_str::<Moment>(&format!("\"{text}\""));
        assert!(read("2026-11-23T09:10:11.120334Z").is_ok());
        for text in ["-100000-01-01T00:00:00Z", "+100000-01-01T00:00:00Z", "-0001-12-31T23:59:59Z", "yesterday"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
