"""Peers that are slow on purpose: in their handshake, their body, their frames, and in reading."""

import time

from attacks import AUTHORIZED, Table, World, check
from attacks.stage import disperse, eventually
from rig.connection import Response
from rig.frames import BINARY, CONTINUATION, frame, request, text

QUICK = World("short deadlines", '[limits]\nhandshake_timeout = "3s"\n')
PARTIAL = World("short deadlines for messages", '[limits]\nhandshake_timeout = "3s"\npartial_timeout = "2s"\n')
ATTACKS = Table("slowness", QUICK)


def all_cut(peers, drip, seconds=60):
    """Until the server has ended every one of them, though something drips."""
    started = time.monotonic()

    def done():
        for n, peer in enumerate(peers):
            if not peer.ended:
                if drip:
                    peer.send(drip)
                peer.wait(time.monotonic() + 0.0005)
                peer.inbox.clear()
        return all(peer.ended for peer in peers)

    eventually(done, seconds, lambda: f"{sum(not peer.ended for peer in peers)} of {len(peers)} are open after {seconds} s")
    return time.monotonic() - started


def slow(name, count, first, drip=b"", *, least=0.4, want="cut", **how):
    def run(stage):
        peers = [stage.connect() for _ in range(count)]
        for peer in peers:
            if first:
                peer.send(first)
        took = all_cut(peers, drip)
        disperse(peers)
        return "cut" if took >= least else f"cut after {took:.2f} s, before its time"

    ATTACKS.add(name, want, run, **how)


POST = b"POST /api/v1/messages HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n" + AUTHORIZED.encode() + b"\r\n"
slow("100 connections that say nothing", 100, b"")
slow("100 handshakes, a line at a time", 100, b"GET /ws HTTP/1.1\r\n", b"X-More: 1\r\n")
slow("100 handshakes, a byte at a time", 100, b"GET /ws HTTP/1.1\r\nX-Slow: ", b"a")
slow("50 bodies, a byte at a time", 50, POST + b"Content-Length: 100000\r\n\r\n{", b" ", least=0)
slow("50 bodies in chunks, a byte at a time", 50, POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", least=0)
slow("50 bodies of /send, a byte at a time", 50, b"POST /send HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n"
     b"Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n{", b" ", least=0)
slow("50 kept-alive connections that ask nothing more", 50, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")


def slow_pages(stage):
    """Pages are asked for, and never read."""
    peers = [stage.connect(receive_buffer=2048) for _ in range(30)]
    for peer in peers:
        peer.socket.setblocking(True)
        peer.socket.settimeout(0.3)
        try:
            peer.socket.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 2000)
        except OSError:
            pass
        peer.socket.setblocking(False)

    def gone():
        return http_connections(stage) <= 1

    eventually(gone, 60, lambda: f"{http_connections(stage)} connections are still open")
    disperse(peers)
    return "cut"


def http_connections(stage):
    """TCP connections to the port, but those of WebSockets, as the kernel knows them."""
    from pathlib import Path

    port = f":{stage.port:04X} "
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    local = [row.split() for row in rows if port in row.split()[1] + " " and row.split()[3] == "01"]
    return max(0, len(local) - 2)  # the bystanders


ATTACKS.add("30 that ask for 2,000 pages and read none", "cut", slow_pages, ceiling=40)


# --- Frames.
def partial(name, want, count, first, drip, ceiling=8, path="/ws/demo:slow", needs="partial_timeout"):
    """Messages that never become complete; each byte of them is a sign of life, and still not enough."""

    def run(stage):
        peers = [stage.upgrade(path) for _ in range(count)]
        for peer in peers:
            peer.message()
            peer.send(first)
        took = all_cut(peers, drip)
        disperse(peers)
        return "cut" if took >= 1 else f"cut after {took:.2f} s, before its time"

    ATTACKS.add(name, want, run, world=PARTIAL, ceiling=ceiling, needs=needs)


partial("50 frames, a byte of payload at a time", "cut", 50, frame(BINARY, b"x", announce=60_000), b"x")
partial("50 frames, a byte of header at a time", "cut", 50, b"\x81", b"")
partial("50 messages, an empty fragment at a time", "cut", 50, text("", fin=False), frame(CONTINUATION, fin=False))
partial("50 messages, with pings between the fragments", "cut", 50, text("a", fin=False), frame(9, b"alive"))
partial("20 compressed messages that never end", "cut", 20, text("a", fin=False), frame(CONTINUATION, b"b", fin=False))


@ATTACKS.row("20 that never answer our close", "cut")
def _(stage):
    peers = [stage.upgrade("/echo") for _ in range(20)]
    for peer in peers:
        peer.send(frame(3, b"bad"))
    all_cut(peers, b"")
    disperse(peers)
    return "cut"


@ATTACKS.row("20 that close and stay", "cut")
def _(stage):
    peers = [stage.upgrade("/echo") for _ in range(20)]
    for peer in peers:
        peer.send(frame(8, b"\x03\xe8"))
    all_cut(peers, b"")
    disperse(peers)
    return "cut"


@ATTACKS.row("events that are never read", "cut", ceiling=40)
def _(stage):
    """Readers of a stream who do not read, while much is said."""
    before = stage.open_files()
    readers = [stage.connect(receive_buffer=2048) for _ in range(4)]
    for reader in readers:
        reader.send(b"GET /sse?room=demo:sse HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = reader.response()
        check(isinstance(answer, Response) and answer.status == 200, f"no stream: {answer}")
    with stage.client("/ws/demo:sse") as speaker:
        for n in range(600):
            speaker.write({"type": "chat", "text": "x" * 16_000, "ref": n + 1})
            answer = speaker.answer(n + 1, 20)
            speaker.seen.clear()
            check(answer["type"] in ("ack", "error"), f"the speaker: {answer}")

    eventually(lambda: stage.open_files() <= before, 60, "readers who do not read are still connected")
    disperse(readers)
    return "cut"


@ATTACKS.row("a request that comes a byte at a time, in time (and is let in)", "101")
def _(stage):
    data = request("/ws", host=f"127.0.0.1:{stage.port}")
    with stage.connect() as peer:
        for at in range(len(data)):
            peer.send(data[at:at + 1])
        return str(peer.response().status)
