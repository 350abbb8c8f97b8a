"""Handshakes (RFC 6455 §4, RFC 9110, RFC 9112, RFC 7692 §5 and §7)."""

import time

from cases import Case, patterns
from cases.play import handshake
from rig.connection import Connection, Response
from rig.frames import KEY, TEXT, frame, request

CASES = []
REFUSED = ("4??", "5??", "cut")  # what a server may do with a handshake it cannot accept


def row(name, section, want, *, also=REFUSED, data=None, require=None, only=(), path=None,
        accept_for=KEY, **how):
    if accept_for != KEY:
        how["change"] = {"Sec-WebSocket-Key": accept_for}

    def run(server):
        sent = data(server) if data else request(path or server.path, **how)
        return handshake(server, sent, require=require, key=accept_for)

    CASES.append(Case("handshake", name, section, patterns(want), patterns(also), run, patterns(only)))


def good(name, section, want="101", *, also=(), **how):
    row(name, section, want, also=also, **how)


def key(value):
    return {"change": {"Sec-WebSocket-Key": value}}


def version(value):
    return {"change": {"Sec-WebSocket-Version": value}}


def without(*names):
    return {"remove": names}


# --- What must be accepted.
good("the plain handshake", "6455 §4.1")
good("the example key of the RFC, whose last bits are not zero", "6455 §4.1", accept_for="AQIDBAUGBwgJCgsMDQ4PEC==")
good("header names in lower case", "9110 §5.1", data=lambda s: request(s.path).replace(b"Upgrade:", b"upgrade:")
     .replace(b"Connection:", b"connection:").replace(b"Sec-WebSocket-Key", b"sec-websocket-key").replace(b"Host", b"host"))
good("header names in upper case", "9110 §5.1", data=lambda s: request(s.path).replace(b"Sec-WebSocket-Key", b"SEC-WEBSOCKET-KEY")
     .replace(b"Sec-WebSocket-Version", b"SEC-WEBSOCKET-VERSION"))
good("Upgrade: WebSocket, in mixed case", "6455 §4.2.1", change={"Upgrade": "WebSocket"})
good("Connection: keep-alive, Upgrade", "6455 §4.2.1", change={"Connection": "keep-alive, Upgrade"})
good("Connection in two lines", "9110 §5.3", change={"Connection": "keep-alive"}, add=["Connection: upgrade"])
good("Connection with empty list elements", "9110 §5.6.1", also=REFUSED, change={"Connection": ", ,Upgrade,"})
good("tabs and spaces around values", "9112 §5.1", change={"Upgrade": "\t websocket \t", "Sec-WebSocket-Version": "  13  "})
good("Upgrade with a second protocol", "9110 §7.8", also=REFUSED, change={"Upgrade": "h2c, websocket"})
good("a query string", "6455 §3", data=lambda s: request(s.path + "?name=a%20b&x"))
good("the target in absolute form", "9112 §3.2.2", data=lambda s: request(f"http://localhost{s.path}"))
good("unknown headers", "6455 §4.2.1", add=["X-One: 1", "X-Two:", "X_three: äö"])
good("60 more headers", "9112 §3", add=[f"X-{n}: {'v' * 20}" for n in range(60)])
good("a cookie of 4 KiB", "9110 §5.4", add=["Cookie: a=" + "c" * 4096])
good("one empty line before the request", "9112 §2.2", also=REFUSED, data=lambda s: b"\r\n" + request(s.path))
good("Content-Length: 0", "9110 §8.6", also=REFUSED, add=["Content-Length: 0"])
good("an Origin of the same host", "6455 §10.2", add=["Origin: http://localhost"])
good("User-Agent and the other headers of a browser", "6455 §4.1", change={"Connection": "keep-alive, Upgrade"}, add=[
    "Pragma: no-cache", "Cache-Control: no-cache", "User-Agent: Mozilla/5.0", "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: de-DE,de;q=0.9"])
good("bare line feeds", "9112 §2.2", ("101", "400"), also=REFUSED, end="\n")


