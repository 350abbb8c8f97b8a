"""Floods of small things: what is cheap to send must be cheap to take, or be refused."""

import time

from attacks import MEBIBYTE, Table
from attacks.stage import compact, disperse
from rig.connection import describe_close
from rig.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, frame, text

ATTACKS = Table("floods", ceiling=16)
ABUSE = ("close 4429",)


def ends(peer, timeout=30):
    while not isinstance(got := peer.frame(timeout), str):
        if got.opcode == CLOSE:
            return describe_close(got.payload)
    return got


def blind(name, burst, most=16 * MEBIBYTE, count=8, path="/echo", want="held", **how):
    """Floods whose answers are never read: the server stops taking them, and keeps little."""

    def run(stage):
        peers = [stage.upgrade(path, receive_buffer=4096) for _ in range(count)]
        for peer in peers:
            flood(peer, burst, most)
        answer = stage.status("GET", "/healthz")
        disperse(peers)
        return "held" if answer == "200" else f"healthz: {answer}"

    ATTACKS.add(name, want, run, **{"ceiling": count * 3, **how})


def flood(peer, burst, most):
    """Sends without ever reading, until the server stops taking it."""
    peer.socket.setblocking(True)
    peer.socket.settimeout(0.7)
    sent = 0
    try:
        while sent < most:
            sent += peer.socket.send(burst)
    except OSError:
        pass  # held back, or cut: both are good


blind("pings whose pongs are never read", frame(PING, b"p" * 125) * 2000)
blind("pings into a room whose pongs are never read", frame(PING, b"p" * 125) * 2000, path="/ws/demo:flood")
blind("echoes that are never read", frame(BINARY, bytes(50_000)) * 4)
blind("commands whose answers are never read", text('{"type":"ping","sent":1}') * 1000, path="/ws/demo:flood")
blind("messages whose echoes are never read, in a relay", frame(BINARY, bytes(50_000)) * 4, path="/relay/unread", count=2, ceiling=24)


def fragments(name, piece, want="close 1008"):
    def run(stage):
        found = set()
        for _ in range(4):
            with stage.upgrade("/echo") as peer:
                peer.send(text(b"", fin=False) + piece * 300_000)
                found.add(ends(peer))
        return " / ".join(found)

    ATTACKS.add(name, want, run)


fragments("fragments of nothing", frame(CONTINUATION, fin=False))
fragments("fragments of one byte", frame(CONTINUATION, b"b", fin=False))


def read(name, want, burst, times, path="/echo", *, needs="", full=False, ceiling=16):
    """Floods whose answers are read; the outcome is how it ends, or `survives`."""

    def run(stage):
        with stage.client(path, full=full) if path.startswith("/ws") else stage.upgrade(path) as client:
            peer = getattr(client, "peer", client)
            for _ in range(times):
                if not peer.send(burst, timeout=5) or peer.ended:
                    break
                if len(peer.inbox) > MEBIBYTE:
                    drop_frames(peer)
                    if peer.closing:
                        return peer.closing
            peer.send(frame(PING, b"the end"))
            while not isinstance(got := peer.frame(20), str):
                if got.opcode == CLOSE:
                    return describe_close(got.payload)
                if got.opcode == PONG and got.payload == b"the end":
                    return "survives"
            return got

    ATTACKS.add(name, want, run, needs=needs, ceiling=ceiling)


def drop_frames(peer):
    """Takes the whole frames that have come, but remembers a close."""
    peer.closing = getattr(peer, "closing", "")
    while found := peer._parse():
        if found.opcode == CLOSE:
            peer.closing = describe_close(found.payload)


# Where rates are off, a flood is served as fast as the server can, and others do not notice.
read("200,000 empty frames to an echo", "survives", text(b"") * 5000, 40)
read("200,000 pings to an echo", "survives", frame(PING, b"") * 5000, 40)
read("200,000 pongs nobody asked for, to an echo", "survives", frame(PONG, b"x") * 5000, 40)
read("50,000 small messages to a relay", "survives", frame(BINARY, b"x") * 1000, 50, "/relay/flood")

# In rooms every frame costs a token, and who goes on is sent away.
read("100,000 empty frames to a room", ABUSE, text(b"") * 2000, 50, "/ws/demo:flood", needs="rates")
read("100,000 pings to a room", ABUSE, frame(PING, b"") * 2000, 50, "/ws/demo:flood", needs="rates")
read("100,000 pongs to a room", ABUSE, frame(PONG, b"x") * 2000, 50, "/ws/demo:flood", needs="rates")
read("100,000 empty fragments to a room, in many messages", ABUSE,
     (text(b"", fin=False) + frame(CONTINUATION, fin=False) * 98 + frame(CONTINUATION, b"")) * 20, 50, "/ws/demo:flood", needs="rates")
