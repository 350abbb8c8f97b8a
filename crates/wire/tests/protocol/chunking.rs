//! Whatever is sent arrives, however it is cut on the way; and nothing that arrives can do harm.

use std::mem::swap;

use proptest::collection::vec;
use proptest::prelude::*;
use throng_wire::frame::{Kind, OpCode, Role, apply_mask, header};
use throng_wire::{Deflate, Deflater, Limits, Scratch};

use crate::peer::{Receiver, Seen};

/// A message, or a control frame where there is no `kind`.
#[derive(Clone, Debug)]
struct Sent {
    kind: Option<Kind>,
    payload: Vec<u8>,
    compressed: bool,
    /// Where to cut the payload, as sent.
    cuts: Vec<prop::sample::Index>,
    /// Control frames to send after each part.
    between: Vec<Option<Vec<u8>>>,
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..200),
        "[a-z ]{0,300}".prop_map(String::into_bytes),
        (any::<u8>(), 0_usize..5000).prop_map(|(byte, len)| vec![byte; len]),
        vec(any::<char>(), 0..100).prop_map(|text| text.into_iter().collect::<String>().into()),
        (0_usize..70_000).prop_map(|len| (0..len).map(|i| (i * i / 7) as u8).collect()),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let kind =
        prop_oneof![3 => Just(Some(Kind::Text)), 3 => Just(Some(Kind::Binary)), 1 => Just(None)];
    (
        kind,
        payload(),
        any::<bool>(),
        vec(any::<prop::sample::Index>(), 0..4),
        vec(prop::option::weighted(0.3, vec(any::<u8>(), 0..126)), 5),
    )
        .prop_map(|(kind, mut payload, compressed, cuts, between)| {
            match kind {
                None => payload.truncate(125),
                Some(Kind::Text) => payload = String::from_utf8_lossy(&payload).into_owned().into(),
                Some(Kind::Binary) => {}
            }
            Sent { kind, payload, compressed, cuts, between }
        })
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    receiver: Role,
    deflate: Option<Deflate>,
    level: u8,
    key: [u8; 4],
}

fn connection() -> impl Strategy<Value = Connection> {
    let role = prop_oneof![Just(Role::Server), Just(Role::Client)];
    let deflate = prop::option::of((any::<bool>(), any::<bool>(), 9..=15_u8, 9..=15_u8).prop_map(
        |(server, client, server_bits, client_bits)| Deflate {
            server_no_context_takeover: server,
            client_no_context_takeover: client,
            server_max_window_bits: server_bits,
            client_max_window_bits: client_bits,
        },
    ));
    (role, deflate, 0..=9_u8, any::<[u8; 4]>())
        .prop_map(|(receiver, deflate, level, key)| Connection { receiver, deflate, level, key })
}

