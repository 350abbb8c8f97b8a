//! What permessage-deflate agrees on in the handshake (RFC 7692 §7.1), both roles.
//!
//! [`DeflateOptions`] is what we would like, [`Deflate`] what both sides agreed on. The
//! compression itself is in [`deflate`](crate::deflate).

use std::fmt::Write as _;

use http::header::HeaderValue;

use crate::frame::Role;
use crate::handshake::header::{Param, Params};

/// How messages are to be compressed, if the peer knows permessage-deflate too.
///
/// The defaults keep no compression context between messages in either direction, so that a
/// server's connections can share one context per thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeflateOptions {
    /// Messages shorter than this many bytes are sent as they are. Default 1024.
    pub threshold: usize,
    /// The effort, 0 (store) to 9 (smallest); larger values count as 9. Default 4: on JSON and
    /// source text of 1 to 64 KiB it comes within 5 % of the size that the usual 6 reaches, in
    /// half to nine tenths of its time. 1 takes a quarter of the time for a third more bytes.
    pub level: u8,
    /// The compressor's memory, 1 to 9, each step doubling it; other values count as the
    /// nearest. Default 8.
    pub mem_level: u8,
    /// Whether the server begins every message with an empty context. Default true.
    ///
    /// False costs the server several hundred KiB per connection once it has compressed
    /// something. A server obeys a client that asks for true.
    pub server_no_context_takeover: bool,
    /// Whether the client begins every message with an empty context. Default true.
    ///
    /// False costs the server some 32 KiB per connection once the client has compressed
    /// something. A client that does not know the parameter may be asked all the same
    /// (RFC 7692 §7.1.1.2).
    pub client_no_context_takeover: bool,
    /// The server's largest window, as a power of two of bytes: 9 to 15; other values count as
    /// the nearest. Default 15.
    pub server_max_window_bits: u8,
    /// The client's largest window, as a power of two of bytes: 9 to 15; other values count as
    /// the nearest. Default 15. A server that asks for less declines the offers of clients
    /// that cannot limit it.
    pub client_max_window_bits: u8,
}

impl Default for DeflateOptions {
    fn default() -> Self {
        Self {
            threshold: 1024,
            level: 4,
            mem_level: 8,
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: MAX_WINDOW_BITS,
            client_max_window_bits: MAX_WINDOW_BITS,
        }
    }
}

impl DeflateOptions {
    /// The server's answer to one offer: what is agreed, and the element for the response.
    /// `None` declines the offer (RFC 7692 §5.1).
    pub(crate) fn answer(&self, offer: Params<'_>) -> Option<(Deflate, HeaderValue)> {
        let offer = Parameters::read(offer).ok()?;
        let server_bits = match offer.server_max_window_bits {
            Window::Absent => self.server_bits(),
            Window::Bits(bits) if bits >= MIN_WINDOW_BITS => self.server_bits().min(bits),
            // A window of 256 bytes is below what zlib can compress with.
            Window::Bits(_) | Window::Unsaid => return None,
        };
        let client_bits = match offer.client_max_window_bits {
            Window::Absent if self.client_bits() < MAX_WINDOW_BITS => return None,
            Window::Absent | Window::Unsaid => self.client_bits(),
            Window::Bits(bits) => self.client_bits().min(bits),
        };
        let agreed = Deflate {
            server_no_context_takeover: self.server_no_context_takeover
                || offer.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover
                || offer.client_no_context_takeover,
            server_max_window_bits: server_bits,
            client_max_window_bits: client_bits,
        };
        let said = |window, bits| matches!(window, Window::Bits(_)) || bits < MAX_WINDOW_BITS;
        let element = element(
            agreed.server_no_context_takeover,
            agreed.client_no_context_takeover,
            said(offer.server_max_window_bits, server_bits).then_some(server_bits),
            said(offer.client_max_window_bits, client_bits).then_some(Some(client_bits)),
        );
        Some((agreed, element))
    }

    /// The client's offer.
    pub(crate) fn offer(&self) -> HeaderValue {
        let bits = self.client_bits();
        element(
            self.server_no_context_takeover,
            self.client_no_context_takeover,
            self.asks_server_bits(),
            Some((bits < MAX_WINDOW_BITS).then_some(bits)),
        )
    }

