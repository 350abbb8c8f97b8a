"""Text that is no UTF-8, cut at every place."""

from attacks import Table
from attacks.framing import sent
from rig.frames import CONTINUATION, close, frame, text

ATTACKS = Table("UTF-8")
ROOM = "/ws/demo:utf8"


def every_split(data, want_fin=True):
    """The message in two fragments, cut at every place, and in fragments of one byte."""
    for at in range(len(data) + 1):
        yield [text(data[:at], fin=False), frame(CONTINUATION, data[at:])]
    yield [text(data[:1], fin=False), *(frame(CONTINUATION, data[n:n + 1], fin=False) for n in range(1, len(data))), frame(CONTINUATION)]


def split(name, bad, want="close 1007"):
    """Bad bytes within an otherwise good message."""
    data = b'{"type":"chat","t":"' + bad + b'"}'
    start = len(b'{"type":"chat","t":"') - 1

    def run(stage):
        found = set()
        for n, pieces in enumerate(every_split(data)):
            if n < start or n > start + len(bad) + 2:
                if n not in (0, len(data), len(data) + 1):
                    continue  # cuts far from the bad bytes differ in nothing
            found.add(sent(stage, pieces, ROOM))
        return " / ".join(sorted(found))

    ATTACKS.add(name, want, run)


split("characters of one to four bytes, cut at every place (and taken)", "aä€😀".encode(), "survives")
split("an overlong slash, cut at every place", b"\xc0\xaf")
split("an overlong slash of three bytes, cut at every place", b"\xe0\x80\xaf")
split("an overlong NUL, cut at every place", b"\xc0\x80")
split("a surrogate, cut at every place", b"\xed\xa0\x80")
split("a pair of surrogates (CESU-8), cut at every place", b"\xed\xa0\xbd\xed\xb8\x80")
split("a character beyond U+10FFFF, cut at every place", b"\xf4\x90\x80\x80")
split("a character of five bytes, cut at every place", b"\xf8\x88\x80\x80\x80")
split("a continuation without a start, cut at every place", b"\x80")
split("a character that stops short, cut at every place", b"\xe2\x82")
split("0xFE and 0xFF, cut at every place", b"\xfe\xff")


@ATTACKS.row("a message that ends inside a character", "close 1007")
def _(stage):
    return sent(stage, [text(b'{"type":"chat"}\xe2\x82')], ROOM)


@ATTACKS.row("bad bytes are noticed before the message is complete", "close 1007")
def _(stage):
    with stage.upgrade("/echo") as peer:
        peer.send(text(b"good \xff bad", fin=False))
        return str(peer.message(8))


@ATTACKS.row("close reasons with bad UTF-8 of every kind", "close 1007")
def _(stage):
    kinds = (b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xe2\x82", b"\xff")
    return " / ".join(sorted({sent(stage, [close(1000, b"bye " + bad)], ROOM) for bad in kinds}))
