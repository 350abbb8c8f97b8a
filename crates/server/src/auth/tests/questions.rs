//! The webhook: what it is asked, what becomes of its answers, and how it can fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use throng::{Authenticate as _, Denied, Grants, Via, Visit};

use super::service::{Say, Service};
use super::{SECRET, Setup, run, show};

/// A webhook on loopback, which is allowed.
fn setup(service: &Service) -> Setup {
    Setup::new(&[("webhook.url", &service.url("/check?a=1")), ("webhook.allow", "127.0.0.0/8")])
        .file("webhook.secret_file", SECRET)
}

/// RFC 2104, step by step.
fn hmac(secret: &[u8], message: &[u8]) -> String {
    let mut key = [0; 64];
    key[..secret.len()].copy_from_slice(secret);
    let [inner, outer] = [0x36, 0x5c].map(|pad| key.map(|byte| byte ^ pad));
    let inside = Sha256::digest([&inner[..], message].concat());
    let mac = Sha256::digest([&outer[..], &inside[..]].concat());
    mac.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_question_says_who_asks_and_is_signed_with_every_secret() {
    run(async {
        let answer = json!({"userId": "ada", "name": " Ada\u{202e} ", "info": {"n": 1.0},
            "rooms": {"chat:*": ["join"]}, "sessionTtl": 60_000, "more": [1]});
        let service = Service::start(move |_, _| Say::json(&answer)).await;
        let setup = setup(&service);
        let auth = setup.start();
        let visit = Visit {
            ip: Some("203.0.113.7".parse().unwrap()),
            origin: Some("https://a.example".into()),
            path: "/ws/chat:1".into(),
            room: Some("chat:1".into()),
            user_agent: Some("x\"\u{1}".into()),
        };
        let before = crate::auth::now();
        let visa = auth.authenticate("to\"ken.\u{e9}".into(), visit.clone()).await.unwrap();
        let after = crate::auth::now();
        assert_eq!((visa.user_id.as_str(), visa.via), ("ada", Via::Webhook));
        assert_eq!(
            (visa.name.as_deref(), visa.info.as_deref()),
            (Some("Ada"), Some(r#"{"n":1.0}"#))
        );
        assert_eq!(visa.grants, Grants::from_json(r#"{"chat:*":["join"]}"#).unwrap());
        assert!((before + 60_000..=after + 60_000).contains(&visa.expires.unwrap()));
        assert!((before..=after).contains(&visa.issued.unwrap()));

        let second = "another secret that is long enough";
        std::fs::write(setup.path("webhook.secret_file"), format!("{second}\n{SECRET}\n")).unwrap();
        auth.reload().unwrap();
        auth.login("ada".into(), "pass\nword".into(), visit).await.unwrap();
        std::fs::write(setup.path("webhook.secret_file"), "short").unwrap();
        auth.reload().unwrap_err();
        show(&auth, "x").await.unwrap();

        let heard = service.heard();
        let secrets = [&[SECRET][..], &[second, SECRET], &[second, SECRET]];
        for (heard, secrets) in heard.iter().zip(secrets) {
            assert_eq!(heard.line, "POST /check?a=1 HTTP/1.1");
            assert_eq!(heard.headers["content-type"], "application/json");
            assert_eq!(heard.headers["host"], service.address.to_string());
            let signature = &heard.headers["throng-signature"];
            let (time, proofs) = signature.split_once(',').unwrap();
            let time = time.strip_prefix("t=").unwrap();
            assert!((before..before + 60_000).contains(&time.parse().unwrap()));
            let message = [time.as_bytes(), b".", &heard.body].concat();
            let wanted: Vec<_> = secrets
                .iter()
                .map(|secret| format!("v1={}", hmac(secret.as_bytes(), &message)))
                .collect();
            assert_eq!(proofs, wanted.join(","));
        }
        let mut asked: Vec<Value> = heard.iter().map(|heard| heard.json()).collect();
        let ids: Vec<_> = asked.iter_mut().map(|body| body["id"].take()).collect();
        assert!(ids[0] != ids[1] && ids[0].as_str().unwrap().starts_with("q_"), "{ids:?}");
        for body in &mut asked {
            assert!(
                (before..before + 60_000).contains(&body["timestamp"].take().as_u64().unwrap())
            );
        }
        let mut wanted = json!({"id": null, "timestamp": null, "token": "to\"ken.\u{e9}",
            "ip": "203.0.113.7", "origin": "https://a.example", "path": "/ws/chat:1",
            "room": "chat:1", "userAgent": "x\"\u{1}"});
        assert_eq!(asked[0], wanted);
        let fields = wanted.as_object_mut().unwrap();
        fields.remove("token");
        fields.extend([("user".into(), json!("ada")), ("password".into(), json!("pass\nword"))]);
        assert_eq!(asked[1], wanted);
        assert_eq!(asked[2], json!({"id": null, "timestamp": null, "token": "x", "path": ""}));
    });
}

#[test]
fn what_answers_come_to() {
    let visa = json!({"userId": "ada"});
    let with = |field: &str, value: Value| {
        let mut answer = visa.clone();
        answer[field] = value;
        (200, answer.to_string())
    };
    let (no, cannot) = (Err(Denied::Unauthorized), Err(Denied::Unavailable));
    // An answer, what it comes to, and how often it is asked for with one repetition.
    type Row = ((u16, String), Result<(), Denied>, usize);
    let table: Vec<Row> = vec![
        ((200, visa.to_string()), Ok(()), 1),
        ((201, visa.to_string()), Ok(()), 1),
        (with("info", Value::Null), Ok(()), 1),
        (with("rooms", json!({})), Ok(()), 1),
        ((401, visa.to_string()), no, 1),
        ((401, String::new()), no, 1),
        ((403, "<html>".into()), Err(Denied::Forbidden), 1),
        ((200, String::new()), cannot, 1),
        ((204, String::new()), cannot, 1),
        ((200, "true".into()), cannot, 1),
        ((200, "[]".into()), cannot, 1),
        ((200, "{}".into()), cannot, 1),
        ((200, "<html>".into()), cannot, 1),
        ((200, format!("{visa}{visa}")), cannot, 1),
        (with("userId", json!(7)), cannot, 1),
        (with("userId", json!("")), cannot, 1),
        (with("userId", json!("a b")), cannot, 1),
        (with("userId", json!("a".repeat(128))), cannot, 1),
        (with("name", json!(1)), cannot, 1),
        (with("info", json!("x".repeat(4096))), cannot, 1),
        (with("rooms", json!(["chat"])), cannot, 1),
        (with("rooms", json!({"chat": ["all"]})), cannot, 1),
        (with("sessionTtl", json!(0)), cannot, 1),
        (with("sessionTtl", json!(-1)), cannot, 1),
        (with("sessionTtl", json!("1h")), cannot, 1),
        (with("sessionTtl", json!(u64::MAX)), cannot, 1),
        ((200, "x".repeat(64 * 1024 + 1)), cannot, 1),
        ((400, visa.to_string()), cannot, 1),
        ((404, visa.to_string()), cannot, 1),
        ((301, visa.to_string()), cannot, 1),
        ((429, String::new()), cannot, 2),
        ((500, visa.to_string()), cannot, 2),
        ((503, String::new()), cannot, 2),
    ];
    run(async {
        for ((status, body), wanted, asked) in table {
            let shown = format!("{status} {}", body.chars().take(60).collect::<String>());
            let service = Service::start(move |_, _| Say::Answer(status, body.clone())).await;
            let auth = setup(&service).set("webhook.retries", "1").start();
            assert_eq!(show(&auth, "x").await.map(drop), wanted, "{shown}");
            assert_eq!(service.heard().len(), asked, "{shown}");
        }
    });
}

#[test]
fn what_passes_is_tried_again_and_the_question_stays_the_same() {
    run(async {
        let visa = json!({"userId": "ada"});
        let service = Service::start(move |_, before| match before {
            0 => Say::Nothing,
            1 => Say::Answer(502, String::new()),
            2 => Say::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".into()),
            3 => Say::Bytes(b"nonsense\r\n\r\n".into()),
            _ => Say::json(&visa),
        })
        .await;
        let setup = setup(&service).set("webhook.retries", "4").set("webhook.timeout", "60s");
        show(&setup.start(), "x").await.unwrap();
        let bodies: Vec<_> = service.heard().into_iter().map(|heard| heard.body).collect();
        assert_eq!(bodies.len(), 5);
        assert!(bodies.iter().all(|body| *body == bodies[0]), "one id, so it can be known again");
    });
}

#[test]
fn answers_without_end_are_cut_off() {
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    let slow = Duration::from_millis(5);
    type Saying = Box<dyn Fn() -> Say + Send + Sync>;
    let table: Vec<(&str, Saying)> = vec![
        ("silence", Box::new(|| Say::Silence)),
        ("a slow head", Box::new(move || Say::Endless(OK, b"x-a: b\r\n".into(), slow))),
        ("a fast head", Box::new(|| Say::Endless(OK, b"x-a: b\r\n".repeat(99), Duration::ZERO))),
        (
            "one header",
            Box::new(|| Say::Endless("HTTP/1.1 200 OK\r\nx: ", vec![b'a'; 4096], Duration::ZERO)),
        ),
        ("the status", Box::new(|| Say::Endless("", vec![b'H'; 4096], Duration::ZERO))),
        (
            "informational answers",
            Box::new(move || Say::Endless("", b"HTTP/1.1 100 Continue\r\n\r\n".into(), slow)),
        ),
        (
            "a body",
            Box::new(|| Say::Endless("HTTP/1.1 200 OK\r\n\r\n", vec![b' '; 4096], Duration::ZERO)),
        ),
        (
            "a slow body",
            Box::new(move || Say::Endless("HTTP/1.1 200 OK\r\n\r\n", b" ".into(), slow)),
        ),
        (
            "chunks",
            Box::new(|| {
                Say::Endless(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                    b"1\r\n \r\n".repeat(500),
                    Duration::ZERO,
                )
            }),
        ),
        (
            "a chunk's extension",
            Box::new(|| {
                Say::Endless(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;",
                    vec![b'a'; 4096],
                    Duration::ZERO,
                )
            }),
        ),
        (
            "trailers",
            Box::new(|| {
                Say::Endless(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
                    b"x: y\r\n".repeat(500),
                    Duration::ZERO,
                )
            }),
        ),
        (
            "a length",
            Box::new(|| {
                Say::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{".into())
            }),
        ),
        (
            "a switch",
            Box::new(move || {
                Say::Endless(
                    "HTTP/1.1 101 x\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
                    b"x".into(),
                    slow,
                )
            }),
        ),
    ];
    run(async {
        for (name, say) in table {
            let service = Service::start(move |_, _| say()).await;
            let auth = setup(&service)
                .set("webhook.timeout", "300ms")
                .set("webhook.retries", "10")
                .start();
            assert_eq!(show(&auth, "x").await, Err(Denied::Unavailable), "{name}");
        }
    });
}

#[test]
fn the_timeout_is_for_all_attempts_together() {
    run(async {
        let service = Service::start(|_, _| Say::Answer(503, String::new())).await;
        let setup = setup(&service).set("webhook.timeout", "1500ms").set("webhook.retries", "10");
        assert_eq!(show(&setup.start(), "x").await, Err(Denied::Unavailable));
        // The pauses grow: 50 ms, 150 ms, 450 ms.
        assert!((1..=4).contains(&service.heard().len()), "{}", service.heard().len());
    });
}

#[test]
fn questions_beyond_the_limit_are_not_asked() {
    run(async {
        let service = Service::start(|_, _| Say::Silence).await;
        let auth = Arc::new(setup(&service).set("webhook.timeout", "60s").start());
        let open: Vec<_> = (0..256)
            .map(|n| {
                let auth = Arc::clone(&auth);
                tokio::spawn(async move { show(&auth, &n.to_string()).await })
            })
            .collect();
        while service.heard().len() < 256 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let refused = AtomicUsize::new(0);
        let start = Instant::now();
        for _ in 0..100 {
            assert_eq!(show(&auth, "one more").await, Err(Denied::Unavailable));
            refused.fetch_add(1, Ordering::Relaxed);
        }
        assert!(start.elapsed() < Duration::from_secs(60), "they have waited");
        assert_eq!((refused.into_inner(), service.heard().len()), (100, 256));
        // Whoever goes away gives its place back.
        for one in &open {
            one.abort();
        }
        for one in open {
            assert!(one.await.unwrap_err().is_cancelled());
        }
        let next = Arc::clone(&auth);
        let next = tokio::spawn(async move { show(&next, "next").await });
        while service.heard().len() < 257 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        next.abort();
    });
}

#[test]
fn what_is_too_large_is_not_worth_a_question() {
    run(async {
        let service = Service::start(|_, _| Say::json(&json!({"userId": "ada"}))).await;
        let auth = setup(&service).start();
        let no = Err(Denied::Unauthorized);
        assert_eq!(show(&auth, &"x".repeat(8 * 1024 + 1)).await.map(drop), no);
        assert_eq!(show(&auth, "").await.map(drop), no);
        for (user, password) in [(257, 1), (1, 1025)] {
            let [user, password] = [user, password].map(|length| "x".repeat(length));
            assert_eq!(auth.login(user, password, Visit::default()).await.map(drop), no);
        }
        assert!(service.heard().is_empty());
        show(&auth, &"x".repeat(8 * 1024)).await.unwrap();
    });
}

#[test]
fn a_bad_jwt_is_not_passed_on_to_the_webhook() {
    run(async {
        let service = Service::start(|_, _| Say::json(&json!({"userId": "ada"}))).await;
        let auth = setup(&service)
            .set("jwt.algorithms", "HS256")
            .file("jwt.secret_file", "f".repeat(32))
            .start();
        let strange = super::issuer::Signer::secret(SECRET.as_bytes());
        let none = strange.sign(&json!({"alg": "none"}), &json!({"sub": "ada"}));
        for token in [&strange.token(json!({})), &none, &none[..none.rfind('.').unwrap() + 1]] {
            assert_eq!(show(&auth, token).await, Err(Denied::Unauthorized));
        }
        assert!(service.heard().is_empty());
        for token in ["opaque", "a.b.c", "e.e", "..", "v2.local.x"] {
            show(&auth, token).await.unwrap();
        }
        assert_eq!(service.heard().len(), 5);
    });
}
