//! Extractors for bodies, paths and queries whose failures are problems that name what is wrong. Checks beyond the type
//! (is this an e-mail address?) are the service's.

use std::{
    fmt::Write as _,
    future::{Ready, ready},
    ops::Deref,
};

use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest, HttpResponse, Responder,
    dev::Payload,
    http::{StatusCode, header},
};
use futures_util::{TryStreamExt as _, future::LocalBoxFuture};
use serde::{Serialize, de::DeserializeOwned};
use serde_path_to_error::Segment;

use crate::{Problem, body, server::Shared};

/// Unknown members that an answer names, at most: a body of nothing else must not become an answer many times as large.
const MAX_UNKNOWN: usize = 20;

/// A JSON body, as an argument of a handler or as its answer (200).
///
/// As an argument: not JSON → 400, another content type → 415, too large → 413, too slow → 408; a missing, unknown or
/// wrong member → 422, naming it. Members that the type does not have are always refused, so that a misspelt optional member is no silent loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// The parameters of the path; a malformed one → 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path<T>(pub T);

/// The parameters of the query; a missing or wrong one → 400, naming it. Unknown ones are ignored: several extractors may share a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = is_json(request.content_type());
        let max_body_bytes = Shared::of(request).map(|shared| shared.options.max_body_bytes);
        let mut payload = payload.take();
        Box::pin(async move {
            if !is_json {
                return Err(unsupported_media_type());
            }
            let mut bytes = Vec::new();
            while let Some(chunk) = payload.try_next().await.map_err(|error| body::problem(&error, max_body_bytes))? {
                bytes.extend_from_slice(&chunk);
            }
            parse(&bytes).map(Json)
        })
    }
}

impl<T: Serialize> Responder for Json<T> {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok().json(self.0)
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Path<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let path = actix_web::web::Path::<T>::from_request(request, payload).into_inner();
        ready(path.map(|path| Self(path.into_inner())).map_err(|error| {
            let why = without_quoted(&error.to_string());
            Problem::bad_request(format!(
                "A part of the path is not valid ({why}); use ids exactly as an answer gave them."
            ))
        }))
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let pairs = form_urlencoded::parse(request.query_string().as_bytes());
        let query = serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs));
        ready(query.map(Self).map_err(|error| {
            let parameter = error.path().to_string();
            let message = error.into_inner().to_string();
            let parameter = missing_member(&message).map_or(parameter, ToOwned::to_owned);
            Problem::bad_request("A query parameter is not valid; see errors.")
                .parameter(parameter, without_values(&message))
        }))
    }
}

fn is_json(content_type: &str) -> bool {
    let content_type = content_type.to_ascii_lowercase();
    content_type == "application/json" || (content_type.starts_with("application/") && content_type.ends_with("+json"))
}

fn unsupported_media_type() -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body has the wrong content type")
        .detail("Send JSON, with the header `Content-Type: application/json`.")
        .header(header::ACCEPT, header::HeaderValue::from_static("application/json"))
}

/// Reads the body and collects the unknown members, so that the client can mend them all at once.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.trim_ascii().is_empty() {
        return Err(malformed("The body is empty; send a JSON object."));
    }
    let (mut unknown, mut more) = (Vec::new(), false);
    let mut track = serde_path_to_error::Track::new();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let value = serde_ignored::deserialize(tracked, |path| {
        if unknown.len() < MAX_UNKNOWN {
            unknown.push(ignored_pointer(&path));
        } else {
            more = true;
        }
    })
    .map_err(|error| invalid(&error, &track.path()))?;
    json.end().map_err(|error| {
        malformed(format!("After the JSON value there is something else ({error}); send one value."))
    })?;

    if unknown.is_empty() {
        return Ok(value);
    }
    let detail = if more {
        "The body has members that are not known here, more than are listed; remove them or correct their names."
    } else {
        "The body has members that are not known here; remove them or correct their names."
    };
    let problem = Problem::unprocessable(detail);
    Err(unknown.into_iter().fold(problem, |problem, pointer| problem.field(pointer, "is not known")))
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed-json", "The body is not JSON").detail(detail)
}

fn invalid(error: &serde_json::Error, path: &serde_path_to_error::Path) -> Problem {
    if !error.is_data() {
        return malformed(format!("Send well-formed JSON: {error}."));
    }
    let message = error.to_string();
    let mut pointer = pointer(path);
    if let Some(name) = missing_member(&message) {
        push(&mut pointer, name);
    }
    Problem::unprocessable("The body does not have the expected shape; see errors, and /docs for what is expected.")
        .field(pointer, without_values(&message))
}

