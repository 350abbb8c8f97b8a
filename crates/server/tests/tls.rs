//! Listeners with TLS, from the outside.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "support/tls.rs"]
mod clients;
mod support;

use std::io::{Read as _, Write as _};
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use self::clients::{Cert, Client, Stream, ask, file, parse, serve, shown};
use self::support::{Server, connect};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

/// Sends a message and takes it back, which takes both directions at once if it is big.
fn echo(socket: &mut WebSocket<Stream>, bytes: &[u8]) {
    socket.send(Message::binary(bytes.to_vec())).unwrap();
    assert!(socket.read().unwrap().into_data() == bytes);
}

#[test]
fn messages_of_all_sizes_go_both_ways() {
    let (server, cert, _files) = serve("[echo]\nmax_message = \"4MiB\"");
    for versions in [[&TLS12], [&TLS13]] {
        let client = Client::with(&cert.der, None, &versions, &["http/1.1"]);
        let mut socket = client.websocket(&server, "/echo");
        assert_eq!(socket.get_ref().conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        for len in [0, 1, 125, 126, 4095, 16_384, 65_536, 300_000, 1 << 20] {
            echo(&mut socket, &pattern(len));
        }
        // The end is a close frame, close_notify and FIN.
        socket.close(None).unwrap();
        loop {
            match socket.read() {
                Ok(_) => {}
                Err(error) => {
                    assert!(matches!(error, tungstenite::Error::ConnectionClosed), "{error}");
                    break;
                }
            }
        }
        let stream = socket.get_mut();
        assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0, "without close_notify it is an error");
    }
}

#[test]
fn a_message_together_with_the_handshake_is_not_lost() {
    let (server, cert, _files) = serve("");
    let mut stream = Client::of(&cert).connect(server.address(), "localhost").unwrap();
    let mut bytes = b"GET /echo HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\
        upgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    // 30,000 bytes in one frame, masked with zeros: more than hyper reads ahead, in several records.
    bytes.extend([0x82, 0xfe, 0x75, 0x30, 0, 0, 0, 0]);
    bytes.extend(pattern(30_000));
    stream.write_all(&bytes).unwrap();
    let mut got = Vec::new();
    let mut chunk = [0; 4096];
    while got.len() < 30_000 || !got.ends_with(&bytes[bytes.len() - 30_000..]) {
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0);
        got.extend_from_slice(&chunk[..read]);
    }
    assert!(got.starts_with(b"HTTP/1.1 101 "));
    let ready = server_metric(&server, &cert, "throng_connections");
    assert_eq!(ready, "1");
}

/// A number from `/metrics`, over TLS.
fn server_metric(server: &Server, cert: &Cert, name: &str) -> String {
    let stream = Client::of(cert).connect(server.address(), "localhost").unwrap();
    let answer = ask(stream, "/metrics");
    let value = answer.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {}", answer.text())).to_owned()
}

#[test]
fn pages_say_hsts_only_where_it_is_configured() {
    let (server, cert, _files) = serve("hsts = \"1h\"");
    let stream = Client::of(&cert).connect(server.address(), "localhost").unwrap();
    let answer = ask(stream, "/");
    assert_eq!((answer.status, answer.header("strict-transport-security")), (200, "max-age=3600"));
    let (server, cert, _files) = serve("");
    let stream = Client::of(&cert).connect(server.address(), "localhost").unwrap();
    let answer = ask(stream, "/");
    assert_eq!((answer.status, answer.header("strict-transport-security")), (200, ""));
}

#[test]
fn only_http_1_is_spoken() {
    let (server, cert, _files) = serve("[[listener]]\naddress = \"127.0.0.1:0\"");
    // Somebody who only wants HTTP/2 is told so in the handshake.
    let h2 = Client::with(&cert.der, None, &[&TLS13], &["h2"]);
    let error = h2.connect(server.address(), "localhost").unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    // Somebody who begins with it is told, too, with TLS and without.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut got = Vec::new();
    let mut stream = Client::of(&cert).connect(server.address(), "localhost").unwrap();
    stream.write_all(preface).unwrap();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(parse(&got).status, 400);
    let mut stream = connect(server.addresses[1]);
    stream.write_all(preface).unwrap();
    assert_eq!(support::answer(stream).status, 400);
    // HTTP on a port for TLS gets no answer in HTTP.
    let mut stream = connect(server.address());
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    got.clear();
    let _ = stream.read_to_end(&mut got);
    assert!(!got.starts_with(b"HTTP"), "{got:?}");
}

