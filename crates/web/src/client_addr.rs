//! The address a request comes from, for throttling. It is never recorded in traces or logs; of the access log see `observer.rs`.

use std::{
    future::{Ready, ready},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use actix_web::{FromRequest, HttpRequest, dev::Payload};

use crate::{Problem, server::Shared};

/// The address of the client: of the connection, or what the trusted proxies said (`HTTP_TRUSTED_PROXIES`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

impl ClientAddr {
    /// Connections over TCP always have one.
    pub(crate) fn of(request: &HttpRequest) -> Option<Self> {
        let trusted = Shared::of(request).map_or(0, |shared| shared.options.trusted_proxies);
        let peer = request.peer_addr().map(|address| address.ip());
        let headers = request.headers().get_all("x-forwarded-for");
        let forwarded: Vec<&str> = headers.filter_map(|value| value.to_str().ok()).collect();
        forwarded_for(&forwarded.join(","), trusted).or(peer).map(Self)
    }

    /// What to count by: the address itself, or for IPv6 its /64, since one customer has that many addresses.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        }
    }
}

impl FromRequest for ClientAddr {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request).ok_or_else(|| Problem::bad_request("The address of the client is not known.")))
    }
}

/// Each proxy appends the address it got the request from, so what `trusted` proxies wrote is at the end; what is before is the client's own claim.
fn forwarded_for(header: &str, trusted: usize) -> Option<IpAddr> {
    let from_the_end = trusted.checked_sub(1)?;
    address(header.rsplit(',').nth(from_the_end)?.trim())
}

/// Some proxies write the port too, and brackets around IPv6.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    bare.unwrap_or(text).parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        let header = "6.6.6.6, 192.0.2.7, 198.51.100.1";
        assert_eq!(forwarded_for(header, 0), None);
        assert_eq!(forwarded_for(header, 1), Some([198, 51, 100, 1].into()));
        assert_eq!(forwarded_for(header, 2), Some([192, 0, 2, 7].into()));
        assert_eq!(forwarded_for(header, 4), None);
        assert_eq!(forwarded_for("unknown", 1), None);
    }

    #[test]
    fn an_address_is_the_same_with_its_port_and_in_brackets() {
        for (entry, expected) in [
            ("192.0.2.7:50123", "192.0.2.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
        ] {
            assert_eq!(forwarded_for(&format!("6.6.6.6, {entry}"), 1), expected.parse().ok(), "{entry}");
        }
        assert_eq!(forwarded_for("192.0.2.7:port", 1), None);
    }

    #[test]
    fn addresses_of_one_ipv6_customer_count_as_one() {
        let network = |text: &str| ClientAddr(text.parse().unwrap()).network();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2::1"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:192.0.2.7"), network("192.0.2.7"));
    }
}
