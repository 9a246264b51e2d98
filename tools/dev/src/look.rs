//! What all pages have in common: one document around them, one stylesheet, how durations and times are written, and a colour for
//! each service. Nothing is loaded from elsewhere, and nothing stands inline: the content policy of [`crate::http_server`] forbids
//! both scripts and styles that are part of a page, so that text which is not ours can become neither.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    sync::{Arc, OnceLock},
};

use hyper::StatusCode;
use mail_parser::DateTime;

use crate::{
    http_server::{Ask, Reply, asset, escape, page, redirect, text},
    workspace,
};

/// So many colours are in the stylesheet, as `c0` to `c11`.
const COLOURS: usize = 12;

/// A page without its frame.
#[derive(Default)]
pub(crate) struct Page<'a> {
    /// What the browser calls it.
    pub(crate) title: &'a str,
    /// Path and name of what the navigation leads to.
    pub(crate) navigation: &'a [(&'a str, &'a str)],
    /// That of them which this page is.
    pub(crate) here: &'a str,
    /// Names of scripts below `/assets/`.
    pub(crate) scripts: &'a [&'a str],
    /// Asks the browser to load it again so often.
    pub(crate) refresh_seconds: Option<u32>,
    /// HTML.
    pub(crate) body: String,
}

impl Page<'_> {
    pub(crate) fn reply(&self) -> Reply {
        let mut head = String::new();
        if let Some(seconds) = self.refresh_seconds {
            let _ = write!(head, "<meta http-equiv=refresh content={seconds}>");
        }
        for script in self.scripts {
            let _ = write!(head, "<script src=\"/assets/{script}\" defer></script>");
        }
        let mut navigation = String::new();
        for (path, name) in self.navigation {
            let here = if *path == self.here { " aria-current=page" } else { "" };
            let _ = write!(navigation, "<a href=\"{}\"{here}>{}</a>", escape(path), escape(name));
        }
        page(format!(
            "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <title>{} · Postrider</title><link rel=stylesheet href=\"/assets/style.css\">\
             <link rel=icon type=\"image/svg+xml\" href=\"/assets/icon.svg\">{head}</head><body>\
             <nav class=top><b>Postrider</b>{navigation}</nav><main>{}</main></body></html>",
            escape(self.title),
            self.body,
        ))
    }
}

/// The files that every page needs; `None` for any other path.
pub(crate) fn shared_asset(ask: &Ask) -> Option<Reply> {
    match ask.path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["assets", "style.css"] => Some(asset("text/css; charset=utf-8", include_str!("look/style.css"))),
        ["assets", "icon.svg"] => Some(asset("image/svg+xml", include_str!("look/icon.svg"))),
        _ => None,
    }
}

/// Where the page of the stack is that something is part of; it is known once that has started.
#[derive(Clone, Default)]
pub(crate) struct Stack(Arc<OnceLock<u16>>);

impl Stack {
    /// In the navigation of everything that may be part of a stack.
    pub(crate) const LINK: (&str, &str) = ("/stack", "This stack");

    pub(crate) fn is_at(&self, port: u16) {
        // A second page would be no news to anybody.
        let _known = self.0.set(port);
    }

    /// Follows [`Self::LINK`]; `None` for any other path.
    pub(crate) fn answer(&self, ask: &Ask) -> Option<Reply> {
        (ask.path == ["stack"]).then(|| match self.0.get() {
            Some(port) => redirect(&format!("http://localhost:{port}/")),
            None => text(StatusCode::NOT_FOUND, "This is not part of a stack.\n"),
        })
    }
}

/// Colours of services, told apart as long as there are not too many; always beside the name, never instead of it.
pub(crate) struct Colours(Vec<(String, usize)>);

impl Colours {
    /// A service keeps its colour from page to page, unless another one that comes before it by name wants the same.
    pub(crate) fn of<'a>(services: impl IntoIterator<Item = &'a str>) -> Self {
        let mut taken: Vec<(String, usize)> = Vec::new();
        for service in services.into_iter().collect::<BTreeSet<_>>() {
            let wanted = usize::try_from(workspace::fingerprint(service.as_bytes()) % COLOURS as u64).unwrap_or(0);
            let free = (0..COLOURS)
                .map(|step| (wanted + step) % COLOURS)
                .find(|colour| taken.iter().all(|(_, used)| used != colour));
            taken.push((service.to_owned(), free.unwrap_or(wanted)));
        }
        Self(taken)
    }

    /// The class of a service's colour.
    pub(crate) fn class(&self, service: &str) -> String {
        let known = self.0.iter().find(|(name, _)| name == service);
        known.map_or_else(|| "cx".to_owned(), |(_, colour)| format!("c{colour}"))
    }

    /// The service's name on its colour.
    pub(crate) fn chip(&self, service: &str) -> String {
        format!("<span class=\"chip {}\">{}</span>", self.class(service), escape(service))
    }
}

/// A duration as short as it can be read: `87 µs`, `12.3 ms`, `4.20 s`, `3 min 5 s`.
pub(crate) fn duration(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.0} µs", value / 1e3),
        1_000_000..10_000_000 => format!("{:.2} ms", value / 1e6),
        10_000_000..100_000_000 => format!("{:.1} ms", value / 1e6),
        100_000_000..1_000_000_000 => format!("{:.0} ms", value / 1e6),
        1_000_000_000..60_000_000_000 => format!("{:.2} s", value / 1e9),
        _ => {
            let seconds = nanoseconds / 1_000_000_000;
            match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
                (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
                (hours, minutes, _) => format!("{hours} h {minutes} min"),
            }
        }
    }
}

/// A moment, UTC.
pub(crate) fn time(nanoseconds: u64) -> String {
    let date = DateTime::from_timestamp(i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX));
    format!("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", date.year, date.month, date.day, date.hour, date.minute, date.second)
}

/// A share as people say it; what is little is not called nothing.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    match part as f64 * 100.0 / whole.max(1) as f64 {
        share if part > 0 && share < 1.0 => "< 1 %".to_owned(),
        share => format!("{share:.0} %"),
    }
}

/// One or many.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_the_unit_that_reads_best() {
        for (nanoseconds, text) in [
            (0, "0 ns"),
            (87_000, "87 µs"),
            (1_500_000, "1.50 ms"),
            (12_340_000, "12.3 ms"),
            (437_430_000, "437 ms"),
            (4_200_000_000, "4.20 s"),
            (185_000_000_000, "3 min 5 s"),
            (7_380_000_000_000, "2 h 3 min"),
        ] {
            assert_eq!(duration(nanoseconds), text);
        }
    }

    #[test]
    fn no_two_services_share_a_colour_while_there_are_enough() {
        let names = ["access-log", "inventory", "notifications", "orders", "payments", "users", "a", "b", "c", "d"];
        let colours = Colours::of(names);
        let distinct: BTreeSet<String> = names.iter().map(|name| colours.class(name)).collect();
        assert_eq!(distinct.len(), names.len());
    }

    #[test]
    fn a_small_share_is_not_called_nothing() {
        assert_eq!((percent(0, 10), percent(1, 1_000), percent(1, 2)), ("0 %".into(), "< 1 %".into(), "50 %".into()));
    }
}
