"""Frames, fragments, masks and UTF-8 (RFC 6455 §5 and §8)."""

from cases import Case, patterns
from cases.play import play
from rig.frames import (BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, RSV2, RSV3, TEXT, frame, text)

CASES = []


def row(name, section, want, pieces, *, also=(), **how):
    """`pieces` may be a function of the server."""
    def run(server):
        return play(server, pieces(server) if callable(pieces) else pieces, **how)

    CASES.append(Case("frames", name, section, patterns(want), patterns(also), run))


def echoed(name, section, pieces, *messages, also=(), **how):
    row(name, section, "echo", pieces, also=also, expects=messages, **how)


def broken(name, section, pieces, code=1002, *, also=(), **how):
    """The server must fail the connection; a close frame with the code is how it should (§7.1.7)."""
    row(name, section, f"close {code}", pieces, also=(*patterns(also), "cut"), **how)


def parts(opcode, *payloads):
    """A message in fragments."""
    last = len(payloads) - 1
    return [frame(CONTINUATION if at else opcode, part, fin=at == last) for at, part in enumerate(payloads)]


# --- Messages that must come back.
for opcode, kind in ((TEXT, "text"), (BINARY, "binary")):
    for size in (0, 1, 125, 126, 127, 65_535, 65_536, 300_000):
        payload = (b"abcdefghij" * (size // 10 + 1))[:size]
        echoed(f"{kind} of {size:,} bytes", "6455 §5.2", [frame(opcode, payload)], (opcode, payload))
echoed("a mask of zeros", "6455 §5.3", [text("hello", mask=bytes(4))], (TEXT, b"hello"))
echoed("a frame in pieces of one byte", "6455 §5.4", [bytes([byte]) for byte in text("in pieces of one byte")],
       (TEXT, b"in pieces of one byte"), gap=0.002)
echoed("100 frames in one packet", "6455 §5.4", [b"".join(text(str(n)) for n in range(100))],
       *((TEXT, str(n).encode()) for n in range(100)))
echoed("three fragments", "6455 §5.4", parts(TEXT, b"one ", b"two ", b"three"), (TEXT, b"one two three"))
echoed("fragments of nothing", "6455 §5.4", parts(BINARY, b"", b"", b""), (BINARY, b""))
echoed("a ping between fragments", "6455 §5.4", [text("one ", fin=False), frame(PING, b"now"), frame(CONTINUATION, b"two")],
       (TEXT, b"one two"), pongs=[b"now"])
echoed("fragments that split a character", "6455 §5.6", parts(TEXT, b"\xe2\x82", b"\xac \xf0\x9f", b"\x98\x80"),
       (TEXT, "€ 😀".encode()))
echoed("a frame in pieces that split a character", "6455 §5.6", [text("ab€😀")[:9], text("ab€😀")[9:]],
       (TEXT, "ab€😀".encode()), gap=0.05)
echoed("the first and last code points", "6455 §8.1", [text("\0\x7f\x80߿ࠀ￿\U00010000\U0010ffff")],
       (TEXT, "\0\x7f\x80߿ࠀ￿\U00010000\U0010ffff".encode()))
echoed("bytes that are not UTF-8, as binary", "6455 §5.6", [frame(BINARY, b"\xff\xfe\x80")], (BINARY, b"\xff\xfe\x80"))

# --- Pings and pongs.
for payload in (b"", b"x", b"p" * 125):
    row(f"a ping of {len(payload)} bytes", "6455 §5.5.2", "pong", [frame(PING, payload)], pongs=[payload])
row("three pings", "6455 §5.5.3", "pong", [frame(PING, b"1"), frame(PING, b"2"), frame(PING, b"3")], also="[012] of 3 pongs",
    pongs=[b"1", b"2", b"3"])
row("a pong nobody asked for", "6455 §5.5.3", "ignored", [frame(PONG, b"hello")])

# --- The first two bytes.
broken("an unmasked text", "6455 §5.1", [text("hello", mask=None)])
broken("an unmasked ping", "6455 §5.1", [frame(PING, b"hello", mask=None)])
broken("an unmasked close", "6455 §5.1", [frame(CLOSE, b"\x03\xe8", mask=None)])
for bit, name in ((RSV1, "RSV1"), (RSV2, "RSV2"), (RSV3, "RSV3")):
    broken(f"{name} on a text", "6455 §5.2", [text("hello", rsv=bit)])
    broken(f"{name} on a ping", "6455 §5.2", [frame(PING, b"hello", rsv=bit)])
for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
    broken(f"opcode {opcode}", "6455 §5.2", [frame(opcode, b"hello")])
broken("opcode 3 between fragments", "6455 §5.2", [text("one", fin=False), frame(3, b"x"), frame(CONTINUATION, b"two")])

# --- Lengths.
broken("5 bytes with a 16-bit length", "6455 §5.2", [text("hello", form=16)])
broken("125 bytes with a 16-bit length", "6455 §5.2", [text("a" * 125, form=16)])
broken("5 bytes with a 64-bit length", "6455 §5.2", [text("hello", form=64)])
broken("65,535 bytes with a 64-bit length", "6455 §5.2", [frame(BINARY, bytes(65_535), form=64)])
broken("a 64-bit length with its top bit set", "6455 §5.2", [frame(BINARY, announce=1 << 63)], also="close 1009", probe=False)

# --- Control frames.
for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close")):
    broken(f"a {name} of 126 bytes", "6455 §5.5", [frame(opcode, b"\x03\xe8" + bytes(124))])
    broken(f"a fragmented {name}", "6455 §5.5", [frame(opcode, b"\x03\xe8", fin=False)])
broken("a ping that announces 1 MiB", "6455 §5.5", [frame(PING, announce=1 << 20)], also="close 1009", probe=False)

# --- Fragments out of order.
broken("a continuation of nothing", "6455 §5.4", [frame(CONTINUATION, b"hello")])
broken("an unfinished continuation of nothing", "6455 §5.4", [frame(CONTINUATION, b"hello", fin=False)])
broken("a new text inside a message", "6455 §5.4", [text("one", fin=False), text("two")])
broken("a new binary inside a message", "6455 §5.4", [text("one", fin=False), frame(BINARY, b"two")])
broken("one continuation too many", "6455 §5.4", [*parts(TEXT, b"one", b"two"), frame(CONTINUATION, b"three")],
       expects=[(TEXT, b"onetwo")])
broken("a good message, then RSV2", "6455 §5.2", [text("good"), text("bad", rsv=RSV2)], expects=[(TEXT, b"good")])

# --- UTF-8.
for name, payload in (
    ("a lone continuation byte", b"a\x80b"), ("0xFF", b"\xff"), ("a truncated character at the end", b"ab\xe2\x82"),
    ("an overlong slash", b"\xc0\xaf"), ("an overlong slash of three bytes", b"\xe0\x80\xaf"), ("a surrogate", b"\xed\xa0\x80"),
    ("a pair of surrogates", b"\xed\xa0\x80\xed\xb0\x80"), ("above U+10FFFF", b"\xf4\x90\x80\x80"),
    ("a character of five bytes", b"\xf8\x88\x80\x80\x80"), ("a bad byte after 64 KiB of ASCII", b"a" * 65_536 + b"\xc3("),
):
    broken(f"text with {name}", "6455 §8.1", [text(payload)], 1007)
broken("bad UTF-8 made by joining fragments", "6455 §8.1", parts(TEXT, b"\xe2\x82", b"(x"), 1007)
broken("a message that ends inside a character", "6455 §8.1", parts(TEXT, b"ab\xe2", b"\x82", b""), 1007)
broken("bad UTF-8 in a fragment, the message unfinished", "6455 §8.1", [text(b"ab\xff", fin=False)], 1007,
       also="ignored")  # failing fast is better, and not demanded
broken("bad UTF-8 in an unfinished frame", "6455 §8.1", [text(b"ab\xff" + b"c" * 100, announce=1000)], 1007, also="open",
       probe=False)
broken("a split character that can only become bad", "6455 §8.1", [text(b"ab\xf4\x90", fin=False)], 1007, also="ignored")
