//! Both sides of the handshake against each other, and against arbitrary headers.

#![allow(clippy::unwrap_used)]

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode, Version};
use proptest::prelude::*;
use throng_wire::extension::{Deflate, DeflateOptions};
use throng_wire::handshake::{client, server};

fn deflate_options() -> impl Strategy<Value = DeflateOptions> {
    (any::<[bool; 2]>(), [9..=15u8, 9..=15u8]).prop_map(|(takeover, bits)| DeflateOptions {
        server_no_context_takeover: takeover[0],
        client_no_context_takeover: takeover[1],
        server_max_window_bits: bits[0],
        client_max_window_bits: bits[1],
        ..DeflateOptions::default()
    })
}

/// The fields of the handshake with values that are wrong in small or large ways.
fn fields() -> impl Strategy<Value = HeaderMap> {
    let name = prop::sample::select(vec![
        header::HOST,
        header::UPGRADE,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::SEC_WEBSOCKET_KEY,
        header::SEC_WEBSOCKET_VERSION,
        header::SEC_WEBSOCKET_PROTOCOL,
        header::SEC_WEBSOCKET_EXTENSIONS,
        header::SEC_WEBSOCKET_ACCEPT,
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "example.org",
            "websocket",
            "Upgrade",
            "13",
            "dGhlIHNhbXBsZSBub25jZQ==",
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "a, b",
            "permessage-deflate; client_max_window_bits",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        "(permessage-deflate|x)(; ?(server|client)_(max_window_bits|no_context_takeover)\
            (=\"?[0-9]{1,2}\"?)?){0,3}(, ?permessage-deflate)?"
            .prop_map(String::into_bytes),
        prop::collection::vec(prop_oneof![Just(b'\t'), 0x20..=0x7eu8, 0x80..=0xffu8], 0..80),
    ];
    prop::collection::vec((name, value), 0..12).prop_map(|lines| {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                fields.append(name, value);
            }
        }
        fields
    })
}

/// `fields` with all but the lists replaced by what a correct request has.
fn completed(mut fields: HeaderMap) -> HeaderMap {
    let usual: [(HeaderName, &str); 5] = [
        (header::HOST, "example.org"),
        (header::UPGRADE, "websocket"),
        (header::CONNECTION, "Upgrade"),
        (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        (header::SEC_WEBSOCKET_VERSION, "13"),
    ];
    for (name, value) in usual {
        fields.insert(name, HeaderValue::from_static(value));
    }
    fields.remove(header::CONTENT_LENGTH);
    fields
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_our_client_asks_our_server_accepts(
        nonce in any::<[u8; 16]>(),
        offered in prop::collection::btree_set("[a-z][a-z0-9.]{0,8}", 0..5),
        spoken in prop::collection::vec("[a-z]{1,2}", 0..5),
        take_one in any::<bool>(),
        wanted in prop::option::of(deflate_options()),
        given in prop::option::of(deflate_options()),
    ) {
        let mut builder = client::request("example.org:80", "/a?b").unwrap()
            .require_subprotocol(false)
            .deflate(wanted.clone());
        for name in &offered {
            builder = builder.subprotocol(name).unwrap();
        }
        let (request, verifier) = builder.build(nonce);
        let mut spoken: Vec<&str> = spoken.iter().map(String::as_str).collect();
        if take_one {
            spoken.extend(offered.iter().next_back().map(String::as_str));
        }
        let options = server::ServerOptions { subprotocols: &spoken, deflate: given.as_ref() };
        let accepted =
            server::accept(request.method(), request.version(), request.headers(), &options);
        let accepted = accepted.unwrap();
        let agreed = verifier.verify(&accepted.response).unwrap();
        prop_assert_eq!(&agreed.subprotocol, &accepted.subprotocol);
        let common = offered.iter().any(|name| spoken.contains(&name.as_str()));
        prop_assert_eq!(agreed.subprotocol.is_some(), common);
        prop_assert_eq!(agreed.deflate, accepted.deflate);
        prop_assert_eq!(agreed.deflate.is_some(), wanted.is_some() && given.is_some());
        if let (Some(agreed), Some(wanted), Some(given)) = (agreed.deflate, wanted, given) {
            let want = Deflate {
                server_no_context_takeover: wanted.server_no_context_takeover
                    || given.server_no_context_takeover,
                client_no_context_takeover: wanted.client_no_context_takeover
                    || given.client_no_context_takeover,
                server_max_window_bits: wanted.server_max_window_bits
                    .min(given.server_max_window_bits),
                client_max_window_bits: wanted.client_max_window_bits
                    .min(given.client_max_window_bits),
            };
            prop_assert_eq!(agreed, want);
        }
    }

    #[test]
    fn any_request_is_answered(fields in fields(), complete in any::<bool>()) {
        let fields = if complete { completed(fields) } else { fields };
        let deflate = DeflateOptions::default();
        let options = server::ServerOptions { subprotocols: &["a", "b"], deflate: Some(&deflate) };
        match server::accept(&Method::GET, Version::HTTP_11, &fields, &options) {
            Ok(accepted) => {
                let fields = accepted.response.headers();
                prop_assert!(fields.contains_key(header::SEC_WEBSOCKET_ACCEPT));
                let named = fields.contains_key(header::SEC_WEBSOCKET_EXTENSIONS);
                prop_assert_eq!(named, accepted.deflate.is_some());
                if let Some(agreed) = accepted.deflate {
                    prop_assert!((9..=15).contains(&agreed.server_max_window_bits));
                    prop_assert!((8..=15).contains(&agreed.client_max_window_bits));
                }
            }
            Err(refusal) => prop_assert!(refusal.response().status().is_client_error()),
        }
    }

    #[test]
    fn any_response_is_judged(fields in fields(), deflate in prop::option::of(deflate_options())) {
        let (_, verifier) = client::request("example.org", "/").unwrap()
            .subprotocol("a").unwrap().require_subprotocol(false)
            .deflate(deflate.clone()).build(*b"the sample nonce");
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = fields;
        if let Ok(agreed) = verifier.verify(&response) {
            prop_assert!(deflate.is_some() || agreed.deflate.is_none());
            prop_assert!(agreed.subprotocol.is_none_or(|name| name == "a"));
        }
    }
}