impl Connection {
    /// The bytes on the wire, and what they mean.
    fn send(&self, messages: &[Sent]) -> (Vec<u8>, Vec<Seen>) {
        let direction = self.deflate.map(|deflate| deflate.incoming(self.receiver));
        let mut deflater = direction.map(|d| Deflater::new(self.level, 8, d.window_bits));
        let (mut bytes, mut seen) = (Vec::new(), Vec::new());
        for sent in messages {
            let Some(kind) = sent.kind else {
                self.frame(&mut bytes, true, false, OpCode::Pong, &sent.payload);
                seen.push(Seen::Pong(sent.payload.clone()));
                continue;
            };
            let mut data = sent.payload.clone();
            let mut compressed = false;
            if let (Some(deflater), Some(direction), true) =
                (&mut deflater, direction, sent.compressed)
            {
                compressed = true;
                data.clear();
                if direction.takeover {
                    deflater.compress_with_context(&sent.payload, &mut data);
                } else {
                    deflater.compress(&sent.payload, &mut data);
                }
            }
            let mut cuts: Vec<usize> =
                sent.cuts.iter().map(|at| at.index(data.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(data.len());
            let (mut start, parts) = (0, cuts.len());
            for (part, end) in cuts.into_iter().enumerate() {
                let (first, last) = (part == 0, part + 1 == parts);
                let opcode = if first { kind.into() } else { OpCode::Continuation };
                self.frame(&mut bytes, last, first && compressed, opcode, &data[start..end]);
                if last {
                    seen.push(match kind {
                        Kind::Text => Seen::utf8(&sent.payload),
                        Kind::Binary => Seen::Binary(sent.payload.clone()),
                    });
                }
                if let Some(payload) = &sent.between[part] {
                    self.frame(&mut bytes, true, false, OpCode::Ping, payload);
                    seen.push(Seen::Ping(payload.clone()));
                }
                start = end;
            }
        }
        (bytes, seen)
    }

    fn frame(&self, out: &mut Vec<u8>, fin: bool, rsv1: bool, opcode: OpCode, payload: &[u8]) {
        let mask = (self.receiver == Role::Server).then_some(self.key);
        out.extend(header(fin, rsv1, opcode, payload.len(), mask).as_slice());
        let start = out.len();
        out.extend(payload);
        if let Some(key) = mask {
            apply_mask(&mut out[start..], key);
        }
    }

    fn receiver(&self) -> Receiver {
        Receiver::new(self.receiver, self.deflate, &Limits::default())
    }
}

/// Chunks of about the size of a header, and of about that of a read.
fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![vec(1_usize..8, 0..300), vec(1_usize..3000, 0..60), vec(1_usize..100_000, 0..5)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_sent_arrives(
        connection in connection(),
        messages in vec(sent(), 0..6),
        lengths in lengths(),
    ) {
        let (bytes, want) = connection.send(&messages);
        let mut receiver = connection.receiver();
        let mut rest = &bytes[..];
        for len in lengths.into_iter().chain([usize::MAX]) {
            let (chunk, more) = rest.split_at(len.min(rest.len()));
            receiver.receive(chunk).unwrap();
            rest = more;
        }
        prop_assert!(receiver.decoder.is_idle());
        prop_assert_eq!(receiver.seen, want);
    }

    #[test]
    fn connections_that_share_a_scratch_do_not_meet(
        connections in vec((connection(), vec(sent(), 1..4)), 2..4),
        lengths in vec(1_usize..400, 1..20),
    ) {
        let mut scratch = Scratch::new();
        let mut peers: Vec<_> = connections
            .iter()
            .map(|(connection, messages)| {
                let (bytes, want) = connection.send(messages);
                (connection.receiver(), bytes, want)
            })
            .collect();
        let mut lengths = lengths.into_iter().cycle();
        while peers.iter().any(|(_, bytes, _)| !bytes.is_empty()) {
            for (receiver, bytes, _) in &mut peers {
                let len = lengths.next().unwrap_or(1) * (1 + bytes.len() / 5000);
                let chunk: Vec<u8> = bytes.drain(..len.min(bytes.len())).collect();
                swap(&mut receiver.scratch, &mut scratch);
                receiver.receive(&chunk).unwrap();
                swap(&mut receiver.scratch, &mut scratch);
            }
        }
        for (receiver, _, want) in peers {
            prop_assert_eq!(receiver.seen, want);
        }
    }

    #[test]
    fn damage_is_the_same_damage_in_every_chunking(
        connection in connection(),
        messages in vec(sent(), 1..4),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        lengths in lengths(),
    ) {
        let (mut bytes, _) = connection.send(&messages);
        for (at, byte) in damage {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= byte;
            }
        }
        let whole = connection.receiver().receive_in(&bytes, &[]);
        let parts = connection.receiver().receive_in(&bytes, &lengths);
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(
        connection in connection(),
        bytes in vec(any::<u8>(), 0..400),
        lengths in lengths(),
    ) {
        let whole = connection.receiver().receive_in(&bytes, &[]);
        let parts = connection.receiver().receive_in(&bytes, &lengths);
        prop_assert_eq!(whole, parts);
    }
}
