//! Both ends in one thread: the peer takes and sends exactly as much as a test wants.

use std::io::{IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

use super::*;

/// A connection after the handshake: our end as a worker has it, and a blocking peer.
struct Pair {
    tls: Tls,
    read_ahead: Bytes,
    peer: TcpStream,
    client: ClientConnection,
}

impl Pair {
    fn new() -> Self {
        Self::with_read_ahead(b"")
    }

    /// `early` is sent by the peer with the end of the handshake, and decrypted before the connection
    /// changes hands.
    fn with_read_ahead(early: &[u8]) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let mut state = ServerConnection::new(Arc::new(config)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        client.writer().write_all(early).unwrap();
        while state.is_handshaking() || client.is_handshaking() || client.wants_write() {
            while client.wants_write() {
                client.write_tls(&mut &peer).unwrap();
            }
            while state.is_handshaking() || client.is_handshaking() && state.wants_read() {
                if state.wants_write() {
                    state.write_tls(&mut socket).unwrap();
                    break;
                }
                state.read_tls(&mut socket).unwrap();
                state.process_new_packets().unwrap();
            }
            while state.wants_write() {
                state.write_tls(&mut socket).unwrap();
            }
            if client.is_handshaking() {
                client.read_tls(&mut &peer).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        if !early.is_empty() {
            // What hyper does while it reads: the decrypted rest stays in the state.
            loop {
                let io = state.process_new_packets().unwrap();
                if io.plaintext_bytes_to_read() >= early.len() {
                    break;
                }
                state.read_tls(&mut socket).unwrap();
            }
        }
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
        let socket = mio::net::TcpStream::from_std(socket);
        let (tls, read_ahead) = Tls::new(socket, state, Bytes::new());
        Self { tls, read_ahead, peer, client }
    }

    /// The peer sends.
    fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.client.writer().write(bytes).unwrap();
            bytes = &bytes[taken..];
            self.send_ciphertext();
        }
    }

    fn send_ciphertext(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut &self.peer).unwrap();
        }
    }

    /// The peer takes what is there, once, up to `most` bytes of ciphertext. Returns the plaintext.
    fn take(&mut self, most: usize) -> Vec<u8> {
        self.peer.set_nonblocking(true).unwrap();
        let mut stream = (&self.peer).take(most as u64);
        while let Ok(1..) = self.client.read_tls(&mut stream) {
            self.client.process_new_packets().unwrap();
            if self.client.process_new_packets().unwrap().plaintext_bytes_to_read() > 8 << 10 {
                break;
            }
        }
        self.peer.set_nonblocking(false).unwrap();
        let mut taken = Vec::new();
        let _ = self.client.reader().read_to_end(&mut taken);
        taken
    }

    /// What a worker reads, in reads of `size`, until there is `expected` or an end.
    fn read(&mut self, size: usize, expected: usize) -> Vec<u8> {
        let (mut got, mut buffer) = (Vec::new(), vec![0; size]);
        while got.len() < expected {
            match self.tls.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => got.extend_from_slice(&buffer[..read]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        got
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

#[test]
fn small_messages_go_both_ways() {
    let mut pair = Pair::new();
    for round in 0..100_u8 {
        pair.send(&[round; 64]);
        assert_eq!(pair.read(256 << 10, 64), [round; 64]);
        assert_eq!(pair.tls.write(&[round; 64]).unwrap(), 64);
        let mut back = Vec::new();
        while back.len() < 64 {
            back.extend(pair.take(1 << 20));
        }
        assert_eq!(back, [round; 64]);
    }
    assert!(!pair.tls.state.wants_write());
    let nothing = pair.tls.read(&mut [0; 100]).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    assert!(!pair.tls.has_more());
}

#[test]
fn what_was_decrypted_before_it_changed_hands_is_not_lost() {
    let pair = Pair::with_read_ahead(b"early bird");
    assert_eq!(pair.read_ahead, "early bird");
}

#[test]
fn a_slow_peer_gets_everything_once_and_in_order() {
    let mut pair = Pair::new();
    let sent = pattern(8 << 20);
    let (mut written, mut got, mut blocked) = (0, Vec::new(), 0);
    let mut step = 1;
    while got.len() < sent.len() {
        while written < sent.len() {
            // As an outbox does: pieces of all sizes, many at a time.
            step = step % 20_000 + 997;
            let slices: Vec<IoSlice<'_>> =
                sent[written..].chunks(step).take(70).map(IoSlice::new).collect();
            match pair.tls.write_vectored(&slices) {
                Ok(taken) => {
                    assert!(taken > 0);
                    written += taken;
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    blocked += 1;
                    break;
                }
            }
        }
        // Whoever has written everything has nothing left that waits.
        assert!(written < sent.len() || !pair.tls.state.wants_write());
        got.extend(pair.take(50_000));
        assert!(got.len() <= written + 1, "one byte is not acknowledged");
    }
    assert!(got == sent);
    assert!(blocked > 10, "the peer was too quick for this test: {blocked}");
}

#[test]
fn ciphertext_that_waits_keeps_the_writer_waiting() {
    let mut pair = Pair::new();
    let sent = pattern(64 << 20);
    let mut written = 0;
    let error = loop {
        match pair.tls.write(&sent[written..]) {
            Ok(taken) => written += taken,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert!(pair.tls.owes && pair.tls.state.wants_write());
    assert!(written < sent.len());
    // Only the byte that is owed: it is acknowledged when everything has left, and not sent twice.
    let last = written + 1;
    let mut got = Vec::new();
    while got.len() < last {
        got.extend(pair.take(1 << 20));
        match pair.tls.write(&sent[written..last]) {
            Ok(1) => written += 1,
            Ok(taken) => assert_eq!((taken, written), (0, last)),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    assert_eq!(written, last);
    assert!(got == sent[..last]);
}

#[test]
fn big_input_is_read_whatever_the_room() {
    let sent = pattern(3 << 20);
    for size in [256 << 10, 100 << 10, 20 << 10, 1000, 1] {
        let part = &sent[..sent.len().min(size * 2000)];
        let mut pair = Pair::new();
        let (mut client, peer) = (pair.client, pair.peer.try_clone().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut rest = part;
                while !rest.is_empty() || client.wants_write() {
                    rest = &rest[client.writer().write(rest).unwrap()..];
                    client.write_tls(&mut &peer).unwrap();
                }
            });
            let (mut got, mut buffer) = (Vec::new(), vec![0; size]);
            while got.len() < part.len() {
                match pair.tls.read(&mut buffer) {
                    Ok(read) => got.extend_from_slice(&buffer[..read]),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            assert!(got == part, "reads of {size}");
        });
    }
}

#[test]
fn a_short_read_means_that_the_socket_is_empty() {
    let mut pair = Pair::new();
    let sent = pattern(200 << 10);
    let mut buffer = vec![0; 64 << 10];
    let (mut got, mut written) = (Vec::new(), 0);
    while got.len() < sent.len() {
        if written < sent.len() {
            let end = (written + 37_000).min(sent.len());
            pair.send(&sent[written..end]);
            written = end;
        }
        while let Ok(read) = pair.tls.read(&mut buffer) {
            got.extend_from_slice(&buffer[..read]);
            if read < buffer.len() {
                // Everything the peer has sent by now may not have arrived; but what has, was taken.
                assert!(!pair.tls.has_more());
                break;
            }
        }
    }
    assert!(got == sent);
}

#[test]
fn records_without_data_are_taken_and_answered() {
    let mut pair = Pair::new();
    for round in 0..20_u8 {
        // The peer changes its keys, and asks us to change ours.
        pair.client.refresh_traffic_keys().unwrap();
        pair.send_ciphertext();
        let nothing = pair.tls.read(&mut [0; 64 << 10]).map_err(|error| error.kind());
        assert_eq!(nothing, Err(io::ErrorKind::WouldBlock));
        pair.send(&[round; 10]);
        assert_eq!(pair.read(64 << 10, 10), [round; 10]);
        assert_eq!(pair.tls.write(&[round; 10]).unwrap(), 10);
        let mut back = Vec::new();
        while back.len() < 10 {
            back.extend(pair.take(1 << 20));
        }
        assert_eq!(back, [round; 10]);
    }
}

#[test]
fn close_notify_and_fin_are_an_end() {
    let mut pair = Pair::new();
    pair.send(b"last words");
    pair.client.send_close_notify();
    pair.send_ciphertext();
    let mut buffer = [0; 1 << 10];
    let mut got = 0;
    while got < 10 {
        got += pair.tls.read(&mut buffer[got..]).unwrap_or(0);
    }
    while !pair.tls.has_more() {
        assert!(pair.tls.read(&mut buffer).map_or(true, |read| read == 0));
    }
    assert_eq!(pair.tls.read(&mut buffer).unwrap(), 0);
    // Our half is open still.
    assert_eq!(pair.tls.write(b"answer").unwrap(), 6);

    let mut pair = Pair::new();
    pair.peer.shutdown(Shutdown::Write).unwrap();
    loop {
        match pair.tls.read(&mut buffer) {
            Ok(read) => break assert_eq!(read, 0),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

#[test]
fn the_end_is_said_by_close_notify() {
    for finish in [true, false] {
        let mut pair = Pair::new();
        assert_eq!(pair.tls.write(b"bye").unwrap(), 3);
        let Pair { mut tls, peer, mut client, .. } = pair;
        if finish {
            tls.finish();
            assert!(tls.write(b"more").is_err());
        } else {
            drop(tls);
        }
        let mut socket = &peer;
        let mut stream = rustls::Stream::new(&mut client, &mut socket);
        let mut got = Vec::new();
        // Without close_notify this is an error.
        stream.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"bye");
    }
}

#[test]
fn what_is_not_tls_breaks_it() {
    let mut pair = Pair::new();
    pair.send(b"good");
    (&pair.peer).write_all(&[0x16; 100]).unwrap();
    let mut buffer = vec![0; 100 << 10];
    let (mut got, mut broken) = (0, false);
    while !broken {
        match pair.tls.read(&mut buffer) {
            Ok(read) => got += read,
            Err(error) => broken = error.kind() == io::ErrorKind::InvalidData,
        }
    }
    assert_eq!(got, 4, "what came before counts");
    assert!(pair.tls.has_more());
    assert!(pair.tls.write(b"x").is_err());
    // The peer is told why.
    let mut socket = &pair.peer;
    let mut stream = rustls::Stream::new(&mut pair.client, &mut socket);
    let error = stream.read(&mut [0; 10]).unwrap_err();
    assert!(
        error.to_string().contains("AlertReceived") || error.to_string().contains("alert"),
        "{error}"
    );
}
