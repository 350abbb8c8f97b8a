"""permessage-deflate used as a weapon."""

import random
import zlib

from attacks import MEBIBYTE, Table, World
from attacks.framing import sent
from rig.connection import describe_close
from rig.frames import BINARY, CLOSE, CONTINUATION, RSV1, deflated, frame, request

DEFLATE = "permessage-deflate"
ECHO = World("echo with compression", '[echo]\nmax_message = "4MiB"\ndeflate = true\n[limits]\nhandshake_timeout = "2s"\n')
ATTACKS = Table("compression", ECHO, ceiling=24)


def ends(peer, timeout=30):
    """How the server ends the connection."""
    while not isinstance(got := peer.frame(timeout), str):
        if got.opcode == CLOSE:
            return describe_close(got.payload)
    return got


@ATTACKS.row("bombs of 512 MiB in 512 KiB", "close 1009")
def _(stage):
    bomb, found = frame(BINARY, deflated(bytes(512 * MEBIBYTE)), rsv=RSV1), set()
    for _ in range(4):
        with stage.upgrade("/echo", extensions=DEFLATE) as peer:
            peer.send(bomb)
            found.add(ends(peer))
    return " / ".join(found)


@ATTACKS.row("a bomb in fragments", "close 1009")
def _(stage):
    data = deflated(bytes(128 * MEBIBYTE))
    parts = [data[at:at + 1000] for at in range(0, len(data), 1000)]
    with stage.upgrade("/echo", extensions=DEFLATE) as peer:
        peer.send(frame(BINARY, parts[0], rsv=RSV1, fin=False))
        peer.send(b"".join(frame(CONTINUATION, part, fin=False) for part in parts[1:-1]) + frame(CONTINUATION, parts[-1]))
        return ends(peer)


@ATTACKS.row("a bomb for a room", "close 1009")
def _(stage):
    with stage.upgrade("/ws/demo:bomb", extensions=DEFLATE) as peer:
        peer.send(frame(1, deflated(b'{"type":"chat","text":"' + b"a" * (64 * MEBIBYTE) + b'"}'), rsv=RSV1))
        return ends(peer)


@ATTACKS.row("a bomb in a bomb in a bomb: only the outermost is opened", "less than 64 KiB")
def _(stage):
    with stage.upgrade("/echo", extensions=DEFLATE) as peer:
        peer.send(frame(BINARY, deflated(deflated(deflated(bytes(1024 * MEBIBYTE)))), rsv=RSV1))
        inner = peer.message(10)  # inflated once: still a bomb, and passed on as the bytes it is
        return inner if isinstance(inner, str) else "less than 64 KiB" if len(inner[1]) < 65_536 else f"{len(inner[1])} bytes"


@ATTACKS.row("a flood of messages that inflate a thousandfold, each within the limit", ("held back", "close 4429"))
def _(stage):
    """20,000 messages of 4 KiB that are 4 MiB each: 80 GiB to inflate and to echo, and nothing of it is read. More than the buffers of the system take."""
    burst = frame(BINARY, deflated(bytes(4 * MEBIBYTE)), rsv=RSV1) * 20
    with stage.upgrade("/echo", extensions=DEFLATE, receive_buffer=4096) as peer:
        peer.socket.setblocking(True)
        peer.socket.settimeout(2.0)
        try:
            for _ in range(1000):
                peer.socket.sendall(burst)
        except OSError:
            return "held back"
        return "taken"


ATTACKS.rows[-1].ceiling = 48


@ATTACKS.row("a flood of small messages that inflate to 60 KiB, into a room", ("close 4429", "error rate_limited", "held back"),
             needs="rates")
def _(stage):
    body = deflated(b'{"type":"chat","text":"' + b"a" * 60_000 + b'"}')
    with stage.client("/ws/demo:ratio", extensions=DEFLATE) as client:
        for _ in range(100):
            if not client.peer.send(frame(1, body, rsv=RSV1) * 100, timeout=2):
                break
        answer = client.next("error", timeout=20)
        return f"error {answer['code']}" if answer["type"] == "error" else answer["how"]


def row(name, want, *pieces, world=None, extensions=DEFLATE):
    ATTACKS.add(name, want, lambda stage: sent(stage, pieces, "/ws/demo:deflate", extensions), world=world)


HI = b'{"type":"chat"}'
row("a compressed message nobody agreed to", "close 1002", frame(1, deflated(HI), rsv=RSV1), extensions=None)
row("bytes that are no deflate data", "close 1007", frame(1, b"\xff" * 100, rsv=RSV1))
row("a reference to before the start", "close 1007", frame(1, b"\x02\x07\x00", rsv=RSV1))
row("a reference into another message's context", "close 1007",
    frame(1, deflated(b'{"type":"chat","text":"' + b"secret" * 50 + b'"}'), rsv=RSV1), frame(1, b"\x03\x53\x12\x00", rsv=RSV1))
row("1,000,000 empty blocks", "close 1007", frame(1, b"\x00\x00\x00\xff\xff" * 12_000, rsv=RSV1))
row("compressed text that is not UTF-8", "close 1007", frame(1, deflated(b'{"type":"\xff"}'), rsv=RSV1))
row("an empty compressed message", "close 1007", frame(1, b"", rsv=RSV1))
row("the compressed bit on a continuation", "close 1002", frame(1, deflated(HI)[:5], rsv=RSV1, fin=False),
    frame(CONTINUATION, deflated(HI)[5:], rsv=RSV1))
row("noise that says it is compressed", "close 1007", frame(1, random.Random(5).randbytes(60_000), rsv=RSV1))


def offer(name, want, value):
    ATTACKS.add(name, want, lambda stage: stage.raw(request("/ws", add=[f"Sec-WebSocket-Extensions: {value}"])))


offer("1,000 offers of compression", "400", ", ".join([DEFLATE] * 400))
offer("an offer with a parameter twice", "101", f"{DEFLATE}; client_max_window_bits; client_max_window_bits=9")
offer("an offer with a window of 7 bits", "101", f"{DEFLATE}; server_max_window_bits=7")
offer("an offer whose quotes do not end", "400", f'{DEFLATE}; server_max_window_bits="10')
offer("an offer with 5,000 parameters", "400", DEFLATE + "; a=b" * 2_000)


@ATTACKS.row("300 connections that make the server keep contexts", "held", ceiling=24)
def _(stage):
    """Contexts belong to workers: asking for takeover and large windows does not make connections cost one each."""
    peers = [stage.upgrade("/echo", extensions=f"{DEFLATE}; client_max_window_bits=15; server_max_window_bits=15") for _ in range(300)]
    for peer in peers:
        peer.send(frame(BINARY, zlib.compress(b"")[2:3] + b"\0", rsv=0))
    for peer in peers:
        peer.message()
        peer.socket.close()
    return "held"
