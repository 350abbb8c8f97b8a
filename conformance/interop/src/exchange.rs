//! The conversations that every pair of a client and a server must hold.

use crate::servers::Running;
use crate::{Got, Talk};

/// Codes either side may close with (RFC 6455 §7.4).
const CODES: [(u16, &str); 8] = [
    (1000, ""),
    (1000, "done"),
    (1001, "going"),
    (1008, "not allowed"),
    (1011, "trouble"),
    (3000, "für alle"),
    (4000, "own"),
    (4999, "the last one"),
];

/// Texts and binaries of every length encoding, the empty ones too, come back as what they were.
pub async fn texts_and_binaries<T: Talk>(server: Running) {
    let mut client = T::connect(&server.echo()).await;
    for text in ["", "a", "hello", "grüße, 世界 😀", "\0\u{10FFFF}"] {
        client.text(text.into()).await;
        assert_eq!(client.next().await, Got::Text(text.into()));
    }
    for len in [0, 1, 125, 126, 127, 1024, 65_535, 65_536, 300_000] {
        let bytes: Vec<u8> = (0..len).map(|n| (n * 7 % 256) as u8).collect();
        client.binary(bytes.clone()).await;
        assert!(client.next().await == Got::Binary(bytes), "binary of {len} bytes");
        let text = "wörter ".repeat(len / 7);
        client.text(text.clone()).await;
        assert!(client.next().await == Got::Text(text), "text of about {len} bytes");
    }
}

/// Messages sent without waiting come back complete and in order.
pub async fn many_in_a_row<T: Talk>(server: Running) {
    let mut client = T::connect(&server.echo()).await;
    for batch in 0..20 {
        for n in 0..100 {
            client.text(format!("{batch} {n}")).await;
        }
        for n in 0..100 {
            assert_eq!(client.next().await, Got::Text(format!("{batch} {n}")));
        }
    }
}

/// 16 MiB, as binary and as text.
pub async fn sixteen_mebibytes<T: Talk>(server: Running) {
    let mut client = T::connect(&server.echo()).await;
    let bytes: Vec<u8> =
        (0..16u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    client.binary(bytes.clone()).await;
    assert!(client.next().await == Got::Binary(bytes), "16 MiB of binary");
    let text = "0123456789abcdef".repeat(1 << 20);
    client.text(text.clone()).await;
    assert!(client.next().await == Got::Text(text), "16 MiB of text");
}

/// A message in several frames is one message.
pub async fn fragments<T: Talk>(server: Running) {
    let mut client = T::connect(&server.echo()).await;
    for parts in [&["one ", "two ", "three"][..], &["", "", "x", ""], &["ab", "cd"]] {
        client.fragments(parts).await;
        assert_eq!(client.next().await, Got::Text(parts.concat()));
    }
}

/// A ping is answered with its own payload.
pub async fn pings<T: Talk>(server: Running) {
    let mut client = T::connect(&server.echo()).await;
    for payload in [&b""[..], b"x", &[7; 125]] {
        client.ping(payload).await;
        assert_eq!(client.next().await, Got::Pong(payload.to_vec()));
    }
    client.text("still there".into()).await;
    assert_eq!(client.next().await, Got::Text("still there".into()));
}

/// The client closes: the server answers with the same code.
pub async fn closed_by_the_client<T: Talk>(server: Running) {
    for (code, reason) in CODES {
        let mut client = T::connect(&server.echo()).await;
        client.text("first".into()).await;
        assert_eq!(client.next().await, Got::Text("first".into()));
        client.close(code, reason).await;
        let Got::Closed(answer) = client.next().await else { panic!("a message after the close") };
        assert_eq!(answer.map(|(code, _)| code), Some(code), "the answer to {code}");
    }
}

/// The server closes: the client learns code and reason.
pub async fn closed_by_the_server<T: Talk>(server: Running) {
    for (code, reason) in CODES {
        let mut client = T::connect(&server.closes()).await;
        client.text(format!("close {code} {reason}")).await;
        assert_eq!(client.next().await, Got::Closed(Some((code, reason.into()))));
    }
}

/// What a text such as `close 4001 bye` asks for.
pub fn wish(text: &str) -> Option<(u16, &str)> {
    let (code, reason) = text.strip_prefix("close ")?.split_once(' ')?;
    Some((code.parse().ok()?, reason))
}
