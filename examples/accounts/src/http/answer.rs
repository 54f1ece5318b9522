//! Answers that say no, each with a word for programs and a sentence for people.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::limits::TooOften;
use crate::registry::Refusal;

/// Why a request was not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum No {
    /// The body is not JSON, or not the JSON that is expected.
    Malformed {
        /// Where, and what was expected.
        reason: String,
    },
    /// The body is larger than anything that is asked here.
    TooLarge,
    /// The body has not come in time.
    TooSlow,
    /// The body does not say that it is JSON.
    NotJson,
    /// A field has a value that it cannot have.
    BadField {
        /// What it may have.
        reason: String,
    },
    /// A page of another origin has sent it.
    OtherOrigin,
    /// No session was shown.
    TokenMissing,
    /// Asked too often.
    TooOften(TooOften),
    /// The registry says no.
    Refused(Refusal),
    /// There is no such page.
    NotFound,
    /// There is, but not for this method.
    OtherMethod,
}

/// The body of such an answer.
#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    message: &'a str,
}

impl No {
    fn parts(&self) -> (StatusCode, &str, &str) {
        match self {
            No::Malformed { reason } => (StatusCode::BAD_REQUEST, "malformed", reason),
            No::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large", "nothing that is asked here is that large")
            }
            No::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow", "the body has not come in time"),
            No::NotJson => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", "send the body as application/json")
            }
            No::BadField { reason } => (StatusCode::UNPROCESSABLE_ENTITY, "bad_field", reason),
            No::OtherOrigin => (
                StatusCode::FORBIDDEN,
                "other_origin",
                "a page of another origin has sent this; use the node's own",
            ),
            No::TokenMissing => (StatusCode::UNAUTHORIZED, "no_session", "log in first"),
            No::TooOften(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "too_often", "too many attempts; wait, and try again")
            }
            No::Refused(refusal) => refused(*refusal),
            No::NotFound => (StatusCode::NOT_FOUND, "not_found", "there is nothing at this path"),
            No::OtherMethod => {
                (StatusCode::METHOD_NOT_ALLOWED, "other_method", "this path is for another method")
            }
        }
    }

    /// When to come again.
    fn wait(&self) -> Option<Duration> {
        match self {
            No::TooOften(TooOften { wait }) => Some(*wait),
            No::Refused(Refusal::Busy | Refusal::Unavailable | Refusal::Unknown) => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }
}

fn refused(refusal: Refusal) -> (StatusCode, &'static str, &'static str) {
    match refusal {
        Refusal::NameTaken => (StatusCode::CONFLICT, "name_taken", "somebody has this name; choose another"),
        Refusal::WrongLogin => {
            (StatusCode::UNAUTHORIZED, "wrong_login", "no account has this name and password")
        }
        Refusal::NoSession => (StatusCode::UNAUTHORIZED, "no_session", "the session is over; log in again"),
        Refusal::WrongPassword => (StatusCode::FORBIDDEN, "wrong_password", "the old password is not right"),
        Refusal::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "this node has too much to do; try again"),
        Refusal::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the cluster has no primary with a quorum now; nothing was done, try again",
        ),
        Refusal::Unknown => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unknown",
            "nobody knows yet whether it was done; send the same again, with the same request number",
        ),
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let (status, error, message) = self.parts();
        let body = serde_json::to_string(&Body { error, message }).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if let Some(wait) = self.wait() {
            // Whole seconds, and never too early.
            let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> No {
        No::Refused(refusal)
    }
}

impl From<TooOften> for No {
    fn from(often: TooOften) -> No {
        No::TooOften(often)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_too_often_is_told_when_to_come_again() {
        for (wait, seconds) in [(1, "1"), (1000, "1"), (1001, "2"), (5900, "6")] {
            let response = No::TooOften(TooOften { wait: Duration::from_millis(wait) }).into_response();
            assert_eq!(response.status(), 429);
            assert_eq!(response.headers()[header::RETRY_AFTER], seconds);
        }
        assert_eq!(No::Refused(Refusal::Unavailable).into_response().headers()[header::RETRY_AFTER], "1");
        assert!(!No::NotFound.into_response().headers().contains_key(header::RETRY_AFTER));
    }
}
