//! The security headers, on whatever is answered.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use support::{Answer, Server};

fn assert_hardened(what: &str, answer: &Answer) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-embedder-policy", "require-corp"),
    ] {
        assert_eq!(answer.header(name), value, "{name} of {what}: {}", answer.head);
    }
    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'"), "{what}: {policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{what}: {policy}");
    assert!(!policy.contains("unsafe"), "{what}: {policy}");
    assert!(answer.header("permissions-policy").contains("camera=()"), "{what}");
}

#[test]
fn every_answer_has_the_security_headers() {
    let server = support::api::server("[login]\nenabled = true\n");
    let key = format!("Bearer {}", support::api::KEY);
    for (method, path, status) in [
        ("GET", "/", 200),
        ("GET", "/chat/app.js", 200),
        ("GET", "/chat", 308),
        ("GET", "/nowhere", 404),
        ("POST", "/", 405),
        ("GET", "/ws", 426),
        ("GET", "/ws/some", 426),
        ("POST", "/relay", 426),
        ("GET", "/metrics", 200),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/api/v1/rooms", 401),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/sse", 400),
        ("DELETE", "/sse", 405),
        ("OPTIONS", "/sse", 204),
        ("POST", "/send", 415),
        ("GET", "/send", 405),
        ("GET", "/login", 200),
        ("POST", "/login", 415),
    ] {
        let what = format!("{method} {path}");
        let answer = server.ask(method, path, &[]);
        if matches!(path, "/send" | "/login") && method == "POST" {
            assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
        } else {
            assert_eq!(answer.status, status, "{what}: {answer:?}");
        }
        assert_hardened(&what, &answer);
    }
    assert_hardened("the API", &server.ask("GET", "/api/v1/rooms", &[("authorization", &key)]));

    for (path, headers, status) in [
        ("/nowhere", &[][..], 404),
        ("/ws", &[("origin", "http://evil.test")], 403),
        ("/ws", &[("sec-websocket-version", "8")], 426),
        ("/ws?ticket=t_wrong", &[], 401),
    ] {
        let answer = server.upgrade(path, headers);
        assert_eq!(answer.status, status, "{path} {headers:?}: {answer:?}");
        assert_hardened(path, &answer);
    }
}

#[test]
fn streams_of_events_have_them_and_websockets_do_not_need_them() {
    let server = Server::start(&[]);
    let events = server.events("room=lobby", &[]);
    for header in ["x-content-type-options: nosniff", "x-frame-options: deny", "default-src 'none'"]
    {
        assert!(events.head.contains(header), "{}", events.head);
    }
    let switched = server.upgrade("/echo", &[]);
    assert_eq!(switched.status, 101);
    assert_eq!(switched.header("content-security-policy"), "");
}

#[test]
fn only_listed_origins_may_read_events_and_say_something() {
    let ours = "https://app.example";
    let server = Server::start(&["--set", "rooms.origins=https://app.example|http://b.example:81"]);
    let from =
        |method: &str, path: &str, origin: &str| server.ask(method, path, &[("origin", origin)]);
    let asked = from("OPTIONS", "/send", ours);
    assert_eq!(asked.status, 204);
    assert_eq!(asked.header("access-control-allow-origin"), ours);
    assert_eq!(asked.header("access-control-allow-credentials"), "", "there are no cookies");
    assert!(asked.header("vary").to_ascii_lowercase().contains("origin"));
    for other in [
        "https://app.example.evil.test",
        "http://app.example",
        "https://app.example:444",
        "https://evil.test",
        "null",
        "",
    ] {
        for (method, path) in
            [("OPTIONS", "/send"), ("OPTIONS", "/sse"), ("GET", "/sse?room=lobby")]
        {
            let answer = from(method, path, other);
            let what = format!("{method} {path} from {other:?}: {answer:?}");
            assert_eq!(answer.header("access-control-allow-origin"), "", "{what}");
            assert_eq!(answer.header("access-control-allow-methods"), "", "{what}");
            assert!(method == "OPTIONS" || answer.status == 403, "{what}");
        }
    }
    // The server's own pages are not listed.
    let own = format!("http://{}", server.addresses[0]);
    assert_eq!(from("GET", "/sse?room=lobby", &own).status, 403);
}
