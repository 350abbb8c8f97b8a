"""The doors beside the plain one: TLS, the redirect to it, and the PROXY protocol."""

import socket
import ssl
import struct
import subprocess
import time

from attacks import Table, World, check
from attacks.bystanders import ADDRESS
from attacks.stage import eventually
from rig.frames import TEXT, frame, request
from rig.rooms import http
from rig.servers import free_port


def certificates(folder, more=""):
    run = lambda *words: subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)  # noqa: E731
    run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    for who in ("client", "stranger"):
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{who}-ca-key.pem", "-out", f"{who}-ca.pem", "-days", "2", "-subj", f"/CN={who} CA")
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{who}-key.pem", "-out", f"{who}.csr", "-subj", f"/CN={who}")
        (folder / "extensions").write_text("basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n")
        run("x509", "-req", "-in", f"{who}.csr", "-CA", f"{who}-ca.pem", "-CAkey", f"{who}-ca-key.pem", "-CAcreateserial", "-out", f"{who}.pem", "-days", "2", "-extfile", "extensions")
    port, redirect, proxied = free_port(), free_port(), free_port()
    return {"folder": folder, "tls": port, "redirect": redirect, "proxied": proxied, "config": '[tls]\ncert = ["cert.pem"]\nkey = ["key.pem"]\n' + more,
            "arguments": ["--listen", f"127.0.0.1:{port} tls=on", "--listen", f"127.0.0.1:{redirect} redirect=https", "--listen", f"127.0.0.1:{proxied} proxy_protocol=on"]}


LIMITS = '[limits]\nhandshake_timeout = "3s"\n'
DOORS = World("TLS, a redirect and a PROXY listener", LIMITS + 'trusted_proxies = ["127.0.0.1/32"]\n', prepare=certificates)
CLIENTS = World("TLS for clients with a certificate", LIMITS + 'trusted_proxies = ["127.0.0.1/32"]\n', prepare=lambda folder: certificates(folder, 'client_ca = "client-ca.pem"\nclient_auth = "required"\n'))
# The limits by address hold for the attacker, and not for the bystanders.
FAST = World("few TLS handshakes from one address", f'[limits]\nhandshake_timeout = "30s"\nconnects_per_ip = "1/m burst 30"\nmax_tls_handshakes = 8\nexempt = ["{ADDRESS}/32"]\ntrusted_proxies = ["127.0.0.5/32"]\n', prepare=certificates)
ATTACKS = Table("TLS and proxies", DOORS, needs="tls")


def context(stage, version=None, certificate=None, alpn=()):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if version:
        made.set_ciphers("ALL:@SECLEVEL=0")
        made.minimum_version = made.maximum_version = version
    if certificate:
        made.load_cert_chain(stage.facts["folder"] / f"{certificate}.pem", stage.facts["folder"] / f"{certificate}-key.pem")
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def metric(stage, reason):
    """How many connections were refused for this."""
    name = f'throng_refused_connections_total{{reason="{reason}"}} '
    text = stage.http("GET", "/metrics", source=ADDRESS).body.decode()
    return int(next(line for line in text.splitlines() if line.startswith(name)).removeprefix(name))


def spoken(stage, data=None, port="tls", name="localhost", source="127.0.0.1", **how):
    """What a request over TLS is answered: a status, or why there is no TLS."""
    try:
        with socket.create_connection(("127.0.0.1", stage.facts[port]), timeout=20, source_address=(source, 0)) as plain, context(stage, **how).wrap_socket(plain, server_hostname=name) as peer:
            peer.sendall(data or request("/ws/demo:tls", host="localhost"))
            got = peer.recv(65_536)
            return got.split(b" ")[1].decode() if got.startswith(b"HTTP/1.1 ") else "cut" if not got else f"{got[:20]}"
    except (OSError, ValueError) as error:
        return "cut" if isinstance(error, (ssl.SSLError, ConnectionError, TimeoutError)) else f"{error}"


def row(name, want, **how):
    return ATTACKS.row(name, want, **how)


@row("TLS 1.2 and 1.3 (are spoken)", "101")
def _(stage):
    return " / ".join({spoken(stage, version=version) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)})


@row("TLS 1.0 and 1.1", "cut")
def _(stage):
    return " / ".join({spoken(stage, version=version) for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)})


@row("plain HTTP on the TLS port", ("cut", "400"))
def _(stage):
    with socket.create_connection(("127.0.0.1", stage.facts["tls"]), timeout=20) as peer:
        peer.sendall(request("/ws/demo:tls"))
        peer.settimeout(5)
        try:
            got = peer.recv(1000)
        except OSError:
            got = b""
        return got.split(b" ")[1].decode() if got.startswith(b"HTTP/1.1 ") else "cut"


@row("h2 alone by ALPN, and HTTP/2 frames over TLS", "cut")
def _(stage):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + (b"\0\0\1\1\5\0\0\0\1\x82" + b"\0\0\4\3\0\0\0\0\1\0\0\0\x08") * 2000
    found = {spoken(stage, preface, alpn=["h2"]), spoken(stage, preface), spoken(stage, preface, alpn=["h2", "http/1.1"])}
    return " / ".join(sorted(found - {"400"})) or "cut"


