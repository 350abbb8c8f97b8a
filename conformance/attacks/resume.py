"""Resume tokens: forged, stolen, of others, too often."""

import base64
import random
import threading

from attacks import Table, check
from attacks.stage import disperse, eventually
from rig.connection import Refused
from rig.rooms import Client

ATTACKS = Table("resume tokens")
# A credential that is shown and is no good is refused; a resume token that is not good any more opens a new session.
FRESH = "a new session"


def taken(stage, token, how="query", full=True):
    """What a token gets: whose session, or a new one."""
    try:
        how = {"query": {"resume": token}} if how == "query" else {"protocols": [f"resume.{token}"]}
        with stage.client(full=full, **how) as client:
            return client.user if client.hello.get("resumed") else FRESH
    except Refused as error:
        return str(error.status)


def victim(stage, lost=False):
    """A session, and its token; lost: without a connection."""
    client = stage.client(full=True, query={"name": "victim"})
    if lost:
        client.peer.reset()
    return client


def forged(name, change, want=FRESH):
    """Every change of a good token: none gets the session."""

    def run(stage):
        with victim(stage) as client:
            token, found = client.hello["resume"], set()
            for value in change(token):
                if value != token:
                    found.add(taken(stage, value))
                    found.add(taken(stage, value, "subprotocol") if value.replace("-", "").replace("_", "").isalnum() else FRESH)
            check(client.works(), "the victim's connection is gone")
            return " / ".join(sorted(found)).replace(client.user, "the victim's session")

    ATTACKS.add(name, want, run)


def flipped(token):
    """Every bit of the token, one at a time."""
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    for n in range(len(raw) * 8):
        raw[n // 8] ^= 1 << n % 8
        yield base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode()
        raw[n // 8] ^= 1 << n % 8


forged("every bit flipped, one at a time", flipped)
forged("cut short at every length", lambda token: [token[:n] for n in range(1, len(token))])
forged("with something behind it", lambda token: [token + more for more in ("A", "AAAA", "=", "==", ".", "%00", " ", "\n", token)])
forged("in other letters", lambda token: [token.lower(), token.upper(), token.swapcase(), token.replace("-", "+").replace("_", "/"), token[::-1]])
forged("made up", lambda token: [base64.urlsafe_b64encode(random.Random(n).randbytes(len(token) * 3 // 4)).decode().rstrip("=") for n in range(500)])


@ATTACKS.row("a token whose user was exchanged for another's", FRESH)
def _(stage):
    with victim(stage) as client, stage.client(full=True) as attacker:
        ours = base64.urlsafe_b64decode(attacker.hello["resume"] + "==")
        theirs = base64.urlsafe_b64decode(client.hello["resume"] + "==")
        found = set()
        for at in range(1, min(len(ours), len(theirs))):
            for mixed in (ours[:at] + theirs[at:], theirs[:at] + ours[at:]):
                if mixed not in (ours, theirs):
                    found.add(taken(stage, base64.urlsafe_b64encode(mixed).decode().rstrip("=")))
        # Two tokens of one server share their first bytes: a mixture of nothing is a token itself.
        found.discard(attacker.user if ours[:2] == theirs[:2] else None)
        return " / ".join(sorted(found)).replace(client.user, "the victim's session")


@ATTACKS.row("the ids of a session in place of its token", FRESH)
def _(stage):
    with victim(stage) as client:
        tries = [client.user, client.hello["sessionId"], f"{client.user}.{client.hello['sessionId']}",
                 base64.urlsafe_b64encode(f"{client.user}{client.hello['sessionId']}".encode()).decode().rstrip("=")]
        return " / ".join({taken(stage, value) for value in tries})


@ATTACKS.row("a token of another server", FRESH)
def _(stage):
    from rig import servers

    with servers.throng(program=stage.program) as other:
        with Client(other.port, full=True) as client:
            return taken(stage, client.hello["resume"])


@ATTACKS.row("a token after an orderly end of its session", FRESH)
def _(stage):
    from rig.frames import close

    with victim(stage) as client:
        client.peer.send(close(1000))
        client.peer.closed(10)
        return taken(stage, client.hello["resume"])


@ATTACKS.row("a token taken up by 200 at once", "one has it, the others are told 4409")
def _(stage):
    client = victim(stage)
    clients, lock = [client], threading.Lock()

    def take():
        for _ in range(25):
            one = stage.client(full=True, query={"resume": client.hello["resume"]})
            check(one.hello["resumed"], "not resumed")
            with lock:
                clients.append(one)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ends = ["timeout"] * len(clients)

    def told():
        for n, one in enumerate(clients):
            if ends[n] == "timeout":
                ends[n] = one.next("no such type", timeout=0.05)["how"]
        return ends.count("timeout") <= 1

    eventually(told, 30, lambda: f"{ends.count('timeout')} have it")
    told()  # one of them for good
    disperse(clients)
    others = [end for end in ends if end != "timeout"]
    if ends.count("timeout") == 1 and set(others) == {"close 4409"}:
        return "one has it, the others are told 4409"
    return f"{ends.count('timeout')} have it, others: {set(others)}"


@ATTACKS.row("nobody sees another's token, session or address", "none of them")
def _(stage):
    with stage.client("/ws/demo:secrets", query={"name": "Ada"}) as ada:
        with stage.client("/ws/demo:secrets", query={"name": "Bob"}) as bob:
            bob.ask({"type": "chat", "text": "hi"})
            ada.ask({"type": "presence"})
            ada.ask({"type": "history"})
            secrets = [bob.hello["resume"], bob.hello["sessionId"]]
        ada.until(lambda m: m["type"] == "user_left", 1)
        seen = str(ada.all(0.2)) + str(stage.http("GET", "/metrics").body)
        for secret in (*secrets, "127.0.0.1"):
            if secret in seen.replace(f"127.0.0.1:{stage.port}", ""):
                return f"{secret} is seen"
        return "none of them"


@ATTACKS.row("a flood of sessions that are lost at once", "held", ceiling=24)
def _(stage):
    """5,000 sessions, each lost as soon as it is there: what is kept of them is bounded."""
    for _ in range(25):
        clients = [stage.upgrade("/ws", add=["Sec-WebSocket-Protocol: throng.v1"]) for _ in range(200)]
        for one in clients:
            one.reset()
    return "held" if stage.status("GET", "/healthz") == "200" else "not healthy"