    /// What the server's answer to [`offer`](Self::offer) means; `None` if it is no answer to
    /// that offer, and the client has to fail the connection (RFC 7692 §7.1).
    pub(crate) fn agree(&self, answer: Params<'_>) -> Option<Deflate> {
        let answer = Parameters::read(answer).ok()?;
        if self.server_no_context_takeover && !answer.server_no_context_takeover {
            return None;
        }
        let server_bits = match (answer.server_max_window_bits, self.asks_server_bits()) {
            (Window::Absent, None) => MAX_WINDOW_BITS,
            (Window::Bits(bits), None) => bits,
            (Window::Bits(bits), Some(asked)) if bits <= asked => bits,
            _ => return None,
        };
        let client_bits = match answer.client_max_window_bits {
            Window::Absent => self.client_bits(),
            Window::Bits(bits) => self.client_bits().min(bits),
            Window::Unsaid => return None,
        };
        Some(Deflate {
            server_no_context_takeover: answer.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover
                || answer.client_no_context_takeover,
            server_max_window_bits: server_bits,
            client_max_window_bits: client_bits,
        })
    }

    fn asks_server_bits(&self) -> Option<u8> {
        let bits = self.server_bits();
        (bits < MAX_WINDOW_BITS).then_some(bits)
    }

    fn server_bits(&self) -> u8 {
        self.server_max_window_bits.clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS)
    }

    fn client_bits(&self) -> u8 {
        self.client_max_window_bits.clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS)
    }
}

/// What client and server agreed on for one connection (RFC 7692 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// Whether the server begins every message with an empty context.
    pub server_no_context_takeover: bool,
    /// Whether the client begins every message with an empty context.
    pub client_no_context_takeover: bool,
    /// The server's largest window, as a power of two of bytes: 8 to 15.
    pub server_max_window_bits: u8,
    /// The client's largest window, as a power of two of bytes: 8 to 15.
    pub client_max_window_bits: u8,
}

impl Deflate {
    /// What holds for the messages that we send in `role`.
    ///
    /// Below 9 [window bits](Direction::window_bits) zlib cannot compress, so such a sender
    /// sends all its messages uncompressed, which is always allowed. Only a client can come to
    /// this: a server declines.
    pub fn outgoing(&self, role: Role) -> Direction {
        match role {
            Role::Server => self.of_server(),
            Role::Client => self.of_client(),
        }
    }

    /// What holds for the messages that we receive in `role`.
    pub fn incoming(&self, role: Role) -> Direction {
        match role {
            Role::Server => self.of_client(),
            Role::Client => self.of_server(),
        }
    }

    fn of_server(&self) -> Direction {
        Direction {
            takeover: !self.server_no_context_takeover,
            window_bits: self.server_max_window_bits,
        }
    }

    fn of_client(&self) -> Direction {
        Direction {
            takeover: !self.client_no_context_takeover,
            window_bits: self.client_max_window_bits,
        }
    }
}

/// One direction of a [`Deflate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// Whether a message may refer to the ones before it.
    pub takeover: bool,
    /// The largest window, as a power of two of bytes: 8 to 15.
    pub window_bits: u8,
}

/// The name of the extension.
pub(crate) const PERMESSAGE_DEFLATE: &str = "permessage-deflate";

/// The parameters of one element, as written.
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Window,
    client_max_window_bits: Window,
}

#[derive(Clone, Copy)]
enum Window {
    Absent,
    /// Without a value.
    Unsaid,
    Bits(u8),
}

/// A parameter that is unknown, repeated, or has a value it must not have.
struct Invalid;

impl Parameters {
    fn read(params: Params<'_>) -> Result<Self, Invalid> {
        let mut read = Self {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: Window::Absent,
            client_max_window_bits: Window::Absent,
        };
        for param in params {
            match param.name {
                "server_no_context_takeover" => flag(&mut read.server_no_context_takeover, param)?,
                "client_no_context_takeover" => flag(&mut read.client_no_context_takeover, param)?,
                "server_max_window_bits" => window(&mut read.server_max_window_bits, param)?,
                "client_max_window_bits" => window(&mut read.client_max_window_bits, param)?,
                _ => return Err(Invalid),
            }
        }
        Ok(read)
    }
}

fn flag(flag: &mut bool, param: Param<'_>) -> Result<(), Invalid> {
    if *flag || param.value.is_some() {
        return Err(Invalid);
    }
    *flag = true;
    Ok(())
}

