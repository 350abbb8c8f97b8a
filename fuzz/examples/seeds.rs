//! Writes the seeds of all targets to `seeds/`: small streams and heads that between them use
//! every feature, for a fuzzer or the smoke test to damage.

use std::{fs, io, path::Path};

use throng_wire::frame::{Kind, OpCode, apply_mask, encode, encode_close, header};
use throng_wire::{CloseCode, Deflater};

fn main() -> io::Result<()> {
    for (target, seeds) in [
        ("decoder", decoder()),
        ("inflate", inflate()),
        ("handshake", handshake()),
        ("differential", differential()),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
        fs::create_dir_all(&folder)?;
        for (name, seed) in seeds {
            fs::write(folder.join(name), seed)?;
        }
    }
    Ok(())
}

type Seeds = Vec<(String, Vec<u8>)>;

/// Streams for a server (masked) and for a client.
fn streams(mask: Option<[u8; 4]>) -> Vec<(&'static str, Vec<u8>)> {
    let frame = |fin, opcode, payload: &[u8]| {
        let mut bytes = header(fin, false, opcode, payload.len(), mask).as_slice().to_vec();
        let start = bytes.len();
        bytes.extend(payload);
        if let Some(key) = mask {
            apply_mask(&mut bytes[start..], key);
        }
        bytes
    };
    let close = |code, reason| {
        let mut bytes = Vec::new();
        encode_close(&mut bytes, code, reason, mask).expect("a short reason");
        bytes
    };
    let (text, binary, more) = (OpCode::Text, OpCode::Binary, OpCode::Continuation);
    vec![
        ("text", frame(true, text, b"good day")),
        ("utf8", frame(true, text, "καλημέρα 🦀 €".as_bytes())),
        ("long", frame(true, binary, &[7; 300])),
        ("longer", [frame(true, text, &[b'x'; 3000]), frame(true, text, b"")].concat()),
        (
            "fragments",
            [
                frame(false, text, "ab\u{e9}".as_bytes()),
                frame(true, OpCode::Ping, b"ping"),
                frame(false, more, b""),
                frame(true, OpCode::Pong, b""),
                frame(true, more, "🦀".as_bytes()),
                frame(true, binary, b"\xff"),
            ]
            .concat(),
        ),
        (
            "split-character",
            [frame(false, text, b"\xf0\x9f"), frame(true, more, b"\xa6\x80")].concat(),
        ),
        ("split-nonsense", [frame(false, text, b"\xf4"), frame(true, more, b"\x90")].concat()),
        ("close", [frame(true, text, b"bye"), close(Some(CloseCode::NORMAL), "why not")].concat()),
        ("close-empty", close(None, "")),
        ("close-4999", close(CloseCode::new(4999), "päng")),
        ("close-1014", close(CloseCode::new(1014), "")),
        ("close-1005", frame(true, OpCode::Close, b"\x03\xed")),
        ("close-short", frame(true, OpCode::Close, b"\x03")),
        ("ping", frame(true, OpCode::Ping, &[9; 125])),
        ("huge", header(true, false, binary, 1 << 40, mask).as_slice().to_vec()),
        (
            "not-minimal",
            [&[0x82, if mask.is_some() { 0xfe } else { 0x7e }, 0, 3][..], b"abcdefg"].concat(),
        ),
        ("continuation", frame(true, more, b"of nothing")),
        ("interleaved", [frame(false, text, b"a"), frame(true, text, b"b")].concat()),
    ]
}

fn deflated(mask: Option<[u8; 4]>, takeover: bool) -> Vec<u8> {
    let mut deflater = Deflater::new(6, 8, if takeover { 9 } else { 15 });
    let mut bytes = Vec::new();
    for (kind, payload) in [
        (Kind::Text, "the same again and again and again".to_owned()),
        (Kind::Text, "again the same and not the same 🦀".to_owned()),
        (Kind::Binary, "\0".repeat(2000)),
        (Kind::Text, "not compressed".to_owned()),
    ] {
        let mut data = Vec::new();
        match (takeover, kind) {
            (true, _) => deflater.compress_with_context(payload.as_bytes(), &mut data),
            (false, _) => deflater.compress(payload.as_bytes(), &mut data),
        }
        let (head, tail) = data.split_at(data.len() / 2);
        for (first, part) in [(true, head), (false, tail)] {
            let opcode = if first { kind.into() } else { OpCode::Continuation };
            bytes.extend(header(!first, first, opcode, part.len(), mask).as_slice());
            let start = bytes.len();
            bytes.extend(part);
            if let Some(key) = mask {
                apply_mask(&mut bytes[start..], key);
            }
        }
    }
    encode(&mut bytes, OpCode::Text, b"plain", mask);
    bytes
}

