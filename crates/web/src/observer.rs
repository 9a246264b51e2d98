//! What others may learn of a request that is over. It holds nothing that identifies a person: the address is cut off, and there is neither a
//! path nor a query, a header, or who was logged in. What is done with it is not decided here.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix_web::{HttpRequest, http::header};

use crate::{ClientAddr, route::Route, server::Shared};

/// Called with every finished request, on the thread that answered it: it must return at once.
pub(crate) type Observer = Arc<dyn Fn(Finished) + Send + Sync>;

/// A request that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Bounded: what is no method of HTTP is `_OTHER`.
    pub method: &'static str,
    /// The pattern, such as `/users/{id}`, or `unmatched`.
    pub route: String,
    /// 499: the client went away before there was an answer.
    pub status: u16,
    /// When its head had arrived.
    pub started_at: SystemTime,
    /// To the last byte of the answer.
    pub duration: Duration,
    /// What the client said of the body's length.
    pub request_bytes: Option<u64>,
    /// Of the body.
    pub response_bytes: u64,
    /// The client's network, such as `192.0.2.0/24` or `2001:db8:1::/48`.
    pub client_network: Option<String>,
    /// One of a few words, such as `firefox`, `curl` or `other`.
    pub user_agent: Option<&'static str>,
    /// The trace, 32 hexadecimal digits.
    pub trace_id: Option<String>,
}

/// A request that is being answered and will be told of.
pub(crate) struct Observation {
    observer: Observer,
    started_at: SystemTime,
    request_bytes: Option<u64>,
    client_network: Option<String>,
    user_agent: Option<&'static str>,
}

impl Observation {
    /// `None` if nobody wants to know. Probes and the pages of the documentation are not told of: they are no use of the service.
    pub(crate) fn begin(request: &HttpRequest, route: &Route) -> Option<Self> {
        let observer = Shared::of(request)?.observer.clone()?;
        if route.is_operations() || route.is_documentation() {
            return None;
        }
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        Some(Self {
            observer,
            started_at: SystemTime::now(),
            request_bytes: text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            client_network: ClientAddr::of(request).map(|ClientAddr(address)| network(address)),
            user_agent: request
                .headers()
                .get(header::USER_AGENT)
                .map(|agent| family(agent.to_str().unwrap_or_default())),
        })
    }

    pub(crate) fn finish(self, route: &Route, status: u16, duration: Duration, response_bytes: u64) {
        (self.observer)(Finished {
            method: route.method,
            route: route.label().to_owned(),
            status,
            started_at: self.started_at,
            duration,
            request_bytes: self.request_bytes,
            response_bytes,
            client_network: self.client_network,
            user_agent: self.user_agent,
            trace_id: telemetry::current_trace_id(),
        });
    }
}

/// As much of an address as tells a region or a company, and no person or household.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("{}/24", Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << 8))),
        IpAddr::V6(address) => format!("{}/48", Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80))),
    }
}

/// The kind of client, told by what each of them puts into the header. In this order, because many claim to be others as well.
fn family(user_agent: &str) -> &'static str {
    const FAMILIES: [(&str, &str); 12] = [
        ("bot", "bot"),
        ("crawler", "bot"),
        ("spider", "bot"),
        ("edg", "edge"),
        ("opr/", "opera"),
        ("firefox/", "firefox"),
        ("chrome/", "chrome"),
        ("safari/", "safari"),
        ("curl/", "curl"),
        ("wget/", "wget"),
        ("python", "python"),
        ("go-http-client", "go"),
    ];
    let lower = user_agent.to_ascii_lowercase();
    FAMILIES.iter().find(|(mark, _)| lower.contains(mark)).map_or("other", |(_, family)| family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_cut_off_where_it_begins_to_name_somebody() {
        let cut = |text: &str| network(text.parse().unwrap());
        assert_eq!(cut("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(cut("2001:db8:1:2:3:4:5:6"), "2001:db8:1::/48");
        assert_eq!(cut("::ffff:192.0.2.77"), "192.0.2.0/24");
    }

    #[test]
    fn clients_are_told_by_kind_and_never_by_version() {
        let chrome =
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
        assert_eq!(family(chrome), "chrome");
        assert_eq!(family(&format!("{chrome} Edg/140.0")), "edge");
        assert_eq!(family("curl/8.5.0"), "curl");
        assert_eq!(family("Mozilla/5.0 (compatible; Googlebot/2.1)"), "bot");
        assert_eq!(family("something that Ada wrote"), "other");
        assert_eq!(family(""), "other");
    }
}
