//! What a server makes of opening handshakes (RFC 6455 §4.2, RFC 7692 §7.1).

#![allow(clippy::unwrap_used)]

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use throng_wire::extension::DeflateOptions;
use throng_wire::handshake::server::{Accepted, Refusal, ServerOptions, accept, is_upgrade};

/// A correct request with the lines in `change` in place of those of the same name; a line
/// without a colon removes the field.
fn headers(change: &[&str]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let usual = [
        "host: example.org",
        "upgrade: websocket",
        "connection: Upgrade",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version: 13",
    ];
    let name = |line: &str| -> HeaderName { line.split(':').next().unwrap().parse().unwrap() };
    let kept = usual.iter().filter(|line| change.iter().all(|other| name(other) != name(line)));
    for line in kept.chain(change) {
        if let Some((_, value)) = line.split_once(':') {
            let value = HeaderValue::from_bytes(value.trim_start().as_bytes()).unwrap();
            fields.append(name(line), value);
        }
    }
    fields
}

fn answer(change: &[&str], options: &ServerOptions<'_>) -> Result<Accepted, Refusal> {
    accept(&Method::GET, Version::HTTP_11, &headers(change), options)
}

fn refusal(change: &[&str]) -> Refusal {
    let deflate = DeflateOptions::default();
    answer(change, &ServerOptions { subprotocols: &["a"], deflate: Some(&deflate) }).unwrap_err()
}

