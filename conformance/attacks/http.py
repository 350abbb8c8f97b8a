"""The HTTP side: floods of headers and cookies, other versions, traversal, verbs."""

import struct
import time

from attacks import KEY, Table, check
from rig.connection import Response
from rig.frames import request

ATTACKS = Table("HTTP")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


def raw(name, want, data, **how):
    ATTACKS.add(name, want, lambda stage: stage.raw(data), **how)


# --- HTTP/2 is not spoken.
def refused_at_once(name, data):
    """Everything is sent at once; the server reads none of it as HTTP/2, and ends the connection soon."""

    def run(stage):
        with stage.connect() as peer:
            peer.send(PREFACE + SETTINGS + data, timeout=30)
            ended = peer.closed(30)
            check(b"HTTP/2" not in peer.inbox[:100], "answered as HTTP/2")
            return "cut" if ended else "open"

    ATTACKS.add(name, "cut", run)


def h2(kind, flags, stream, payload=b""):
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


HEADERS = bytes.fromhex("828684410f7777772e6578616d706c652e636f6d")
refused_at_once("HTTP/2: the preface alone", b"")
refused_at_once("HTTP/2: rapid reset of 50,000 streams",
                b"".join(h2(1, 5, n, HEADERS) + h2(3, 0, n, b"\0\0\0\x08") for n in range(1, 100_001, 2)))
refused_at_once("HTTP/2: a CONTINUATION flood of 8 MiB", h2(1, 1, 1, HEADERS) + h2(9, 0, 1, bytes(16_000)) * 500)
refused_at_once("HTTP/2: a flood of SETTINGS and PINGs", (SETTINGS + h2(6, 0, 0, bytes(8))) * 50_000)
raw("HTTP/2: an upgrade to h2c", "426", request("/ws", change={"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings"},
    add=["HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"]))
raw("HTTP/2: h2c beside websocket", ("101",), request("/ws", change={"Upgrade": "h2c, websocket", "Connection": "Upgrade, HTTP2-Settings"},
    add=["HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"]))
