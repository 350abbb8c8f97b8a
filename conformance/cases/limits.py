"""Limits and floods: what one client may make a server keep (RFC 6455 §10.4)."""

import time

from cases import Case, patterns
from cases.play import play
from rig.connection import upgrade
from rig.frames import BINARY, CONTINUATION, PING, TEXT, frame, text

CASES = []


def case(name, want, run, also=(), section="6455 §10.4"):
    CASES.append(Case("limits", name, section, patterns(want), patterns(also), run))


def row(name, want, pieces, *, also=(), **how):
    def run(server):
        details = {key: value(server) if callable(value) else value for key, value in how.items()}
        return play(server, pieces(server), **details)

    case(name, want, run, also)


row("a message of exactly the limit", "echo", lambda s: [frame(BINARY, bytes(s.max_message))],
    expects=lambda s: [(BINARY, bytes(s.max_message))])
row("a message one byte above the limit", "close 1009", lambda s: [frame(BINARY, bytes(s.max_message + 1))], also="cut")
row("a frame that announces one byte too much, nothing behind it", "close 1009",
    lambda s: [frame(BINARY, announce=s.max_message + 1)], also=("cut", "open"), probe=False)
for power in (32, 40, 62):
    row(f"a frame that announces 2^{power} bytes, nothing behind it", "close 1009",
        lambda s, power=power: [frame(BINARY, announce=1 << power)], also="cut", probe=False)
row("a frame that announces 2^63 - 1 bytes, and 64 KiB behind it", "close 1009",
    lambda s: [frame(BINARY, bytes(65_536), announce=(1 << 63) - 1)], also="cut", probe=False)
row("fragments of 64 KiB that grow above the limit", "close 1009",
    lambda s: [frame(BINARY, bytes(65_536), fin=False)] + [frame(CONTINUATION, bytes(65_536), fin=False)] * (s.max_message // 65_536 + 1),
    also="cut")
row("a last fragment that announces more than is left", "close 1009",
    lambda s: [frame(BINARY, bytes(s.max_message - 10), fin=False), frame(CONTINUATION, announce=11)], also=("cut", "open"), probe=False)
row("a compressed frame of twice the limit as it travels", "close 1009",
    lambda s: [frame(BINARY, announce=2 * s.max_message, rsv=0x40)], also=("cut", "no deflate", "open"), probe=False,
    deflate="permessage-deflate")
row("a frame of half the limit, and only its header arrives", "open", lambda s: [frame(BINARY, announce=s.max_message // 2)],
    probe=False, timeout=1.0)
row("400,000 empty fragments", ("close 1008", "close 1009"),
    lambda s: [text("", fin=False) + frame(CONTINUATION, fin=False) * 400_000], also=("cut", "ignored"), timeout=20)
row("8,000 fragments of one byte", "echo",
    lambda s: [text("a", fin=False) + frame(CONTINUATION, b"b", fin=False) * 7_998 + frame(CONTINUATION, b"c")],
    expects=[(TEXT, b"a" + b"b" * 7_998 + b"c")], also=("close 100[89]",), timeout=10)


def ping_flood(server):
    """The last ping must be answered; of the others as many as the server likes (§5.5.3)."""
    peer, _ = upgrade(server.port, server.path)
    with peer:
        for n in range(100):
            if not peer.send(b"".join(frame(PING, b"%d" % (n * 200 + at)) for at in range(200))):
                break
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            got = peer.frame(deadline=deadline)
            if isinstance(got, str):
                return "cut" if got != "timeout" else "the last pong is missing"
            if got.opcode == 8:
                return "closed"
            if got.payload == b"19999":
                return "pong"
        return "the last pong is missing"


case("20,000 pings", "pong", ping_flood, also=("closed", "cut"), section="6455 §5.5.3")


def pings_unread(server):
    """Pings whose pongs are never read: the server stops reading, or lets go, or drops pongs."""
    peer, _ = upgrade(server.port, server.path, receive_buffer=4096)
    with peer:
        peer.socket.setblocking(True)
        peer.socket.settimeout(1.0)
        sent, burst = 0, frame(PING, b"p" * 125) * 500
        try:
            while sent < 64 << 20:
                sent += peer.socket.send(burst)
        except OSError:
            pass  # the server has stopped reading, or has let go
        return "held back" if sent < 64 << 20 else "64 MiB taken"


case("pings whose pongs are never read", "64 MiB taken", pings_unread, also=("held back",), section="6455 §5.5.3")


def echoes_unread(server):
    peer, _ = upgrade(server.port, server.path, receive_buffer=4096)
    with peer:
        peer.socket.setblocking(True)
        peer.socket.settimeout(1.0)
        sent, burst = 0, frame(BINARY, bytes(60_000))
        try:
            while sent < 64 << 20:
                sent += peer.socket.send(burst)
        except OSError:
            pass
        return "held back" if sent < 64 << 20 else "64 MiB taken"


case("echoes that are never read", "held back", echoes_unread)


def many_small(server):
    """20,000 small messages as one stream all come back, in order."""
    peer, _ = upgrade(server.port, server.path)
    with peer:
        for start in range(0, 20_000, 500):
            peer.send(b"".join(text(str(n)) for n in range(start, start + 500)))
        for n in range(20_000):
            if peer.message(10) != (TEXT, str(n).encode()):
                return f"message {n} is missing"
        return "echo"


case("20,000 small messages without waiting", "echo", many_small, section="6455 §5.4")
