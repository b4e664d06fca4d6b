//! The live page at `/`: one HTML file that holds its style and its script, and loads nothing from
//! elsewhere.
//!
//! It shows the same data as the commands, by the same API, so it needs no right of its own. The
//! policy sent with it allows exactly the style and the script of this build. It also forbids the
//! page to make HTML from text, so an item's id can be any text.

use std::sync::LazyLock;

use axum::http::header;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(
    include_str!("page/base.js"),
    include_str!("page/net.js"),
    include_str!("page/chart.js"),
    include_str!("page/pipelines.js"),
    include_str!("page/partitions.js"),
    include_str!("page/items.js"),
    include_str!("page/dialogs.js"),
    include_str!("page/main.js"),
);

static HTML: LazyLock<String> = LazyLock::new(|| {
    include_str!("page/page.html").replace("{{style}}", STYLE).replace("{{script}}", SCRIPT)
});

static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    HeaderValue::try_from(policy).ok()
});

pub(super) async fn page() -> Response {
    let Some(policy) = POLICY.clone() else { return "see /api/v1/pipelines\n".into_response() };
    let headers: [(HeaderName, HeaderValue); 6] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    ];
    (headers, HTML.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_loads_nothing_from_elsewhere() {
        assert!(HTML.len() < 100_000, "{} bytes", HTML.len());
        assert!(!HTML.contains("{{"), "each part is filled in");
        let outside = HTML.replace("http://www.w3.org/2000/svg", "");
        for word in ["http://", "https://", "@import", "url("] {
            assert!(!outside.contains(word), "{word}");
        }
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
    }

    /// The policy forbids these too. This test says so before a browser does.
    #[test]
    fn text_never_becomes_html() {
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style="] {
            assert!(!HTML.contains(word), "{word}");
        }
    }

    #[tokio::test]
    async fn the_policy_allows_this_style_and_this_script_only() {
        let response = page().await;
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        for part in
            ["default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
