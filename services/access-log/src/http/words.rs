//! The words of a question, checked: what cannot be in a line is no filter, and would only find nothing.

use serde::{Deserialize, Deserializer, de::Error as _};

/// The name of a service.
#[derive(Clone, Debug)]
pub(crate) struct ServiceName(pub(crate) String);

/// The pattern of a route, or `unmatched`.
#[derive(Clone, Debug)]
pub(crate) struct RoutePattern(pub(crate) String);

/// A trace id: 32 hexadecimal digits.
#[derive(Clone, Debug)]
pub(crate) struct TraceId(pub(crate) String);

/// A status such as `404`, or a class such as `5xx`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusRange {
    pub(crate) lowest: i16,
    pub(crate) highest: i16,
}

/// A method as it is recorded.
#[derive(Clone, Copy, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Connect,
    Trace,
    /// Whatever else was sent.
    #[serde(rename = "_OTHER")]
    Other,
}

impl Method {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Connect => "CONNECT",
            Self::Trace => "TRACE",
            Self::Other => "_OTHER",
        }
    }
}

impl<'de> Deserialize<'de> for ServiceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let fits = (1..=40).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if fits { Ok(Self(name)) } else { Err(D::Error::custom("must be the name of a service, such as orders")) }
    }
}

impl<'de> Deserialize<'de> for RoutePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pattern = String::deserialize(deserializer)?;
        let is_path = pattern.starts_with('/') && pattern.bytes().all(|byte| byte.is_ascii_graphic());
        if pattern.len() <= 200 && (is_path || pattern == "unmatched") {
            Ok(Self(pattern))
        } else {
            Err(D::Error::custom("must be the pattern of a route, such as /orders/{id}, or unmatched"))
        }
    }
}

impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = String::deserialize(deserializer)?;
        let is_hex = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if is_hex { Ok(Self(id)) } else { Err(D::Error::custom("must be 32 hexadecimal digits, in lower case")) }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("must be a status such as 404, or a class such as 5xx"))
    }
}

impl StatusRange {
    fn parse(text: &str) -> Option<Self> {
        let class = |digit: &str| digit.parse::<i16>().ok().filter(|digit| (1..=5).contains(digit));
        if let Some(digit) = text.strip_suffix("xx") {
            let hundreds = class(digit).filter(|_| digit.len() == 1)? * 100;
            return Some(Self { lowest: hundreds, highest: hundreds + 99 });
        }
        let is_number = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        let status = text.parse().ok().filter(|status| is_number && (100..=599).contains(status))?;
        Some(Self { lowest: status, highest: status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_number_or_a_class() {
        let range = |text| StatusRange::parse(text).map(|range| (range.lowest, range.highest));
        assert_eq!(range("404"), Some((404, 404)));
        assert_eq!(range("5xx"), Some((500, 599)));
        for wrong in ["", "5", "99", "600", "6xx", "0xx", "+4xx", "4XX", "xx", "44xx", "+04", "04 "] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }
}
