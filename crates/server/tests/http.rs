//! Plain HTTP: pages, refusals, limits, and what one listener has that another has not.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use support::{CUT, Server, answer, connect, eventually, isolate, next};
use tungstenite::Message;

#[test]
fn the_chat_page_is_safe_and_cached() {
    let server = Server::start(&[]);
    let page = server.get("/?Craig");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.text().contains("<script type=\"module\" src=\"/chat/app.js\">"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; "));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("referrer-policy"), "same-origin");
    assert_eq!(page.header("cross-origin-resource-policy"), "same-origin");

    let etag = page.header("etag");
    let again = server.ask("GET", "/", &[("if-none-match", etag)]);
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, etag));

    let head = server.ask("HEAD", "/", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), page.body.len().to_string());

    let posted = server.ask("POST", "/", &[("content-length", "0")]);
    assert_eq!((posted.status, posted.header("allow")), (405, "GET, HEAD"));
    let missing = server.ask("GET", "/nothing/here", &[("accept", "application/json")]);
    assert_eq!((missing.status, missing.header("content-type")), (404, "application/json"));
    serde_json::from_slice::<serde_json::Value>(&missing.body).unwrap();
}

#[test]
fn every_file_that_the_page_names_is_there() {
    let server = Server::start(&[]);
    let page = server.get("/");
    let mut named: Vec<String> = page
        .text()
        .split('"')
        .filter(|text| text.starts_with("/chat/") || text.starts_with("/js/"))
        .map(str::to_owned)
        .collect();
    assert!(named.len() >= 3, "{named:?}");
    let mut seen = 0;
    while let Some(path) = named.get(seen).cloned() {
        seen += 1;
        let file = server.get(&path);
        assert_eq!(file.status, 200, "{path}");
        if path.ends_with(".js") {
            assert_eq!(file.header("content-type"), "text/javascript; charset=utf-8");
            let directory = &path[..=path.rfind('/').unwrap()];
            for import in imports(file.text()) {
                let path = match import.strip_prefix("./") {
                    Some(beside) => format!("{directory}{beside}"),
                    None => import,
                };
                if !named.contains(&path) {
                    named.push(path);
                }
            }
        }
    }
    assert!(named.iter().any(|path| path == "/js/index.js"), "{named:?}");
}

/// The modules that a script imports or passes on, each on a line of its own that ends with the name.
fn imports(script: &str) -> Vec<String> {
    let lines = script.lines().map(|line| line.trim_end().trim_end_matches(';'));
    let from = lines.filter(|line| {
        line.starts_with("import ") || line.starts_with("export ") || line.starts_with("} from ")
    });
    from.filter_map(|line| {
        let (_, name) = line.rsplit_once("from ").or_else(|| line.split_once("import "))?;
        let name = name.trim().trim_matches(['\'', '"']);
        (name.starts_with(['.', '/']) && name.ends_with(".js")).then(|| name.to_owned())
    })
    .collect()
}

