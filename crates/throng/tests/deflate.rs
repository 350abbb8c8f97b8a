//! Compression: one compressed frame for many receivers, beside receivers that take none, and
//! connections that keep a context of their own.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod rig;

use rig::Rig;
use throng::{DeflateOptions, Endpoint, Server};
use throng_client::{Client, Message, WebSocket};

const MESSAGES: usize = 60;
const SIZES: [usize; 5] = [10, 1000, 1024, 5000, 60_000];

/// Compressible text of a size, different for each number.
fn prose(number: usize, size: usize) -> String {
    let mut text = format!("{number}:");
    while text.len() < size {
        text.push_str(&format!(" message {number} goes to everybody in the room;"));
    }
    text
}

async fn next(socket: &mut WebSocket) -> String {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => return text.to_string(),
            Message::Binary(_) => panic!("not text"),
            _ => {}
        }
    }
}

fn takeover() -> DeflateOptions {
    DeflateOptions {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        ..DeflateOptions::default()
    }
}

#[test]
fn members_with_and_without_compression_see_the_same_messages() {
    let rig = Rig::start(
        Server::builder()
            .workers(2)
            .endpoint("/relay", Endpoint::relay("r").deflate(Some(DeflateOptions::default()))),
    );
    let url = format!("ws://{}/relay", rig.address);
    rig.block_on(async {
        let small_window =
            DeflateOptions { server_max_window_bits: 10, ..DeflateOptions::default() };
        let mut members = Vec::new();
        for options in [Some(DeflateOptions::default()), None, Some(small_window)] {
            for _ in 0..3 {
                let mut client = Client::new(&url).unwrap();
                if let Some(options) = &options {
                    client = client.deflate(options.clone());
                }
                members.push(client.connect().await.unwrap());
            }
        }
        rig::eventually("all are in", || rig.server.stats().connections == 9);
        let before = rig.server.stats().bytes_out;
        let mut sizes = 0;
        for number in 0..MESSAGES {
            let text = prose(number, SIZES[number % 5]);
            sizes += text.len() as u64;
            members[number % 9].send(text).await.unwrap();
        }
        for socket in &mut members {
            for _ in 0..MESSAGES {
                let got = next(socket).await;
                let number: usize = got.split(':').next().unwrap().parse().unwrap();
                assert!(got == prose(number, SIZES[number % 5]), "{number}");
            }
        }
        // Three of nine took everything compressed, six nothing.
        let wrote = rig.server.stats().bytes_out - before;
        assert!(wrote < sizes * 68 / 10, "{wrote} for {sizes}");
    });
}

#[test]
fn contexts_of_a_connection_make_repetition_cheap() {
    let rig = Rig::start(
        Server::builder()
            .workers(1)
            .endpoint("/fresh", Endpoint::echo().deflate(Some(DeflateOptions::default())))
            .endpoint("/kept", Endpoint::echo().deflate(Some(takeover()))),
    );
    // Text that does not repeat within a message, only between messages.
    let mut state = 1u32;
    let text: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 24) as u8 % 26)
    })
    .take(4000)
    .collect();
    let cost = |path: &str| {
        let url = format!("ws://{}{path}", rig.address);
        rig.block_on(async {
            let mut socket =
                Client::new(&url).unwrap().deflate(takeover()).connect().await.unwrap();
            let before = rig.server.stats();
            for _ in 0..20 {
                socket.send(text.as_str()).await.unwrap();
                assert!(next(&mut socket).await == text);
            }
            let after = rig.server.stats();
            (after.bytes_in - before.bytes_in, after.bytes_out - before.bytes_out)
        })
    };
    let (fresh, kept) = (cost("/fresh"), cost("/kept"));
    assert!(kept.0 * 5 < fresh.0, "received {} and {}", kept.0, fresh.0);
    assert!(kept.1 * 5 < fresh.1, "sent {} and {}", kept.1, fresh.1);
}

#[test]
fn a_bomb_is_1009_and_memory_stays() {
    let rig = Rig::start(Server::builder().workers(1).endpoint(
        "/echo",
        Endpoint::echo().deflate(Some(DeflateOptions::default())).max_message(1 << 20),
    ));
    let url = format!("ws://{}/echo", rig.address);
    rig.block_on(async {
        let options = DeflateOptions::default();
        let mut socket = Client::new(&url).unwrap().deflate(options).connect().await.unwrap();
        socket.send("a".repeat(8 << 20)).await.unwrap(); // some 8 KiB compressed
        let mut last = None;
        while let Ok(Some(message)) = socket.next().await {
            last = Some(message);
        }
        assert!(last.is_none(), "{last:?}");
    });
    let stats = rig.server.stats();
    assert_eq!(stats.protocol_errors, 1);
    assert!(stats.bytes_in < 64 << 10, "{}", stats.bytes_in);
}