def pipelined(server):
    with Connection(server.port, server.host) as peer:
        peer.send(request(server.path, tail=frame(TEXT, b"at once")))
        answer = peer.response()
        if not isinstance(answer, Response) or answer.status != 101:
            return str(getattr(answer, "status", answer))
        return "echo" if peer.message() == (TEXT, b"at once") else "101, and the frame is lost"


def dribbled(server):
    data = request(server.path)
    return handshake(server, data, pieces=[data[at:at + 1] for at in range(len(data))])


CASES.append(Case("handshake", "a frame in the same packet as the request", "6455 §4.1", ("echo",), (), pipelined))
CASES.append(Case("handshake", "a request in pieces of one byte", "9112 §2", ("101",), (), dribbled))

# --- Method and version.
row("POST", "6455 §4.1", ("405",), method="POST", require={"Allow": "GET"})
row("PUT", "6455 §4.1", ("405",), method="PUT")
row("HEAD", "6455 §4.1", ("405",), method="HEAD")
row("the method in lower case", "9110 §9.1", ("400", "405", "501"), method="get")
row("HTTP/1.0", "6455 §4.1", ("400", "426", "505"), version="HTTP/1.0")
row("HTTP/2.0 in the request line", "9112 §2.3", ("400", "505"), version="HTTP/2.0")
row("HTTP/0.9", "9112 §2.3", ("400", "505", "cut"), data=lambda s: b"GET " + s.path.encode() + b"\r\n\r\n")
row("no version in the request line", "9112 §3", "400", data=lambda s: request(s.path).replace(b" HTTP/1.1", b""))
row("a control character in the method", "9110 §5.6.2", "400", method="G\x01T")

# --- The target.
row("a path nobody serves", "6455 §4.2.2", "404", path="/nowhere", only="throng")
row("a space in the target", "9112 §3.2", ("400", "404"), data=lambda s: request(s.path + "a b"))
row("a NUL byte in the target", "9112 §3.2", ("400",), data=lambda s: request(s.path + "\0"))
row("the target in asterisk form", "9112 §3.2.4", ("400", "404"), data=lambda s: request("*"), only=("throng", "axum"))

# --- Host.
row("no Host", "9112 §3.2", "400", **without("Host"))
row("two Hosts", "9112 §3.2", "400", add=["Host: other"])
row("a Host with a space", "9112 §3.2", "400", change={"Host": "local host"})

# --- Upgrade and Connection.
row("no Upgrade", "6455 §4.2.1", "426", require={"Upgrade": "websocket"}, **without("Upgrade"))
row("no Connection", "6455 §4.2.1", ("400", "426"), **without("Connection"))
row("neither", "9110 §15.5.22", "426", require={"Upgrade": "websocket"}, **without("Upgrade", "Connection"))
row("Connection: close", "6455 §4.2.1", ("400", "426"), change={"Connection": "close"})
row("Connection: keepupgradealive", "6455 §4.2.1", ("400", "426"), change={"Connection": "keepupgradealive"})
row("Upgrade: websockets", "6455 §4.2.1", ("400", "426"), change={"Upgrade": "websockets"})
row("Upgrade: h2c", "6455 §4.2.1", ("400", "426"), change={"Upgrade": "h2c"})

# --- Sec-WebSocket-Key.
row("no key", "6455 §4.2.1", "400", **without("Sec-WebSocket-Key"))
row("two keys", "6455 §11.3.1", "400", add=["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="])
row("an empty key", "6455 §4.2.1", "400", **key(""))
row("a key of 15 bytes", "6455 §4.2.1", "400", **key("AAAAAAAAAAAAAAAAAAAA"))
row("a key of 17 bytes", "6455 §4.2.1", "400", **key("AAAAAAAAAAAAAAAAAAAAAAA="))
row("a key of 1 KiB", "6455 §4.2.1", "400", **key("A" * 1024))
row("a key that is not base64", "6455 §4.2.1", "400", **key("!!!!!!!!!!!!!!!!!!!!!!=="))
row("a key in the URL alphabet", "6455 §4.2.1", "400", **key("-_-_-_-_-_-_-_-_-_-_-A=="))
row("a key without padding", "6455 §4.2.1", "400", **key("dGhlIHNhbXBsZSBub25jZQ"))
row("a key with a space in it", "6455 §4.2.1", "400", **key("dGhlIHNhbXBs ZSBub25jZQ=="))

