//! Opening handshakes.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use throng_wire::DeflateOptions;
use throng_wire::handshake::{client, server};
use tungstenite::error::ProtocolError;
use tungstenite::handshake::{derive_accept_key, server::create_response};

/// Judges an HTTP head: a response if it begins with `HTTP/`, else a request.
///
/// The head is split at line ends; header fields that no HTTP library would pass on are left out.
pub fn handshake(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n').map(|line| line.trim_ascii());
    let Some(first) = lines.next() else { return };
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    if first.starts_with(b"HTTP/") {
        response(first, headers);
    } else {
        request(first, headers);
    }
}

fn request(first: &[u8], headers: HeaderMap) {
    let mut words = first.split(|byte| *byte == b' ');
    let method = words.next().and_then(|word| Method::from_bytes(word).ok());
    let version = match words.next_back() {
        Some(b"HTTP/1.0") => Version::HTTP_10,
        Some(b"HTTP/2") => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    let mut request = Request::new(());
    *request.method_mut() = method.unwrap_or_default();
    *request.version_mut() = version;
    *request.headers_mut() = headers;

    let deflate = DeflateOptions::default();
    let narrow = DeflateOptions {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 10,
        client_max_window_bits: 11,
        ..DeflateOptions::default()
    };
    for options in [
        server::ServerOptions { subprotocols: &[], deflate: None },
        server::ServerOptions { subprotocols: &["chat.v1", "chat.v2"], deflate: Some(&deflate) },
        server::ServerOptions { subprotocols: &["chat.v2"], deflate: Some(&narrow) },
    ] {
        let accepted =
            server::accept(request.method(), request.version(), request.headers(), &options);
        match accepted {
            Ok(accepted) => check_accepted(&request, &options, &accepted),
            Err(refusal) => check_refused(&refusal),
        }
    }
}

fn check_accepted(
    request: &Request<()>,
    options: &server::ServerOptions<'_>,
    accepted: &server::Accepted,
) {
    let fields = accepted.response.headers();
    assert_eq!(accepted.response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(*request.method(), Method::GET);
    assert_eq!(request.version(), Version::HTTP_11);
    assert_eq!(request.headers().get_all(header::HOST).iter().count(), 1);
    assert!(server::is_upgrade(request.headers()));
    let key = &request.headers()[header::SEC_WEBSOCKET_KEY];
    assert_eq!(fields[header::SEC_WEBSOCKET_ACCEPT], derive_accept_key(key.as_bytes()));
    let said = |name: HeaderName| {
        let values = request.headers().get_all(name);
        values.iter().flat_map(|value| value.as_bytes().to_vec()).collect::<Vec<u8>>()
    };
    match &accepted.subprotocol {
        Some(name) => {
            assert!(options.subprotocols.contains(&name.as_str()));
            assert_eq!(fields[header::SEC_WEBSOCKET_PROTOCOL], name.as_str());
            let offered = said(header::SEC_WEBSOCKET_PROTOCOL);
            assert!(offered.windows(name.len()).any(|part| part == name.as_bytes()));
        }
        None => assert!(!fields.contains_key(header::SEC_WEBSOCKET_PROTOCOL)),
    }
    match &accepted.deflate {
        Some(agreed) => {
            let ours = options.deflate.expect("nobody agrees to what was not wanted");
            assert!(agreed.server_no_context_takeover || !ours.server_no_context_takeover);
            assert!(agreed.client_no_context_takeover || !ours.client_no_context_takeover);
            assert!((9..=ours.server_max_window_bits).contains(&agreed.server_max_window_bits));
            assert!((8..=ours.client_max_window_bits).contains(&agreed.client_max_window_bits));
            let offered = said(header::SEC_WEBSOCKET_EXTENSIONS).to_ascii_lowercase();
            assert!(offered.windows(18).any(|part| part == b"permessage-deflate"));
            assert!(fields.contains_key(header::SEC_WEBSOCKET_EXTENSIONS));
        }
        None => assert!(!fields.contains_key(header::SEC_WEBSOCKET_EXTENSIONS)),
    }
    // tungstenite looks at the first `Connection` and `Upgrade` only, and wants `Upgrade` to be
    // no list. In a key it wants the four bits that mean nothing to be zero.
    match create_response(request) {
        Ok(theirs) => {
            let name = header::SEC_WEBSOCKET_ACCEPT;
            assert_eq!(theirs.headers().get(&name), fields.get(&name));
        }
        Err(tungstenite::Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::InvalidSecWebSocketKey,
        )) => {}
        Err(error) => panic!("tungstenite refuses it: {error}"),
    }
}

fn check_refused(refusal: &server::Refusal) {
    let response = refusal.response();
    assert_eq!(response.status(), refusal.status());
    assert!(matches!(response.status().as_u16(), 400 | 405 | 426));
    if response.status() == StatusCode::UPGRADE_REQUIRED {
        assert_eq!(response.headers()[header::UPGRADE], "websocket");
    }
    assert!(!refusal.to_string().is_empty());
}

fn response(first: &[u8], headers: HeaderMap) {
    let status = first.split(|byte| *byte == b' ').nth(1);
    let mut response = Response::new(());
    *response.status_mut() =
        status.and_then(|status| StatusCode::from_bytes(status).ok()).unwrap_or_default();
    *response.headers_mut() = headers;

    for (subprotocols, deflate) in
        [(&[][..], None), (&["chat.v1", "chat.v2"][..], Some(DeflateOptions::default()))]
    {
        let mut builder = client::request("example.org", "/").expect("a host and a path");
        for name in subprotocols {
            builder = builder.subprotocol(name).expect("a token");
        }
        let (request, verifier) = builder.deflate(deflate.clone()).build([7; 16]);
        let Ok(agreed) = verifier.verify(&response) else { continue };
        let fields = response.headers();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let key = request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes();
        assert_eq!(fields[header::SEC_WEBSOCKET_ACCEPT], derive_accept_key(key));
        assert!(fields.contains_key(header::UPGRADE) && fields.contains_key(header::CONNECTION));
        match agreed.subprotocol {
            Some(name) => assert!(subprotocols.contains(&name.as_str())),
            None => assert!(!fields.contains_key(header::SEC_WEBSOCKET_PROTOCOL)),
        }
        if let Some(agreed) = agreed.deflate {
            assert!(deflate.is_some(), "nobody agrees to what was not offered");
            assert!(agreed.server_no_context_takeover && agreed.client_no_context_takeover);
            assert!((8..=15).contains(&agreed.server_max_window_bits));
            assert!((8..=15).contains(&agreed.client_max_window_bits));
        }
    }
}
