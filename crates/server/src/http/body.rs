//! Reading the body of a request: what it must be, how large, and how long it may take.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use throng::Code;

use super::answer::Problem;

/// Reads a body of JSON, of at most `limit` bytes, within `patience`.
///
/// Errors: `unsupported_data` when it is something else, `too_large`, `request_timeout`; `bad_message`
/// when it ends too early, which nobody will read. An empty body needs no content type.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    patience: Duration,
) -> Result<Bytes, Problem> {
    if !is_json(headers) && !body.is_end_stream() {
        let text = "The body must be JSON: content-type: application/json.";
        return Err(Problem::new(Code::UnsupportedData, text));
    }
    let too_large =
        || Problem::new(Code::TooLarge, format!("The body may have at most {limit} bytes."));
    // What is announced as too large is not read at all.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(patience, Limited::new(body, limit).collect()).await;
    match collected.map_err(|_| Problem::timeout())? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Problem::new(Code::BadMessage, "The body ended too early.")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(text) = value.to_str() else { return false };
    let kind = text.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_type() {
        let is = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_TYPE, value.parse().unwrap());
            }
            is_json(&headers)
        };
        assert!(is(&["application/json"]) && is(&["Application/JSON; charset=utf-8"]));
        for wrong in [&["text/plain"][..], &[], &["application/jsonp"], &["application/json"; 2]] {
            assert!(!is(wrong), "{wrong:?}");
        }
    }
}