# --- Sec-WebSocket-Version.
NEEDS_13 = {"require": {"Sec-WebSocket-Version": "13"}}
row("no version", "6455 §4.2.1", ("400", "426"), **without("Sec-WebSocket-Version"))
for bad in ("0", "8", "12", "14", "255"):
    row(f"version {bad}", "6455 §4.4", "426", **version(bad), **NEEDS_13)
for bad in ("013", "+13", "13.0", "1e1", "thirteen", "13, 8"):
    row(f"version {bad}", "6455 §4.3", ("400", "426"), **version(bad))
row("two versions", "6455 §11.3.5", ("400", "426"), add=["Sec-WebSocket-Version: 8"])

# --- Bodies: a server that leaves them in the stream reads them as frames.
row("a body", "9110 §9.3.1", "400", add=["Content-Length: 5"], tail=b"hello")
row("Transfer-Encoding: chunked", "9112 §6.1", "400", add=["Transfer-Encoding: chunked"], tail=b"5\r\nhello\r\n0\r\n\r\n")
row("Transfer-Encoding and Content-Length", "9112 §6.1", "400",
    add=["Transfer-Encoding: chunked", "Content-Length: 5"], tail=b"0\r\n\r\n")
row("an unknown Transfer-Encoding", "9112 §6.1", ("400", "501"), add=["Transfer-Encoding: wombat"])
row("two different Content-Lengths", "9112 §6.3", "400", add=["Content-Length: 0", "Content-Length: 5"], tail=b"hello")
row("a negative Content-Length", "9112 §6.3", "400", add=["Content-Length: -1"])

# --- Header syntax.
row("a space before the colon", "9112 §5.1", "400", add=["X-Test : 1"])
row("a folded header", "9112 §5.2", "400", also=(*REFUSED, "101"), add=["X-Test: a\r\n b"])
row("a space before the first header", "9112 §2.2", "400", also=(*REFUSED, "101"),
    data=lambda s: request(s.path).replace(b"\r\nHost", b"\r\n Host", 1))
