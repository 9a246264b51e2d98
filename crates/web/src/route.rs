//! Which route a request is for, as a name that is safe in traces and metrics: bounded in number, without secrets.

use actix_web::{
    dev::ServiceRequest,
    http::{Method, Version, header, uri::Authority},
};

/// The label of requests to paths that do not exist; the paths themselves come from outside and are without number.
const UNMATCHED: &str = "unmatched";
/// Path parameters with these names are credentials and must not be recorded.
const SECRET_PARAMETERS: [&str; 4] = ["token", "secret", "code", "key"];
/// Asked every few seconds by machines: they are answered, but not recorded as traces and not logged.
const OPERATIONS: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// For people who read about the service, and not for its clients.
const DOCUMENTATION: [&str; 3] = ["/openapi.json", "/docs", "/docs/{_:.*}"];
const MAX_RECORDED_CHARS: usize = 256;

/// The route of a request and what may be recorded about it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// The pattern, such as `/users/{id}`; `None` if there is none.
    pub(crate) pattern: Option<String>,
    /// The path without secrets, bounded.
    pub(crate) path: String,
    /// The name of the program that asks, such as `curl`. What follows it may be anything, and is not recorded.
    pub(crate) user_agent: Option<String>,
}

impl Route {
    /// The pattern is looked up before routing, so that the span has its name, and is sampled, with it. Looked up is what is routed: the path
    /// after decoding, or `/%6Frders` would be let in where `/orders` is not.
    pub(crate) fn of(request: &ServiceRequest) -> Self {
        let pattern = request.resource_map().match_pattern(request.match_info().as_str());
        let user_agent = request.headers().get(header::USER_AGENT);
        Self {
            method: bounded_method(request.method()),
            path: bounded(&without_secrets(request.path(), pattern.as_deref())),
            pattern,
            user_agent: user_agent.and_then(|value| value.to_str().ok()).and_then(product),
        }
    }

    pub(crate) fn label(&self) -> &str {
        self.pattern.as_deref().unwrap_or(UNMATCHED)
    }

    /// `{METHOD} {route}`, or only the method when no route matches (HTTP semantic conventions).
    pub(crate) fn span_name(&self) -> String {
        match &self.pattern {
            Some(pattern) => format!("{} {pattern}", self.method),
            None => self.method.to_owned(),
        }
    }

    /// Where the client believes to be asking.
    pub(crate) fn authority(request: &ServiceRequest) -> Option<Authority> {
        let host = request.headers().get(header::HOST)?;
        Authority::try_from(host.as_bytes()).ok().filter(|authority| authority.host().len() <= MAX_RECORDED_CHARS)
    }

    /// The version as OpenTelemetry writes it.
    pub(crate) fn protocol(version: Version) -> Option<&'static str> {
        match version {
            Version::HTTP_10 => Some("1.0"),
            Version::HTTP_11 => Some("1.1"),
            Version::HTTP_2 => Some("2"),
            _ => None,
        }
    }

    pub(crate) fn is_operations(&self) -> bool {
        OPERATIONS.contains(&self.label())
    }

    pub(crate) fn is_documentation(&self) -> bool {
        DOCUMENTATION.contains(&self.label())
    }
}

/// Methods are free text in HTTP; unknown ones are one value (`_OTHER`, HTTP semantic conventions).
fn bounded_method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "CONNECT" => "CONNECT",
        "TRACE" => "TRACE",
        _ => "_OTHER",
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(MAX_RECORDED_CHARS).collect()
}

/// The name of the first product of a User-Agent (RFC 9110 §10.1.5).
fn product(user_agent: &str) -> Option<String> {
    let name = user_agent.split(['/', ' ', '(']).next().map(bounded)?;
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    (!name.is_empty() && name.chars().all(token)).then_some(name)
}

/// More than this in a path that is no route of ours could be a token that was sent to the wrong place, and still works.
const LONGEST_UNKNOWN_SEGMENT: usize = 24;

/// Nor is what looks like an address, wherever it stands: only ids and the like belong into a path.
fn without_secrets(path: &str, pattern: Option<&str>) -> String {
    let mut patterns = pattern.unwrap_or_default().split('/');
    let segments = path.split('/').map(|segment| {
        let parameter = patterns.next().and_then(|pattern| pattern.strip_prefix('{')).unwrap_or_default();
        let name = parameter.split(['}', ':']).next().unwrap_or_default();
        let unknown = pattern.is_none() && segment.len() > LONGEST_UNKNOWN_SEGMENT;
        let secret = unknown || SECRET_PARAMETERS.contains(&name) || segment.contains(['@', '%']);
        if secret { "REDACTED" } else { segment }
    });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_the_path_is_not_recorded() {
        let pattern = Some("/password-resets/{token}");
        assert_eq!(without_secrets("/password-resets/s3cr3t", pattern), "/password-resets/REDACTED");
        let pattern = Some("/a/{token:[a-z]+}/b/{id}");
        assert_eq!(without_secrets("/a/s3cr3t/b/7", pattern), "/a/REDACTED/b/7");
        // With a slash too many it is no route, and the token works all the same.
        let path = format!("/password-resets/{}/", "s3cr3t".repeat(7));
        assert_eq!(without_secrets(&path, None), "/password-resets/REDACTED/");
    }

    #[test]
    fn an_address_in_the_path_is_not_recorded() {
        assert_eq!(without_secrets("/users/ada@example.org", Some("/users/{id}")), "/users/REDACTED");
        assert_eq!(without_secrets("/users/ada%40example.org", Some("/users/{id}")), "/users/REDACTED");
        assert_eq!(without_secrets("/ada@example.org/x", None), "/REDACTED/x");
    }

    #[test]
    fn other_paths_are_recorded_as_they_are() {
        assert_eq!(without_secrets("/users/7", Some("/users/{id}")), "/users/7");
        assert_eq!(without_secrets("/tokens", Some("/tokens")), "/tokens");
        assert_eq!(without_secrets("/nowhere", None), "/nowhere");
    }

    #[test]
    fn of_the_program_that_asks_only_the_name_is_recorded() {
        assert_eq!(product("curl/8.5.0").as_deref(), Some("curl"));
        assert_eq!(product("Mozilla/5.0 (X11; Linux) +ada@example.org").as_deref(), Some("Mozilla"));
        assert_eq!(product("ada@example.org"), None);
        assert_eq!(product(""), None);
    }

    #[test]
    fn made_up_methods_are_one_label() {
        let method = Method::from_bytes(b"BREW").unwrap();
        assert_eq!(bounded_method(&method), "_OTHER");
    }
}
