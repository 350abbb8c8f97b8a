"""Requests that two parsers may read differently: what a proxy in front takes for one request must not be two here."""

from attacks import KEY, Table
from rig.connection import Response
from rig.frames import TEXT, frame, request, text

ATTACKS = Table("request smuggling")
HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: hidden\r\n\r\n"


def raw(name, want, data):
    """Bytes, and the answer to them."""
    ATTACKS.add(name, want, lambda stage: stage.raw(data))


def post(*lines, body=b"", target="/send", method="POST"):
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *lines]).encode("latin-1") + b"\r\n\r\n" + body


def answers(name, want, data, quiet=1.0):
    """Bytes, and every status that comes back: a hidden request must not have an answer of its own."""

    def run(stage):
        with stage.connect() as peer:
            peer.send(data)
            found = []
            while len(found) < 5 and isinstance(got := peer.response(quiet), Response):
                found.append(str(got.status))
                size = int(got.get("content-length") or 0)
                while len(peer.inbox) < size and not peer.ended:
                    peer.frame(0.1)
                del peer.inbox[:size]
            return " ".join(found) or "cut"

    ATTACKS.add(name, want, run)


# --- Lengths.
answers("Content-Length and Transfer-Encoding, a request behind the chunks", ("400", "401"),
        post("Content-Length: 6", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN))
answers("Content-Length and Transfer-Encoding on an upgrade", "400",
        request("/ws", add=["Content-Length: 42", "Transfer-Encoding: chunked"], tail=b"0\r\n\r\n" + HIDDEN))
answers("two Content-Lengths that differ", "400", post("Content-Length: 0", f"Content-Length: {len(HIDDEN)}", body=HIDDEN))
answers("two Content-Lengths in one line", "400", post(f"Content-Length: 0, {len(HIDDEN)}", body=HIDDEN))
for what, value in (("a sign", "+5"), ("a negative", "-1"), ("a hexadecimal", "0x5"), ("an overflowing", "18446744073709551621"),
                    ("a blank", "5 5")):
    raw(f"{what} Content-Length", "400", post(f"Content-Length: {value}", body=b"hello"))
for what, value in (("an unknown coding", "xchunked"), ("chunked that is not last", "chunked, identity"),
                    ("chunked twice", "chunked, chunked"), ("a quoted coding", '"chunked"')):
    answers(f"Transfer-Encoding: {what}", "400", post(f"Transfer-Encoding: {value}", body=b"0\r\n\r\n" + HIDDEN))
raw("Transfer-Encoding with a vertical tab", "400", post("Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"))
raw("a blank between Transfer-Encoding and its colon", "400", post("Transfer-Encoding : chunked", body=b"0\r\n\r\n"))
raw("Transfer-Encoding in HTTP/1.0", "400", post("Transfer-Encoding: chunked", body=b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"))
for what, size in (("that overflows 64 bits", b"10000000000000005"), ("that is negative", b"-5"), ("with 0x", b"0x5"), ("of nothing", b"")):
    raw(f"a chunk size {what}", "400", post(f"Authorization: Bearer {KEY}", "Content-Type: application/json",
        "Transfer-Encoding: chunked", body=size + b"\r\nhello\r\n0\r\n\r\n", target="/api/v1/messages"))
answers("a request hidden in the body of a refused one", "426",
        post(f"Content-Length: {len(HIDDEN)}", body=HIDDEN, target="/ws"))

# --- Lines.
raw("a folded header", "400", request("/ws", add=["X-Folded: a", " Host: evil"]))
raw("a folded header with a tab", "400", request("/ws", add=["X-Folded: a", "\tContent-Length: 5"]))
raw("a blank before a colon", "400", request("/ws", add=["Host : evil"]))
raw("a header without a name", "400", request("/ws", add=[": nobody"]))
raw("a line without a colon", "400", request("/ws", add=["nothing"]))
raw("a NUL in a header", "400", request("/ws", add=["X-Nul: a\0b"]))
raw("a NUL in a header's name", "400", request("/ws", add=["X-N\0ul: a"]))
raw("a bare carriage return in a header", "400", request("/ws", add=["X-Cr: a\rHost: evil"]))
raw("a bare line feed that hides a second Host", "400", request("/ws", add=["X-Lf: a\nHost: evil"]))
raw("a bare line feed that hides a length", "400", request("/ws", add=["X-Lf: a\nContent-Length: 5"]))
raw("a blank at the start of the first header", "400", b"GET /ws HTTP/1.1\r\n Host: a\r\n\r\n")
raw("a header's name in UTF-8", "400", request("/ws").replace(b"Upgrade: w", "Upgräde: w".encode() + b""))

# --- Who is meant.
raw("two Hosts", "400", request("/ws", add=["Host: evil"]))
raw("no Host", "400", request("/ws", remove=("Host",)))
raw("a Host with a path", "400", request("/ws", host="localhost/evil"))
raw("a Host with user information", "400", request("/ws", host="evil@localhost"))
raw("the target in absolute form, its host in Host and Origin's place", "403",
    request("http://evil.example/ws", add=["Origin: http://evil.example"]))
raw("the target as an authority", "404", request("localhost:80", method="CONNECT"))

# --- Upgrades.
answers("a request behind an upgrade that is refused", "426",
        request("/ws", change={"Sec-WebSocket-Version": "777"}, tail=HIDDEN))
answers("a request as the body of an upgrade", "400", request("/ws", add=[f"Content-Length: {len(HIDDEN)}"], tail=HIDDEN))


@ATTACKS.row("a request behind an upgrade that succeeds is frames", "close 1002")
def _(stage):
    with stage.connect() as peer:
        peer.send(request("/echo", tail=HIDDEN))
        answer = peer.response()
        if getattr(answer, "status", answer) != 101:
            return f"{getattr(answer, 'status', answer)}"
        return peer.message()


@ATTACKS.row("an upgrade pipelined behind a request", "200, then 101, then echo")
def _(stage):
    with stage.browser() as client:
        client.ask("GET", "/healthz")
        client.peer.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" + request("/echo", tail=text("behind")))
        first, second = client.answer(), client.answer()
        same = client.peer.message() == (TEXT, b"behind")
        return f"{first.status}, then {getattr(second, 'status', second)}, then {'echo' if same else 'something else'}"


@ATTACKS.row("two upgrades on one connection", "101, then close 1002")
def _(stage):
    with stage.connect() as peer:
        peer.send(request("/echo") + request("/echo"))
        answer = peer.response()
        return f"{answer.status}, then {peer.message()}"


@ATTACKS.row("frames before the answer to an upgrade that is refused", ("400, then cut", "400, then 400"))
def _(stage):
    with stage.connect() as peer:
        peer.send(request("/ws", remove=("Sec-WebSocket-Key",), tail=frame(TEXT, b"GET /healthz") * 10))
        first = peer.response()
        del peer.inbox[: int(first.get("content-length") or 0)]
        second = peer.response(3)
        return f"{first.status}, then {second.status if isinstance(second, Response) else 'cut'}"


raw("two keys", "400", request("/ws", add=["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]))
raw("two versions", "400", request("/ws", add=["Sec-WebSocket-Version: 13"]))
raw("a subprotocol that breaks out of its header", "400", request("/ws", add=["Sec-WebSocket-Protocol: throng.v1\x0b\x0cSet-Cookie"]))
raw("POST as an upgrade", "405", request("/ws", method="POST"))
raw("HTTP/1.0 as an upgrade", "400", request("/ws", version="HTTP/1.0"))
