//! What a client sends to open a connection, and what it accepts as an answer (RFC 6455 §4.1).

#![allow(clippy::unwrap_used)]

use http::header::{HeaderName, HeaderValue};
use http::{Method, Response, StatusCode, Version};
use throng_wire::extension::{Deflate, DeflateOptions};
use throng_wire::handshake::client::{
    Agreed, HandshakeError, InvalidRequest, RequestBuilder, encode, request,
};

const NONCE: [u8; 16] = *b"the sample nonce";
const ANSWER: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn plain() -> RequestBuilder {
    request("example.org", "/").unwrap()
}

/// What the client of `builder` makes of a correct answer with `change` in place of the lines
/// of the same name; a line without a colon removes the field.
fn verify(builder: &RequestBuilder, change: &[&str]) -> Result<Agreed, HandshakeError> {
    let usual = [
        "upgrade: websocket".to_owned(),
        "connection: Upgrade".to_owned(),
        format!("sec-websocket-accept: {ANSWER}"),
    ];
    let name = |line: &str| -> HeaderName { line.split(':').next().unwrap().parse().unwrap() };
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let kept = usual
        .iter()
        .map(String::as_str)
        .filter(|line| change.iter().all(|other| name(other) != name(line)));
    for line in kept.chain(change.iter().copied()) {
        if let Some((_, value)) = line.split_once(": ") {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            response.headers_mut().append(name(line), value);
        }
    }
    builder.clone().build(NONCE).1.verify(&response)
}

#[test]
fn the_request_as_it_travels() {
    let (request, _) = request("[::1]:8080", "/chat?a=b%20c")
        .unwrap()
        .subprotocol("a.v2")
        .unwrap()
        .subprotocol("a.v1")
        .unwrap()
        .deflate(Some(DeflateOptions {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            ..DeflateOptions::default()
        }))
        .header(http::header::ORIGIN, HeaderValue::from_static("https://example.org"))
        .unwrap()
        .header(http::header::COOKIE, HeaderValue::from_static("a=1"))
        .unwrap()
        .build(NONCE);
    assert_eq!(request.method(), Method::GET);
    assert_eq!(request.version(), Version::HTTP_11);
    let mut bytes = Vec::new();
    encode(&request, &mut bytes);
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        "GET /chat?a=b%20c HTTP/1.1\r\n\
         Host: [::1]:8080\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: a.v2, a.v1\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
         origin: https://example.org\r\n\
         cookie: a=1\r\n\r\n"
    );
}

#[test]
fn requests_that_cannot_be() {
    for host in ["", "a b", "user@example.org", "u:p@example.org", "example.org/x", "a\r\nb"] {
        assert_eq!(request(host, "/").unwrap_err(), InvalidRequest::Host, "{host}");
    }
    for target in ["", "x", "?x", "*", "/a b", "/\r\nHost: b", "/\u{7f}", "http://example.org/"] {
        assert_eq!(request("example.org", target).unwrap_err(), InvalidRequest::Target, "{target}");
    }
    for name in ["", "a b", "a,b", "a/1", "\u{e4}", "a\r\nb"] {
        let error = plain().subprotocol(name).unwrap_err();
        assert_eq!(error, InvalidRequest::Subprotocol(name.to_owned()));
    }
    let twice = plain().subprotocol("a").unwrap().subprotocol("a");
    assert_eq!(twice.unwrap_err(), InvalidRequest::Subprotocol("a".to_owned()));
    for name in [
        "host",
        "upgrade",
        "connection",
        "content-length",
        "transfer-encoding",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
        "sec-websocket-accept",
    ] {
        let name = HeaderName::from_static(name);
        let error = plain().header(name.clone(), HeaderValue::from_static("x")).unwrap_err();
        assert_eq!(error, InvalidRequest::ReservedHeader(name));
    }
}

#[test]
fn a_correct_answer_in_all_its_spellings() {
    let nothing = Agreed { subprotocol: None, deflate: None };
    for change in [
        &[][..],
        &["upgrade: WebSocket"],
        &["connection: keep-alive, UPGRADE"],
        &["connection: keep-alive", "connection: upgrade"],
        &["server: x", "date: y"],
    ] {
        assert_eq!(verify(&plain(), change), Ok(nothing.clone()), "{change:?}");
    }
}