#[test]
fn old_versions_are_refused_where_it_is_said() {
    let (server, cert, _files) = serve("min_version = \"1.3\"");
    let old = Client::with(&cert.der, None, &[&TLS12], &[]);
    assert!(old.connect(server.address(), "localhost").is_err());
    let new = Client::with(&cert.der, None, &[&TLS13], &[]);
    assert!(new.connect(server.address(), "localhost").is_ok());
}

#[test]
fn sessions_are_resumed_also_after_a_reload() {
    let (mut server, cert, _files) = serve("");
    for versions in [[&TLS12], [&TLS13]] {
        let client = Client::with(&cert.der, None, &versions, &[]);
        let kind = |client: &Client| {
            let mut stream = client.connect(server.address(), "localhost").unwrap();
            // With 1.3, tickets come behind the handshake.
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
            assert!(stream.read(&mut [0; 1000]).unwrap() > 0);
            stream.conn.handshake_kind().unwrap()
        };
        assert_ne!(kind(&client), HandshakeKind::Resumed);
        assert_eq!(kind(&client), HandshakeKind::Resumed);
        server.signal(Signal::HUP);
        server.until_logged("new certificates are in use");
        let kind = client.connect(server.address(), "localhost").unwrap().conn.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Resumed));
    }
}

#[test]
fn the_name_chooses_the_certificate() {
    let files = tempfile::tempdir().unwrap();
    let first = Cert::write(files.path(), "first", &["first.example", "localhost"]);
    let second = Cert::write(files.path(), "second", &["*.second.example"]);
    let server = Server::start_with(&[], &file(&[&first, &second], ""));
    for (name, expected) in [("first.example", &first), ("www.second.example", &second)] {
        let stream = Client::of(expected).connect(server.address(), name).unwrap();
        assert_eq!(shown(&stream), expected.der);
    }
    // Anybody else gets the first one, and does not like it.
    let error = Client::of(&first).connect(server.address(), "third.example").unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[test]
fn certificates_change_while_connections_stay() {
    let (mut server, old, files) = serve("");
    let client = Client::of(&old);
    let mut socket = client.websocket(&server, "/echo");
    std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let socket = &mut socket;
        let load = scope.spawn(move || {
            let mut rounds = 0;
            while stopped.try_recv() == Err(TryRecvError::Empty) {
                echo(socket, &pattern(10_000));
                rounds += 1;
            }
            rounds
        });
        // A new pair, written one after the other as by any tool; found without being told.
        let new = Cert::write(files.path(), "server", &["localhost"]);
        server.until_logged("new certificates are in use");
        let stream = Client::of(&new).connect(server.address(), "localhost").unwrap();
        assert_eq!(shown(&stream), new.der);
        // A new client, that is: the other one resumes its session.
        let error = Client::of(&old).connect(server.address(), "localhost").unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
        // A broken one changes nothing.
        std::fs::write(&new.cert_file, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
        server.signal(Signal::HUP);
        server.until_logged("the old ones stay in use");
        let stream = Client::of(&new).connect(server.address(), "localhost").unwrap();
        assert_eq!(shown(&stream), new.der);
        // One that does not belong to the key, either.
        let other = tempfile::tempdir().unwrap();
        let other = Cert::write(other.path(), "other", &["localhost"]);
        std::fs::copy(&other.cert_file, &new.cert_file).unwrap();
        server.signal(Signal::HUP);
        server.until_logged("they do not belong together");
        let stream = Client::of(&new).connect(server.address(), "localhost").unwrap();
        assert_eq!(shown(&stream), new.der);
        drop(stop);
        assert!(load.join().unwrap() > 0);
    });
    echo(&mut socket, b"still here");
}

