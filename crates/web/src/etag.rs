//! Versions as entity tags: `ETag`, `If-None-Match` and `If-Match` (RFC 9110 §8.8.3 and §13.1).

use actix_web::{
    HttpRequest,
    http::{
        StatusCode,
        header::{ETag, EntityTag, Header as _, IfMatch, IfNoneMatch},
    },
};

use crate::Problem;

fn tag(version: i64) -> EntityTag {
    EntityTag::new_strong(version.to_string())
}

/// The header for a version: a strong tag.
#[must_use]
pub fn of(version: i64) -> ETag {
    ETag(tag(version))
}

/// Whether the caller has this version already: `If-None-Match` names it, or is `*`.
#[must_use]
pub fn is_known(request: &HttpRequest, version: i64) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => request.headers().contains_key("if-none-match"),
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag(version))),
        Err(_) => false,
    }
}

/// Refuses a change unless it was made for this version; for things that must not be overwritten unseen.
///
/// # Errors
/// [`missing`] without `If-Match`, [`moved`] if it names other versions.
pub fn require(request: &HttpRequest, version: i64) -> Result<(), Problem> {
    if request.headers().contains_key("if-match") { allow(request, version) } else { Err(missing()) }
}

/// Refuses a change that was made for another version. One that names none is allowed.
///
/// # Errors
/// [`moved`] if `If-Match` names other versions, or cannot be understood: whoever sends it does not want to change just anything.
pub fn allow(request: &HttpRequest, version: i64) -> Result<(), Problem> {
    if !request.headers().contains_key("if-match") {
        return Ok(());
    }
    match IfMatch::parse(request) {
        Ok(IfMatch::Any) => Ok(()),
        Ok(IfMatch::Items(tags)) if tags.iter().any(|wanted| wanted.strong_eq(&tag(version))) => Ok(()),
        Ok(IfMatch::Items(_)) | Err(_) => Err(moved()),
    }
}

/// 428: a change that says nothing of the version that it was made for (RFC 6585 §3).
#[must_use]
pub fn missing() -> Problem {
    Problem::new(StatusCode::PRECONDITION_REQUIRED, "if-match-required", "If-Match is missing")
        .detail("Get it first and send its ETag in If-Match, so that nobody's change is overwritten unseen.")
}

/// 412: somebody changed it first.
#[must_use]
pub fn moved() -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, "version-moved", "It has changed meanwhile")
        .detail("Get it again, look at what has changed, and send the request with its new ETag in If-Match.")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::{allow, is_known, require};
    use crate::Problem;

    fn known(header: &str) -> bool {
        is_known(&TestRequest::default().insert_header(("if-none-match", header)).to_http_request(), 7)
    }

    #[test]
    fn a_version_is_known_by_its_tag_weak_or_strong_alone_or_in_a_list() {
        assert!(known("\"7\"") && known("W/\"7\"") && known("\"6\", \"7\"") && known("*"));
        assert!(!known("\"6\"") && !known("nonsense"));
        assert!(!is_known(&TestRequest::default().to_http_request(), 7));
    }

    fn status(result: Result<(), Problem>) -> u16 {
        result.map_or_else(|problem| problem.status().as_u16(), |()| 200)
    }

    #[test]
    fn a_change_is_for_this_version_or_refused() {
        for (header, expected) in
            [("\"7\"", 200), ("*", 200), ("\"6\", \"7\"", 200), ("\"6\"", 412), ("W/\"7\"", 412), ("nonsense", 412)]
        {
            let request = TestRequest::default().insert_header(("if-match", header)).to_http_request();
            assert_eq!(status(require(&request, 7)), expected, "{header}");
            assert_eq!(status(allow(&request, 7)), expected, "{header}");
        }
    }

    #[test]
    fn a_change_for_no_version_is_allowed_where_none_is_required() {
        let request = TestRequest::default().to_http_request();
        assert_eq!(status(require(&request, 7)), 428);
        assert_eq!(status(allow(&request, 7)), 200);
    }
}
