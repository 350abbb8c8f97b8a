//! Listeners behind proxies that tell whose connections they bring.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "support/tls.rs"]
mod clients;
mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use self::clients::{Client, serve};
use self::support::{Server, connect, eventually};

const PLAIN: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\n\
    [limits]\ntrusted_proxies = [\"127.0.0.1\"]\nmax_connections_per_ip = 1\n";
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A connection that begins with these bytes and a request; what it gets: a status, or 0 for nothing.
fn begin(server: &Server, header: &[u8]) -> (u16, TcpStream) {
    let mut stream = connect(server.address());
    let _ = stream.write_all(&[header, REQUEST].concat());
    let mut got = [0; 4096];
    let read = stream.read(&mut got).unwrap_or(0);
    let text = String::from_utf8_lossy(&got[..read]).into_owned();
    (text.split(' ').nth(1).map_or(0, |status| status.parse().unwrap()), stream)
}

fn v2(what: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[what, family], &len, body].concat()
}

#[test]
fn clients_count_by_the_address_that_the_proxy_tells() {
    let server = Server::start_with(&[], PLAIN);
    let a = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n";
    let (status, first) = begin(&server, a);
    assert_eq!(status, 200);
    assert_eq!(begin(&server, a).0, 429, "one address, one connection");
    let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0, 1, 0, 2];
    assert_eq!(begin(&server, &v2(0x21, 0x11, &v4)).0, 429, "in whatever version");
    assert_eq!(begin(&server, b"PROXY TCP4 192.0.2.2 198.51.100.1 1 2\r\n").0, 200);
    // A /64 is one.
    let (status, _second) = begin(&server, b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n");
    assert_eq!(status, 200);
    assert_eq!(begin(&server, b"PROXY TCP6 2001:db8::ffff:1 ::1 1 2\r\n").0, 429);
    assert_eq!(begin(&server, b"PROXY TCP6 2001:db8:0:1::1 ::1 1 2\r\n").0, 200);
    // The proxy for itself, as often as it likes.
    let own: Vec<_> = (0..3).map(|_| begin(&server, &v2(0x20, 0, &[]))).collect();
    assert!(own.iter().all(|(status, _)| *status == 200));
    assert_eq!(begin(&server, b"PROXY UNKNOWN\r\n").0, 200);
    drop(first);
    eventually("its place is given back", || begin(&server, a).0 == 200);
}

#[test]
fn clients_come_as_fast_as_they_may_not_their_proxy() {
    let more = "max_connections_per_ip = 0\nconnects_per_ip = \"1/h burst 2\"";
    let text = PLAIN.replace("max_connections_per_ip = 1", more);
    let server = Server::start_with(&[], &text);
    let of = |address: &str| {
        begin(&server, format!("PROXY TCP4 {address} 198.51.100.1 1 2\r\n").as_bytes()).0
    };
    assert_eq!([of("192.0.2.1"), of("192.0.2.1"), of("192.0.2.1")], [200, 200, 429]);
    assert_eq!([of("192.0.2.2"), of("192.0.2.1")], [200, 429], "each by itself");
    let own = (0..5).map(|_| begin(&server, b"PROXY UNKNOWN\r\n").0);
    assert!(own.into_iter().all(|status| status == 200), "the proxy for itself");
}

#[test]
fn a_websocket_counts_for_the_client_too() {
    let server = Server::start_with(&[], &PLAIN.replace("_per_ip = 1", "_per_ip = 2"));
    let open = |address: &str| {
        let mut stream = connect(server.address());
        let header = format!("PROXY TCP4 {address} 198.51.100.1 1 2\r\n");
        stream.write_all(header.as_bytes()).unwrap();
        tungstenite::client("ws://localhost/echo", stream).ok()
    };
    let _first = open("192.0.2.1").unwrap();
    let _second = open("192.0.2.1").unwrap();
    assert!(open("192.0.2.1").is_none());
    assert!(open("192.0.2.2").is_some());
}

#[test]
fn what_is_no_header_is_cut() {
    let server = Server::start_with(&[], &format!("{PLAIN}handshake_timeout = \"3s\"\n"));
    let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat();
    let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0, 1, 0, 2];
    let headers: [&[u8]; 10] = [
        b"",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n",
        b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
        &long,
        &v2(0x21, 0x11, &v4[..11]),
        &v2(0x21, 0x12, &v4),
        &v2(0x31, 0x11, &v4),
        &v2(0x21, 0x11, &[0; 5000]),
    ];
    for header in headers {
        assert_eq!(begin(&server, header).0, 0, "{header:?}");
    }
    // One that does not come is waited for as long as for a request.
    for part in [&b""[..], b"PROXY TCP4 192", &v2(0x21, 0x11, &v4)[..20]] {
        let mut stream = connect(server.address());
        stream.write_all(part).unwrap();
        assert_eq!(stream.read(&mut [0; 10]).unwrap_or(0), 0);
    }
}

#[test]
fn headers_are_not_believed_from_elsewhere() {
    let server = Server::start_with(&[], &PLAIN.replace("[\"127.0.0.1\"]", "[\"192.0.2.0/24\"]"));
    assert_eq!(begin(&server, b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\n").0, 0);
}

#[test]
fn the_header_comes_before_tls() {
    let more = "[limits]\ntrusted_proxies = [\"127.0.0.1\"]";
    let files = tempfile::tempdir().unwrap();
    let cert = clients::Cert::write(files.path(), "server", &["localhost"]);
    let text =
        clients::file(&[&cert], more).replace("tls = true", "tls = true\nproxy_protocol = true");
    let server = Server::start_with(&[], &text);
    for header in [b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(), v2(0x20, 0, &[])] {
        let mut socket = connect(server.address());
        socket.write_all(&header).unwrap();
        let stream = Client::of(&cert).over(socket, "localhost").unwrap();
        assert_eq!(clients::ask(stream, "/healthz").status, 200);
    }
    assert!(Client::of(&cert).connect(server.address(), "localhost").is_err(), "TLS without one");
    let (plain, cert, _files) = serve("");
    let mut socket = connect(plain.address());
    socket.write_all(b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\n").unwrap();
    assert!(Client::of(&cert).over(socket, "localhost").is_err(), "one without being asked");
}
