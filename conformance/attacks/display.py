"""Markup in every field that somebody is shown. The server passes data on as JSON, and never makes a page of it; what the
page does with it is tested in a browser (conformance/browser)."""

import json

from attacks import Table, check
from attacks.stage import compact

ATTACKS = Table("markup")
PAYLOADS = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg onload=alert(1)>", "javascript:alert(1)", "{{7*7}}${7*7}",
            "</script><script>alert(1)//", "'-alert(1)-'", "<!--", "]]>", "&lt;script&gt;", "\u2028alert(1)\u2029")
SAFE = ("application/json", "text/plain", "text/event-stream", "application/openmetrics-text")


def data(stage, name, speak, find):
    """A payload in one field arrives as the text it was, as JSON."""
    for payload in PAYLOADS:
        with stage.client("/ws/demo:xss") as listener:
            speaker = speak(payload)
            with speaker:
                got = listener.until(find)
                check(got["type"] != "end", f"{name}: {got}")
                found = compact(got)
                check(json.dumps(payload)[1:-1] in found or payload in found or shortened(payload) in found, f"{name}: {payload!r} became {found}")
    return "data"


def shortened(payload):
    """Names lose control and invisible characters, and line separators."""
    return " ".join("".join(" " if c in "\u2028\u2029" else c for c in payload).split())


@ATTACKS.row("markup as a visitor's name", "data")
def _(stage):
    return data(stage, "name", lambda payload: stage.client("/ws/demo:xss", query={"name": payload}),
                lambda m: m["type"] in ("user_joined", "end"))


@ATTACKS.row("markup as text", "data")
def _(stage):
    def speak(payload):
        client = stage.client("/ws/demo:xss")
        client.write({"type": "chat", "text": payload})
        return client

    return data(stage, "text", speak, lambda m: m["type"] in ("chat", "end"))


@ATTACKS.row("markup as a type and as a field's name", "data")
def _(stage):
    def speak(payload):
        client = stage.client("/ws/demo:xss")
        client.write({"type": payload.replace("\u2028", "").replace("\u2029", ""), payload: payload})
        return client

    return data(stage, "type", speak, lambda m: "alert" in m["type"] or "7*7" in m["type"] or m["type"][:1] in "<]&" or m["type"] == "end")


def pages(name, want, targets, method="GET", headers=()):
    """Nothing of a request comes back as HTML."""

    def run(stage):
        for target in targets:
            answer = stage.http(method, target, headers=headers)
            check(hasattr(answer, "status"), f"{target}: {answer}")
            kind = answer.get("content-type") or ""
            back = b"alert(1)" in answer.body or b"alert(1)" in answer.headers.raw.replace(target.encode(), b"")
            if back and not kind.startswith("application/json"):
                return f"{target}: comes back as {kind}"
            if back and answer.get("x-content-type-options") != "nosniff":
                return f"{target}: comes back without nosniff"
            check(b"Set-Cookie" not in answer.headers.raw, f"{target} sets a cookie")
        return "not repeated"

    ATTACKS.add(name, want, run)


MARKUP = ("<script>alert(1)</script>", "%3Cscript%3Ealert(1)%3C/script%3E", "%22onload=alert(1)//", "%0d%0aSet-Cookie:a=alert(1)",
          "%0d%0a%0d%0a%3Cscript%3Ealert(1)%3C/script%3E", "%E5%98%8A%E5%98%8DSet-Cookie:a=alert(1)")
pages("markup and line breaks in paths", "not repeated",
      [f"{base}{markup}" for base in ("/", "/ws/", "/relay/", "/api/v1/rooms/", "/metrics/", "/chat/") for markup in MARKUP])
pages("markup and line breaks in queries", "not repeated",
      [f"{base}{markup}" for base in ("/?name=", "/?room=", "/?error=", "/sse?room=", "/sse?resume=", "/ws?ticket=", "/healthz?", "/login?next=")
       for markup in MARKUP])
pages("markup in headers", "not repeated", ["/", "/nowhere", "/metrics", "/ws", "/sse?room=demo:1"],
      headers=["User-Agent: <script>alert(1)</script>", "Referer: http://a/<script>alert(1)</script>", "Accept: <script>alert(1)</script>",
               "X-Forwarded-Host: alert(1)", "X-Forwarded-Proto: alert(1)", "Accept-Language: alert(1)"])


@ATTACKS.row("markup in refusals over a WebSocket", "data")
def _(stage):
    with stage.client(full=True) as client:
        for payload in PAYLOADS:
            for message in ({"type": "join", "room": payload}, {"type": payload, "room": "demo:not-joined"}, {"type": "history", "room": "demo:x", "epoch": payload}):
                answer = client.ask(message)
                check(answer["type"] == "error", f"{message}: {answer}")
                check(len(answer["message"].encode()) < 200, f"a long message: {answer}")
    return "data"


@ATTACKS.row("names that deceive: direction, invisible letters, control characters, 10,000 letters", "taken out")
def _(stage):
    for name in ("admin\u202egnp.exe", "a\u200bdmin", "\u2066admin\u2069", "ad\x00min", "admin\x1b[31m", "\ufeffadmin", "a\u0600dmin\r\nadmin", "\u3164", "x" * 10_000,
                 "\U000e0041admin", "Z" + "\u0301" * 1_500):
        with stage.client("/ws/demo:names", query={"name": name}) as client:
            shown = client.hello.get("info", {}).get("name", "")
            check(len(shown) <= 64, f"{len(shown)} characters are shown")
            bad = [c for c in shown if ord(c) < 32 or c in "\u202e\u200b\u2066\u2069\ufeff\x7f\u3164\U000e0041"]
            check(not bad, f"{name[:20]!r} is shown as {shown[:30]!r}")
    return "taken out"


@ATTACKS.row("pages without a strict policy", "strict everywhere")
def _(stage):
    """Every page forbids inline script, framing and sniffing."""
    for target in ("/", "/index.html", "/chat", "/chat.js", "/login", "/admin"):
        answer = stage.http("GET", target)
        if not hasattr(answer, "status") or answer.status != 200 or "html" not in (answer.get("content-type") or ""):
            continue
        policy = answer.get("content-security-policy") or ""
        check("default-src 'none'" in policy or "default-src 'self'" in policy, f"{target}: {policy!r}")
        check("unsafe-inline" not in policy and "unsafe-eval" not in policy and "*" not in policy, f"{target}: {policy!r}")
        check("frame-ancestors 'none'" in policy and "base-uri 'none'" in policy, f"{target}: {policy!r}")
        check(answer.get("x-content-type-options") == "nosniff", f"{target}: no nosniff")
        check(b"<script>" not in answer.body and b" onclick=" not in answer.body and b"javascript:" not in answer.body, f"{target}: inline script")
    return "strict everywhere"
