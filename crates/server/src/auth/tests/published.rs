//! Keys that are published: which are used, rotation, and sources that fail.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use throng::Denied;

use super::issuer::Signer;
use super::service::{Say, Service};
use super::{Setup, run, show};
use crate::auth::fetch::Fetch;
use crate::auth::jwks::Pace;
use crate::auth::jwt::Judge;
use crate::config::Hosts;

/// Keys at a URL on loopback, which is allowed.
fn judge(url: &str, pace: Pace) -> Judge {
    let setup = Setup::new(&[("jwt.algorithms", "ES256 EdDSA"), ("jwt.jwks_url", url)])
        .set("webhook.allow", "127.0.0.1");
    let config = setup.config();
    Judge::paced(config.jwt, Fetch::new(config.webhook.allow), pace).unwrap()
}

fn set(keys: &[Value]) -> Say {
    Say::json(&json!({ "keys": keys }))
}

/// Never by itself, and at most so often.
fn pace(again: Duration) -> Pace {
    Pace { refresh: Duration::from_secs(3600), again, timeout: Duration::from_secs(60) }
}

const RARELY: Duration = Duration::from_secs(3600);

#[test]
fn keys_for_anything_else_are_skipped() {
    run(async {
        let [_, [rs, _], [es, _], [ed, other]] = Signer::all();
        let keys = [
            json!(7),
            json!({"kty": "oct", "k": "AAAA", "kid": "s"}),
            json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA", "kid": "e"}),
            rs.jwk(json!({"kid": "rs"})),
            es.jwk(json!({"kid": "enc", "use": "enc"})),
            es.jwk(json!({"kid": "alg", "alg": "ES384"})),
            es.jwk(json!({"kid": "kty", "kty": "RSA"})),
            es.jwk(json!({"kid": "ops", "key_ops": ["sign"]})),
            es.jwk(json!({"kid": "short", "x": "AAAA"})),
            es.jwk(json!({"kid": "text", "x": "!"})),
            es.jwk(json!({"kid": "good", "use": "sig", "alg": "ES256", "key_ops": ["verify"]})),
            ed.jwk(json!({"kid": "bare"})),
        ];
        let service = Service::start(move |_, _| set(&keys)).await;
        let judge = judge(&service.url("/jwks.json"), pace(RARELY));
        for (signer, id, taken) in [
            (es, json!("good"), true),
            (ed, json!("bare"), true),
            (ed, Value::Null, true),
            (es, Value::Null, true),
            (other, json!("bare"), false),
            (other, json!("good"), false),
            (es, json!("bare"), false),
            (ed, json!("good"), false),
            (es, json!("enc"), false),
            (es, json!("alg"), false),
            (es, json!("kty"), false),
            (es, json!("ops"), false),
            (es, json!("short"), false),
            (es, json!("text"), false),
            (es, json!("nobody"), false),
            (rs, json!("rs"), false),
            (&Signer::secret(b"\0\0\0"), json!("s"), false),
        ] {
            let token = signer.token_with(json!({"kid": id}), json!({}));
            let wanted = if taken { Ok(()) } else { Err(Denied::Unauthorized) };
            assert_eq!(judge.visa(&token).await.map(drop), wanted, "{} {id}", signer.name());
        }
        let [only] = &service.heard()[..] else { panic!("asked {} times", service.heard().len()) };
        assert_eq!(only.line, "GET /jwks.json HTTP/1.1");
        assert_eq!(only.headers["host"], service.address.to_string());
    });
}