def ended(peers, seconds, drip=b""):
    """Until the server has ended all of them."""
    deadline, left = time.monotonic() + seconds, list(peers)
    while left:
        check(time.monotonic() < deadline, f"{len(left)} of {len(peers)} are open after {seconds} s")
        for peer in list(left):
            try:
                if drip:
                    peer.sendall(drip)
                peer.settimeout(0.002)
                if not peer.recv(65_536):
                    left.remove(peer)
            except (TimeoutError, BlockingIOError):
                pass
            except OSError:
                left.remove(peer)
    for peer in peers:
        peer.close()
    return "cut"


HELLO = bytes.fromhex("16030101") + b"\xff" + b"\x01\x00\x01\xfb\x03\x03"  # the start of a ClientHello that does not end


def half(name, first, drip=b"", count=100, port="tls", ceiling=24, **how):
    def run(stage):
        peers = [socket.create_connection(("127.0.0.1", stage.facts[port]), timeout=20) for _ in range(count)]
        for peer in peers:
            if first:
                peer.sendall(first)
        return ended(peers, 60, drip)

    ATTACKS.add(name, "cut", run, ceiling=ceiling, **how)


half("100 TLS handshakes that never begin", b"")
half("100 TLS handshakes that never end", HELLO)
half("100 TLS handshakes, a byte at a time", HELLO, b"\0")
half("100 that send records of nothing", b"\x16\x03\x01\x00\x00" * 100)
half("100 that send random bytes as TLS", bytes((n * 7919 + n // 251) % 256 for n in range(2000)))
half("30 that announce a handshake of 16 MiB", b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16_379), bytes(1000), count=30)


@row("TLS handshakes one after the other, faster than one address may", "closed before the handshake, others are served", ceiling=24, world=FAST)
def _(stage):
    """The rate is spent: the server computes nothing more for the flood, and whoever comes from another address gets in."""
    before = metric(stage, "rate")
    found = [spoken(stage, HEALTH) for _ in range(120)]
    check(set(found) == {"200", "cut"} and found.count("cut") >= 60, f"{found.count('200')} of {len(found)} were served, {set(found)}")
    check(metric(stage, "rate") - before == found.count("cut"), "refusals are not counted")
    others = spoken(stage, source="127.0.0.9")
    return "closed before the handshake, others are served" if others == "101" else f"others: {others}"


@row("TLS handshakes that never end, more than one address may begin", "closed at once, others are served", ceiling=24, world=FAST)
def _(stage):
    before = metric(stage, "tls_handshakes")
    peers = [socket.create_connection(("127.0.0.1", stage.facts["tls"]), timeout=5, source_address=("127.0.0.10", 0)) for _ in range(15)]
    eventually(lambda: metric(stage, "tls_handshakes") - before >= 13, 20, "they are waited for")
    others = spoken(stage, source="127.0.0.9")
    for peer in peers:
        peer.close()
    return "closed at once, others are served" if others == "101" else f"others: {others}"


@row("names that are none in the handshake (SNI)", "101")
def _(stage):
    return " / ".join(sorted({spoken(stage, name=name) for name in ("other.example", "a" * 60 + ".example", "xn--a", "localhost.", "a.b.c.d.e", "127.0.0.1")}))


@row("records of one byte each", "echo", ceiling=24)
def _(stage):
    """20,000 records for one message; the bystanders chat on."""
    with socket.create_connection(("127.0.0.1", stage.facts["tls"]), timeout=20) as plain, context(stage).wrap_socket(plain, server_hostname="localhost") as peer:
        peer.sendall(request("/echo", host="localhost"))
        got = peer.recv(65_536)
        check(b" 101 " in got, f"{got[:50]}")
        data = frame(TEXT, b"x" * 20_000)
        for at in range(0, len(data)):
            peer.sendall(data[at:at + 1])
        back = got.split(b"\r\n\r\n", 1)[1]
        while len(back) < 20_004:
            back += peer.recv(65_536)
        return "echo" if back == frame(TEXT, b"x" * 20_000, mask=None) else "something else"


@row("TCP is cut behind a TLS message, without a goodbye", "others are served")
def _(stage):
    for _ in range(100):
        plain = socket.create_connection(("127.0.0.1", stage.facts["tls"]), timeout=20)
        peer = context(stage).wrap_socket(plain, server_hostname="localhost")
        peer.sendall(request("/ws/demo:cut", host="localhost") + frame(TEXT, b"{}")[:3])
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket(fileno=peer.detach()).close()
    return "others are served" if spoken(stage) == "101" else "nobody is"


@row("no certificate where one is required", "cut", world=CLIENTS)
def _(stage):
    check(spoken(stage, certificate="client") == "101", "a good certificate does not get in")
    return spoken(stage)


@row("a certificate of a stranger where one is required", "cut", world=CLIENTS)
def _(stage):
    return spoken(stage, certificate="stranger")


# --- The redirect to https.
@row("the redirect: other hosts, line breaks, user information, strange targets", "to https, of the host that was asked for, or 400")
def _(stage):
    port = stage.facts["redirect"]
    for host, target in (("localhost", "/a?b=c"), ("evil.example", "//other.example/"), ("localhost@evil.example", "/"), ("localhost/../evil", "/"), ("localhost:99999", "/"), ("a b", "/"), ("<script>", "/"),
                         ("localhost%0d%0aSet-Cookie:a=b", "/"), ("localhost", "/%0d%0aSet-Cookie:%20a=b"), ("localhost", "*"), ("localhost", "http://evil.example/"), ("", "/")):
        answer = http(port, "GET", target, headers=[f"Host: {host}"])
        if not hasattr(answer, "status"):
            continue
        check(answer.status in (308, 400), f"{host} {target}: {answer.status}")
        if answer.status == 308:
            to = answer.get("location")
            check(to.startswith(f"https://{host.split(':')[0]}") and "@" not in to, f"{host} {target}: to {to}")
            check(not answer.get("set-cookie") and b"<script>" not in answer.body, f"{host}: {answer.headers.raw}")
    return "to https, of the host that was asked for, or 400"


@row("the redirect's port serves nothing else", "308")
def _(stage):
    port, found = stage.facts["redirect"], set()
    for method, target in (("GET", "/"), ("GET", "/metrics"), ("GET", "/api/v1/counts"), ("POST", "/send"), ("GET", "/sse?room=demo:a"), ("GET", "/ws"), ("POST", "/login")):
        found.add(str(http(port, method, target).status))
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        peer.sendall(request("/ws/demo:a", host="localhost"))
        found.add(peer.recv(1000).split(b" ")[1].decode())
    return " / ".join(sorted(found))


# --- The PROXY protocol.
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def proxied(stage, head, data=None, source="127.0.0.1"):
    """The answer to a request behind a header of the PROXY protocol."""
    with socket.socket() as peer:
        peer.bind((source, 0))
        peer.settimeout(5)
        peer.connect(("127.0.0.1", stage.facts["proxied"]))
        try:
            peer.sendall(head + (data or request("/ws/demo:p", host="localhost")))
            got = peer.recv(1000)
        except OSError:
            got = b""
        return got.split(b" ")[1].decode() if got.startswith(b"HTTP/1.1 ") else "cut"


@row("PROXY headers that are none", "cut")
def _(stage):
    check(proxied(stage, b"PROXY TCP4 192.0.2.1 198.51.100.1 5 443\r\n") == "101", "a good header is not taken")
    bad = [b"", b"PROXY\r\n", b"PROXY TCP4 192.0.2.1\r\n", b"PROXY TCP4 999.0.2.1 198.51.100.1 5 443\r\n", b"PROXY TCP4 192.0.2.1 198.51.100.1 5 99999\r\n", b"PROXY TCP4 ::1 ::1 5 443\r\n",
           b"PROXY TCP4 192.0.2.1 198.51.100.1 5 443\n", b"proxy tcp4 192.0.2.1 198.51.100.1 5 443\r\n", b"PROXY " + b"A" * 200 + b"\r\n", b"PROXY TCP4 192.0.2.1 198.51.100.1 5 443 evil\r\n",
           b" PROXY TCP4 192.0.2.1 198.51.100.1 5 443\r\n", V2 + b"\x21\x11\xff\xff" + bytes(65_535), V2 + b"\x31\x11\0\x0c" + bytes(12), V2 + b"\x21\x11\0\x04" + bytes(4), V2 + b"\x2f\x11\0\x0c" + bytes(12),
           b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
    return " / ".join(sorted({proxied(stage, head) for head in bad}))


@row("PROXY headers of somebody who is no trusted proxy", "cut")
def _(stage):
    return proxied(stage, b"PROXY TCP4 192.0.2.1 198.51.100.1 5 443\r\n", source="127.0.0.9")


@row("two PROXY headers", "400")
def _(stage):
    one = b"PROXY TCP4 192.0.2.1 198.51.100.1 5 443\r\n"
    return proxied(stage, one + one)


half("50 PROXY headers, a byte at a time", b"PROXY TCP4 1", b"1", count=50, port="proxied")


@row("a ticket's address by the PROXY protocol, and headers that say otherwise", "401, then 101")
def _(stage):
    ticket = stage.ticket("ada", ip="192.0.2.1", rooms={"demo:*": ["join"]})
    data = request(f"/ws/demo:p?ticket={ticket}", host="localhost")
    forged = request(f"/ws/demo:p?ticket={ticket}", host="localhost", add=["X-Forwarded-For: 192.0.2.1"])
    wrong = {proxied(stage, b"PROXY TCP4 192.0.2.99 198.51.100.1 5 443\r\n", what) for what in (data, forged)}
    return f"{' / '.join(wrong)}, then {proxied(stage, b'PROXY TCP4 192.0.2.1 198.51.100.1 5 443' + bytes([13, 10]), data)}"