raw("HTTP/3.0 in the request line", "400", request("/ws", version="HTTP/3.0"))
raw("a TLS ClientHello on a plain port", "400", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500))
raw("a SOCKS greeting", "400", b"\x05\x01\x00\x05\x01\x00\x03\x0bexample.com\x00\x50\r\n\r\n")
raw("256 KiB of random bytes", ("400", "431", "cut"), bytes((n * 7919 + n // 251) % 256 for n in range(262_144)))

# --- Too much.
raw("a header of 2 MiB", "431", request("/ws", add=["X-Big: " + "a" * (2 << 20)]))
raw("a header's name of 2 MiB", ("431",), request("/ws", add=["b" * (2 << 20) + ": 1"]))
raw("50,000 headers", "431", request("/ws", add=[f"X-{n}: {n}" for n in range(50_000)]))
raw("101 headers", "431", request("/ws", add=[f"X-{n}: {n}" for n in range(96)]))
raw("10,000 cookies in one header", "431", request("/ws", add=["Cookie: " + "; ".join(f"c{n}=v" for n in range(10_000))]))
raw("2,000 Cookie headers", "431", request("/ws", add=["Cookie: a=b"] * 2000))
raw("a target of 1 MiB", "431", request("/ws?" + "a" * (1 << 20)))
raw("a target of 12,000 bytes", "404", request("/" + "a" * 12_000))
raw("a method of 10,000 bytes", "405", request("/ws", method="A" * 10_000))
raw("10,000 empty lines before a request", "431", b"\r\n" * 10_000 + request("/ws"))
raw("500 subprotocols", "400", request("/ws", add=["Sec-WebSocket-Protocol: " + ", ".join(f"p{n}" for n in range(500))]))


def heads_at_once(stage):
    """200 connections hold 15 KiB of an unfinished head each: kept, but no more than that."""
    peers = [stage.connect() for _ in range(200)]
    for peer in peers:
        peer.send(request("/ws", add=["X-Big: " + "a" * 15_000])[:-2])
    answer = stage.status("GET", "/healthz")
    for peer in peers:
        peer.socket.close()
    return answer


ATTACKS.add("200 unfinished heads of 15 KiB", "200", heads_at_once, ceiling=24)


def bodies(name, want, target, **how):
    def run(stage):
        return stage.status("POST", target, timeout=15, **how)

    ATTACKS.add(name, want, run)


bodies("a body of 64 MiB to /send", ("401", "413", "cut"), "/send", body=b"x" * (64 << 20), headers=["Content-Type: application/json"])
bodies("a body of 64 MiB to the API without a key", ("401", "413", "cut"), "/api/v1/messages", body=b"x" * (64 << 20),
       headers=["Content-Type: application/json"])
bodies("a body of 64 MiB to the page", ("405", "413", "cut"), "/", body=b"x" * (64 << 20))


def chunk_extensions(stage):
    with stage.connect() as peer:
        peer.send(b"POST /api/v1/messages HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n"
                  b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" % KEY.encode())
        peer.send(b"1;" + b"a" * (4 << 20) + b"\r\nx\r\n0\r\n\r\n")
        answer = peer.response()
        return str(answer.status) if isinstance(answer, Response) else "cut"


ATTACKS.add("a chunk extension of 4 MiB", ("400", "cut"), chunk_extensions)


def trailers(stage):
    with stage.connect() as peer:
        peer.send(b"POST /api/v1/messages HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n"
                  b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" % KEY.encode())
        peer.send(b"1\r\nx\r\n0\r\n" + b"X-Trailer: aaaaaaaaaaaaaaaaaaaaaa\r\n" * 100_000 + b"\r\n")
        answer = peer.response()
        return str(answer.status) if isinstance(answer, Response) else "cut"


ATTACKS.add("100,000 trailers", ("400", "431", "cut"), trailers)


@ATTACKS.row("10,000 requests pipelined, no answer read", "held back")
def _(stage):
    with stage.connect(receive_buffer=4096) as peer:
        peer.socket.setblocking(True)
        peer.socket.settimeout(1.0)
        try:
            peer.socket.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 10_000)
        except OSError:
            pass  # held back, or cut
        return "held back" if stage.status("GET", "/healthz") == "200" else "not healthy"


# --- Paths.
for path in ("/../../../../etc/passwd", "/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2f..%2fetc%2fpasswd", "/%252e%252e%252fetc%252fpasswd",
             "/..%5c..%5cetc%5cpasswd", "/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd", "/./throng.toml", "//etc/passwd", "/chat/../../Cargo.toml"):
    ATTACKS.add(f"path traversal: {path}", "404", lambda stage, path=path: stage.status("GET", path))


def verbs(stage):
    """Methods that nobody needs."""
    wrong = [f"{method} {target} {status}" for method in ("TRACE", "PUT", "DELETE", "PATCH", "PROPFIND", "DEBUG", "TRACK")
             for target in ("/", "/ws", "/metrics", "/sse") if (status := stage.status(method, target)) not in ("405", "426", "404", "501")]
    return ", ".join(wrong) or "refused"


ATTACKS.add("TRACE, PUT, DELETE and other methods everywhere", "refused", verbs)


def reflected(stage):
    """TRACE and errors never repeat a header that holds a secret."""
    with stage.connect() as peer:
        for data in (b"TRACE / HTTP/1.1\r\nHost: a\r\nCookie: s=c0ffee\r\nAuthorization: Bearer c0ffee\r\n\r\n",
                     b"GET /nowhere?c0ffee HTTP/1.1\r\nHost: c0ffee\r\nX-C0ffee: c0ffee\r\n\r\n"):
            peer.send(data)
            answer = peer.response()
            if not isinstance(answer, Response):
                break
            while len(peer.inbox) < int(answer.get("content-length") or 0):
                peer.wait(time.monotonic() + 2)
            if b"c0ffee" in answer.raw + bytes(peer.inbox):
                return "repeated"
            peer.inbox.clear()
    return "not repeated"


ATTACKS.add("secrets in a request that is refused", "not repeated", reflected)