#[test]
fn keys_rotate_under_load_with_one_question_for_all() {
    run(async {
        let keys: Vec<_> = (0..4).map(|_| Signer::draw(Algorithm::ES256)).collect();
        let published = Arc::new(Mutex::new(vec![keys[0].jwk(json!({"kid": "0"}))]));
        let current = Arc::clone(&published);
        let service = Service::start(move |_, _| set(&current.lock().unwrap())).await;
        let judge = Arc::new(judge(&service.url("/"), pace(Duration::from_secs(1))));
        let refused = Arc::new(AtomicUsize::new(0));
        for (at, key) in keys.iter().enumerate() {
            // The new key and the one before, as issuers do.
            let from = at.saturating_sub(1);
            let both = (from..=at).map(|n| keys[n].jwk(json!({"kid": n.to_string()}))).collect();
            *published.lock().unwrap() = both;
            tokio::time::sleep(Duration::from_millis(1100)).await;
            let asked = service.heard().len();
            let old = keys[from].token_with(json!({"kid": from.to_string()}), json!({}));
            let new = key.token_with(json!({"kid": at.to_string()}), json!({}));
            let shows: Vec<_> = (0..200)
                .map(|n| {
                    let (judge, refused) = (Arc::clone(&judge), Arc::clone(&refused));
                    let token = if n % 2 == 0 { old.clone() } else { new.clone() };
                    tokio::spawn(async move {
                        if judge.visa(&token).await.is_err() {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            for show in shows {
                show.await.unwrap();
            }
            assert_eq!(refused.load(Ordering::Relaxed), 0, "rotation {at}");
            // Some may have looked before the answer came, and asked after it.
            let more = service.heard().len() - asked;
            assert!(more <= 4, "{more} questions for 100 tokens");
        }
        // The first is no longer published.
        let gone = keys[0].token_with(json!({"kid": "0"}), json!({}));
        assert_eq!(judge.visa(&gone).await.map(drop), Err(Denied::Unauthorized));
    });
}

#[test]
fn unknown_names_of_keys_do_not_make_the_server_ask_again_and_again() {
    run(async {
        let [_, _, [es, strange], _] = Signer::all();
        let key = es.jwk(json!({"kid": "1"}));
        let service = Service::start(move |_, _| set(std::slice::from_ref(&key))).await;
        let judge = judge(&service.url("/"), pace(RARELY));
        for n in 0..500 {
            let token = strange.token_with(json!({"kid": n.to_string()}), json!({}));
            assert_eq!(judge.visa(&token).await.map(drop), Err(Denied::Unauthorized));
        }
        assert_eq!(service.heard().len(), 1);
        let good = es.token_with(json!({"kid": "1"}), json!({}));
        judge.visa(&good).await.unwrap();
    });
}

#[test]
fn while_the_source_is_away_the_old_keys_are_good() {
    run(async {
        let [_, _, [es, next], _] = Signer::all();
        let (away, fresh) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (old, new) = (es.jwk(json!({"kid": "1"})), next.jwk(json!({"kid": "2"})));
        let (is_away, is_fresh) = (Arc::clone(&away), Arc::clone(&fresh));
        let service = Service::start(move |_, before| {
            match (is_away.load(Ordering::SeqCst), is_fresh.load(Ordering::SeqCst)) {
                (false, false) => set(std::slice::from_ref(&old)),
                (false, true) => set(std::slice::from_ref(&new)),
                // Every way of being away.
                (true, _) => match before % 5 {
                    0 => Say::Nothing,
                    1 => Say::Answer(503, "{\"keys\":[]}".into()),
                    2 => Say::Answer(200, "<html>".into()),
                    3 => Say::Bytes(b"HTTP/1.1 302 x\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n".into()),
                    _ => Say::Answer(200, format!("{{\"keys\":[\"{}\"]}}", "x".repeat(300_000))),
                },
            }
        })
        .await;
        let judge = judge(&service.url("/"), pace(Duration::from_millis(1)));
        let [one, two] =
            [(es, "1"), (next, "2")].map(|(s, id)| s.token_with(json!({"kid": id}), json!({})));
        judge.visa(&one).await.unwrap();
        assert_eq!(judge.visa(&two).await.map(drop), Err(Denied::Unauthorized));
        away.store(true, Ordering::SeqCst);
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            judge.visa(&one).await.unwrap();
            // Nobody can say: the key may be a new one.
            assert_eq!(judge.visa(&two).await.map(drop), Err(Denied::Unavailable));
        }
        fresh.store(true, Ordering::SeqCst);
        away.store(false, Ordering::SeqCst);
        // The last attempt may have begun before it was back.
        while judge.visa(&two).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(judge.visa(&one).await.map(drop), Err(Denied::Unauthorized));
    });
}

#[test]
fn keys_are_fetched_without_anybody_asking() {
    run(async {
        let [_, _, [es, _], _] = Signer::all();
        let key = es.jwk(json!({"kid": "1"}));
        let service = Service::start(move |_, _| set(std::slice::from_ref(&key))).await;
        let often = Duration::from_millis(5);
        let pace = Pace { refresh: often, again: Duration::from_millis(1), timeout: RARELY };
        let judge = judge(&service.url("/"), pace);
        while service.heard().len() < 4 {
            tokio::time::sleep(often).await;
        }
        drop(judge);
        // One may still be under way; nobody holds the source any more.
        let start = Instant::now();
        let mut asked = 0;
        while asked != service.heard().len() {
            assert!(start.elapsed() < Duration::from_secs(60), "it is still asked");
            asked = service.heard().len();
            tokio::time::sleep(100 * often).await;
        }
    });
}

#[test]
fn a_source_that_never_was_there_is_no_verdict() {
    run(async {
        let service = Service::start(|_, _| Say::Silence).await;
        let short = Pace { timeout: Duration::from_secs(2), ..pace(RARELY) };
        let judge = judge(&service.url("/"), short);
        let token = Signer::all()[2][0].token(json!({}));
        for _ in 0..3 {
            assert_eq!(judge.visa(&token).await.map(drop), Err(Denied::Unavailable));
        }
        assert_eq!(judge.visa("x.y.z").await.map(drop), Err(Denied::Unauthorized));
        assert_eq!(service.heard().len(), 1);
    });
}

#[test]
fn a_source_where_the_server_may_not_go_is_not_asked() {
    run(async {
        let service = Service::start(|_, _| set(&[])).await;
        let port = service.address.port();
        for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"] {
            let url = format!("http://{host}:{port}/jwks");
            let setup = Setup::new(&[("jwt.algorithms", "ES256"), ("jwt.jwks_url", &url)]);
            let judge =
                Judge::paced(setup.config().jwt, Fetch::new(Hosts::default()), pace(RARELY));
            let token = Signer::all()[2][0].token(json!({}));
            assert_eq!(judge.unwrap().visa(&token).await.map(drop), Err(Denied::Unavailable));
            // Through the front door, too.
            let auth = setup.start();
            assert_eq!(show(&auth, &token).await.map(drop), Err(Denied::Unavailable), "{host}");
        }
        assert!(service.heard().is_empty());
    });
}
