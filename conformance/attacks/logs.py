"""What peers send must not write lines into the log, nor colours, nor secrets."""

from urllib.parse import quote

from attacks import KEY, Table, World, check
from rig.frames import request

TRACE = World("everything logged", log="trace")
ATTACKS = Table("logs", TRACE)
FORGED = "\r\n2026-01-01T00:00:00Z  INFO forged: admin logged in"
ANSI = "\x1b[2J\x1b[31mred\x1b]0;title\x07"


def clean(stage, what):
    """No line of the attacker's making, no escape sequences."""
    for line in stage.log().split(b"\n"):
        check(b"\x1b" not in line and b"\x07" not in line, f"{what}: escape sequences in {line[:200]!r}")
        check(not line.startswith(b"2026-01-01T00:00:00Z"), f"{what}: a forged line {line[:200]!r}")
        check(b"\r" not in line and b"\0" not in line, f"{what}: control characters in {line[:200]!r}")
    return "clean"


@ATTACKS.row("line breaks and colours in names, messages and rooms", "clean")
def _(stage):
    for text in (FORGED, ANSI, FORGED + ANSI):
        with stage.client("/ws/demo:log", query={"name": text}) as client:
            client.write({"type": "chat", "text": text})
            client.write({"type": "x", "room": text, "ref": 1})
            client.write({"type": text})
            client.write("{" + text)
            client.until(lambda m: m.get("code") == "bad_json" or m["type"] == "end")
    return clean(stage, "a message")


@ATTACKS.row("line breaks and colours in paths, methods and headers", "clean")
def _(stage):
    for text in (FORGED, ANSI):
        for data in (request("/ws/" + quote(text)), request("/ws?ticket=" + quote(text)), request("/ws?resume=" + quote(text) + "&token=" + quote(text)),
                     request("/ws/x" + text), request("/ws", method="GE" + text), request("/ws", add=["User-Agent: " + text]),
                     request("/ws", add=["Origin: http://" + text.strip()]), request("/ws", host=text.strip()),
                     request("/ws", add=["Sec-WebSocket-Protocol: " + text.strip()]), request("/ws", add=["X-Forwarded-For: " + text.strip()]),
                     request("/ws", add=["Authorization: Bearer " + text.strip()])):
            stage.raw(data)
    return clean(stage, "a request")


@ATTACKS.row("line breaks and colours in close reasons and events", "clean")
def _(stage):
    from rig.frames import close

    with stage.client("/ws/demo:log") as client:
        client.peer.send(close(1000, (FORGED + ANSI).encode()))
        client.peer.closed(5)
    stage.status("GET", "/sse?room=" + quote(FORGED) + "&name=" + quote(ANSI), headers=["Last-Event-ID: " + quote(ANSI)])
    stage.http("POST", "/send", headers=["Authorization: Bearer " + quote(ANSI)], body=FORGED + ANSI)
    return clean(stage, "a close")


@ATTACKS.row("secrets: keys, tickets, tokens, names and messages, at the level trace", "not logged")
def _(stage):
    """Whatever is shown to the server as a credential is not in its log, good or not."""
    bogus = "t_" + "sekret" * 5 + "xx"
    stage.api("GET", "/counts")
    stage.http("GET", "/api/v1/counts", headers=["Authorization: Bearer sekret-key"])
    for target in (f"/ws?ticket={bogus}", "/ws?resume=sekret-resume", "/ws?token=sekret.token.sekret", f"/sse?room=demo:1&ticket={bogus}"):
        stage.raw(request(target))
    stage.raw(request("/ws", add=[f"Sec-WebSocket-Protocol: throng.v1, ticket.{bogus}"]))
    stage.raw(request("/ws", add=["Sec-WebSocket-Protocol: throng.v1, resume.sekret-resume", "Cookie: a=sekret", "Authorization: Bearer sekret"]))
    with stage.client("/ws/demo:log", query={"name": "sekret-name"}) as client:
        token = client.hello["resume"]
        client.ask({"type": "chat", "text": "sekret-message"})
        client.ask({"type": "auth", "ticket": bogus})
    stage.http("POST", "/login", body={"user": "ada", "password": "sekret-password"})
    log = stage.log()
    for secret in (b"sekret", KEY.encode(), token.encode()):
        check(secret not in log, f"{secret[:12]!r} is logged: {log[max(0, log.find(secret) - 200):][:400]!r}")
    metrics = stage.http("GET", "/metrics").body
    check(b"sekret" not in metrics and token.encode() not in metrics, "a secret is in the metrics")
    return "not logged"


@ATTACKS.row("10,000 refusals do not fill the log", "less than 1 MiB", world=World("defaults logged", log="info"))
def _(stage):
    with stage.browser() as client:
        for n in range(4000):
            client.ask("GET", f"/nowhere/{n}")
    for _ in range(1000):
        stage.raw(b"BAD\r\n\r\n")
    with stage.client("/ws/demo:log") as client:
        for _ in range(500):
            client.write("{")
    size = len(stage.log())
    return "less than 1 MiB" if size < 1 << 20 else f"{size} bytes"


