"""The close handshake and sudden ends (RFC 6455 §5.5.1 and §7)."""

import struct

from cases import Case, patterns
from cases.play import play, watch
from rig.connection import upgrade
from rig.frames import BINARY, CLOSE, PING, TEXT, close, frame, text

CASES = []


def case(name, section, want, run, also=()):
    CASES.append(Case("closing", name, section, patterns(want), patterns(also), run))


def row(name, section, want, *pieces, also=(), **how):
    case(name, section, want, lambda server: play(server, pieces, probe=False, **how), also)


# --- Codes a client may send are answered with a close frame, then the server ends the TCP connection (§7.1.1).
row("a close without code", "6455 §5.5.1", "close without code", close(), also="close 1000")
for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
    row(f"close {code}", "6455 §7.4", f"close {code}", close(code), also=("close 1000", "close without code"))
for code in (1012, 1013, 1014):
    row(f"close {code}, registered later", "6455 §7.4.2", f"close {code}", close(code),
        also=("close 1000", "close 1002", "close without code"))
row("a close with a reason", "6455 §5.5.1", "close 1000", close(1000, b"bye"), also="close without code")
row("a close with a reason of 123 bytes", "6455 §5.5.1", "close 1000", close(1000, b"r" * 123), also="close without code")

# --- Codes that must not travel.
for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2999, 5000, 65_535):
    row(f"close {code}", "6455 §7.4", "close 1002", close(code), also="cut")
row("a close of one byte", "6455 §5.5.1", "close 1002", frame(CLOSE, b"\x03"), also="cut")
row("a reason that is not UTF-8", "6455 §5.5.1", "close 1007", close(1000, b"\xff\xfe"), also=("close 1002", "cut"))
row("a reason that ends inside a character", "6455 §5.5.1", "close 1007", close(1000, b"ab\xe2\x82"), also=("close 1002", "cut"))

# --- Around the close frame.
row("a text after the close", "6455 §5.5.1", "close 1000", close(1000) + text("too late"), also="close without code")
row("a ping after the close", "6455 §5.5.1", "close 1000", close(1000) + frame(PING, b"late"), also="close without code")
row("a bad frame after the close", "6455 §5.5.1", "close 1000", close(1000) + frame(3, b"late"), also=("close without code",))
row("two closes", "6455 §5.5.1", "close 1000", close(1000) + close(1001), also="close without code")
row("a close inside a message", "6455 §5.4", "close 1000", text("one", fin=False), close(1000), also="close without code")
row("a text, then a close in the same packet", "6455 §5.5.1", "close 1000", text("first") + close(1000),
    expects=[(TEXT, b"first")], also="close without code")

# --- Ends without a close frame: the server must let go as well.
row("half-closed at once", "6455 §7.1.5", ("cut", "close 1???"), half_close=True)
row("half-closed inside a frame", "6455 §7.1.5", ("cut", "close 1???"), text("hello")[:4], half_close=True)
row("half-closed inside a message", "6455 §7.1.5", ("cut", "close 1???"), text("one", fin=False), half_close=True)
row("a text, then half-closed: the echo still comes", "6455 §7.1.5", ("cut", "close 1???"), text("last words"),
    half_close=True, expects=[(TEXT, b"last words")])


def reset_after(*pieces):
    def run(server):
        peer, _ = upgrade(server.port, server.path)
        for piece in pieces:
            peer.send(piece)
        peer.reset()
        return "reset"  # what counts is that the server and the bystander go on

    return run


case("a reset", "6455 §7.1.5", "reset", reset_after())
case("a reset inside a frame", "6455 §7.1.5", "reset", reset_after(frame(BINARY, bytes(1000), announce=1 << 19)))
case("a reset with 200 echoes on their way", "6455 §7.1.5", "reset", reset_after(text("x" * 4000) * 200))


def ignores_our_close(server):
    """The peer never answers the server's close frame: the server must not wait for ever (§7.1.1)."""
    peer, _ = upgrade(server.port, server.path)
    with peer:
        peer.send(frame(3, b"bad"))
        got = peer.frame(10)
        if isinstance(got, str):
            return "cut" if got != "timeout" else "open"
        code = struct.unpack("!H", got.payload[:2])[0] if got.opcode == CLOSE and got.payload else "?"
        return f"close {code}" if peer.closed(12) else f"close {code}, TCP left open"


case("an error whose close frame is never answered", "6455 §7.1.1", "close 1002", ignores_our_close, also="cut")


def closes_tcp_first(server):
    """§7.1.1: after both close frames the server ends the TCP connection first, at once."""
    peer, _ = upgrade(server.port, server.path)
    with peer:
        peer.send(close(1000))
        seen = watch(peer, sent_close=True, timeout=10)
        return "cut" if peer.ended else seen.end


case("the server ends the TCP connection first", "6455 §7.1.1", "cut", closes_tcp_first)
