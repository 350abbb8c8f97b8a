//! The table of the settings that endpoints have.

use std::ops::RangeInclusive;

use super::super::units::{self, Unit};
use super::limits::amount;
use super::{EndpointKey, into};

/// Every setting of an endpoint.
pub(crate) static ENDPOINT_KEYS: &[EndpointKey] = &[
    EndpointKey {
        name: "room",
        defaults: [Some("lobby"), Some("lobby"), None],
        doc: "The room of clients whose path names none.",
        danger: "",
        set: |raw, v| into(&mut raw.room, Unit::read(v)),
        get: |options| options.room.as_ref().map_or_else(String::new, Unit::write),
    },
    EndpointKey {
        name: "max_message",
        defaults: [Some("64KiB"), Some("1MiB"), Some("16MiB")],
        doc: "The largest message a client may send, in bytes, after decompression. A larger one closes \
              the connection with 1009.",
        danger: "Memory that one client can make the server hold, for every connection it opens.",
        set: |raw, v| into(&mut raw.max_message, units::size(v, 1..=1 << 30)),
        get: |options| options.max_message.write(),
    },
    EndpointKey {
        name: "origins",
        defaults: [Some("same-origin"), Some("any"), Some("any")],
        doc: "Which web pages may connect: \"any\", \"same-origin\", or a list of origins. Others are \
              refused with 403. Clients that send no Origin are no browsers and are not affected. Rooms \
              act for a person, so other sites must not borrow their browser; relay and echo know \
              nobody, and serve pages opened from a file or another port.",
        danger: "With \"any\", every page a visitor opens can talk to this server in the visitor's network.",
        set: |raw, v| into(&mut raw.origins, Unit::read(v)),
        get: |options| options.origins.write(),
    },
    EndpointKey {
        name: "flush",
        defaults: [Some("auto"), Some("0s"), Some("0s")],
        doc: "How long messages may be held to be written together, up to 50ms. auto: the first after a \
              pause at once, the following ones a few ms apart as the worker gets busy; 0s: never held.",
        danger: "Adds up to this much latency; saves most of the CPU of a busy room.",
        set: |raw, v| into(&mut raw.flush, Unit::read(v)),
        get: |options| options.flush.write(),
    },
    EndpointKey {
        name: "outbox",
        defaults: [Some("1MiB"); 3],
        doc: "How many bytes may wait for one slow reader.",
        danger: "Memory times the number of slow readers; too little disconnects readers on slow networks.",
        set: |raw, v| into(&mut raw.outbox, units::size(v, 1024..=1 << 30)),
        get: |options| options.outbox.write(),
    },
    EndpointKey {
        name: "slow",
        defaults: [Some("disconnect"); 3],
        doc: "What happens to a reader whose outbox is full: disconnect (close code 4508, it can come \
              back), or drop (it misses messages).",
        danger: "With drop, clients see holes.",
        set: |raw, v| into(&mut raw.slow, Unit::read(v)),
        get: |options| options.slow.write(),
    },
    EndpointKey {
        name: "anonymous",
        defaults: [Some("true"); 3],
        doc: "Whether people without a ticket or a token may connect; else they are answered 401. What \
              they may do in rooms is said by access.anonymous.",
        danger: "Relay and echo know no rights: whoever may connect may do everything there.",
        set: |raw, v| into(&mut raw.anonymous, Unit::read(v)),
        get: |options| options.anonymous.write(),
    },
    EndpointKey {
        name: "rate",
        defaults: [Some("200/s burst 1000"), Some("off"), Some("off")],
        doc: "How many messages one connection may send; pings and empty frames count, too. More are \
              answered rate_limited, and one that goes on is closed with 4429.",
        danger: "off lets one client keep everybody in its rooms busy.",
        set: |raw, v| into(&mut raw.rate, Unit::read(v)),
        get: |options| options.rate.write(),
    },
    EndpointKey {
        name: "bytes_rate",
        defaults: [Some("1MiB/s burst 8MiB"), Some("off"), Some("off")],
        doc: "How many bytes one connection may send.",
        danger: "A burst smaller than max_message makes the largest messages impossible.",
        set: |raw, v| into(&mut raw.bytes_rate, Unit::read(v)),
        get: |options| options.bytes_rate.write(),
    },
    EndpointKey {
        name: "user_rate",
        defaults: [Some("400/s burst 2000"), Some("off"), Some("off")],
        doc: "How many messages all connections of one user who is signed in may send together.",
        danger: "",
        set: |raw, v| into(&mut raw.user_rate, Unit::read(v)),
        get: |options| options.user_rate.write(),
    },
    EndpointKey {
        name: "budget",
        defaults: [Some("auto"); 3],
        doc: "The most memory that one connection may make the server keep, in bytes, for incomplete and \
              compressed messages, its outbox and everything else of it: a size, or auto for what \
              max_message and outbox need. One that needs more is closed with 1009, or is too slow a reader.",
        danger: "Memory times the number of hostile clients.",
        set: |raw, v| into(&mut raw.budget, amount(v, BUDGETS)),
        get: |options| options.budget.write(),
    },
    EndpointKey {
        name: "deflate",
        defaults: [Some("true"), Some("false"), Some("true")],
        doc: "Whether messages may be compressed (permessage-deflate, RFC 7692) for clients that offer it.",
        danger: "CPU time. Never compress secrets together with what an attacker chooses (CRIME, BREACH).",
        set: |raw, v| into(&mut raw.deflate, Unit::read(v)),
        get: |options| options.deflate.write(),
    },
    EndpointKey {
        name: "deflate_threshold",
        defaults: [Some("1KiB"); 3],
        doc: "Messages smaller than this many bytes are sent uncompressed.",
        danger: "Below some hundred bytes compression costs more than it saves.",
        set: |raw, v| into(&mut raw.deflate_threshold, units::size(v, 0..=1 << 30)),
        get: |options| options.deflate_threshold.write(),
    },
    EndpointKey {
        name: "deflate_level",
        defaults: [Some("4"); 3],
        doc: "Effort of compression, 1 (fast) to 9 (small).",
        danger: "From 6 on, CPU time doubles for a few per cent.",
        set: |raw, v| into(&mut raw.deflate_level, units::number(v, 1..=9)),
        get: |options| options.deflate_level.write(),
    },
    EndpointKey {
        name: "deflate_mem_level",
        defaults: [Some("8"); 3],
        doc: "Memory of a compressor, 1 to 9: about 128 KiB to 384 KiB, one per worker.",
        danger: "With takeover it is one per connection.",
        set: |raw, v| into(&mut raw.deflate_mem_level, units::number(v, 1..=9)),
        get: |options| options.deflate_mem_level.write(),
    },
    EndpointKey {
        name: "deflate_server_no_context_takeover",
        defaults: [Some("true"); 3],
        doc: "Whether every message of ours is compressed by itself, so that one compressed copy serves \
              all receivers.",
        danger: "With false, each connection keeps a compressor of some 300 KiB for its own answers, and \
                 messages of rooms go to it uncompressed.",
        set: |raw, v| into(&mut raw.deflate_server_no_context_takeover, Unit::read(v)),
        get: |options| options.deflate_server_no_context_takeover.write(),
    },
    EndpointKey {
        name: "deflate_client_no_context_takeover",
        defaults: [Some("true"); 3],
        doc: "Whether clients are asked to compress every message by itself.",
        danger: "With false, each connection may keep a window of at most 32 KiB.",
        set: |raw, v| into(&mut raw.deflate_client_no_context_takeover, Unit::read(v)),
        get: |options| options.deflate_client_no_context_takeover.write(),
    },
    EndpointKey {
        name: "deflate_server_max_window_bits",
        defaults: [Some("15"); 3],
        doc: "The largest window of our compressor: 9 (512 bytes) to 15 (32 KiB).",
        danger: "Below 15, messages of rooms go uncompressed: one compressed copy serves all receivers.",
        set: |raw, v| into(&mut raw.deflate_server_max_window_bits, units::number(v, 9..=15)),
        get: |options| options.deflate_server_max_window_bits.write(),
    },
    EndpointKey {
        name: "deflate_client_max_window_bits",
        defaults: [Some("15"); 3],
        doc: "The largest window that clients are asked to use: 9 (512 bytes) to 15 (32 KiB).",
        danger: "With less than 15, clients that cannot limit their window get no compression.",
        set: |raw, v| into(&mut raw.deflate_client_max_window_bits, units::number(v, 9..=15)),
        get: |options| options.deflate_client_max_window_bits.write(),
    },
];

const BUDGETS: RangeInclusive<usize> = 4096..=1 << 40;
