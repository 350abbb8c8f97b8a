"""The HTTP API: without a key, with another's, and with bodies that mean something else."""

import statistics
import time
from urllib.parse import quote

from attacks import AUTHORIZED, KEY, Table, World

ATTACKS = Table("API")


def keyless(name, want, *headers, target="/api/v1/counts"):
    """Several ways that are no good key: never anything but `want`."""

    def run(stage):
        return " / ".join(sorted({stage.status("GET", target, headers=one) for one in headers}))

    ATTACKS.add(name, want, run)


def bearer(*keys):
    return [[f"Authorization: Bearer {key}"] for key in keys]


keyless("no key", "401", [], ["Authorization:"], ["Authorization: Bearer"], ["Authorization: Bearer "])
keyless("wrong keys", "401", *bearer("x", KEY[:-1], KEY + "a", KEY.upper(), KEY[::-1], KEY[3:], "tk_", "suite", "suite:" + KEY, "null", "undefined", "*", "%"))
keyless("another scheme", "401", [f"Authorization: Basic {KEY}"], [f"Authorization: {KEY}"], [f"Authorization: Token {KEY}"], [f"Authorization: Bearer{KEY}"])
keyless("two keys", "401", ["Authorization: Bearer x", AUTHORIZED], [AUTHORIZED, "Authorization: Bearer x"])
keyless("the key elsewhere", "401", [f"X-Api-Key: {KEY}"], [f"Cookie: key={KEY}; Authorization={KEY}"], [f"Proxy-Authorization: Bearer {KEY}"])
keyless("the key in the query", "401", [], target=f"/api/v1/counts?key={KEY}&access_token={KEY}&authorization=Bearer%20{KEY}")
keyless("the hash of the key in place of the key", "401", *bearer(__import__("hashlib").sha256(KEY.encode()).hexdigest()))
keyless("a key with NUL, quotes and SQL", "400 / 401", *bearer(KEY + "\0", f'"{KEY}"', "' OR '1'='1", KEY + "\x7f", "é" * 32))
keyless("a key of 12,000 bytes", "401", *bearer("tk_" + "a" * 12_000))
keyless("headers that a proxy would set", "401", ["X-Forwarded-For: 127.0.0.1"], ["X-Forwarded-User: admin"], ["X-Original-URL: /api/v1/counts"],
        ["X-Rewrite-URL: /healthz"], ["X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1"])


@ATTACKS.row("every operation without a key", "401")
def _(stage):
    found = set()
    for method, path in (("POST", "/rooms/demo:a/messages"), ("POST", "/messages"), ("POST", "/users/u_1/messages"), ("GET", "/rooms"),
                         ("GET", "/rooms/demo:a"), ("GET", "/rooms/demo:a/history"), ("GET", "/rooms/demo:a/presence"), ("GET", "/counts"),
                         ("POST", "/users/u_1/disconnect")):
        found.add(stage.status(method, "/api/v1" + path, body={} if method == "POST" else None))
    return " / ".join(sorted(found))


@ATTACKS.row("the key elsewhere than at the API opens nothing", "the same as without")
def _(stage):
    for target in ("/metrics", "/sse?room=@server", "/ws", "/admin", "/healthz"):
        with_key, without = stage.status("GET", target, headers=[AUTHORIZED]), stage.status("GET", target)
        if with_key != without and with_key not in ("401",):
            return f"{target}: {with_key}, without {without}"
    return "the same as without"


@ATTACKS.row("spellings of paths of the API", "404")
def _(stage):
    """No spelling leads past the key."""
    paths = ("/api/v1/../v1/counts", "/api//v1/counts", "//api/v1/counts", "/API/V1/COUNTS", "/api/v1/counts/", "/api/v1/counts;a=b", "/api/v1/./counts",
             "/api/v1/%63ounts", "/%61pi/v1/counts", "/api/v1/counts%00", "/api/v1/counts%2f", "/api/v1\\counts", "/api/v2/counts", "/api/v1/counts.json")
    return " / ".join(sorted({stage.status("GET", path) for path in paths}))


@ATTACKS.row("1,000 guesses of a key", "401")
def _(stage):
    with stage.browser() as client:
        found = set()
        for n in range(1000):
            answer = client.ask("GET", "/api/v1/counts", headers=[f"Authorization: Bearer tk_{n:032}"])
            found.add(str(getattr(answer, "status", answer)))
        return " / ".join(sorted(found))


