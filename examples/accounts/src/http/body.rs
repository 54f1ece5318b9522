//! Bodies of requests: JSON, bounded in size and in time.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::No;
use crate::name::Name;
use crate::password::Password;
use crate::token::RequestId;

/// The bytes of a body, at most: the longest name and two of the longest passwords, with every letter escaped.
const BYTES_MAX: usize = 4096;
/// A body that takes longer than this is not waited for.
const TIME_MAX: Duration = Duration::from_secs(5);

/// A body that is asked for.
pub(super) trait Form: DeserializeOwned {
    /// What it looks like, for whoever has sent another.
    const LOOKS: &str;
}

impl Form for Register {
    const LOOKS: &str =
        r#"{"name": TEXT, "password": TEXT, "request": TEXT}, where "request" may be left out"#;
}

impl Form for LogIn {
    const LOOKS: &str = r#"{"name": TEXT, "password": TEXT}"#;
}

impl Form for ChangePassword {
    const LOOKS: &str = r#"{"old": TEXT, "new": TEXT, "request": TEXT}, where "request" may be left out"#;
}

impl Form for LogOut {
    const LOOKS: &str = "{}";
}

/// To open an account.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    pub(super) name: String,
    pub(super) password: Password,
    pub(super) request: Option<String>,
}

/// To open a session.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogIn {
    pub(super) name: String,
    pub(super) password: Password,
}

/// To change a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangePassword {
    pub(super) old: Password,
    pub(super) new: Password,
    pub(super) request: Option<String>,
}

/// To end a session.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogOut {}

/// Reads a body.
pub(super) async fn read<T: Form>(headers: &HeaderMap, body: Body) -> Result<T, No> {
    if !is_json(headers) {
        return Err(No::NotJson);
    }
    let all = tokio::time::timeout(TIME_MAX, Limited::new(body, BYTES_MAX).collect()).await;
    let bytes = match all.map_err(|_| No::TooSlow)? {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(No::TooLarge),
        Err(error) => return Err(No::Malformed { reason: error.to_string() }),
    };
    // Serde would take a list for an object whose fields are not named.
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    if !is_object {
        return Err(No::Malformed { reason: format!("this is expected here: {}", T::LOOKS) });
    }
    // Only where it is wrong is told: what serde says may quote what it has found, and that may be a password.
    serde_json::from_slice(&bytes).map_err(|error| No::Malformed {
        reason: format!(
            "line {}, column {} is not as expected, which is {}",
            error.line(),
            error.column(),
            T::LOOKS
        ),
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The name in a field.
pub(super) fn name(text: &str) -> Result<Name, No> {
    Name::typed(text).map_err(|bad| No::BadField { reason: bad.to_string() })
}

/// The number in a field; a new one if there is none.
pub(super) fn request(text: Option<String>) -> Result<RequestId, No> {
    let reason = "a request number has 32 hexadecimal digits, drawn at random".to_owned();
    text.map_or_else(|| Ok(RequestId::draw()), |text| text.try_into().map_err(|_| No::BadField { reason }))
}

/// A password that an account is to have.
pub(super) fn new_password(password: Password) -> Result<Password, No> {
    password.check().map_err(|bad| No::BadField { reason: bad.to_string() })?;
    Ok(password)
}

/// A password that an account may have.
pub(super) fn old_password(password: Password) -> Result<Password, No> {
    password.check_size().map_err(|bad| No::BadField { reason: bad.to_string() })?;
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_as(kind: &str, text: &str) -> Result<LogIn, No> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        read(&headers, Body::from(text.to_owned())).await
    }

    const GOOD: &str = r#"{"name":"ada","password":"correct horse"}"#;

    #[tokio::test]
    async fn only_what_says_that_it_is_json_is_read() {
        assert!(read_as("application/json", GOOD).await.is_ok());
        assert!(read_as("Application/JSON; charset=utf-8", GOOD).await.is_ok());
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
            assert_eq!(read_as(kind, GOOD).await.err(), Some(No::NotJson), "{kind}");
        }
    }

    #[tokio::test]
    async fn what_is_malformed_is_told_by_its_place_and_not_by_its_contents() {
        let wrong = r#"{"name":"ada","password":{"secret":"correct horse"}}"#;
        for text in ["", "[]", r#"["ada","correct horse"]"#] {
            let Some(No::Malformed { reason }) = read_as("application/json", text).await.err() else {
                panic!("taken: {text}")
            };
            assert!(reason.contains(LogIn::LOOKS), "{reason}");
        }
        for text in ["{", r#"{"name":"ada"}"#, r#"{"name":"a","password":"b","c":1}"#, wrong] {
            let Some(No::Malformed { reason }) = read_as("application/json", text).await.err() else {
                panic!("taken: {text}")
            };
            assert!(reason.contains("line") && reason.contains(LogIn::LOOKS), "{reason}");
            assert!(!reason.contains("horse"), "{reason}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_is_not_read_to_its_end() {
        let long = format!(r#"{{"name":"ada","password":"{}"}}"#, "x".repeat(5000));
        assert_eq!(read_as("application/json", &long).await.err(), Some(No::TooLarge));
    }
}
