//! Versions as entity tags: `ETag`, `If-None-Match` and `If-Match` (RFC 9110 §8.8.3 and §13.1).

use actix_web::{
    HttpRequest,
    http::header::{ETag, EntityTag, Header as _, IfMatch, IfNoneMatch},
};

use crate::error::Error;

fn tag(version: i64) -> EntityTag {
    EntityTag::new_strong(version.to_string())
}

/// The header for a version.
pub(crate) fn of(version: i64) -> ETag {
    ETag(tag(version))
}

/// Whether the caller has this version already.
pub(crate) fn is_known(request: &HttpRequest, version: i64) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => request.headers().contains_key("if-none-match"),
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag(version))),
        Err(_) => false,
    }
}

/// Refuses a change unless it was made for this version.
pub(crate) fn require(request: &HttpRequest, version: i64) -> Result<(), Error> {
    if !request.headers().contains_key("if-match") {
        return Err(Error::VersionMissing);
    }
    match IfMatch::parse(request) {
        Ok(IfMatch::Any) => Ok(()),
        Ok(IfMatch::Items(tags)) if tags.iter().any(|wanted| wanted.strong_eq(&tag(version))) => Ok(()),
        Ok(IfMatch::Items(_)) | Err(_) => Err(Error::VersionMoved),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::{is_known, require};
    use crate::error::Error;

    fn known(header: &str) -> bool {
        is_known(&TestRequest::default().insert_header(("if-none-match", header)).to_http_request(), 7)
    }

    #[test]
    fn a_version_is_known_by_its_tag_weak_or_strong_alone_or_in_a_list() {
        assert!(known("\"7\"") && known("W/\"7\"") && known("\"6\", \"7\"") && known("*"));
        assert!(!known("\"6\"") && !known("nonsense"));
        assert!(!is_known(&TestRequest::default().to_http_request(), 7));
    }

    #[test]
    fn a_change_needs_the_tag_of_this_version() {
        let of =
            |header: &str| require(&TestRequest::default().insert_header(("if-match", header)).to_http_request(), 7);
        assert!(of("\"7\"").is_ok() && of("*").is_ok() && of("\"6\", \"7\"").is_ok());
        assert!(matches!(of("\"6\""), Err(Error::VersionMoved)));
        assert!(matches!(of("W/\"7\""), Err(Error::VersionMoved)));
        assert!(matches!(of("nonsense"), Err(Error::VersionMoved)));
        assert!(matches!(require(&TestRequest::default().to_http_request(), 7), Err(Error::VersionMissing)));
    }
}
