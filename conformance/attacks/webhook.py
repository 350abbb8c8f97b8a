"""The webhook as a lever: to make the server go where it should not, and to make it believe what it should not."""

import hashlib
import hmac
import http.server
import json
import socket
import threading
import time

from attacks import Table, World, check

SECRET = "0123456789abcdef0123456789abcdef-of-the-webhook"


class Service:
    """A webhook that answers as it is told, and remembers what it was asked."""

    def __init__(self):
        service = self
        self.asked, self.reply = [], lambda handler, body: service.say(handler, 200, {"userId": "ada", "rooms": {"team:*": ["join", "send"]}})

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                service.asked.append((self.path, dict(self.headers), body))
                service.reply(self, body)

            do_GET = do_PUT = do_HEAD = do_POST

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def say(handler, status, value=b"", headers=()):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        handler.send_response(status)
        for name, text in headers:
            handler.send_header(name, text)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def service(allow='["127.0.0.1/32"]', url="http://127.0.0.1:{port}/hook", more=""):
    def prepare(folder):
        (folder / "hook-secret").write_text(SECRET)
        (folder / "hook-secret").chmod(0o600)
        one, other = Service(), Service()
        config = f'[webhook]\nurl = "{url.format(port=one.port)}"\nsecret_file = "hook-secret"\ntimeout = "3s"\nretries = 1\nallow = {allow}\n{more}'
        return {"config": config, "service": one, "other": other}

    return prepare


HOOK = World("a webhook", prepare=service())
ATTACKS = Table("webhook", HOOK, needs="webhook")
TOKEN = {"token": "a-token-of-the-application"}


def judged(name, want, *replies):
    """What comes of these answers of the webhook."""

    def run(stage):
        hook = stage.facts["service"]
        usual, found = hook.reply, set()
        try:
            for reply in replies:
                hook.reply = reply if callable(reply) else lambda handler, body, reply=reply: hook.say(handler, *reply)
                found.add(stage.enters(query=TOKEN))
        finally:
            hook.reply = usual
        check(stage.enters(query=TOKEN) == "101 ada", "a good answer does not let anybody in")
        return " / ".join(sorted(found))

    ATTACKS.add(name, want, run)


judged("a refusal", "401 / 403", (401, {}), (403, {}))
judged("statuses that say nothing", "503", *((status, {"userId": "ada"}) for status in (204, 301, 302, 307, 308, 404, 418, 500, 502, 503)))
judged("answers that are no JSON, or another", "503", (200, b""), (200, b"{"), (200, b"<html>"), (200, []), (200, {}), (200, {"user": "ada"}), (200, b"\xff\xfe"), (200, b"null"))
judged("users that are none", "503", *((200, {"userId": user}) for user in ("", "a b", "x" * 128, 1, None, "ada\n", ["ada"], {"$gt": ""})))
judged("rights that are none", "503", *((200, {"userId": "ada", "rooms": rooms}) for rooms in ("*", {"team:*": ["admin"]}, ["team:*"], {f"r{n}": ["join"] for n in range(65)})))
judged("an answer of 10 MiB", "503", (200, b'{"userId":"ada","info":"' + b"x" * (10 << 20) + b'"}'))
judged("an answer nested 50,000 deep", "503", (200, b'{"userId":"ada","info":' + b"[" * 25_000 + b"]" * 25_000 + b"}"))


def drip(handler, body):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    try:
        for _ in range(60):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        pass


judged("an answer that comes a byte at a time", "503", drip)
judged("an answer that never comes", "503", lambda handler, body: time.sleep(10))
judged("headers without end", "503", lambda handler, body: handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-More: aaaaaaaaaaaaaaaaaaaaaaa\r\n" * 100_000))
judged("an answer that cuts the connection", "503", lambda handler, body: handler.connection.shutdown(socket.SHUT_RDWR))


@ATTACKS.row("redirects to another address, the metadata service, a file", "503, not followed")
def _(stage):
    hook, other, found = stage.facts["service"], stage.facts["other"], set()
    usual, before = hook.reply, len(other.asked)
    try:
        for status in (301, 302, 303, 307, 308):
            for target in (f"http://127.0.0.1:{other.port}/", f"http://127.0.0.2:{other.port}/", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", f"//127.0.0.1:{other.port}/", f"http://[::1]:{other.port}/"):
                hook.reply = lambda handler, body: hook.say(handler, status, b"", [("Location", target)])
                found.add(stage.enters(query=TOKEN))
    finally:
        hook.reply = usual
    return f"{' / '.join(found)}, {'not followed' if len(other.asked) == before else 'followed'}"


@ATTACKS.row("what is asked is signed, and has no more than it should", "signed")
def _(stage):
    hook = stage.facts["service"]
    hook.asked.clear()
    stage.enters(query=TOKEN, headers=["Cookie: a=sekret", "X-Secret: sekret"])
    path, headers, body = hook.asked[-1]
    fields = dict(part.split("=", 1) for part in headers["throng-signature"].split(","))
    right = hmac.new(SECRET.encode(), f"{fields['t']}.".encode() + body, hashlib.sha256).hexdigest()
    check(fields["v1"] == right, "the signature is wrong")
    check(b"sekret" not in body and "sekret" not in str(headers), f"it is told too much: {headers} {body}")
    check(abs(int(fields["t"]) - time.time() * 1000) < 60_000, "the time is wrong")
    return "signed"


@ATTACKS.row("credentials that break out of the question", "taken as text")
def _(stage):
    hook = stage.facts["service"]
    for token in ('","userId":"admin', "a\r\nX-Injected: 1", "{}", "\u2028", "x" * 4000):
        hook.asked.clear()
        stage.enters(query={"token": token}, headers=["User-Agent: a\"b\\c"])
        for path, headers, body in hook.asked:
            asked = json.loads(body)
            check(asked["token"] == token and "X-Injected" not in headers and "userId" not in asked, f"{body}")
    return "taken as text"


@ATTACKS.row("200 at once while the webhook is slow", "others are served", ceiling=24)
def _(stage):
    hook = stage.facts["service"]
    usual = hook.reply
    hook.reply = lambda handler, body: time.sleep(4)
    try:
        from rig.frames import request

        peers = [stage.connect() for _ in range(200)]
        for peer in peers:
            peer.send(request("/ws/team:a?token=x"))
        good = stage.enters("/ws/demo:a")
        for peer in peers:
            peer.response(30)
            peer.socket.close()
    finally:
        hook.reply = usual
    return "others are served" if good == "101 u_" else good


def unreachable(name, prepare, want="503, never asked"):
    """A webhook at an address that the configuration does not allow is not asked."""

    def run(stage):
        hook = stage.facts["service"]
        found = stage.enters(query=TOKEN)
        return f"{found}, {'never asked' if not hook.asked else 'asked'}"

    ATTACKS.add(name, want, run, world=World(f"a webhook: {name}", prepare=prepare))


unreachable("at loopback, which nobody allowed", service("[]"))
unreachable("at loopback by the name localhost", service("[]", "http://localhost:{port}/hook"))
unreachable("at another address than the allowed", service('["192.0.2.0/24"]'))
unreachable("at 127.0.0.1 written as a number", service("[]", "http://2130706433:{port}/hook"))
unreachable("at IPv6 loopback and IPv4 in disguise", service("[]", "http://[::ffff:127.0.0.1]:{port}/hook"))
