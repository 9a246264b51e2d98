//! Lists in pages: `?limit=&after=` comes in, `Link: …; rel="next"` goes out. The cursor is opaque to clients; what it
//! holds (the sort key of the last item) is the service's.

use std::future::{Ready, ready};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header::{self, HeaderName, HeaderValue},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{Moment, Problem, Query};

const DEFAULT_LIMIT: u16 = 20;
const MAX_LIMIT: u16 = 100;

/// Which page is asked for.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Items on the page.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u16,
    /// Where the previous page ended: taken from its `Link` header.
    after: Option<String>,
}

fn default_limit() -> u16 {
    DEFAULT_LIMIT
}

impl Page {
    /// Items on the page, 1 to 100. Select one more to learn whether there is a next page.
    #[must_use]
    pub fn limit(&self) -> i64 {
        i64::from(self.limit)
    }

    /// What the service put into [`next_link`] of the previous page; `None` on the first.
    ///
    /// # Errors
    /// 400 when the client made its cursor itself.
    pub fn after<C: DeserializeOwned>(&self) -> Result<Option<C>, Problem> {
        let Some(cursor) = &self.after else {
            return Ok(None);
        };
        let json = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok();
        let cursor = json.and_then(|json| serde_json::from_slice(&json).ok());
        cursor.map(Some).ok_or_else(|| {
            Problem::bad_request("The cursor is not valid; follow the Link header of the previous page as it is.")
                .parameter("after", "is not a cursor of this list")
        })
    }
}

impl FromRequest for Page {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let page = Query::<Self>::from_request(request, payload).into_inner();
        ready(page.and_then(|Query(page)| {
            match page.limit {
                1..=MAX_LIMIT => Ok(page),
                _ => Err(Problem::bad_request(format!("Ask for 1 to {MAX_LIMIT} items."))
                    .parameter("limit", format!("must be from 1 to {MAX_LIMIT}"))),
            }
        }))
    }
}

/// Where a page of a list by time ends: the time and the id of its last item.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Place(Moment, Uuid);

impl Place {
    /// Of the last item.
    ///
    /// # Errors
    /// When no client could send that time back.
    pub fn of(at: DateTime<Utc>, id: Uuid) -> Result<Self, Problem> {
        let at = Moment::try_from(at).map_err(|error| Problem::internal(&std::io::Error::other(error)))?;
        Ok(Self(at, id))
    }

    /// The time and the id.
    #[must_use]
    pub fn key(self) -> (DateTime<Utc>, Uuid) {
        (self.0.utc(), self.1)
    }
}

/// The header that leads to the next page: this request again, from `cursor` on. Leave it out on the last page.
///
/// # Errors
/// When the cursor cannot be written as JSON.
pub fn next_link<C: Serialize>(request: &HttpRequest, cursor: &C) -> Result<(HeaderName, HeaderValue), Problem> {
    let json = serde_json::to_vec(cursor).map_err(|error| Problem::internal(&error))?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    let kept = form_urlencoded::parse(request.query_string().as_bytes()).filter(|(name, _)| name != "after");
    query.extend_pairs(kept).append_pair("after", &BASE64_URL_SAFE_NO_PAD.encode(json));
    let link = format!("<{}?{}>; rel=\"next\"", request.path(), query.finish());
    let value = HeaderValue::try_from(link).map_err(|error| Problem::internal(&error))?;
    Ok((header::LINK, value))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn page(query: &str) -> Result<Page, Problem> {
        let request = TestRequest::with_uri(&format!("/things?{query}")).to_http_request();
        Page::from_request(&request, &mut Payload::None).into_inner()
    }

    #[test]
    fn the_link_leads_to_the_page_after_the_cursor_and_keeps_the_filters() {
        let request = TestRequest::with_uri("/things?state=a%26b&after=old&limit=7").to_http_request();
        let (name, value) = next_link(&request, &(7, "x")).unwrap();
        assert_eq!(name, header::LINK);
        let link = value.to_str().unwrap();
        let query = link.strip_prefix("</things?").unwrap().strip_suffix(">; rel=\"next\"").unwrap();
        assert!(query.starts_with("state=a%26b&limit=7&after="), "{query}");
        let next = page(query).unwrap();
        assert_eq!(next.limit(), 7);
        assert_eq!(next.after::<(i32, String)>().unwrap(), Some((7, "x".to_owned())));
    }

    #[test]
    fn limits_and_cursors_that_are_not_valid_are_refused() {
        assert_eq!(page("").unwrap().limit(), 20);
        for query in ["limit=0", "limit=101", "limit=-1", "limit=many"] {
            assert_eq!(page(query).unwrap_err().status(), 400, "{query}");
        }
        let too_early = BASE64_URL_SAFE_NO_PAD.encode(format!("[\"-100000-01-01T00:00:00Z\",\"{}\"]", Uuid::nil()));
        let page_after = page(&format!("after={too_early}")).unwrap();
        assert_eq!(page_after.after::<Place>().unwrap_err().status(), 400);
        for cursor in ["!", "bm90IGpzb24", ""] {
            let page = page(&format!("after={cursor}")).unwrap();
            assert_eq!(page.after::<u8>().unwrap_err().status(), 400, "{cursor}");
        }
    }
}