fn window(window: &mut Window, param: Param<'_>) -> Result<(), Invalid> {
    if !matches!(window, Window::Absent) {
        return Err(Invalid);
    }
    *window = match param.value {
        None => Window::Unsaid,
        Some(value) => match value.small_number() {
            Some(bits @ 8..=MAX_WINDOW_BITS) => Window::Bits(bits),
            _ => return Err(Invalid),
        },
    };
    Ok(())
}

/// One element of `Sec-WebSocket-Extensions`. The usual ones cost no formatting.
fn element(
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_bits: Option<u8>,
    client_bits: Option<Option<u8>>,
) -> HeaderValue {
    match (server_no_context_takeover, client_no_context_takeover, server_bits, client_bits) {
        (false, false, None, None) => return HeaderValue::from_static(PERMESSAGE_DEFLATE),
        (true, true, None, None) => {
            return HeaderValue::from_static(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            );
        }
        _ => {}
    }
    let mut text = String::with_capacity(128);
    text.push_str(PERMESSAGE_DEFLATE);
    if server_no_context_takeover {
        text.push_str("; server_no_context_takeover");
    }
    if client_no_context_takeover {
        text.push_str("; client_no_context_takeover");
    }
    // Writing to a string does not fail.
    if let Some(bits) = server_bits {
        let _ = write!(text, "; server_max_window_bits={bits}");
    }
    match client_bits {
        Some(Some(bits)) => {
            let _ = write!(text, "; client_max_window_bits={bits}");
        }
        Some(None) => text.push_str("; client_max_window_bits"),
        None => {}
    }
    HeaderValue::try_from(text).expect("invariant: printable ASCII only")
}