#[test]
fn upgrades_are_refused_as_the_protocol_says() {
    let server = Server::start(&[]);
    assert_eq!(server.upgrade("/nothing", &[]).status, 404);

    for path in ["/ws", "/ws/room", "/relay", "/relay/room", "/echo"] {
        let plain = server.get(path);
        assert_eq!((plain.status, plain.header("upgrade")), (426, "websocket"), "{path}");
    }
    // Nobody waits for the connection of a refused handshake to time out.
    let missing = server.upgrade("/nothing", &[]);
    assert_eq!(missing.header("connection"), "close");
    let old = server.upgrade("/ws", &[("sec-websocket-version", "8")]);
    assert_eq!((old.status, old.header("sec-websocket-version")), (426, "13"));

    let origin = [("origin", "https://elsewhere.example")];
    assert_eq!(server.upgrade("/ws", &origin).status, 403);
    assert_eq!(server.upgrade("/", &origin).status, 403);
    assert_eq!(server.upgrade("/relay", &origin).status, 101);
    assert_eq!(server.upgrade("/echo", &origin).status, 101);
    let own = format!("http://{}", server.address());
    for path in ["/", "/ws", "/ws/room"] {
        let accepted = server.upgrade(path, &[("origin", &own)]);
        assert_eq!(accepted.status, 101, "{path}");
        assert_eq!(accepted.header("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
    assert_eq!(server.metric("throng_refused_upgrades_total{reason=\"origin\"}"), 2);
    assert_eq!(server.metric("throng_refused_upgrades_total{reason=\"path\"}"), 2);
}

#[test]
fn settings_reach_the_endpoints() {
    let server = Server::start(&[
        "--set",
        "rooms.origins=https://app.example",
        "--endpoint",
        "/small=echo,max_message=10",
        "--endpoint",
        "/relay=off",
        "--endpoint",
        "/ws=rooms,deflate=off",
    ]);
    assert_eq!(server.upgrade("/ws", &[("origin", "https://app.example")]).status, 101);
    assert_eq!(server.upgrade("/ws", &[("origin", "https://app2.example")]).status, 403);
    assert_eq!(server.upgrade("/relay", &[]).status, 404);
    let offer = [("sec-websocket-extensions", "permessage-deflate")];
    assert_eq!(server.upgrade("/ws", &offer).header("sec-websocket-extensions"), "");
    let agreed = server.upgrade("/echo", &offer);
    assert!(
        agreed.header("sec-websocket-extensions").starts_with("permessage-deflate"),
        "{agreed:?}"
    );

    let mut socket = server.websocket("/small");
    socket.send(Message::text("0123456789")).unwrap();
    assert_eq!(next(&mut socket), Message::text("0123456789"));
    socket.send(Message::text("0123456789x")).unwrap();
    match next(&mut socket) {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1009),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_listener_has_its_own_table() {
    let mut server = Server::start_with(
        &[],
        "[[listener]]\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\npages = false\nops = false\n\
         endpoints = { \"*\" = \"off\", \"/\" = \"relay\" }\n",
    );
    assert_eq!(server.get("/").status, 200);
    assert_eq!(server.get("/metrics").status, 200);
    assert_eq!(server.upgrade("/echo", &[]).status, 101);

    server.addresses.swap(0, 1);
    assert_eq!(server.get("/").status, 426, "no page, but an endpoint");
    assert_eq!(server.get("/chat/").status, 404);
    assert_eq!(server.get("/metrics").status, 404);
    assert_eq!(server.upgrade("/echo", &[]).status, 404);
    let (mut one, mut two) = (server.websocket("/"), server.websocket("/"));
    // The first message may be relayed before the second client has joined; its own copy tells that
    // everything sent from then on reaches it.
    two.send(Message::text("joined")).unwrap();
    assert_eq!(next(&mut two), Message::text("joined"));
    one.send(Message::text("{\"name\":\"Ann\",\"msg\":\"hi\"}")).unwrap();
    for socket in [&mut one, &mut two] {
        loop {
            match next(socket) {
                message if message == Message::text("joined") => {}
                message => {
                    break assert_eq!(message, Message::text("{\"name\":\"Ann\",\"msg\":\"hi\"}"));
                }
            }
        }
    }
}

#[test]
fn a_request_names_one_host() {
    let server = Server::start(&[]);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nconnection: close\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("not http at all\r\n\r\n", 400),
    ] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(answer(stream).status, status, "{request:?}");
    }
}

#[test]
fn header_floods_are_answered_431() {
    let server = Server::start(&[]);
    let long = "x".repeat(17 << 10);
    assert_eq!(server.ask("GET", "/", &[("cookie", &long)]).status, 431);
    let names: Vec<String> = (0..150).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(server.ask("GET", "/", &many).status, 431);
    assert_eq!(server.ask("GET", "/", &many[..50]).status, 200);
    let nearly = "x".repeat(15 << 10);
    assert_eq!(server.ask("GET", "/", &[("cookie", &nearly)]).status, 200);

    let server =
        Server::start(&["--set", "limits.header_size=1KiB", "--set", "limits.header_count=20"]);
    assert_eq!(server.ask("GET", "/", &[("cookie", &nearly)]).status, 431);
    assert_eq!(server.ask("GET", "/", &many[..30]).status, 431);
    assert_eq!(server.ask("GET", "/", &many[..10]).status, 200);
}

#[test]
fn slow_and_idle_connections_are_cut() {
    let server = Server::start(&["--set", CUT]);
    let mut nothing = server.connect();
    let mut half = server.connect();
    half.write_all(b"GET /ws HTTP/1.1\r\nhost: x\r\nupgra").unwrap();
    let mut idle = server.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    for stream in [&mut nothing, &mut half, &mut idle] {
        let mut rest = Vec::new();
        // Reads until the server hangs up; the client's patience is much longer.
        match stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    server.until_metric("throng_http_timeouts_total", |cut| cut == 3);
}

#[test]
fn websockets_are_not_cut_by_the_handshake_timeout() {
    let server = Server::start(&["--set", CUT]);
    let mut socket = server.websocket("/echo");
    // Long enough that a deadline of a WebSocket would have passed.
    let mut other = server.connect();
    assert_eq!(other.read(&mut [0]).unwrap(), 0);
    socket.send(Message::text("still here")).unwrap();
    assert_eq!(next(&mut socket), Message::text("still here"));
}

#[test]
fn a_client_that_takes_no_answers_is_cut() {
    let server = Server::start(&["--set", CUT]);
    let mut stream = server.connect();
    // Answers pile up in the sockets' buffers until the server cannot write any more.
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    while stream.write_all(&request).is_ok() {}
    server.until_metric("throng_http_timeouts_total", |cut| cut == 1);
}

#[test]
fn too_many_connections_are_answered_429() {
    for limit in ["limits.max_http_connections=3", "limits.max_connections_per_ip=3"] {
        let server = Server::start(&["--set", limit, "--set", "limits.exempt="]);
        let guests: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
        // Accepted in order: when the fourth is answered, the three have been counted.
        let refused = server.get("/");
        assert_eq!((refused.status, refused.header("retry-after")), (429, "5"), "{limit}");
        drop(guests);
        // They are gone when the server has noticed.
        eventually(limit, || server.get("/").status == 200);
    }
}

#[test]
fn too_many_websockets_are_answered_429() {
    for limit in ["limits.max_connections=2", "limits.max_connections_per_ip=2"] {
        let server = Server::start(&["--set", limit, "--set", "limits.exempt="]);
        let sockets = [server.websocket("/echo"), server.websocket("/ws")];
        let refused = server.upgrade("/echo", &[]);
        assert_eq!(refused.status, 429, "{limit}");
        assert_ne!(refused.header("retry-after"), "", "{limit}");
        assert_eq!(server.get("/").status, 200, "pages are still served");
        drop(sockets);
        // They are gone when the server has noticed.
        eventually(limit, || server.upgrade("/echo", &[]).status == 101);
    }
}

#[test]
fn it_survives_running_out_of_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    isolate(&mut command, directory.path());
    let throng = env!("CARGO_BIN_EXE_throng");
    command.args(["-c", "ulimit -n 40 && exec \"$0\" \"$@\"", throng, "--listen", "127.0.0.1:0"]);
    command.args(["--workers", "1", "--log-format", "json"]);
    command.args(["--set", "limits.max_http_connections=1000", "--set", "front_threads=1"]);
    let mut server = Server::spawn(command, directory);

    let guests: Vec<TcpStream> = (0..60).map(|_| server.connect()).collect();
    server.until_logged("cannot accept connections");
    drop(guests);
    server.until_metric("throng_accept_failures_total", |failures| failures > 0);
    assert_eq!(server.upgrade("/echo", &[]).status, 101);
}

#[test]
fn localhost_is_both_families() {
    let server = Server::start_with(&["--listen", "0"], "");
    assert!(server.addresses.iter().all(|address| address.ip().is_loopback()));
    for address in &server.addresses {
        let mut stream = connect(*address);
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        assert_eq!(answer(stream).status, 200, "{address}");
    }
}