@ATTACKS.row("how long a wrong key takes tells nothing", "the same time")
def _(stage):
    """Keys that share all but the last letter, and none: the middles of 300 tries each differ by less than a quarter of a millisecond."""
    near, far = KEY[:-1] + "b", "tk_" + "z" * 32
    with stage.browser() as client:
        for _ in range(3):
            times = {near: [], far: []}
            for _ in range(300):
                for key in (near, far):
                    started = time.perf_counter()
                    client.ask("GET", "/api/v1/counts", headers=[f"Authorization: Bearer {key}"])
                    times[key].append(time.perf_counter() - started)
            apart = abs(statistics.median(times[near]) - statistics.median(times[far]))
            if apart < 0.000_25:
                return "the same time"
        return f"{apart * 1e6:.0f} µs apart"


def with_key(name, want, method, path, *bodies, headers=()):
    def run(stage):
        found = set()
        for body in bodies or (None,):
            kind = [] if headers or not isinstance(body, bytes) else ["Content-Type: application/json"]
            answer = stage.api(method, path, body, headers=[*headers, *kind])
            code = answer.json().get("error", {}).get("code", "") if answer.body[:1] == b"{" else ""
            found.add(f"{answer.status} {code}".strip())
        return " / ".join(sorted(found))

    ATTACKS.add(name, want, run)


with_key("publishing as the server only does", "400 reserved_field", "POST", "/rooms/demo:api/messages", {"type": "chat", "seq": 1}, {"type": "chat", "timestamp": 1},
         {"type": "connected"}, {"type": "error"}, {"type": "user_joined"})
with_key("publishing with a from that is no user", "400 bad_message", "POST", "/rooms/demo:api/messages", {"type": "chat", "from": "a b c"},
         {"type": "chat", "from": ""}, {"type": "chat", "from": "a b"}, {"type": "chat", "from": 1}, {"type": "chat", "from": "x" * 128})
with_key("a body that names another room than the path", "400 bad_message", "POST", "/rooms/demo:api/messages", {"type": "chat", "room": "demo:other"}, {"type": "chat", "to": "u_1"})
with_key("a body nested 10,000 deep", "400 bad_message", "POST", "/rooms/demo:api/messages", b'{"type":"chat","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}")
with_key("a body above the limit", "413 too_large", "POST", "/rooms/demo:api/messages", {"type": "chat", "text": "x" * 70_000})
with_key("1,001 messages at once", "413 too_large", "POST", "/messages", {"messages": [{"room": "demo:api", "type": "chat"}] * 1001})
with_key("a batch above 1 MiB", "413 too_large", "POST", "/messages", {"messages": [{"room": "demo:api", "type": "chat", "text": "x" * 60_000}] * 20})
with_key("bodies that are no JSON", "400 bad_json", "POST", "/messages", b"{", b"\xff", b"", b"[]x")
with_key("a form in place of JSON", "415 unsupported_data", "POST", "/messages", b"type=chat&room=demo:api", headers=["Content-Type: application/x-www-form-urlencoded"])
with_key("limits and numbers that are none", "400 bad_message", "GET", "/rooms?limit=99999999999999999999")
with_key("closing users with codes that must not travel", "400 bad_message", "POST", "/users/u_1/disconnect", *({"code": code} for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65536, -1, "4000")))
with_key("closing users with a reason too long, or not text", "400 bad_message", "POST", "/users/u_1/disconnect", {"reason": "x" * 124}, {"reason": "é" * 62}, {"reason": 1})
with_key("methods by header", "405 method_not_allowed", "POST", "/counts", {}, headers=["X-HTTP-Method-Override: GET", "X-Method-Override: GET"])


@ATTACKS.row("idempotency keys: huge, binary, of another API key, SQL", "200 / 400")
def _(stage):
    found = set()
    for key in ("x" * 10_000, "a\tb", "\x80", "'; DROP TABLE--", quote("\n"), ""):
        found.add(str(stage.api("POST", "/rooms/demo:api/messages", {"type": "chat"}, headers=[f"Idempotency-Key: {key}"]).status))
    return " / ".join(sorted(found))


@ATTACKS.row("a server without keys", "401", world=World("no keys", "# no keys\n"))
def _(stage):
    return " / ".join(sorted({stage.status("GET", "/api/v1/counts", headers=one) for one in ([], ["Authorization: Bearer "], bearer("x")[0], [AUTHORIZED])}))