row("a NUL byte in a value", "9110 §5.5", "400", also=(*REFUSED, "101"), add=["X-Test: a\0b"])
row("a bare carriage return in a value", "9112 §2.2", "400", also=(*REFUSED, "101"), add=["X-Test: a\rb"])
row("a header without a name", "9112 §5", "400", add=[": value"])
row("a header without a colon", "9112 §5", "400", add=["X-Test"])
row("a header name with a space", "9112 §5.1", "400", add=["X Test: 1"])
row("garbage", "9112 §3", ("400", "cut"), data=lambda s: bytes(range(256)) * 4 + b"\r\n\r\n")
row("a TLS client hello", "6455 §3", ("400", "cut"),
    data=lambda s: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n")

# --- Floods.
row("10,000 headers", "9112 §3", ("400", "431"), add=[f"X-{n}: 1" for n in range(10_000)])
row("a header of 1 MiB", "9110 §5.4", ("400", "431"), add=["X-Test: " + "a" * (1 << 20)])
row("a target of 1 MiB", "9112 §3", ("400", "414", "431"), data=lambda s: request(s.path + "?" + "a" * (1 << 20)))
row("a header name of 1 MiB", "9110 §5.4", ("400", "431"), add=["a" * (1 << 20) + ": 1"])


def half_a_request(server):
    return slow(server, lambda peer, _: False)


def dribbling_headers(server):
    return slow(server, lambda peer, n: peer.send(f"X-{n}: 1\r\n".encode()))


def silence(server):
    return slow(server, lambda peer, _: False, first=b"")


def slow(server, more, first=b"GET / HTTP/1.1\r\nHost: localhost\r\n"):
    """Whether a handshake that never ends is ended by the server, within twice its limit."""
    with Connection(server.port, server.host) as peer:
        peer.send(first)
        started, n = time.monotonic(), 0
        while time.monotonic() - started < 2 * server.handshake_timeout + 1 and not peer.ended:
            n += 1
            more(peer, n)
            peer.wait(time.monotonic() + 0.1)
        return "cut" if peer.ended else "open"


for name, run in (("a request that stops half-way", half_a_request), ("one header every 0.1 s, for ever", dribbling_headers),
                  ("a connection that says nothing", silence)):
    CASES.append(Case("handshake", name, "6455 §10.7", ("cut",), (), run))


# --- Subprotocols.
def protocols(name, section, want, values, *, also=()):
    """`{}` in the values stands for a subprotocol that the server speaks."""
    def run(server):
        lines = [f"Sec-WebSocket-Protocol: {value.format(server.subprotocol)}" for value in values]
        outcome = handshake(server, request(server.path, add=lines))
        return outcome.replace(f"101 {server.subprotocol}", "101 its own")

    needs = (lambda server: server.subprotocol) if "{}" in "".join(values) else None
    CASES.append(Case("handshake", name, section, patterns(want), patterns(also), run, needs=needs))


protocols("a subprotocol the server speaks", "6455 §4.2.2", "101 its own", ["{}"])
protocols("it among others", "6455 §4.2.2", "101 its own", ["one, {}, two"])
protocols("it in a second line", "6455 §11.3.4", "101 its own", ["one", "two, {}"])
protocols("only unknown subprotocols", "6455 §4.2.2", "101", ["one, two"], also=REFUSED)
protocols("an empty list of subprotocols", "6455 §4.3", "400", [""], also=(*REFUSED, "101"))
protocols("subprotocols separated by spaces", "6455 §4.3", "400", ["one two"], also=(*REFUSED, "101"))
protocols("a subprotocol in quotes", "6455 §4.1", "400", ['"one"'], also=(*REFUSED, "101"))
protocols("a subprotocol named twice", "6455 §4.1", "400", ["one, one"], also=(*REFUSED, "101"))


# --- Extensions. Servers without deflate decline every offer.
def offer(name, section, want, *values, also=("101",)):
    row(name, section, want, also=also, add=[f"Sec-WebSocket-Extensions: {value}" for value in values])


DEFLATE = "permessage-deflate"
NO_EXTENSION = ("101", "4??")  # declined, or refused with the whole handshake
offer("an unknown extension", "6455 §9.1", "101", "x-frobnicate; a=1", also=())
offer("deflate", "7692 §5", "101 deflate", DEFLATE)
offer("deflate with all four parameters", "7692 §7.1", "101 deflate",
      DEFLATE + "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15; client_max_window_bits=15")
offer("client_max_window_bits without a value", "7692 §7.1.2.2", "101 deflate", DEFLATE + "; client_max_window_bits")
offer("a parameter's value in quotes", "6455 §9.1", "101 deflate", DEFLATE + '; server_max_window_bits="12"')
offer("spaces everywhere", "6455 §9.1", ("101 deflate", "400"), f"  {DEFLATE} ;  server_max_window_bits = 12 ")
offer("an unknown extension, then deflate in a second line", "6455 §9.1", "101 deflate", "x-frobnicate", DEFLATE)
offer("deflate with a bad offer first", "7692 §5", "101 deflate", f"{DEFLATE}; server_max_window_bits=7, {DEFLATE}", also=NO_EXTENSION)
for parameter, section in (("server_max_window_bits=7", "7.1.2.1"), ("server_max_window_bits=16", "7.1.2.1"),
                           ("server_max_window_bits=010", "7.1.2.1"), ("server_max_window_bits", "7.1.2.1"),
                           ("client_max_window_bits=7", "7.1.2.2"), ("client_max_window_bits=x", "7.1.2.2"),
                           ("server_no_context_takeover=1", "7.1.1.1"), ("client_no_context_takeover=true", "7.1.1.2"),
                           ("server_no_context_takeover; server_no_context_takeover", "7.1"), ("frobnicate", "7.1")):
    offer(f"deflate with {parameter}", f"7692 §{section}", "101", f"{DEFLATE}; {parameter}", also=NO_EXTENSION)
for value in ("", "permessage-deflate;", "permessage-deflate;;server_no_context_takeover", "permessage-deflate; =15",
              'permessage-deflate; server_max_window_bits="15', "permessage deflate", "permessage-deflate; a=b=c", "(x)"):
    offer(f"extensions that are no list: {value or 'nothing'}", "6455 §9.1", "400", value, also=(*REFUSED, "101"))