fn field<'a>(accepted: &'a Accepted, name: &str) -> Option<&'a str> {
    accepted.response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn the_example_of_rfc_6455_section_1_2() {
    let accepted = answer(
        &["origin: http://example.com", "sec-websocket-protocol: chat, superchat"],
        &ServerOptions { subprotocols: &["superchat", "chat"], deflate: None },
    )
    .unwrap();
    assert_eq!(accepted.response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(field(&accepted, "upgrade"), Some("websocket"));
    assert_eq!(field(&accepted, "connection"), Some("Upgrade"));
    assert_eq!(field(&accepted, "sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(field(&accepted, "sec-websocket-protocol"), Some("chat"));
    assert_eq!(field(&accepted, "sec-websocket-extensions"), None);
    assert_eq!(accepted.subprotocol.as_deref(), Some("chat"));
    assert_eq!(accepted.deflate, None);
}

#[test]
fn fields_that_hold_lists_are_read_as_lists() {
    for change in [
        &["connection: keep-alive, upgrade"][..],
        &["connection: keep-alive", "connection: UPGRADE"],
        &["upgrade: h2c, WebSocket"],
        &["upgrade: h2c", "upgrade: websocket"],
        &["upgrade: websocket \t", "connection: , Upgrade ,"],
        &["sec-websocket-version: 13 "],
        &["content-length: 0"],
    ] {
        assert!(answer(change, &ServerOptions::default()).is_ok(), "{change:?}");
    }
}

#[test]
fn each_broken_rule_has_its_refusal() {
    let cases: &[(&[&str], Refusal)] = &[
        (&["upgrade"], Refusal::NotAnUpgrade),
        (&["upgrade: h2c"], Refusal::NotAnUpgrade),
        (&["upgrade: websockets"], Refusal::NotAnUpgrade),
        (&["upgrade: web socket"], Refusal::NotAnUpgrade),
        (&["connection"], Refusal::NotAnUpgrade),
        (&["connection: keep-alive"], Refusal::NotAnUpgrade),
        (&["connection: upgraded"], Refusal::NotAnUpgrade),
        (&["host"], Refusal::MissingHost),
        (&["host: "], Refusal::MissingHost),
        (&["host: a b"], Refusal::MissingHost),
        (&["host: user@example.org"], Refusal::MissingHost),
        (&["host: a", "host: a"], Refusal::RepeatedHost),
        (&["transfer-encoding: chunked"], Refusal::Body),
        (&["transfer-encoding: identity"], Refusal::Body),
        (&["content-length: 5"], Refusal::Body),
        (&["content-length: 0", "content-length: 5"], Refusal::Body),
        (&["content-length: -0"], Refusal::Body),
        (&["sec-websocket-version"], Refusal::BadVersion),
        (&["sec-websocket-version: 13", "sec-websocket-version: 13"], Refusal::BadVersion),
        (&["sec-websocket-version: 8"], Refusal::UnsupportedVersion),
        (&["sec-websocket-version: 14"], Refusal::UnsupportedVersion),
        (&["sec-websocket-version: 13, 8"], Refusal::UnsupportedVersion),
        (&["sec-websocket-version: 013"], Refusal::UnsupportedVersion),
        (&["sec-websocket-version: "], Refusal::UnsupportedVersion),
        (&["sec-websocket-key"], Refusal::BadKey),
        (&["sec-websocket-key: "], Refusal::BadKey),
        (&["sec-websocket-key: dGhlIHNhbXBsZQ=="], Refusal::BadKey),
        (&["sec-websocket-key: dGhlIHNhbXBsZSBub25jZTE="], Refusal::BadKey),
        (&["sec-websocket-key: dGhlIHNhbXBsZSBub25jZTEyMw=="], Refusal::BadKey),
        (&["sec-websocket-key: dGhlIHNhbXBsZSBub25j*Q=="], Refusal::BadKey),
        (
            &[
                "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
                "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            ],
            Refusal::BadKey,
        ),
        (&["sec-websocket-protocol: "], Refusal::BadSubprotocols),
        (&["sec-websocket-protocol: ,"], Refusal::BadSubprotocols),
        (&["sec-websocket-protocol: a, a"], Refusal::BadSubprotocols),
        (&["sec-websocket-protocol: b, a", "sec-websocket-protocol: b"], Refusal::BadSubprotocols),
        (&["sec-websocket-protocol: a b"], Refusal::BadSubprotocols),
        (&["sec-websocket-protocol: a, b/1"], Refusal::BadSubprotocols),
        (&["sec-websocket-protocol: a, \u{e4}"], Refusal::BadSubprotocols),
        (&["sec-websocket-extensions: "], Refusal::BadExtensions),
        (&["sec-websocket-extensions: permessage-deflate;"], Refusal::BadExtensions),
        (&["sec-websocket-extensions: permessage-deflate, x;y=\"z"], Refusal::BadExtensions),
        (&["sec-websocket-extensions: permessage deflate"], Refusal::BadExtensions),
        (&["sec-websocket-extensions: x;y=\"a b\""], Refusal::BadExtensions),
    ];
    for (change, want) in cases {
        assert_eq!(refusal(change), *want, "{change:?}");
    }
}

#[test]
fn method_and_version_of_http() {
    let fields = headers(&[]);
    let refusal = |method, version| {
        accept(&method, version, &fields, &ServerOptions::default()).map(|_| ()).unwrap_err()
    };
    assert_eq!(refusal(Method::POST, Version::HTTP_11), Refusal::Method);
    assert_eq!(refusal(Method::CONNECT, Version::HTTP_11), Refusal::Method);
    for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2, Version::HTTP_3] {
        assert_eq!(refusal(Method::GET, version), Refusal::HttpVersion);
    }
    assert!(is_upgrade(&fields));
}

#[test]
fn refusals_say_what_to_do() {
    let response = Refusal::NotAnUpgrade.response();
    assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(response.headers()["upgrade"], "websocket");
    let response = Refusal::UnsupportedVersion.response();
    assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(response.headers()["sec-websocket-version"], "13");
    let response = Refusal::BadVersion.response();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers()["sec-websocket-version"], "13");
    let response = Refusal::Method.response();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()["allow"], "GET");
    assert_eq!(Refusal::BadKey.response().status(), StatusCode::BAD_REQUEST);
}

#[test]
fn long_lists_are_refused() {
    let many = |field: &str, count: usize| {
        (0..count).map(|i| format!("{field}: p{i}")).collect::<Vec<_>>()
    };
    let refused = |lines: Vec<String>| {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        answer(&lines, &ServerOptions::default()).err()
    };
    assert_eq!(refused(many("sec-websocket-protocol", 64)), None);
    assert_eq!(refused(many("sec-websocket-protocol", 65)), Some(Refusal::BadSubprotocols));
    assert_eq!(refused(many("sec-websocket-extensions", 500)), None);
    assert_eq!(refused(many("sec-websocket-extensions", 2000)), Some(Refusal::BadExtensions));
    let long = format!("sec-websocket-protocol: {}", "x".repeat(5000));
    assert_eq!(refused(vec![long]), Some(Refusal::BadSubprotocols));
}

#[test]
fn the_clients_order_of_subprotocols_decides() {
    let chosen = |ours: &[&str], lines: &[&str]| {
        let accepted = answer(lines, &ServerOptions { subprotocols: ours, deflate: None }).unwrap();
        let header = field(&accepted, "sec-websocket-protocol").map(str::to_owned);
        assert_eq!(accepted.subprotocol, header);
        header
    };
    let lines = &["sec-websocket-protocol: x, b", "sec-websocket-protocol: a"];
    assert_eq!(chosen(&["a", "b"], lines).as_deref(), Some("b"));
    assert_eq!(chosen(&["a"], lines).as_deref(), Some("a"));
    assert_eq!(chosen(&["A"], lines), None, "subprotocols are case-sensitive");
    assert_eq!(chosen(&[], lines), None);
    assert_eq!(chosen(&["a"], &[]), None, "none was offered");
}

#[test]
fn the_first_acceptable_offer_of_deflate_is_taken() {
    let deflate = DeflateOptions {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        ..DeflateOptions::default()
    };
    let options = ServerOptions { subprotocols: &[], deflate: Some(&deflate) };
    let chosen = |offers: &[&str]| {
        let lines: Vec<_> =
            offers.iter().map(|offer| format!("sec-websocket-extensions: {offer}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let accepted = answer(&lines, &options).unwrap();
        let header = field(&accepted, "sec-websocket-extensions").map(str::to_owned);
        assert_eq!(accepted.deflate.is_some(), header.is_some());
        header
    };
    let plain = Some("permessage-deflate".to_owned());
    assert_eq!(chosen(&["permessage-deflate; client_max_window_bits"]), plain);
    assert_eq!(chosen(&["x-webkit-deflate-frame, permessage-deflate"]), plain);
    assert_eq!(
        chosen(&["permessage-deflate; server_max_window_bits=8, permessage-deflate"]),
        plain
    );
    assert_eq!(
        chosen(&[
            "permessage-deflate; unknown",
            "permessage-deflate; server_max_window_bits=10, permessage-deflate"
        ]),
        Some("permessage-deflate; server_max_window_bits=10".to_owned())
    );
    assert_eq!(chosen(&["permessage-deflate; server_max_window_bits=8"]), None);
    assert_eq!(chosen(&["permessage-bzip2"]), None);
    let without = answer(
        &["sec-websocket-extensions: permessage-deflate"],
        &ServerOptions { subprotocols: &[], deflate: None },
    );
    assert_eq!(without.unwrap().deflate, None);
}
