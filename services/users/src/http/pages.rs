//! The few HTML pages, for people who follow a mailed link, and the choice between HTML and JSON. No scripts, nothing from elsewhere.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, Accept, Header as _},
    },
};
use askama::Template;
use web::Problem;

use crate::{error::Error, password};

/// The one button that proves an address. Opening the page changes nothing: mail scanners open every link.
#[derive(Template)]
#[template(path = "verify_email.html")]
pub(crate) struct VerifyEmail {
    title: &'static str,
}

/// The form for a new password.
#[derive(Template)]
#[template(path = "reset_password.html")]
pub(crate) struct ResetPassword {
    title: &'static str,
    rules: &'static str,
    mistake: Option<String>,
}

/// What has happened.
#[derive(Template)]
#[template(path = "message.html")]
pub(crate) struct Message<'a> {
    pub(crate) title: &'a str,
    pub(crate) text: &'a str,
}

impl VerifyEmail {
    pub(crate) fn new() -> Self {
        Self { title: "Is this your e-mail address?" }
    }
}

impl ResetPassword {
    /// `mistake` says what was wrong with the last try.
    pub(crate) fn new(mistake: Option<String>) -> Self {
        Self { title: "Choose a new password", rules: password::RULES, mistake }
    }
}

/// An HTML answer. The address of these pages is a secret, so nothing may store it, pass it on, or show the page inside another one.
pub(crate) fn html(status: StatusCode, page: &impl Template) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ))
        .body(page.render()?))
}

/// Shows a browser what went wrong as a page; everybody else gets the problem itself.
pub(crate) fn failure(request: &HttpRequest, error: Error) -> Result<HttpResponse, Error> {
    let (true, Some((title, text))) = (wants_html(request), words(&error)) else {
        return Err(error);
    };
    html(actix_web::ResponseError::status_code(&error), &Message { title, text })
}

/// For a person in front of a browser, who has no use for the paths of an API.
fn words(error: &Error) -> Option<(&'static str, &'static str)> {
    use crate::one_time_token::Link;
    Some(match error {
        Error::DeadLink(Link::Used) => {
            ("This link was used already", "It works once. If that was not you, ask for a new password now.")
        }
        Error::DeadLink(Link::Replaced) => ("A newer link was sent", "Please use the link in the latest mail."),
        Error::DeadLink(Link::Outdated) => {
            ("The password was changed since", "Please log in with the password as it is now, or ask for a new link.")
        }
        Error::DeadLink(Link::Expired) => ("This link has expired", "Please ask for a new one."),
        Error::DeadLink(_) => {
            ("There is no such link", "Please check that the whole link was copied, or ask for a new one.")
        }
        Error::Hash(_) => {
            ("One moment, please", "Many people are here right now. Please go back and try again in a moment.")
        }
        _ => return None,
    })
}

/// Whether the caller would rather have HTML than JSON (RFC 9110 §12.5.1); one that does not mind is a program.
pub(crate) fn wants_html(request: &HttpRequest) -> bool {
    let Ok(accept) = Accept::parse(request) else {
        return false;
    };
    let best = accept.ranked().into_iter().find_map(|media| match (media.type_().as_str(), media.subtype().as_str()) {
        ("text", "html") | ("application", "xhtml+xml") => Some(true),
        ("application", "json" | "problem+json" | "*") | ("*", "*") => Some(false),
        _ => None,
    });
    best.unwrap_or(false)
}

/// A problem as the answer to a form that could not even be read.
pub(crate) fn unreadable_form() -> Problem {
    Problem::bad_request("Send the form as application/x-www-form-urlencoded with the field password.")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::{ResetPassword, wants_html};
    use askama::Template as _;

    fn accepts(accept: &str) -> bool {
        wants_html(&TestRequest::default().insert_header(("accept", accept)).to_http_request())
    }

    #[test]
    fn browsers_get_html_and_programs_get_json() {
        assert!(accepts("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(!accepts("application/json"));
        assert!(!accepts("*/*"));
        assert!(!accepts("text/html;q=0.1, application/json"));
        assert!(!accepts("image/png"));
        assert!(!wants_html(&TestRequest::default().to_http_request()));
    }

    #[test]
    fn what_was_wrong_is_shown_as_text() {
        let page = ResetPassword::new(Some("<b>".into())).render().unwrap();
        assert!(page.contains("&#60;b&#62;") && !page.contains("<b>"), "{page}");
    }
}