/// What serde says of a value, without the value: it may be an address or a password in the wrong place, and answers are kept and shown around.
fn without_values(message: &str) -> String {
    let Some((found, expected)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    let kind = found.split(['"', '`']).next().unwrap_or_default().trim_end();
    format!("{kind}, expected {expected}")
}

/// The same for what is said of a part of a path.
fn without_quoted(message: &str) -> String {
    match (message.split_once('"'), message.rsplit_once('"')) {
        (Some((before, _)), Some((_, after))) => format!("{before}…{after}"),
        _ => message.to_owned(),
    }
}

/// serde reports a missing member at its parent, with its name in the message only.
fn missing_member(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => {
                let _infallible = write!(pointer, "/{index}");
            }
            Segment::Map { key } => push(&mut pointer, key),
            // A variant is no level of its own in a pointer, and unknown segments have no name.
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

fn ignored_pointer(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}/{index}", ignored_pointer(parent)),
        Path::Map { parent, key } => {
            let mut pointer = ignored_pointer(parent);
            push(&mut pointer, key);
            pointer
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            ignored_pointer(parent)
        }
    }
}

/// Appends one member, escaped as RFC 6901 wants it.
fn push(pointer: &mut String, member: &str) {
    pointer.push('/');
    pointer.push_str(&member.replace('~', "~0").replace('/', "~1"));
}

macro_rules! inner {
    ($($extractor:ident),*) => {$(
        impl<T> $extractor<T> {
            /// The value itself.
            pub fn into_inner(self) -> T {
                self.0
            }
        }

        impl<T> Deref for $extractor<T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.0
            }
        }
    )*};
}
inner!(Json, Path, Query);

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Order {
        lines: Vec<Line>,
        note: Option<String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Line {
        sku: String,
        quantity: u8,
    }

    fn problem(body: &str) -> serde_json::Value {
        let problem = parse::<Order>(body.as_bytes()).unwrap_err();
        serde_json::from_str(&problem.to_json()).unwrap()
    }

    #[test]
    fn a_wrong_member_is_named_by_its_place() {
        let problem = problem(r#"{"lines":[{"sku":"a","quantity":1},{"sku":"b","quantity":"two"}]}"#);
        assert_eq!(problem["status"], 422);
        assert_eq!(problem["errors"][0]["pointer"], "#/lines/1/quantity");
    }

    #[test]
    fn a_missing_member_is_named_though_it_is_not_there() {
        assert_eq!(problem(r#"{"lines":[{"sku":"a"}]}"#)["errors"][0]["pointer"], "#/lines/0/quantity");
        assert_eq!(problem("{}")["errors"][0]["pointer"], "#/lines");
    }

    #[test]
    fn all_unknown_members_are_named_at_once() {
        let problem = problem(r#"{"lines":[{"sku":"a","quantity":1,"a/b~c":0}],"notes":"x"}"#);
        assert_eq!(problem["status"], 422);
        assert_eq!(problem["errors"][0]["pointer"], "#/lines/0/a~1b~0c");
        assert_eq!(problem["errors"][1]["pointer"], "#/notes");
    }

    #[test]
    fn of_very_many_unknown_members_some_are_named() {
        let body = |count: usize| {
            let members: String = (0..count).map(|n| format!(r#","unknown{n}":0"#)).collect();
            format!(r#"{{"lines":[]{members}}}"#)
        };
        let told = |count| {
            let problem = problem(&body(count));
            let more = problem["detail"].as_str().unwrap().contains("more than are listed");
            (problem["errors"].as_array().unwrap().len(), more)
        };
        assert_eq!((told(20), told(21), told(10_000)), ((20, false), (20, true), (20, true)));
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for body in ["", " ", "{", "lines=1", r#"{"lines":[]} {}"#, "{\"lines\":[\u{7}]}"] {
            assert_eq!(problem(body)["status"], 400, "{body}");
        }
    }

    #[test]
    fn other_json_types_are_accepted_and_forms_are_not() {
        assert!(is_json("application/json") && is_json("Application/Merge-Patch+JSON"));
        assert!(!is_json("") && !is_json("text/json") && !is_json("application/x-www-form-urlencoded"));
    }

    #[test]
    fn an_explanation_does_not_repeat_the_value() {
        for (message, said) in [
            (
                "invalid type: string \"ada@example.org, expected \", expected u32 at line 1 column 7",
                "invalid type: string, expected u32 at line 1 column 7",
            ),
            ("invalid value: integer `7`, expected a digit", "invalid value: integer, expected a digit"),
            ("unknown variant `s3cr3t`, expected one of `a`, `b`", "unknown variant, expected one of `a`, `b`"),
            ("missing field `name` at line 1", "missing field `name` at line 1"),
        ] {
            assert_eq!(without_values(message), said);
        }
        assert_eq!(without_quoted("can not parse \"ada@example.org\" to a i64"), "can not parse … to a i64");
    }
}