#[test]
fn each_broken_rule_has_its_error() {
    let cases: &[(&[&str], HandshakeError)] = &[
        (&["upgrade"], HandshakeError::Upgrade),
        (&["upgrade: h2c"], HandshakeError::Upgrade),
        (&["upgrade: websocket, h2c"], HandshakeError::Upgrade),
        (&["upgrade: websocket", "upgrade: websocket"], HandshakeError::Upgrade),
        (&["connection"], HandshakeError::Connection),
        (&["connection: close"], HandshakeError::Connection),
        (&["sec-websocket-accept"], HandshakeError::Accept),
        (&["sec-websocket-accept: "], HandshakeError::Accept),
        (&["sec-websocket-accept: dGhlIHNhbXBsZSBub25jZQ=="], HandshakeError::Accept),
        (&["sec-websocket-accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo="], HandshakeError::Accept),
        (
            &[
                "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
                "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            ],
            HandshakeError::Accept,
        ),
        (&["sec-websocket-protocol: a"], HandshakeError::SubprotocolUnsolicited),
        (&["sec-websocket-extensions: permessage-deflate"], HandshakeError::ExtensionUnsolicited),
        (&["sec-websocket-extensions: x; y=\""], HandshakeError::ExtensionsMalformed),
    ];
    for (change, want) in cases {
        assert_eq!(verify(&plain(), change).as_ref(), Err(want), "{change:?}");
    }
}

#[test]
fn status_and_version_of_http() {
    let (_, verifier) = plain().build(NONCE);
    let mut response = Response::new(());
    assert_eq!(verifier.verify(&response), Err(HandshakeError::Status(StatusCode::OK)));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    assert_eq!(verifier.verify(&response), Err(HandshakeError::Status(StatusCode::UNAUTHORIZED)));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.version_mut() = Version::HTTP_10;
    assert_eq!(verifier.verify(&response), Err(HandshakeError::HttpVersion));
}

#[test]
fn the_subprotocol_has_to_be_one_of_ours() {
    let offering = plain().subprotocol("a").unwrap().subprotocol("b").unwrap();
    let chosen = |lines: &[&str]| verify(&offering, lines).map(|agreed| agreed.subprotocol);
    assert_eq!(chosen(&["sec-websocket-protocol: b"]), Ok(Some("b".to_owned())));
    assert_eq!(chosen(&[]), Err(HandshakeError::SubprotocolMissing));
    for lines in [
        &["sec-websocket-protocol: c"][..],
        &["sec-websocket-protocol: A"],
        &["sec-websocket-protocol: "],
        &["sec-websocket-protocol: a, b"],
        &["sec-websocket-protocol: a", "sec-websocket-protocol: a"],
    ] {
        assert_eq!(chosen(lines), Err(HandshakeError::SubprotocolUnsolicited), "{lines:?}");
    }
    let optional = offering.clone().require_subprotocol(false);
    assert_eq!(verify(&optional, &[]), Ok(Agreed { subprotocol: None, deflate: None }));
}

#[test]
fn the_extension_has_to_be_the_one_offered() {
    let offering = plain().deflate(Some(DeflateOptions::default()));
    let agreed = |lines: &[&str]| verify(&offering, lines).map(|agreed| agreed.deflate);
    let usual = "sec-websocket-extensions: permessage-deflate; server_no_context_takeover";
    assert_eq!(
        agreed(&[usual]),
        Ok(Some(Deflate {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        }))
    );
    assert_eq!(agreed(&[]), Ok(None), "compression is optional");
    for (lines, want) in [
        (&[usual, usual][..], HandshakeError::ExtensionUnsolicited),
        (&["sec-websocket-extensions: x"], HandshakeError::ExtensionUnsolicited),
        (&["sec-websocket-extensions: permessage-deflate"], HandshakeError::DeflateParameters),
        (
            &["sec-websocket-extensions: permessage-deflate; server_no_context_takeover=1"],
            HandshakeError::DeflateParameters,
        ),
        (&["sec-websocket-extensions: permessage-deflate;"], HandshakeError::ExtensionsMalformed),
    ] {
        assert_eq!(agreed(lines), Err(want), "{lines:?}");
    }
}