#[test]
fn clients_show_certificates_where_they_may_and_must() {
    let ids = tempfile::tempdir().unwrap();
    let [known, unknown] = ["known", "unknown"].map(|name| Cert::write(ids.path(), name, &[name]));
    for (auth, [none, good, bad]) in [
        ("off", [true, true, true]),
        ("optional", [true, true, false]),
        ("required", [false, true, false]),
    ] {
        let keys = format!("client_auth = {auth:?}\nclient_ca = {:?}", known.cert_file);
        let (server, cert, _files) = serve(&keys);
        for (own, expected) in [(None, none), (Some(&known), good), (Some(&unknown), bad)] {
            for versions in [[&TLS12], [&TLS13]] {
                let client = Client::with(&cert.der, own, &versions, &[]);
                // With 1.3 a client learns behind its handshake what the server thinks of it.
                let answered = client.connect(server.address(), "localhost").and_then(|mut s| {
                    s.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
                    s.read(&mut [0; 1000])
                });
                let shown = own.map(|own| &own.key_file);
                assert_eq!(answered.is_ok_and(|n| n > 0), expected, "{auth} {shown:?}");
            }
        }
    }
}

#[test]
fn plain_http_is_sent_to_https() {
    let more = "[[listener]]\naddress = \"127.0.0.1:0\"\nredirect = \"https\"";
    let (server, _cert, _files) = serve(more);
    let tls = server.address().port();
    let ask = |host: &str, path: &str, headers: &str| {
        let mut stream = connect(server.addresses[1]);
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        if headers.is_empty() {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        support::answer(stream)
    };
    for (host, path, expected) in [
        ("example.org", "/a?b=c", "https://example.org/a?b=c".to_owned()),
        ("example.org:80", "/", format!("https://example.org:{tls}/")),
        ("[::1]:8080", "/metrics", format!("https://[::1]:{tls}/metrics")),
    ] {
        let answer = ask(host, path, "connection: close\r\n");
        assert_eq!((answer.status, answer.header("location")), (308, &*expected));
    }
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(ask("example.org", "/ws", upgrade).status, 308);
    assert_eq!(ask("exa mple", "/", "connection: close\r\n").status, 400);
}

#[test]
fn slow_handshakes_are_cut() {
    let (mut server, cert, _files) = serve("[limits]\nhandshake_timeout = \"3s\"");
    let begun = Instant::now();
    let parts = [&b""[..], &[0x16, 3, 1], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]];
    let streams = parts.map(|part| {
        let mut stream = connect(server.address());
        stream.write_all(part).unwrap();
        stream
    });
    for mut stream in streams {
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        assert_eq!(got, b"");
    }
    // After the handshake the clock has not been set back.
    let mut stream = Client::of(&cert).connect(server.address(), "localhost").unwrap();
    let _ = stream.read(&mut [0; 10]);
    assert!(begun.elapsed() >= Duration::from_secs(6), "it was cut, but not for this");
    server.signal(Signal::TERM);
    assert!(server.wait().0.success());
}

#[test]
fn a_flood_of_half_handshakes_is_bounded() {
    let more = "[limits]\nmax_http_connections = 64\nhandshake_timeout = \"2s\"";
    let (server, cert, _files) = serve(more);
    let client = Client::of(&cert);
    let mut bystander = client.websocket(&server, "/echo");
    let mut flood = Vec::new();
    for _ in 0..200 {
        let mut stream = connect(server.address());
        let _ = stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
        flood.push(stream);
    }
    // Who is too many is gone at once, the others before long; nobody is served meanwhile, but who is in.
    let begun = Instant::now();
    let mut ends = Vec::new();
    for mut stream in flood {
        echo(&mut bystander, b"all is well");
        let _ = stream.read(&mut [0; 10]);
        ends.push(begun.elapsed());
    }
    assert!(ends.iter().filter(|end| **end > Duration::from_secs(1)).count() >= 32);
    echo(&mut client.websocket(&server, "/echo"), b"the next one");
}