const MASK: Option<[u8; 4]> = Some([0x12, 0x34, 0x56, 0x78]);

fn decoder() -> Seeds {
    let mut seeds = Seeds::new();
    for (role, mask, flag) in [("server", MASK, 0_u8), ("client", None, 1)] {
        for (name, stream) in streams(mask) {
            seeds.push((format!("{role}-{name}"), [&[flag, 3][..], &stream].concat()));
        }
        let long = [&[flag | 2, 5][..], &deflated(mask, false)].concat();
        seeds.push((format!("{role}-deflate"), long));
        let long = [&[flag | 6, 5][..], &deflated(mask, true)].concat();
        seeds.push((format!("{role}-takeover"), long));
        let limited = streams(mask).into_iter().flat_map(|(_, stream)| stream).take(200);
        let limited = [flag | 8, 1].into_iter().chain(limited).collect();
        seeds.push((format!("{role}-limits"), limited));
    }
    seeds
}

fn differential() -> Seeds {
    let mut seeds = Seeds::new();
    for (role, mask, flag) in [("server", MASK, 0_u8), ("client", None, 1)] {
        for (name, stream) in streams(mask) {
            seeds.push((format!("{role}-{name}"), [&[flag][..], &stream].concat()));
        }
    }
    seeds
}

fn inflate() -> Seeds {
    let text = "a text that repeats what a text repeats, ".repeat(20);
    let noise: Vec<u8> =
        (0..600_u32).map(|i| (i.wrapping_mul(2_654_435_761).rotate_left(i) >> 13) as u8).collect();
    let mut seeds = Seeds::new();
    let mut add = |name: String, settings: u8, limit: u16, cut: u8, data: &[u8]| {
        let [high, low] = limit.to_be_bytes();
        seeds.push((name, [&[settings, high, low, cut][..], data].concat()));
    };
    for (number, level) in [0, 1, 3, 6, 9].into_iter().enumerate() {
        for (name, payload) in [
            ("text", text.as_bytes()),
            ("noise", &noise),
            ("zeros", &[0; 20_000]),
            ("short", b"Hello"),
        ] {
            let mut data = Vec::new();
            Deflater::new(level, 8, 15).compress(payload, &mut data);
            let limit = if number % 2 == 0 { u16::MAX } else { payload.len() as u16 };
            let cut = data.len() as u8 / 2;
            add(format!("level{level}-{name}"), number as u8, limit, cut, &data);
        }
    }
    add("last-block".into(), 0, 1000, 8, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00");
    add("two-blocks".into(), 0, 1000, 3, b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00");
    add("stored".into(), 0, 5, 5, b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00");
    add("taken-over".into(), 6, 100, 7, b"\xf2\x48\xcd\xc9\xc9\x07\x00\xf2\x00\x11\x00\x00");
    seeds
}

fn handshake() -> Seeds {
    const REQUEST: &str = "GET /ws HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    // The answer to the nonce that the target uses.
    const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: ";
    let accept = tungstenite::handshake::derive_accept_key(b"BwcHBwcHBwcHBwcHBwcHBw==");
    let mut seeds = Seeds::new();
    for (name, more) in [
        ("plain", ""),
        ("subprotocols", "Sec-WebSocket-Protocol: chat.v2, chat.v1\r\n"),
        ("deflate", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"),
        (
            "offers",
            "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8, x; y=\"z\", \
             permessage-deflate; client_max_window_bits=\"12\"; server_no_context_takeover\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n",
        ),
        ("lists", "Connection: keep-alive, upgrade\r\nUpgrade: h2c, WebSocket/13\r\n"),
        ("body", "Content-Length: 5\r\n"),
        ("chunked", "Transfer-Encoding: chunked\r\n"),
        ("cookies", "Origin: http://example.org\r\nCookie: a=b; c=d\r\nUser-Agent: x\r\n"),
    ] {
        seeds.push((format!("request-{name}"), format!("{REQUEST}{more}\r\n").into()));
        let response = format!("{RESPONSE}{accept}\r\n{more}\r\n");
        seeds.push((format!("response-{name}"), response.into()));
    }
    let agreed = "Sec-WebSocket-Protocol: chat.v1\r\nSec-WebSocket-Extensions: permessage-deflate; \
        server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10\r\n";
    seeds.push(("response-agreed".into(), format!("{RESPONSE}{accept}\r\n{agreed}\r\n").into()));
    seeds.push(("request-post".into(), REQUEST.replace("GET", "POST").into()));
    seeds.push(("request-http10".into(), REQUEST.replace("HTTP/1.1", "HTTP/1.0").into()));
    seeds.push(("request-version".into(), REQUEST.replace("13", "8").into()));
    seeds.push(("response-404".into(), b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec()));
    seeds
}