/// The smallest window that zlib compresses with. It can decompress 8 as well.
const MIN_WINDOW_BITS: u8 = 9;
const MAX_WINDOW_BITS: u8 = 15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::header::Extensions;

    fn params<T>(list: &str, take: impl FnOnce(Params<'_>) -> T) -> T {
        let value = HeaderValue::from_str(list).unwrap();
        take(Extensions::new(&value).next().unwrap().unwrap().params)
    }

    /// What a server with `options` answers to `permessage-deflate` + `offer`.
    fn answer(options: &DeflateOptions, offer: &str) -> Option<(Deflate, String)> {
        params(&format!("permessage-deflate{offer}"), |offer| options.answer(offer)).map(
            |(deflate, value)| {
                (deflate, value.to_str().unwrap().strip_prefix(PERMESSAGE_DEFLATE).unwrap().into())
            },
        )
    }

    /// What a client with `options` makes of the answer `permessage-deflate` + `answer`.
    fn agree(options: &DeflateOptions, answer: &str) -> Option<Deflate> {
        params(&format!("permessage-deflate{answer}"), |answer| options.agree(answer))
    }

    fn takeover() -> DeflateOptions {
        DeflateOptions {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            ..DeflateOptions::default()
        }
    }

    const FULL: Deflate = Deflate {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };

    #[test]
    fn a_server_answers_every_parameter() {
        let cases = [
            ("", "", FULL),
            ("; client_max_window_bits", "", FULL),
            (
                "; client_max_window_bits=12",
                "; client_max_window_bits=12",
                Deflate { client_max_window_bits: 12, ..FULL },
            ),
            ("; client_max_window_bits=\"15\"", "; client_max_window_bits=15", FULL),
            (
                "; server_max_window_bits=10",
                "; server_max_window_bits=10",
                Deflate { server_max_window_bits: 10, ..FULL },
            ),
            ("; server_max_window_bits=15", "; server_max_window_bits=15", FULL),
            (
                "; server_no_context_takeover",
                "; server_no_context_takeover",
                Deflate { server_no_context_takeover: true, ..FULL },
            ),
            (
                "; client_no_context_takeover",
                "; client_no_context_takeover",
                Deflate { client_no_context_takeover: true, ..FULL },
            ),
        ];
        for (offer, want, agreed) in cases {
            assert_eq!(answer(&takeover(), offer), Some((agreed, want.to_owned())), "{offer}");
        }
        assert_eq!(
            answer(&DeflateOptions::default(), "; client_max_window_bits").unwrap().1,
            "; server_no_context_takeover; client_no_context_takeover"
        );
    }

    #[test]
    fn a_server_declines_what_it_cannot_honour_or_read() {
        for offer in [
            "; server_max_window_bits=8",
            "; server_max_window_bits=7",
            "; server_max_window_bits=16",
            "; server_max_window_bits=09",
            "; server_max_window_bits=+9",
            "; server_max_window_bits=9x",
            "; server_max_window_bits",
            "; client_max_window_bits=7",
            "; client_max_window_bits=16",
            "; client_max_window_bits=a",
            "; client_max_window_bits; client_max_window_bits",
            "; client_max_window_bits=10; client_max_window_bits=10",
            "; server_max_window_bits=10; server_max_window_bits=10",
            "; server_no_context_takeover=1",
            "; client_no_context_takeover=\"true\"",
            "; server_no_context_takeover; server_no_context_takeover",
            "; client_no_context_takeover; client_no_context_takeover",
            "; Server_No_Context_Takeover",
            "; unknown",
            "; mode=fast",
        ] {
            assert_eq!(answer(&takeover(), offer), None, "{offer}");
        }
    }

    #[test]
    fn a_server_limits_windows_only_where_the_client_can() {
        let options =
            DeflateOptions { server_max_window_bits: 11, client_max_window_bits: 10, ..takeover() };
        assert_eq!(answer(&options, ""), None);
        let agreed = Deflate { server_max_window_bits: 11, client_max_window_bits: 10, ..FULL };
        let want = "; server_max_window_bits=11; client_max_window_bits=10";
        assert_eq!(answer(&options, "; client_max_window_bits"), Some((agreed, want.into())));
        let (smaller, _) =
            answer(&options, "; client_max_window_bits=9; server_max_window_bits=9").unwrap();
        assert_eq!((smaller.server_max_window_bits, smaller.client_max_window_bits), (9, 9));
        // The client may limit itself to what zlib can only decompress.
        let (least, _) = answer(&takeover(), "; client_max_window_bits=8").unwrap();
        assert_eq!(least.client_max_window_bits, 8);
    }

    #[test]
    fn a_client_reads_the_answer() {
        assert_eq!(agree(&takeover(), ""), Some(FULL));
        assert_eq!(
            agree(&takeover(), "; client_max_window_bits=8; server_max_window_bits=8"),
            Some(Deflate { client_max_window_bits: 8, server_max_window_bits: 8, ..FULL })
        );
        assert_eq!(
            agree(&takeover(), "; client_no_context_takeover; server_no_context_takeover"),
            Some(Deflate {
                client_no_context_takeover: true,
                server_no_context_takeover: true,
                ..FULL
            })
        );
        let narrow = DeflateOptions { server_max_window_bits: 12, ..takeover() };
        assert_eq!(
            agree(&narrow, "; server_max_window_bits=11"),
            Some(Deflate { server_max_window_bits: 11, ..FULL })
        );
        // The client's own wish needs no answer.
        let selfless = DeflateOptions { client_no_context_takeover: true, ..takeover() };
        assert!(agree(&selfless, "").unwrap().client_no_context_takeover);
    }

    #[test]
    fn a_client_refuses_what_is_no_answer_to_its_offer() {
        for answer in [
            "; client_max_window_bits",
            "; client_max_window_bits=16",
            "; server_max_window_bits",
            "; server_max_window_bits=7",
            "; client_max_window_bits=9; client_max_window_bits=9",
            "; server_no_context_takeover=0",
            "; unknown",
        ] {
            assert_eq!(agree(&takeover(), answer), None, "{answer}");
        }
        assert_eq!(agree(&DeflateOptions::default(), ""), None, "the takeover it did not want");
        let narrow = DeflateOptions { server_max_window_bits: 12, ..takeover() };
        assert_eq!(agree(&narrow, ""), None);
        assert_eq!(agree(&narrow, "; server_max_window_bits=13"), None);
    }

    #[test]
    fn directions_follow_the_role() {
        let deflate = Deflate {
            server_no_context_takeover: true,
            client_no_context_takeover: false,
            server_max_window_bits: 11,
            client_max_window_bits: 12,
        };
        let server = Direction { takeover: false, window_bits: 11 };
        let client = Direction { takeover: true, window_bits: 12 };
        assert_eq!(deflate.outgoing(Role::Server), server);
        assert_eq!(deflate.incoming(Role::Client), server);
        assert_eq!(deflate.outgoing(Role::Client), client);
        assert_eq!(deflate.incoming(Role::Server), client);
    }

    #[test]
    fn options_out_of_range_count_as_the_nearest() {
        let options = DeflateOptions {
            server_max_window_bits: 0,
            client_max_window_bits: 200,
            ..DeflateOptions::default()
        };
        assert_eq!(
            options.offer(),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=9; client_max_window_bits"
        );
    }
}
