//! The page: one file, with nothing from elsewhere.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::settings::Settings;

const PAGE: &str = include_str!("page.html");

/// The page's own style and script, named by their digests: no other is carried out, wherever it comes from.
static OWN: LazyLock<[String; 2]> = LazyLock::new(|| ["style", "script"].map(|tag| digest(inside(tag))));

/// The page. It may look at the other nodes too, so that it goes on when its own is gone.
pub(super) fn page(settings: &Settings) -> Response {
    let [style, script] = &*OWN;
    let nodes: Vec<String> = settings.nodes.iter().map(|place| format!("http://{}", place.http)).collect();
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self' {}; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        nodes.join(" ")
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE).into_response()
}

/// What stands in the page's only element of this name.
fn inside(tag: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("<{tag}>")).expect("the page has it");
    rest.split_once(&format!("</{tag}>")).expect("and its end").0
}

fn digest(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_click_is_the_same_request() {
        assert_eq!(PAGE.matches("request: form.number").count(), 2);
        assert!(!PAGE.contains("request: draw()"));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_nothing_inline_that_is_not_named() {
        for elsewhere in ["https://", "src=", "@import", "url(", "style=", "onclick", "innerHTML", "<link"] {
            assert!(
                !PAGE.replace("<link rel=\"icon\" href=\"data:,\">", "").contains(elsewhere),
                "{elsewhere}"
            );
        }
        assert_eq!(PAGE.matches("<script").count(), 1);
        assert_eq!(PAGE.matches("<style").count(), 1);
    }
}
