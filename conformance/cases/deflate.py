"""Compressed messages (RFC 7692)."""

import random
import zlib

from cases import Case, patterns
from cases.play import play, watch
from rig.connection import upgrade
from rig.frames import BINARY, CONTINUATION, PING, RSV1, RSV2, TEXT, deflated, frame, text

CASES = []
OFFER = "permessage-deflate"
WITHOUT = ("no deflate",)  # servers that do not speak it


def case(name, section, want, run, also=()):
    CASES.append(Case("deflate", name, f"7692 §{section}", patterns(want), (*patterns(also), *WITHOUT), run))


def row(name, section, want, *pieces, also=(), deflate=OFFER, **how):
    case(name, section, want, lambda server: play(server, pieces, deflate=deflate, **how), also)


def echoed(name, section, pieces, *messages, **how):
    row(name, section, "echo", *pieces, expects=messages, **how)


def broken(name, section, code, *pieces, also=(), **how):
    row(name, section, f"close {code}", *pieces, also=(*patterns(also), "cut"), **how)


def packed(payload, opcode=TEXT, **how):
    return frame(opcode, deflated(payload), rsv=RSV1, **how)


LONG = " ".join(f"line {n} of a text that compresses well" for n in range(200)).encode()
NOISE = random.Random(7).randbytes(20_000)
PACKED = deflated(LONG)

# --- Messages that must come back.
echoed("a compressed text", "7.2.2", [packed(b"Hello")], (TEXT, b"Hello"))
echoed("a long compressed text", "7.2.1", [packed(LONG)], (TEXT, LONG))
echoed("a compressed binary that does not compress", "7.2.1", [packed(NOISE, BINARY)], (BINARY, NOISE))
echoed("the empty compressed message", "7.2.3.6", [frame(TEXT, b"\0", rsv=RSV1)], (TEXT, b""))
echoed("an uncompressed message", "6", [text("plain")], (TEXT, b"plain"))
echoed("compressed and uncompressed in turn", "6", [packed(b"one"), text("two"), packed(b"three")],
       (TEXT, b"one"), (TEXT, b"two"), (TEXT, b"three"))
echoed("compressed fragments, RSV1 on the first only", "6.1",
       [frame(TEXT, PACKED[:50], rsv=RSV1, fin=False), frame(CONTINUATION, PACKED[50:60], fin=False), frame(CONTINUATION, PACKED[60:])],
       (TEXT, LONG))
echoed("a ping between compressed fragments", "6.1",
       [frame(TEXT, PACKED[:50], rsv=RSV1, fin=False), frame(PING, b"now"), frame(CONTINUATION, PACKED[50:])], (TEXT, LONG),
       pongs=[b"now"])
echoed("compressed data in fragments of one byte", "6.1",
       [frame(TEXT, PACKED[:1], rsv=RSV1, fin=False), *(frame(CONTINUATION, PACKED[at:at + 1], fin=False) for at in range(1, len(PACKED))),
        frame(CONTINUATION)], (TEXT, LONG))
