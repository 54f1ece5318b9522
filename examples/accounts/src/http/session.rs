//! Sessions in headers: a bearer token for programs, a cookie for browsers.

use axum::http::{HeaderMap, HeaderValue, header};

use super::answer::No;
use crate::token::Token;

/// The name of the cookie. Cookies know no ports: whoever is logged in at one node of a host is so at all.
const COOKIE: &str = "accounts_session";

/// The session that a request shows.
pub(super) fn token(headers: &HeaderMap) -> Result<Token, No> {
    let text = match bearer(headers) {
        Some(text) => Some(text),
        None => cookie(headers),
    };
    text.and_then(Token::shown).ok_or(No::TokenMissing)
}

/// Whether a page of this origin has sent it, or no page at all. What comes over TLS ends in a proxy: only the host counts.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), No> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let of_page = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if of_page.is_some() && of_page == host { Ok(()) } else { Err(No::OtherOrigin) }
}

/// The cookie of a session that lasts so long.
pub(super) fn set_cookie(token: &Token, seconds: u64, is_secure: bool) -> HeaderValue {
    let text = format!("{COOKIE}={}; {}; Max-Age={seconds}", token.text(), attributes(is_secure));
    HeaderValue::try_from(text).expect("a token is letters and digits")
}

/// The cookie of no session.
pub(super) fn clear_cookie(is_secure: bool) -> HeaderValue {
    let text = format!("{COOKIE}=; {}; Max-Age=0", attributes(is_secure));
    HeaderValue::try_from(text).expect("letters")
}

fn attributes(is_secure: bool) -> &'static str {
    match is_secure {
        true => "HttpOnly; SameSite=Strict; Path=/; Secure",
        false => "HttpOnly; SameSite=Strict; Path=/",
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs = all.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(header::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_session_is_shown_by_a_bearer_token_or_by_the_cookie() {
        let one = Token::draw();
        let text = one.text();
        let shown = |pairs: &[(&str, &str)]| token(&headers(pairs)).ok().map(|token| token.hash());
        assert_eq!(shown(&[("authorization", &format!("Bearer {text}"))]), Some(one.hash()));
        assert_eq!(shown(&[("authorization", &format!("bearer  {text}"))]), Some(one.hash()));
        let cookies = format!("a=b; {COOKIE}={text}; c=d");
        assert_eq!(shown(&[("cookie", &cookies)]), Some(one.hash()));
        for pairs in [
            &[][..],
            &[("authorization", "Bearer nonsense")],
            &[("authorization", &format!("Basic {text}"))],
            &[("cookie", &format!("other={text}"))],
        ] {
            assert_eq!(shown(pairs), None, "{pairs:?}");
        }
    }

    #[test]
    fn what_a_page_of_another_origin_sends_is_refused() {
        let host = ("host", "127.0.0.1:8001");
        assert_eq!(check_origin(&headers(&[host])), Ok(()));
        assert_eq!(check_origin(&headers(&[host, ("origin", "http://127.0.0.1:8001")])), Ok(()));
        assert_eq!(check_origin(&headers(&[host, ("origin", "https://127.0.0.1:8001")])), Ok(()));
        for origin in ["http://127.0.0.1:8002", "http://evil.example", "null", "127.0.0.1:8001", ""] {
            assert_eq!(check_origin(&headers(&[host, ("origin", origin)])), Err(No::OtherOrigin), "{origin}");
        }
    }

    #[test]
    fn the_cookie_is_out_of_the_reach_of_scripts_and_other_sites() {
        for cookie in [set_cookie(&Token::draw(), 60, true), clear_cookie(true)] {
            let text = cookie.to_str().unwrap();
            assert!(text.contains("HttpOnly; SameSite=Strict; Path=/; Secure"), "{text}");
        }
        assert!(!clear_cookie(false).to_str().unwrap().contains("Secure"));
    }
}
