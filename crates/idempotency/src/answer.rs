//! Answers that can be given again.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use serde::Serialize;
use web::Problem;

/// A successful answer: what goes to the client, now and each time the request is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    again: bool,
}

impl Answer {
    /// An answer with an empty body. `status` must be a success (2xx).
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), again: false }
    }

    /// Adds a header. One that is not ASCII is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl ToString) -> Self {
        self.headers.push((name.as_str().to_owned(), value.to_string()));
        self
    }

    /// With this as its JSON body.
    ///
    /// # Errors
    /// When it cannot be serialized.
    pub fn json(mut self, body: &impl Serialize) -> Result<Self, Problem> {
        self.body = serde_json::to_vec(body).map_err(|error| Problem::internal(&error))?;
        Ok(self.header(header::CONTENT_TYPE, "application/json"))
    }

    /// To be sent. A repeated answer says that it is one: `Idempotency-Replayed: true`.
    #[must_use]
    pub fn into_response(self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.insert_header((name, value));
            }
        }
        if self.again {
            response.insert_header((HeaderName::from_static("idempotency-replayed"), HeaderValue::from_static("true")));
        }
        response.body(self.body)
    }

    pub(crate) fn stored(status: i32, headers: Vec<(String, String)>, body: Vec<u8>) -> Self {
        // The table holds nothing else than 200 to 299.
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        Self { status: status.unwrap_or(StatusCode::OK), headers, body, again: true }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }
}
