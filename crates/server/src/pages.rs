//! The pages, embedded in the binary: `/` is the chat, `/name/…` are the files of `web/name/`, and `/js/…` is
//! the JavaScript client, for pages of ours and of others.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::handler::HandlerWithoutStateExt as _;
use axum::middleware::map_response;
use axum::response::Response;
use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use rust_embed::{Embed, EmbeddedFile};

/// Adds the pages to a router, for every path that it does not know. Without `enabled`, all of these are 404.
pub(crate) fn add_to(router: Router, enabled: bool) -> Router {
    let pages = Arc::new(if enabled { Pages::embedded() } else { Pages::default() });
    let answer = move |request: Request| {
        let response = pages.answer(request.method(), request.uri(), request.headers());
        std::future::ready(response)
    };
    router.fallback_service(answer.into_service())
}

/// Everything that is served, by path.
#[derive(Default)]
struct Pages {
    by_path: HashMap<String, Page>,
}

#[derive(Clone)]
struct Page {
    bytes: Bytes,
    content_type: HeaderValue,
    /// A strong one: the hash of the content.
    etag: HeaderValue,
}

#[derive(Embed)]
#[folder = "../../web"]
struct Files;

/// The client's modules.
#[derive(Embed)]
#[folder = "../../js/src"]
struct Client;

impl Pages {
    /// Reads all files once. The order does not matter: each has one path, and an index one more.
    fn embedded() -> Self {
        let mut by_path = HashMap::new();
        for name in Files::iter() {
            let Some(page) = Files::get(&name).and_then(|file| Page::of(&name, file)) else {
                continue;
            };
            if name == "chat/index.html" {
                by_path.insert("/".to_owned(), page.clone());
            }
            if let Some(directory) = name.strip_suffix("index.html") {
                by_path.insert(format!("/{directory}"), page.clone());
            }
            by_path.insert(format!("/{name}"), page);
        }
        for name in Client::iter() {
            if let Some(page) = Client::get(&name).and_then(|file| Page::of(&name, file)) {
                by_path.insert(format!("/js/{name}"), page);
            }
        }
        Self { by_path }
    }

    fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response {
        let path = uri.path();
        let Some(page) = self.by_path.get(path) else {
            return match self.by_path.get_key_value(&format!("{path}/")) {
                Some((to, _)) if !path.is_empty() => moved(to, uri.query()),
                _ => not_found(headers),
            };
        };
        if method != Method::GET && method != Method::HEAD {
            let mut response =
                plain(StatusCode::METHOD_NOT_ALLOWED, "This page can only be read.\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        // hyper leaves the body out of the answer to HEAD, but not its length.
        let known = headers.get_all(IF_NONE_MATCH).iter().any(|tags| names(tags, &page.etag));
        let mut response = Response::new(match known {
            true => Body::empty(),
            false => Body::from(page.bytes.clone()),
        });
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, page.content_type.clone());
        headers.insert(ETAG, page.etag.clone());
        // Kept, but asked for again each time: a new server means a new page at once.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        secure(headers);
        response
    }
}

impl Page {
    /// A file, unless it is of a kind that is not served.
    fn of(name: &str, file: EmbeddedFile) -> Option<Self> {
        let content_type = content_type(name)?;
        let bytes = match file.data {
            std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
        };
        let hash = file.metadata.sha256_hash();
        let etag: String = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let etag = HeaderValue::try_from(format!("\"{etag}\"")).ok()?;
        Some(Self { bytes, content_type, etag })
    }
}

/// Whether an `If-None-Match` value lists this tag (RFC 9110 §13.1.2, weak comparison).
fn names(tags: &HeaderValue, etag: &HeaderValue) -> bool {
    let (Ok(tags), Ok(etag)) = (tags.to_str(), etag.to_str()) else { return false };
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

fn moved(to: &str, query: Option<&str>) -> Response {
    let mut response = plain(StatusCode::PERMANENT_REDIRECT, "");
    let to = query.map_or_else(|| to.to_owned(), |query| format!("{to}?{query}"));
    if let Ok(to) = HeaderValue::try_from(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

fn not_found(headers: &HeaderMap) -> Response {
    let accepts = |kind: &str| {
        let mut values = headers.get_all(ACCEPT).iter();
        values.any(|value| value.to_str().is_ok_and(|value| value.contains(kind)))
    };
    let (content_type, body) = if accepts("text/html") {
        ("text/html; charset=utf-8", NOT_FOUND_PAGE)
    } else if accepts("application/json") {
        (
            "application/json",
            "{\"error\":{\"code\":\"not_found\",\"message\":\"There is nothing at this path.\",\"temporary\":false}}\n",
        )
    } else {
        ("text/plain; charset=utf-8", "There is nothing at this path.\n")
    };
    let mut response = plain(StatusCode::NOT_FOUND, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A short answer in plain text, with the security headers.
pub(crate) fn plain(status: StatusCode, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    secure(headers);
    response
}

/// Only our own scripts, styles and images, no frames, no forms, connections only back here, and no text
/// that becomes markup; nothing of it for other sites.
fn secure(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    harden(headers);
}

/// Gives the security headers to every answer of a router, whoever made it.
pub(crate) fn hardened(router: Router) -> Router {
    router.layer(map_response(async |mut response: Response| {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            harden(response.headers_mut());
        }
        response
    }))
}

/// What is not a page of ours may do nothing at all, should a browser show it as one; the rest is the same
/// for all.
fn harden(headers: &mut HeaderMap) {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, NOTHING),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("permissions-policy"), NO_DEVICES),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

fn content_type(name: &str) -> Option<HeaderValue> {
    let (_, extension) = name.rsplit_once('.')?;
    Some(HeaderValue::from_static(match extension {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "webmanifest" => "application/manifest+json",
        _ => return None,
    }))
}

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const NOTHING: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox";

const NO_DEVICES: &str = "accelerometer=(), camera=(), display-capture=(), \
    geolocation=(), gyroscope=(), hid=(), magnetometer=(), microphone=(), midi=(), payment=(), \
    publickey-credentials-get=(), screen-wake-lock=(), serial=(), usb=(), xr-spatial-tracking=()";

const NOT_FOUND_PAGE: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<meta name=\"color-scheme\" content=\"light dark\">
<link rel=\"stylesheet\" href=\"/chat/theme.css\">
<link rel=\"icon\" href=\"/chat/icon.svg\" type=\"image/svg+xml\">
<title>Nothing here</title>
<main class=\"nothing\">
<h1>Nothing here</h1>
<p>There is nothing at this path.</p>
<p><a class=\"button\" href=\"/\">To the chat</a></p>
</main>
</html>
";

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, headers: &[(HeaderName, &str)]) -> Response {
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        Pages::embedded().answer(&Method::GET, &path.parse().unwrap(), &headers)
    }

    fn header(response: &Response, name: impl http::header::AsHeaderName) -> &str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn the_chat_is_at_the_front_door_and_in_its_directory() {
        for path in ["/", "/chat/", "/chat/index.html"] {
            let response = get(path, &[]);
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(header(&response, CONTENT_TYPE), "text/html; charset=utf-8");
            assert_eq!(header(&response, CACHE_CONTROL), "no-cache");
        }
        assert_eq!(
            header(&get("/chat/app.js", &[]), CONTENT_TYPE),
            "text/javascript; charset=utf-8"
        );
        let moved = get("/chat?Craig", &[]);
        assert_eq!(
            (moved.status(), header(&moved, LOCATION)),
            (StatusCode::PERMANENT_REDIRECT, "/chat/?Craig")
        );
    }

    #[test]
    fn the_client_is_served_module_by_module() {
        let names: Vec<_> = Client::iter().filter(|name| name.ends_with(".js")).collect();
        assert!(names.iter().any(|name| name == "index.js"), "{names:?}");
        for name in names {
            let response = get(&format!("/js/{name}"), &[]);
            assert_eq!(response.status(), StatusCode::OK, "{name}");
            assert_eq!(header(&response, CONTENT_TYPE), "text/javascript; charset=utf-8");
            assert_eq!(header(&response, CACHE_CONTROL), "no-cache");
            assert_ne!(header(&response, ETAG), "");
        }
        assert_eq!(get("/js/", &[]).status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn a_page_that_is_known_is_not_sent_again() {
        let first = get("/", &[]);
        let etag = header(&first, ETAG).to_owned();
        assert!(etag.starts_with('"') && etag.len() == 26, "{etag}");
        for tags in [etag.clone(), format!("\"x\", W/{etag}"), "*".into()] {
            let again = get("/", &[(IF_NONE_MATCH, &tags)]);
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{tags}");
            assert_eq!(header(&again, ETAG), etag);
        }
        assert_eq!(get("/", &[(IF_NONE_MATCH, "\"x\"")]).status(), StatusCode::OK);
        assert_ne!(header(&get("/chat/app.js", &[]), ETAG), etag);
    }

    #[test]
    fn everything_has_the_security_headers() {
        for path in ["/", "/nowhere"] {
            let response = get(path, &[]);
            let policy = header(&response, CONTENT_SECURITY_POLICY);
            assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            assert_eq!(header(&response, X_CONTENT_TYPE_OPTIONS), "nosniff");
            assert_eq!(header(&response, X_FRAME_OPTIONS), "DENY");
            assert_eq!(header(&response, "cross-origin-opener-policy"), "same-origin");
            assert_eq!(header(&response, "cross-origin-resource-policy"), "same-origin");
            assert!(header(&response, "permissions-policy").contains("camera=()"));
        }
    }

    #[test]
    fn pages_have_no_script_of_their_own_in_them() {
        for name in Files::iter().filter(|name| name.ends_with(".html")) {
            let page = String::from_utf8(Files::get(&name).unwrap().data.into_owned()).unwrap();
            let page = page.to_ascii_lowercase();
            for (at, _) in page.match_indices("<script") {
                let tag = page[at..].split('>').next().unwrap();
                assert!(tag.contains(" src="), "{name}: {tag}");
            }
            let inline =
                [" onclick=", " onload=", " onerror=", " onsubmit=", "javascript:", " style="];
            for wrong in inline {
                assert!(!page.contains(wrong), "{name} has {wrong}");
            }
        }
        assert!(!NOT_FOUND_PAGE.contains("<script"));
    }

    #[test]
    fn not_found_is_told_in_the_language_of_the_asker() {
        for (accept, expected) in [
            ("text/html,*/*", "text/html; charset=utf-8"),
            ("application/json", "application/json"),
            ("*/*", "text/plain; charset=utf-8"),
        ] {
            let response = get("/nowhere", &[(ACCEPT, accept)]);
            assert_eq!(response.status(), StatusCode::NOT_FOUND);
            assert_eq!(header(&response, CONTENT_TYPE), expected);
        }
        for path in ["/../Cargo.toml", "/chat/../chat/app.js", "//", "/chat/%61pp.js", "*"] {
            assert_eq!(get(path, &[]).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[test]
    fn pages_can_only_be_read() {
        let response =
            Pages::embedded().answer(&Method::POST, &Uri::from_static("/"), &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(header(&response, ALLOW), "GET, HEAD");
        let head =
            Pages::embedded().answer(&Method::HEAD, &Uri::from_static("/"), &HeaderMap::new());
        assert_eq!(head.status(), StatusCode::OK);
    }
}
