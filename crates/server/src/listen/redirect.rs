//! A listener that only knows where `https` is.

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use http::header::{HOST, HeaderValue, LOCATION};
use http::uri::Authority;
use http::{StatusCode, Uri};

use crate::pages::plain;

/// Answers everything with `308` to the same path of the same host by `https`. Whoever came to a port that is
/// not in the URL, which is 80, is sent to one that is not in the URL, which is 443; others to `port`.
pub(crate) fn redirect(port: u16) -> Router {
    Router::new().fallback(move |request: Request| async move { answer(&request, port) })
}

fn answer(request: &Request, port: u16) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let target = host.and_then(|host| target(host, request.uri(), port));
    let Some(target) = target.and_then(|target| HeaderValue::try_from(target).ok()) else {
        return plain(StatusCode::BAD_REQUEST, "This is no host that https could be at.\n");
    };
    let mut response = plain(StatusCode::PERMANENT_REDIRECT, "Use https.\n");
    response.headers_mut().insert(LOCATION, target);
    response
}

fn target(host: &str, uri: &Uri, port: u16) -> Option<String> {
    let authority: Authority = host.parse().ok()?;
    let name = authority.host();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
    if host.contains('@') || name.is_empty() || !name.bytes().all(fits) {
        return None;
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if !path.starts_with('/') {
        return None;
    }
    Some(match authority.port() {
        Some(_) if port != 443 => format!("https://{name}:{port}{path}"),
        _ => format!("https://{name}{path}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_place_by_https() {
        for (host, path, port, expected) in [
            ("example.org", "/a?b=c", 443, "https://example.org/a?b=c"),
            // Both ports may have been mapped by something in between.
            ("example.org", "/", 3443, "https://example.org/"),
            ("example.org:8080", "/", 443, "https://example.org/"),
            ("example.org:8080", "//evil.example", 8443, "https://example.org:8443//evil.example"),
            ("[::1]:80", "/", 8443, "https://[::1]:8443/"),
        ] {
            let uri: Uri = path.parse().unwrap_or_default();
            let uri = if path.starts_with("//") {
                Uri::builder().path_and_query(path).build().unwrap()
            } else {
                uri
            };
            assert_eq!(target(host, &uri, port).as_deref(), Some(expected), "{host}{path}");
        }
    }

    #[test]
    fn hosts_that_are_none() {
        for host in ["", "a@evil.example", "a b", "a/b", "a\"b", "[::1", "a,b"] {
            assert_eq!(target(host, &Uri::from_static("/"), 443), None, "{host}");
        }
        assert_eq!(target("a", &Uri::from_static("*"), 443), None);
    }
}