echoed("a block without compression", "7.2.3.3", [frame(TEXT, b"\x00\x05\x00\xfa\xffHello\x00", rsv=RSV1)], (TEXT, b"Hello"))
echoed("two blocks", "7.2.3.5", [frame(TEXT, b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", rsv=RSV1)], (TEXT, b"Hello"))
echoed("a block with BFINAL set", "7.2.3.4", [frame(TEXT, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", rsv=RSV1)], (TEXT, b"Hello"))
echoed("a character split between compressed fragments", "6.1",
       [frame(TEXT, deflated("€€€".encode())[:2], rsv=RSV1, fin=False), frame(CONTINUATION, deflated("€€€".encode())[2:])],
       (TEXT, "€€€".encode()))

# --- What must fail.
broken("RSV1 on a continuation", "6.1", 1002, frame(TEXT, PACKED[:50], rsv=RSV1, fin=False), frame(CONTINUATION, PACKED[50:], rsv=RSV1))
broken("RSV1 on a continuation of an uncompressed message", "6.1", 1002, text("one", fin=False), frame(CONTINUATION, PACKED, rsv=RSV1))
broken("RSV1 on a ping", "6.1", 1002, frame(PING, b"hello", rsv=RSV1))
broken("RSV1 on a close", "6.1", 1002, frame(8, b"\x03\xe8", rsv=RSV1))
broken("RSV1 and RSV2", "6.1", 1002, frame(TEXT, PACKED, rsv=RSV1 | RSV2))
broken("bytes that are no deflate data", "7.2.2", 1007, frame(TEXT, b"\xff\xff\xff\xff\xff", rsv=RSV1), also=("close 1002",))
broken("deflate data cut short", "7.2.2", 1007, frame(TEXT, PACKED[:len(PACKED) // 2], rsv=RSV1),
       also=("close 1002", "accepted, and echoed"))
broken("a reference to before the start", "7.2.2", 1007, frame(TEXT, b"\x02\x07\x00", rsv=RSV1), also=("close 1002",))
broken("an empty compressed payload", "7.2.3.6", 1007, frame(TEXT, b"", rsv=RSV1), also=("echo", "accepted, and echoed", "close 1002"))
broken("compressed text that is not UTF-8", "6", 1007, packed(b"ab\xff"))
broken("compressed text that ends inside a character", "6", 1007, packed(b"ab\xe2\x82"))


def bomb(factor):
    def run(server):
        return play(server, [packed(bytes(factor * server.max_message), BINARY)], deflate=OFFER, timeout=8)

    return run


case("a bomb: 64 times the limit, inflated", "8", "close 1009", bomb(64), also="cut")
case("one byte above the limit, inflated", "8", "close 1009",
     lambda server: play(server, [packed(bytes(server.max_message + 1), BINARY)], deflate=OFFER), also="cut")
case("exactly the limit, inflated", "8", "echo",
     lambda server: play(server, [packed(bytes(server.max_message), BINARY)], deflate=OFFER, expects=[(BINARY, bytes(server.max_message))]))


def incompressible(server):
    """The limit is about messages: one of that size may travel in a few bytes more (as from Chromium)."""
    message = random.Random(3).randbytes(server.max_message)
    return play(server, [packed(message, BINARY)], deflate=OFFER, expects=[(BINARY, message)])


case("exactly the limit, inflated, and longer as it travels", "8", "echo", incompressible, also=("close 1009",))


# --- What was agreed must be kept.
def agreed(answer):
    value = answer.get("sec-websocket-extensions") or ""
    return {part.partition("=")[0].strip(): part.partition("=")[2].strip(' "') for part in value.split(";")[1:]}


def echo_of(peer, payload, inflater):
    peer.send(text(payload))
    peer.send(frame(PING, b"probe"))
    seen = watch(peer, until=b"probe", awaited=1, inflater=inflater)
    if seen.messages != [(TEXT, payload)]:
        return seen, seen.end if seen.end != "survived" else "wrong echo"
    return seen, ""


def server_without_context(server):
    peer, answer = upgrade(server.port, server.path, extensions=f"{OFFER}; server_no_context_takeover")
    with peer:
        if not answer.get("sec-websocket-extensions"):
            return "no deflate"
        if "server_no_context_takeover" not in agreed(answer):
            return "not agreed"
        for _ in range(3):
            fresh = zlib.decompressobj(-15)
            _, trouble = echo_of(peer, LONG, lambda data: fresh.decompress(data + b"\0\0\xff\xff"))
            if trouble:
                return trouble
        return "kept"


case("server_no_context_takeover", "7.1.1.1", "kept", server_without_context)


def client_context(server):
    """Our own compressor keeps its context exactly when the server did not forbid it."""
    peer, answer = upgrade(server.port, server.path, extensions=OFFER)
    with peer:
        if not answer.get("sec-websocket-extensions"):
            return "no deflate"
        keep = "client_no_context_takeover" not in agreed(answer)
        shared, press = zlib.decompressobj(-15), zlib.compressobj(9, zlib.DEFLATED, -15)
        fresh_each = "server_no_context_takeover" in agreed(answer)
        for _ in range(3):
            press = press if keep else zlib.compressobj(9, zlib.DEFLATED, -15)
            peer.send(frame(TEXT, (press.compress(LONG) + press.flush(zlib.Z_SYNC_FLUSH))[:-4], rsv=RSV1))
            peer.send(frame(PING, b"probe"))
            reader = zlib.decompressobj(-15) if fresh_each else shared
            seen = watch(peer, until=b"probe", awaited=1, inflater=lambda data: reader.decompress(data + b"\0\0\xff\xff"))
            if seen.messages != [(TEXT, LONG)]:
                return seen.end if seen.end != "survived" else "wrong echo"
        return "kept"


case("context on both sides as agreed", "7.1.1", "kept", client_context)


def window(bits):
    """A text that repeats itself only further back than the window: a compressor that ignores the
    agreed window refers to it, and a decompressor with that window notices."""
    def run(server):
        offer = f"{OFFER}; server_no_context_takeover; server_max_window_bits={bits}"
        peer, answer = upgrade(server.port, server.path, extensions=offer)
        with peer:
            if not answer.get("sec-websocket-extensions"):
                return "declined"
            got = int(agreed(answer).get("server_max_window_bits", 15))
            if got > bits:
                return f"answered with {got}"
            once = "".join(random.Random(bits).choices("0123456789abcdefghijklmnopqrstuvwxyz", k=3 << max(bits, 9))).encode()
            _, trouble = echo_of(peer, once * 3, lambda data: zlib.decompressobj(-max(got, 9)).decompress(data + b"\0\0\xff\xff"))
            return trouble or "kept"

    return run


for bits in (9, 10, 12):
    case(f"server_max_window_bits={bits}", "7.1.2.1", "kept", window(bits), also="declined")
case("server_max_window_bits=8", "7.1.2.1", ("kept", "declined"), window(8))


def repeats_are_compressed(server):
    peer, answer = upgrade(server.port, server.path, extensions=OFFER)
    with peer:
        if not answer.get("sec-websocket-extensions"):
            return "no deflate"
        reader = zlib.decompressobj(-15)
        seen, trouble = echo_of(peer, LONG * 4, lambda data: reader.decompress(data + b"\0\0\xff\xff"))
        if trouble:
            return trouble
        return "compressed" if sum(len(data) for _, data in seen.raw) < len(LONG) else "sent as it was"


case("a long text comes back compressed", "6.1", "compressed", repeats_are_compressed, also="sent as it was")
