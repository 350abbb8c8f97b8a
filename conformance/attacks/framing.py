"""Frames that break the rules of RFC 6455, on rooms."""

from attacks import Table
from rig.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, RSV2, RSV3, close, frame, text

ATTACKS = Table("frames")


def row(name, want, *pieces, path="/ws/demo:frames", extensions=None):
    """Pieces are sent to a room; the outcome is how the connection ends, or `survives`."""
    ATTACKS.add(name, want, lambda stage: sent(stage, pieces, path, extensions))


def sent(stage, pieces, path="/ws/demo:frames", extensions=None):
    with stage.upgrade(path, extensions=extensions) as peer:
        for piece in pieces:
            if not peer.send(piece):
                break
        if not pieces[-1].startswith(b"\x88"):
            peer.send(text('{"type":"ping","sent":4711}'))
        while True:
            got = peer.message(8)
            if isinstance(got, str):
                end = got
                break
            if b'"sent":4711' in got[1]:
                return "survives"
        if end.startswith("close"):
            return end if peer.closed(10) else f"{end}, and TCP stays open"
        return "cut" if end != "timeout" else "open"


def every(name, want, pieces):
    """Several attempts under one name; the outcomes that occur, or the one of all."""

    def run(stage):
        found = {sent(stage, [piece]) for piece in pieces}
        return " / ".join(sorted(found))

    ATTACKS.add(name, want, run)


HI = b'{"type":"chat"}'
every("each reserved bit, and all of them", "close 1002", [text(HI, rsv=bits) for bits in (RSV1, RSV2, RSV3, RSV1 | RSV2 | RSV3)])
every("each reserved bit on each control frame", "close 1002",
      [frame(op, b"", rsv=bits) for op in (CLOSE, PING, PONG) for bits in (RSV1, RSV2, RSV3)])
every("each reserved opcode", "close 1002", [frame(op, HI) for op in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)])
row("a frame without a mask", "close 1002", text(HI, mask=None))
row("an empty frame without a mask", "close 1002", text(b"", mask=None))
row("a mask of zeros (which is allowed)", "survives", text(HI, mask=bytes(4)))
every("fragmented control frames", "close 1002", [frame(op, b"x", fin=False) for op in (CLOSE, PING, PONG)])
every("control frames of 126 bytes and more", "close 1002",
      [frame(op, bytes(size)) for op in (CLOSE, PING, PONG) for size in (126, 70_000)])
every("lengths in more bytes than needed", "close 1002", [text(HI, form=16), text(HI, form=64), text(HI * 20, form=64)])
every("lengths with the highest bit set", "close 1002", [frame(BINARY, b"x", form=64, announce=(1 << 63) + n) for n in (0, 1)])
every("lengths beyond the limit", "close 1009", [text(b"x", announce=size) for size in (65_537, 1 << 31, 1 << 32, 1 << 62)])
row("a continuation of nothing", "close 1002", frame(CONTINUATION, HI))
row("a text inside a fragmented text", "close 1002", text(HI, fin=False), text(HI))
row("a binary inside a fragmented text", "close 1002", text(HI, fin=False), frame(BINARY, HI))
row("a message above the limit, in fragments", "close 1009", text(b"x" * 60_000, fin=False), frame(CONTINUATION, b"x" * 6_000))
row("a binary message in a room", "survives", frame(BINARY, HI))
row("200,000 fragments of one message", "close 4429", text("", fin=False) + frame(CONTINUATION, fin=False) * 200_000)
every("close codes that must not travel", "close 1002",
      [close(code) for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535)])
row("a close of one byte", "close 1002", frame(CLOSE, b"\x03"))
row("a close whose reason is not UTF-8", "close 1007", close(1000, b"\xff\xfe"))
row("a close with markup and control characters as its reason", "close 1000", close(1000, b"<script>\x1b[31m\r\n\0"))
row("frames behind a close", "close 1000", close(1000) + text(HI) * 1000)
row("200 KiB of random bytes as frames", ("close 1002", "close 1009", "close 1007"),
    bytes((n * 7919 + n // 253 + 3) % 256 for n in range(200_000)))
row("HTTP in place of frames", "close 1002", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 10)


@ATTACKS.row("1,000 connections that each break a rule", "close 1002")
def _(stage):
    found = set()
    for _ in range(10):
        peers = stage.crowd(100)
        for peer in peers:
            peer.send(frame(11, b"bad"))
        for peer in peers:
            found.add(peer.message(10))
            peer.socket.close()
    return " / ".join(sorted(map(str, found)))
