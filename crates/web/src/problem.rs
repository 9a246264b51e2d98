//! Every error answer: `application/problem+json` (RFC 9457), with the id of the trace and a sentence that says what to do.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use serde::Serialize;

/// The media type of all error answers.
pub(crate) const CONTENT_TYPE: &str = "application/problem+json";

/// An error answer. Handlers return it as the error of a `Result`.
///
/// ```
/// use actix_web::http::StatusCode;
/// use web::Problem;
///
/// let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "weak-password", "The password is too weak")
///     .detail("Choose a password of at least 12 characters.")
///     .field("/password", "has 5 characters");
/// assert_eq!(problem.status(), StatusCode::UNPROCESSABLE_ENTITY);
/// ```
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    status: StatusCode,
    slug: Cow<'static, str>,
    title: Cow<'static, str>,
    detail: Option<String>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The JSON of a [`Problem`], for OpenAPI: `(status = 404, body = web::ProblemBody, content_type = "application/problem+json")`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// Names the kind of problem; stable, made for programs.
    #[schema(example = "urn:postrider:problem:not-found")]
    r#type: String,
    /// The kind of problem in words.
    title: &'a str,
    /// The HTTP status code.
    #[schema(example = 404)]
    status: u16,
    /// What is wrong this time, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    /// What is wrong field by field.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    /// The trace of this request: look it up in the tracing backend, or quote it when asking for help.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

/// One wrong member of a body, or one wrong parameter of a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Where in the body: a JSON pointer as a URI fragment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "#/email")]
    pub pointer: Option<String>,
    /// Which query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// What is wrong with it.
    pub detail: String,
}

impl Problem {
    /// A problem of the kind `slug` (kebab-case, stable: clients may match on it); `title` says the same in words.
    #[must_use]
    pub fn new(status: StatusCode, slug: impl Into<Cow<'static, str>>, title: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            status,
            slug: slug.into(),
            title: title.into(),
            detail: None,
            errors: Vec::new(),
            headers: Vec::new(),
        }))
    }

    /// Says what is wrong this time and what to do about it. Never secrets, never the insides of the service.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds what is wrong with one member of the body; `pointer` is a JSON pointer (RFC 6901) such as `/email`.
    #[must_use]
    pub fn field(mut self, pointer: impl AsRef<str>, detail: impl Into<String>) -> Self {
        self.0.errors.push(FieldError {
            pointer: Some(format!("#{}", pointer.as_ref())),
            parameter: None,
            detail: detail.into(),
        });
        self
    }

    /// Adds what is wrong with one query parameter.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, detail: impl Into<String>) -> Self {
        self.0.errors.push(FieldError { pointer: None, parameter: Some(name.into()), detail: detail.into() });
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// 400: the request cannot be understood.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request cannot be understood").detail(detail)
    }

    /// 401, without saying more than that a bearer token is needed; see [`crate::auth`] for what it says about a wrong one.
    #[must_use]
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Authentication is needed")
            .detail(detail)
            .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"postrider\""))
    }

    /// 403: known, but not allowed.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "This is not allowed").detail(detail)
    }

    /// 404: not there, or not for the one who asks.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing").detail(detail)
    }

    /// 409: does not fit what is there.
    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "The request conflicts with the current state").detail(detail)
    }

    /// 422: understood, but not valid. Name the fields with [`Problem::field`].
    #[must_use]
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request is not valid").detail(detail)
    }

    /// 429, with `Retry-After`.
    #[must_use]
    pub fn too_many_requests(retry_after: Duration, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests")
            .detail(detail)
            .retry_after(retry_after)
    }

    /// 503, with `Retry-After`: it will work again without the client changing anything.
    #[must_use]
    pub fn unavailable(retry_after: Duration, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The service is not available right now")
            .detail(detail)
            .retry_after(retry_after)
    }

    /// 500. Logs the error with its causes, once, here; the client learns nothing but the trace id.
    #[must_use]
    pub fn internal(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error, "a request failed");
        Self::of_status(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Sets `Retry-After`, rounded up to whole seconds.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The problem for a status that came without an explanation.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let (slug, title, detail) = match status {
            StatusCode::NOT_FOUND => (
                "not-found",
                "There is no such thing",
                "Nothing is at this path; /docs lists the paths of this service.",
            ),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("method-not-allowed", "The method is not allowed here", "Use one of the methods in the Allow header.")
            }
            StatusCode::REQUEST_TIMEOUT => (
                "request-timeout",
                "The request took too long to arrive",
                "Send the whole request without pausing, or split it into smaller ones.",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => ("payload-too-large", "The body is too large", "Send a smaller body."),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
                "head-too-large",
                "The head of the request is too large",
                "Send fewer or shorter headers and a shorter path.",
            ),
            StatusCode::INTERNAL_SERVER_ERROR => (
                "internal",
                "Something went wrong on our side",
                "Try again later; if it stays, report the trace_id of this answer.",
            ),
            other if other.is_server_error() => (
                "server-error",
                other.canonical_reason().unwrap_or("Server error"),
                "Try again later; if it stays, report the trace_id of this answer.",
            ),
            other => (
                "client-error",
                other.canonical_reason().unwrap_or("Client error"),
                "Change the request before sending it again; /docs describes what is expected.",
            ),
        };
        Self::new(status, slug, title).detail(detail)
    }

    /// The JSON of this problem, with the id of the current trace.
    pub(crate) fn to_json(&self) -> String {
        let Parts { status, slug, title, detail, errors, .. } = &*self.0;
        let body = ProblemBody {
            r#type: format!("urn:postrider:problem:{slug}"),
            title,
            status: status.as_u16(),
            detail: detail.as_deref(),
            errors,
            trace_id: telemetry::current_trace_id(),
        };
        serde_json::to_string(&body).unwrap_or_default()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { status, slug, detail, .. } = &*self.0;
        write!(f, "{} {slug}: {}", status.as_u16(), detail.as_deref().unwrap_or_default())
    }
}

impl Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.0.status);
        for header in &self.0.headers {
            response.append_header(header.clone());
        }
        response.content_type(CONTENT_TYPE).body(self.to_json())
    }
}
