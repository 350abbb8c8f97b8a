"""Too many at once: storms of reconnects, more connections than file descriptors, thousands who come and go."""

import resource

from attacks import Table, World, check
from attacks.stage import disperse, eventually
from rig.connection import Connection, Response
from rig.frames import request, text

ATTACKS = Table("crowds", ceiling=64)
# The bystanders come from another address; the limits for one address hold for the attacker.
CAPS = World("few connections", '[limits]\nmax_connections = 7\nhandshake_timeout = "2s"\n')
PER_ADDRESS = World("few connections from one address", '[limits]\nmax_connections_per_ip = 5\nexempt = []\nhandshake_timeout = "2s"\n')
UNDECIDED = World("few connections that are not WebSockets", '[limits]\nmax_http_connections = 20\nhandshake_timeout = "1s"\n')
FILES = World("few file descriptors", '[limits]\nmax_connections = 100000\nmax_http_connections = 100000\nhandshake_timeout = "2s"\n',
              limit_files=160)


@ATTACKS.row("a storm of 5,000 who reconnect at once", "5,000 are back", ceiling=96, world=World("a storm", '[limits]\nhandshake_timeout = "5s"\n'))
def _(stage):
    """5,000 sessions lose their connection together and come back, as after a network that failed."""
    size, at_once = 5_000, 250
    tokens = []
    for wave in range(size // at_once):
        peers = [stage.connect() for _ in range(at_once)]
        for peer in peers:
            peer.send(request(f"/ws/demo:storm{wave}"))
        for peer in peers:
            answer = peer.response(30)
            check(isinstance(answer, Response) and answer.status == 101, f"not let in: {answer}")
        for peer in peers:
            got = peer.message(30)
            check(not isinstance(got, str) and b'"connected"' in got[1], f"no greeting: {got}")
            tokens.append(got[1].split(b'"resume":"')[1].split(b'"')[0].decode())
        for peer in peers:
            peer.reset()
    back, open_now = 0, []
    for start in range(0, size, at_once):
        peers = [stage.connect() for _ in range(at_once)]
        for peer, token in zip(peers, tokens[start:start + at_once]):
            peer.send(request(f"/ws/demo:storm{start // at_once}?resume={token}"))
        for peer in peers:
            answer = peer.response(30)
            check(isinstance(answer, Response) and answer.status == 101, f"not let in again: {answer}")
            got = peer.message(30)
            back += not isinstance(got, str) and b'"resumed":true' in got[1]
        open_now += peers
        if len(open_now) > 2000:
            disperse(open_now)
            open_now = []
    disperse(open_now)
    return "5,000 are back" if back == size else f"{back:,} are back"


@ATTACKS.row("4,000 who come and go, one in four in the middle of a message", "every file is closed")
def _(stage):
    before = stage.open_files()
    for _ in range(20):
        peers = stage.crowd(200)
        for n, one in enumerate(peers):
            if n % 4 == 0:
                one.send(text("unfinished", fin=False))
            if n % 4 == 1:
                one.send(b"\x88\x82\0\0\0\0\x03\xe8")
            one.reset() if n % 4 == 2 else one.socket.close()
    eventually(lambda: stage.open_files() <= before + 2, 20, lambda: f"{stage.open_files()} files open, {before} before")
    return "every file is closed"


@ATTACKS.row("5,000 connections that say nothing and go", "every file is closed")
def _(stage):
    before = stage.open_files()
    for _ in range(25):
        peers = []
        for _ in range(200):
            try:
                peers.append(stage.connect())
            except OSError:
                break
        disperse(peers)
    eventually(lambda: stage.open_files() <= before + 2, 20, lambda: f"{stage.open_files()} files open, {before} before")
    return "every file is closed"


def refusal(stage, path="/echo"):
    with stage.connect() as peer:
        peer.send(request(path))
        answer = peer.response()
        if isinstance(answer, Response):
            return f"{answer.status}{' with Retry-After' if (answer.get('retry-after') or '').isdigit() else ''}"
        return answer


def one_too_many(stage):
    """Five are in; the sixth is refused, and nobody loses a connection; who leaves gives a place away."""
    peers = stage.crowd(5)
    found = {refusal(stage) for _ in range(20)}
    check(all(peer.echoes("still in") for peer in peers), "one of those admitted lost its connection")
    peers.pop().reset()
    eventually(lambda: stage.refused("/echo") == "101", 10, "the place of one who left is not given away")
    disperse(peers)
    return " / ".join(sorted(found))


ATTACKS.add("one connection too many", "429 with Retry-After", one_too_many, world=CAPS)
ATTACKS.add("one connection too many from one address", "429 with Retry-After", one_too_many, world=PER_ADDRESS, needs="exempt")


@ATTACKS.row("one address too many, behind X-Forwarded-For that nobody trusts", "429 with Retry-After", world=PER_ADDRESS, needs="exempt")
def _(stage):
    peers = stage.crowd(5)
    found = set()
    for n in range(20):
        with stage.connect() as peer:
            peer.send(request("/echo", add=[f"X-Forwarded-For: 192.0.2.{n}", f"Forwarded: for=192.0.2.{n}", f"X-Real-IP: 192.0.2.{n}"]))
            answer = peer.response()
            found.add(f"{answer.status}{' with Retry-After' if answer.get('retry-after') else ''}")
    disperse(peers)
    return " / ".join(sorted(found))


@ATTACKS.row("connections that never become WebSockets do not keep others out", "let in again", world=UNDECIDED)
def _(stage):
    idle = [stage.connect() for _ in range(60)]
    for one in idle:
        one.send(b"GET /echo HTTP/1.1\r\n")
    first = refusal(stage)
    check(first.startswith("429") or first in ("end of file", "reset"), f"a full server answers {first}")
    eventually(lambda: stage.refused("/echo") == "101", 20, "slow handshakes keep others out for ever")
    disperse(idle)
    return "let in again"


@ATTACKS.row("more connections than file descriptors", "the accept loop recovers", world=FILES)
def _(stage):
    """Descriptors run out; those who are in are served, and when some leave, others get in."""
    peers = []
    for _ in range(400):
        try:
            peer = Connection(stage.port)
            peer.send(request("/echo"))
            peers.append(peer)
        except OSError:
            break
    limit = resource.prlimit(stage.server.pid, resource.RLIMIT_NOFILE)[0]
    eventually(lambda: stage.open_files() > limit * 0.6, 20, lambda: f"{stage.open_files()} of {limit} files are open, so the test tests nothing")
    disperse(peers)
    eventually(lambda: stage.refused("/echo") == "101", 20, "nobody gets in after all have left")
    return "the accept loop recovers"


@ATTACKS.row("a kill -9 and a restart while 200 connect and chat", "up again, everyone gets in", world=World(
    "rooms on disk, killed", '[limits]\nhandshake_timeout = "2s"\n', data=True), own=True, bystanders=False)
def _(stage):
    for _ in range(3):
        peers = [stage.client(f"/ws/demo:kill{n % 10}") for n in range(100)]
        for n, client in enumerate(peers):
            client.write({"type": "chat", "text": "before the end", "ref": 1})
        late = [stage.connect() for _ in range(100)]
        for peer in late:
            peer.send(request("/ws/demo:kill")[: len(request("/ws")) // 2])
        stage.restart(kill=True)
        disperse(peers + late)
    with stage.client("/ws/demo:kill1", query={"rewind": "5"}) as client:
        return "up again, everyone gets in" if client.works() else "not served"


@ATTACKS.row("handshakes faster than one address may", "429 with Retry-After", needs="handshake rate",
             world=World("few handshakes", '[limits]\nhandshakes_per_ip = "5/s burst 20"\nexempt = []\n'))
def _(stage):
    found = set()
    for _ in range(60):
        with stage.connect() as peer:
            peer.send(request("/ws/demo:x"))
            answer = peer.response()
            found.add(f"{answer.status}{' with Retry-After' if answer.get('retry-after') else ''}" if isinstance(answer, Response) else answer)
    found.discard("101")
    return " / ".join(sorted(found))


@ATTACKS.row("handshakes that are refused count as well", "429 with Retry-After", needs="handshake rate",
             world=World("few handshakes", '[limits]\nhandshakes_per_ip = "5/s burst 20"\nexempt = []\n'))
def _(stage):
    found = set()
    for n in range(80):
        with stage.connect() as peer:
            peer.send(request("/ws/demo:x", add=["Origin: http://evil.example"]))
            answer = peer.response()
            found.add(f"{answer.status}{' with Retry-After' if answer.get('retry-after') else ''}" if isinstance(answer, Response) else answer)
    found.discard("403")
    return " / ".join(sorted(found))


