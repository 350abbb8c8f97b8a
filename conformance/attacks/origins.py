"""Pages of other sites that use a visitor's browser: WebSockets, events, and requests."""

from attacks import Table
from rig.frames import request

ATTACKS = Table("other origins")


def origin(name, want, value, path="/ws"):
    """An upgrade with this Origin; `HERE` stands for the server's own host and port."""

    def run(stage):
        here = f"127.0.0.1:{stage.port}"
        return stage.raw(request(path, host=here, add=[f"Origin: {one.replace('HERE', here)}" for one in value]))

    ATTACKS.add(f"WebSocket from {name}", want, run)


origin("another site", "403", ["http://evil.example"])
origin("another site, into a room by path", "403", ["http://evil.example"], "/ws/demo:1")
origin("another site, at /", "403", ["http://evil.example"], "/")
origin("a page without an origin (null)", "403", ["null"])
origin("a site whose name begins like ours", "403", ["http://HERE.evil.example"])
origin("a site whose name ends like ours", "403", ["http://evil-HERE"])
origin("user information that looks like ours", "403", ["http://HERE@evil.example"])
origin("a path that looks like ours", "403", ["http://evil.example/HERE"])
origin("another port of the same host", "403", ["http://127.0.0.1:1"])
origin("two origins, one of them ours", "403", ["http://HERE", "http://evil.example"])
origin("two origins in one line", "403", ["http://HERE, http://evil.example"])
origin("an empty origin", "403", [""])
origin("the origin of an extension", "403", ["chrome-extension://abcdef"])
origin("a file", "403", ["file://"])
origin("the same site (and is let in)", "101", ["http://HERE"])


def page(name, want, method, target, **how):
    def run(stage):
        answer = stage.http(method, target, headers=["Origin: http://evil.example", *how.get("headers", ())], body=how.get("body"))
        told = any("access-control" in key for key, _ in answer.headers.lines)
        return f"{answer.status}{', with CORS headers' if told else ''}"

    ATTACKS.add(name, want, run)


page("events from another site", "403", "GET", "/sse?room=demo:1")
page("/send from another site", "403", "POST", "/send", body={"type": "chat", "room": "demo:1"})
page("/send from another site as a simple request", "403", "POST", "/send", headers=["Content-Type: text/plain"], body=b"{}")
page("a preflight of /send from another site", "204", "OPTIONS", "/send", headers=["Access-Control-Request-Method: POST"])
page("a preflight of the API from another site", "405", "OPTIONS", "/api/v1/messages",
     headers=["Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization"])
page("the API from another site", "401", "GET", "/api/v1/rooms")
page("metrics from another site", "200", "GET", "/metrics")