#[test]
fn connections_that_come_too_fast_get_no_handshake() {
    let more = "[limits]\nexempt = []\nhandshake_timeout = \"60s\"\n\
        connects_per_ip = \"1/h burst 5\"";
    let (server, cert, _files) = serve(more);
    let client = Client::of(&cert);
    let mut first = client.websocket(&server, "/echo");
    for _ in 0..3 {
        assert!(client.connect(server.address(), "localhost").is_ok());
    }
    // One is left, to ask with; whoever else comes is closed without a byte, and is counted.
    let mut last = client.connect(server.address(), "localhost").unwrap();
    for _ in 0..20 {
        let mut stream = connect(server.address());
        let _ = stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
        assert_eq!(stream.read(&mut [0; 100]).unwrap_or(0), 0, "no alert, no certificate");
    }
    echo(&mut first, b"who is in stays");
    last.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut got = Vec::new();
    let _ = last.read_to_end(&mut got);
    let answer = parse(&got);
    let text = answer.text();
    for line in ["reason=\"rate\"} 20\n", "reason=\"tls\"} 0\n"] {
        let line = format!("throng_refused_connections_total{{{line}");
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}

#[test]
fn an_address_is_in_the_middle_of_so_many_handshakes() {
    let more = "[limits]\nexempt = []\nconnects_per_ip = \"off\"\nmax_tls_handshakes = 8\nhandshake_timeout = \"60s\"\n\
        [[listener]]\naddress = \"127.0.0.1:0\"";
    let (server, cert, _files) = serve(more);
    let client = Client::of(&cert);
    let begun = || {
        let mut stream = connect(server.address());
        let _ = stream.write_all(&[0x16, 3, 1]);
        stream
    };
    // A quarter of all is waited for, the others are closed at once.
    let flood: Vec<_> = (0..10).map(|_| begun()).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    let refused = || {
        let mut plain = connect(server.addresses[1]);
        plain
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .unwrap();
        let answer = support::answer(plain);
        let name = "throng_refused_connections_total{reason=\"tls_handshakes\"} ";
        let value = answer.text().lines().find_map(|line| line.strip_prefix(name));
        value.unwrap().parse::<u32>().unwrap()
    };
    while refused() < 8 {
        assert!(Instant::now() < deadline, "{} were refused", refused());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(client.connect(server.address(), "localhost").is_err());
    assert_eq!(refused(), 9);
    drop(flood);
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = client.connect(server.address(), "localhost") {
        assert!(Instant::now() < deadline, "the places are not given back: {error}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_slow_reader_is_told_that_it_was_too_slow() {
    let (server, cert, _files) = serve("[relay]\noutbox = \"64KiB\"\nmax_message = \"1MiB\"");
    let client = Client::of(&cert);
    let mut slow = client.websocket(&server, "/relay");
    let mut quick = client.websocket(&server, "/relay");
    let message = pattern(200_000);
    let mut sent = 0;
    // The kernel takes some megabytes for the slow one. The quick one gets everything meanwhile.
    while server_metric(&server, &cert, "throng_slow_disconnects_total") == "0" {
        for _ in 0..20 {
            quick.send(Message::binary(message.clone())).unwrap();
            assert!(quick.read().unwrap().into_data() == message);
            sent += 1;
        }
        assert!(sent < 10_000, "nobody was too slow");
    }
    let mut got = 0;
    let close = loop {
        match slow.read().unwrap() {
            Message::Binary(bytes) => {
                assert!(bytes == message);
                got += 1;
            }
            Message::Close(frame) => break frame.unwrap(),
            _ => {}
        }
    };
    assert_eq!(close.code, CloseCode::Library(4508));
    assert!(got < sent);
}

#[test]
fn a_certificate_for_development_is_made_and_served() {
    let files = tempfile::tempdir().unwrap();
    let make = |arguments: &[&str]| {
        let mut command = support::throng(files.path());
        command.args(["cert", "--self-signed", "--out", "certs"]).args(arguments).output().unwrap()
    };
    let made = make(&["--host", "localhost"]);
    assert!(made.status.success(), "{made:?}");
    let again = make(&[]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is there already"));
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| files.path().join("certs").join(name));
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = true\n[tls]\ncert = {cert:?}\nkey = {key:?}\n"
    );
    let server = Server::start_with(&[], &text);
    use rustls::pki_types::pem::PemObject as _;
    let der = rustls::pki_types::CertificateDer::from_pem_file(&cert).unwrap();
    let client = Client::trusting(&der);
    assert_eq!(ask(client.connect(server.address(), "localhost").unwrap(), "/healthz").status, 200);
}
