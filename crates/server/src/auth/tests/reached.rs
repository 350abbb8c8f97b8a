//! Where requests of the server's own go, and where they do not.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Uri};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::run;
use super::service::{Say, Service};
use crate::auth::fetch::{Answer, Fetch, FetchError, Question};
use crate::client::Cidr;
use crate::config::Hosts;

fn allow(names: &[&str], ranges: &[&str]) -> Hosts {
    Hosts {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ranges: ranges.iter().map(|range| Cidr::parse(range).unwrap()).collect(),
    }
}

async fn get(fetch: &Fetch, url: &str) -> Result<Answer, FetchError> {
    let url: Uri = url.parse().unwrap();
    fetch.ask(&Question::get(&url, 1000), Instant::now() + Duration::from_secs(20)).await
}

#[test]
fn loopback_is_not_reached_however_it_is_written() {
    run(async {
        // On all addresses, so that whatever leads to this machine would be answered.
        let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let service = Service::on(v4, |_, _| Say::Answer(200, "reached".into()));
        let port = service.address.port();
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await.ok();
        let other = v6.map(|v6| Service::on(v6, |_, _| Say::Answer(200, "reached".into())));
        let fetch = Fetch::new(Hosts::default());
        for host in [
            "127.0.0.1",
            "127.1.2.3",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "017700000001",
            "0",
            "[64:ff9b::7f00:1]",
        ] {
            for scheme in ["http", "https"] {
                let refused = get(&fetch, &format!("{scheme}://{host}:{port}/")).await;
                // Some resolvers know the odd spellings, others do not.
                let odd = host.ends_with('.')
                    || host.parse::<Ipv4Addr>().is_err() && !host.contains(['[', 'l', 'L']);
                match refused {
                    Err(FetchError::Forbidden(said)) => assert!(host.contains(&said), "{said}"),
                    Err(FetchError::Lookup(_)) if odd => {}
                    other => panic!("{scheme}://{host}: {other:?}"),
                }
            }
        }
        for url in [
            "http://10.0.0.1/",
            "http://192.168.1.1/",
            "http://169.254.169.254/latest/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://224.0.0.1/",
        ] {
            let refused = get(&fetch, url).await;
            assert!(matches!(refused, Err(FetchError::Forbidden(_))), "{url}: {refused:?}");
        }
        for url in ["ftp://127.0.0.1/", "/latest", "gopher://127.0.0.1/", "127.0.0.1:80"] {
            let refused = get(&fetch, url).await;
            assert!(matches!(refused, Err(FetchError::Url)), "{url}: {refused:?}");
        }
        assert!(service.heard().is_empty());
        assert!(other.is_none_or(|other| other.heard().is_empty()));
    });
}

#[test]
fn what_is_allowed_is_reached_by_range_or_name() {
    run(async {
        let service = Service::start(|_, _| Say::Answer(200, "yes".into())).await;
        let port = service.address.port();
        for (names, ranges, host, reached) in [
            (&[][..], &["127.0.0.1"][..], "127.0.0.1", true),
            (&[], &["127.0.0.0/8"], "localhost", true),
            (&["localhost"], &[], "LocalHost", true),
            (&["localhost"], &[], "127.0.0.1", false),
            (&["local"], &["127.0.0.2/32", "::/0"], "127.0.0.1", false),
        ] {
            let fetch = Fetch::new(allow(names, ranges));
            match get(&fetch, &format!("http://{host}:{port}/")).await {
                Ok(answer) => {
                    assert!(reached, "{host}");
                    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"yes"[..]));
                }
                Err(FetchError::Forbidden(_)) => assert!(!reached, "{host}"),
                Err(error) => panic!("{host}: {error}"),
            }
        }
    });
}

#[test]
fn redirects_are_not_followed() {
    run(async {
        let inside = Service::start(|_, _| Say::Answer(200, "secret".into())).await;
        let there = inside.url("/latest/meta-data");
        for status in [301, 302, 303, 307, 308] {
            for location in ["http://169.254.169.254/latest/meta-data", &there] {
                let head = format!(
                    "HTTP/1.1 {status} x\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
                );
                let service =
                    Service::start(move |_, _| Say::Bytes(head.clone().into_bytes())).await;
                let fetch = Fetch::new(allow(&[], &["127.0.0.0/8"]));
                let answer = get(&fetch, &service.url("/")).await.unwrap();
                assert_eq!((answer.status.as_u16(), answer.body), (status, Bytes::new()));
                assert_eq!(service.heard().len(), 1);
            }
        }
        assert!(inside.heard().is_empty());
    });
}

#[test]
fn bodies_of_every_kind_are_read_to_their_end_or_their_limit() {
    run(async {
        let fetch = Fetch::new(allow(&[], &["127.0.0.0/8"]));
        let long = "y".repeat(1000);
        for (answer, wanted) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhimore".to_owned(), Some("hi")),
            ("HTTP/1.1 200 OK\r\n\r\nhi".to_owned(), Some("hi")),
            ("HTTP/1.0 200 OK\r\n\r\nhi".to_owned(), Some("hi")),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n".to_owned(), Some("hi")),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".to_owned(), Some("hi")),
            (format!("HTTP/1.1 200 OK\r\n\r\n{long}"), Some(&*long)),
            (format!("HTTP/1.1 200 OK\r\n\r\n{long}y"), None),
            (format!("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n{long}"), None),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh".to_owned(), None),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi!".to_owned(), None),
            (format!("HTTP/1.1 200 OK\r\n{}\r\nhi", "a: b\r\n".repeat(101)), None),
            (format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\nhi", "b".repeat(500_000)), None),
        ] {
            let bytes = answer.clone().into_bytes();
            let service = Service::start(move |_, _| Say::Bytes(bytes.clone())).await;
            let got = get(&fetch, &service.url("/")).await;
            let got = got.ok().map(|got| String::from_utf8(got.body.to_vec()).unwrap());
            assert_eq!(got.as_deref(), wanted, "{}", &answer[..answer.len().min(80)]);
        }
    });
}

#[test]
fn tls_is_checked_against_the_name_and_the_authority() {
    run(async {
        let named = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(named.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![named.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut some = [0; 1024];
                let _ = stream.read(&mut some).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntls").await;
                let _ = stream.shutdown().await;
            }
        });
        let hosts = || allow(&["localhost"], &["127.0.0.1"]);
        let mut roots = RootCertStore::empty();
        roots.add(named.cert.der().clone()).unwrap();
        let trusting = Fetch::trusting(hosts(), roots);
        let answer = get(&trusting, &format!("https://localhost:{port}/")).await.unwrap();
        assert_eq!(&answer.body[..], b"tls");
        let by_address = get(&trusting, &format!("https://127.0.0.1:{port}/")).await;
        assert!(matches!(by_address, Err(FetchError::Tls(_))), "{by_address:?}");
        let strange = Fetch::new(hosts());
        let unknown = get(&strange, &format!("https://localhost:{port}/")).await;
        assert!(matches!(unknown, Err(FetchError::Tls(_))), "{unknown:?}");
    });
}
