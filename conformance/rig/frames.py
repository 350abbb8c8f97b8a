"""Frames and handshake requests as bytes, also the ones that no library would build."""

import struct
import zlib

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 §1.3
MASK = b"\x37\xfa\x21\x3d"


def masked(payload, key):
    """The payload exclusive-ored with the key, as one big integer: quick for mebibytes."""
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def frame(opcode, payload=b"", *, fin=True, rsv=0, mask=MASK, form=None, announce=None):
    """One frame. `form` forces the 7-, 16- or 64-bit length, `announce` names another length."""
    size = len(payload) if announce is None else announce
    form = form or (7 if size < 126 else 16 if size < 65536 else 64)
    first = (0x80 if fin else 0) | rsv | opcode
    bit = 0x80 if mask is not None else 0
    if form == 7:
        head = struct.pack("!BB", first, bit | size)
    elif form == 16:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if mask is None:
        return head + payload
    return head + mask + (masked(payload, mask) if payload else b"")


def text(payload, **how):
    return frame(TEXT, payload if isinstance(payload, bytes) else payload.encode(), **how)


def close(code=None, reason=b""):
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def deflated(payload, *, bits=15, tail=True, level=9):
    """The payload of a compressed message (RFC 7692 §7.2.1)."""
    press = zlib.compressobj(level, zlib.DEFLATED, -bits)
    data = press.compress(payload) + press.flush(zlib.Z_SYNC_FLUSH)
    return data[:-4] if tail else data


def request(path="/", *, host="localhost", method="GET", version="HTTP/1.1", remove=(), change=None,
            add=(), end="\r\n", tail=b""):
    """A handshake request, good unless told otherwise. `add` is a list of whole header lines."""
    headers = {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    headers.update(change or {})
    lines = [f"{method} {path} {version}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if name not in remove]
    lines += add
    return (end.join(lines) + end + end).encode("latin-1") + tail