read("50,000 messages that are no JSON", ABUSE, text("{") * 1000, 50, "/ws/demo:flood", needs="rates")
read("50,000 messages of binary", ABUSE, frame(BINARY, b"x") * 1000, 50, "/ws/demo:flood", needs="rates")
read("50,000 chats", ABUSE, text('{"type":"chat"}') * 1000, 50, "/ws/demo:flood", needs="rates")
read("50,000 commands that ping", ABUSE, text('{"type":"ping"}') * 1000, 50, "/ws/demo:flood", needs="rates")
read("20,000 joins and leaves", ABUSE, text('{"type":"join","room":"demo:f"}') * 500 + text('{"type":"leave","room":"demo:f"}') * 500, 20,
     "/ws", needs="rates", full=True)
read("20,000 questions for the past", ABUSE, text('{"type":"history","limit":200}') * 500, 40, "/ws/demo:flood", needs="rates")
read("20,000 questions for who is there", ABUSE, text('{"type":"presence"}') * 500, 40, "/ws/demo:flood", needs="rates")
read("500 resumes of 1,000 rooms", ABUSE, text(compact({"type": "resume", "rooms": {f"demo:{n}": {} for n in range(1000)}})) * 5, 100,
     "/ws", needs="rates", full=True, ceiling=32)
read("5,000 refreshes with made-up tickets", ABUSE, text('{"type":"auth","ticket":"t_' + "a" * 32 + '"}') * 500, 10, "/ws/demo:flood",
     needs="rates")


@ATTACKS.row("100 MiB to a room, in messages within the limit", "close 4429", needs="rates", ceiling=24)
def _(stage):
    message = text(compact({"type": "chat", "text": "x" * 60_000})) * 4
    with stage.client("/ws/demo:bytes") as client:
        sent = 0
        while sent < 100 * MEBIBYTE and client.peer.send(message, timeout=5) and not client.peer.ended:
            sent += len(message)
            drop_frames(client.peer)
            if client.peer.closing:
                return client.peer.closing
        return ends(client.peer)


@ATTACKS.row("the first message too many is refused with how long to wait", "error rate_limited, with retryAfter", needs="rates")
def _(stage):
    with stage.client("/ws/demo:first") as client:
        for n in range(1, 1300):
            client.write({"type": "ping", "ref": n})
        answer = client.next("error", timeout=20)
        told = isinstance(answer.get("retryAfter"), int) and answer.get("temporary")
        return f"error {answer.get('code')}{', with retryAfter' if told else ''}"


@ATTACKS.row("a plain client that stays just below its rate (and stays)", "survives", needs="rates")
def _(stage):
    with stage.client("/ws/demo:below") as client:
        for n in range(300):
            client.write({"type": "chat", "text": "x" * 1000, "ref": n + 1})
            if (answer := client.answer(n + 1))["type"] != "ack":
                return f"{answer}"
            client.seen.clear()
            time.sleep(0.006)
        return "survives"


@ATTACKS.row("6,000 messages by /send, each into another room", "error rate_limited, with Retry-After", ceiling=24)
def _(stage):
    with stage.client(full=True) as client, stage.browser() as way:
        for n in range(6000):
            answer = way.ask("POST", "/send", headers=[f"Authorization: Bearer {client.hello['resume']}"],
                             body={"type": "chat", "room": f"demo:send{n}", "text": "x"})
            if answer.status != 200:
                return f"error {answer.json()['code']}{', with Retry-After' if answer.get('retry-after') else ''}"
        return "all are taken"


@ATTACKS.row("a way around the rate: 20 connections of one signed-in user", "error rate_limited", needs="rates")
def _(stage):
    """The rate of a user holds for all of its connections together."""
    clients = [stage.client("/ws/demo:many", query={"ticket": stage.ticket("flooder", rooms={"demo:*": ["join", "send"]})}) for _ in range(20)]
    found = set()
    for round in range(150):
        for client in clients:
            client.ref += 1
            client.write({"type": "ping" if round % 2 else "x", "ref": client.ref})
    for client in clients:
        if (got := client.next("error", timeout=1))["type"] == "error":
            found.add(f"error {got['code']}")
        client.peer.socket.close()
    return " / ".join(found)
