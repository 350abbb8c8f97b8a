"""Sessions after they should be over: revoked, expired, banned, refreshed too late, and after a kill -9."""

import time

from attacks import Table, World, check
from rig.connection import Refused
from rig.rooms import outcome

QUICK = World("sessions that are looked at often", '[access]\nrecheck = "500ms"\n', data=True)
ATTACKS = Table("sessions", QUICK, needs="tickets")


def signed_in(stage, user="ada", **ticket):
    return stage.client(full=True, query={"ticket": stage.ticket(user, **ticket)})


AT_ONCE = 10.0  # seconds: not only when sessions are looked at, as they are every 30


def ends(client, within):
    """How the connection ends; it must within so many seconds."""
    started = time.monotonic()
    got = client.next("no such type", timeout=within + 20)
    took = time.monotonic() - started
    return got["how"] if took <= within else f"{got['how']}, after {took:.1f} s"


def back(stage, token):
    """What a resume token still gets."""
    try:
        with stage.client(full=True, query={"resume": token}) as client:
            return client.user if client.hello.get("resumed") else "nothing"
    except Refused as error:
        return str(error.status)


OUT = "close 4401, then nothing"


@ATTACKS.row("a session that was revoked is out at once, and stays out", OUT)
def _(stage):
    with signed_in(stage) as client:
        stage.api("DELETE", f"/sessions/{client.hello['sessionId']}")
        return f"{ends(client, AT_ONCE)}, then {back(stage, client.hello['resume'])}"


@ATTACKS.row("every session of a user that was revoked", OUT)
def _(stage):
    clients, unused = [signed_in(stage, "mallory") for _ in range(5)], stage.ticket("mallory")
    others = signed_in(stage, "ada")
    stage.api("POST", "/users/mallory/revoke", {})
    found = {f"{ends(client, AT_ONCE)}, then {back(stage, client.hello['resume'])}" for client in clients}
    check(others.works(), "another user is out, too")
    check(stage.enters(query={"ticket": unused}) == "401", "a ticket from before is good")
    for client in [*clients, others]:
        client.peer.socket.close()
    return " / ".join(found)


@ATTACKS.row("a session that expires", "close 4401, then nothing")
def _(stage):
    with signed_in(stage, sessionTtl=1500) as client:
        return f"{ends(client, AT_ONCE)}, then {back(stage, client.hello['resume'])}"


@ATTACKS.row("events and /send of a revoked session", "401")
def _(stage):
    with signed_in(stage, "eve") as client:
        token = client.hello["resume"]
        stage.api("POST", "/users/eve/revoke", {})
        ends(client, AT_ONCE)
        return " / ".join(sorted({stage.status("POST", "/send", headers=[f"Authorization: Bearer {token}"], body={"type": "chat", "room": "team:a"}),
                                  stage.status("GET", f"/sse?room=team:a&resume={token}")}))


@ATTACKS.row("a late refresh does not revive a session that was revoked", "close 4401, then nothing")
def _(stage):
    """The refresh is sent at the same moment as the revocation; whichever is first, the session is over."""
    found = set()
    for n in range(20):
        user = f"late{n}"
        with signed_in(stage, user) as client:
            ticket = stage.ticket(user)
            client.write({"type": "auth", "ticket": ticket, "ref": 1})
            stage.api("POST", f"/users/{user}/revoke", {})
            client.write({"type": "auth", "ticket": ticket, "ref": 2})
            found.add(f"{ends(client, AT_ONCE)}, then {back(stage, client.hello['resume'])}")
    return " / ".join(sorted(found)).replace("then 401", "then nothing")


@ATTACKS.row("a session that is taken up keeps its rights, and no others", "joined, error forbidden")
def _(stage):
    with signed_in(stage, "ada", rooms={"team:a": ["join"]}) as client:
        token = client.hello["resume"]
        client.peer.reset()
    with stage.client(full=True, query={"resume": token}) as again:
        check(again.hello["resumed"], "not resumed")
        return f"{outcome(again.ask({'type': 'join', 'room': 'team:a'}))}, {outcome(again.ask({'type': 'join', 'room': 'team:b'}))}"


@ATTACKS.row("a refresh with fewer rights takes away what is open", "left")
def _(stage):
    with signed_in(stage, "ada", rooms={"team:a": ["join", "send"]}) as client:
        client.ask({"type": "join", "room": "team:a"})
        check(outcome(client.ask({"type": "auth", "ticket": stage.ticket("ada", rooms={"team:b": ["join"]})})) == "authed", "not authed")
        got = client.next("left", timeout=20)
        with signed_in(stage, "bob") as bob:
            bob.ask({"type": "join", "room": "team:a"})
            bob.ask({"type": "chat", "room": "team:a", "text": "private"})
        check("private" not in str(client.all(0.3)), "it still hears the room")
        return got["type"]


@ATTACKS.row("somebody who is banned from a room: out, and not in again", "left, error forbidden")
def _(stage):
    with signed_in(stage, "troll") as client:
        client.ask({"type": "join", "room": "team:ban"})
        answer = stage.api("POST", "/rooms/team:ban/bans", {"user": "troll"})
        check(answer.status in (200, 201, 204), f"not banned: {answer.status} {answer.body}")
        got = client.next("left", timeout=20)["type"]
        return f"{got}, {outcome(client.ask({'type': 'join', 'room': 'team:ban'}))}"


@ATTACKS.row("somebody who is banned from the server: out, and not in again", "close 4403, then 403 / nothing")
def _(stage):
    before = [stage.ticket("spammer"), stage.ticket("spammer")]
    with signed_in(stage, "spammer") as client:
        token = client.hello["resume"]
        answer = stage.api("POST", "/bans", {"user": "spammer"})
        check(answer.status in (200, 201, 204), f"not banned: {answer.status} {answer.body}")
        found = ends(client, AT_ONCE)
    check(stage.api("POST", "/tickets", {"userId": "spammer"}).status == 403, "there is a ticket for who is banned")
    again = {stage.enters(query={"ticket": before[0]}), back(stage, token), stage.status("GET", f"/sse?room=team:a&ticket={before[1]}")}
    return f"{found}, then {' / '.join(sorted(again))}"


@ATTACKS.row("somebody who is banned, or has a used ticket, and asks to be told why; from another site's page", "close 4403, close 4401, 403")
def _(stage):
    ticket, foreign = stage.ticket("banned"), stage.ticket("banned")
    answer = stage.api("POST", "/bans", {"user": "banned"})
    check(answer.status in (200, 201, 204), f"not banned: {answer.status} {answer.body}")

    def told(ticket, **how):
        return stage.enters("/ws", query={"ticket": ticket, "refusal": "close"}, protocols=("throng.v1",), **how)

    return ", ".join([told(ticket), told(ticket), told(foreign, headers=["Origin: http://evil.example"])])


@ATTACKS.row("a kick from a room", "left")
def _(stage):
    with signed_in(stage, "guest") as client:
        client.ask({"type": "join", "room": "team:kick"})
        answer = stage.api("POST", "/rooms/team:kick/kick", {"user": "guest"})
        check(answer.status == 200, f"not kicked: {answer.status} {answer.body}")
        return client.next("left", timeout=20)["type"]


@ATTACKS.row("a room of members only: by ticket for others, by name, as a stranger", "error forbidden", world=World(
    "a room of members", '[[room]]\nmatch = "club:*"\nmembership = true\n'))
def _(stage):
    stage.api("PUT", "/rooms/club:a/members/ada", {})
    with signed_in(stage, "ada") as ada:
        check(outcome(ada.ask({"type": "join", "room": "club:a"})) == "joined", "a member is not let in")
        found = set()
        for user in ("bob", "adA", "ada2"):
            with signed_in(stage, user) as client:
                found.add(outcome(client.ask({"type": "join", "room": "club:a"})))
        with stage.client(full=True) as stranger:
            found.add(outcome(stranger.ask({"type": "join", "room": "club:a"})))
        stage.api("DELETE", "/rooms/club:a/members/ada")
        check(ada.next("left", timeout=20)["type"] == "left", "who is no member any more is still in")
        found.add(outcome(ada.ask({"type": "join", "room": "club:a"})))
    return " / ".join(sorted(found))


@ATTACKS.row("sessions and revocation without the scope", "403")
def _(stage):
    found = set()
    for scope in ("publish", "read", "tickets"):
        for method, path in (("GET", "/sessions"), ("DELETE", "/sessions/s_1"), ("POST", "/users/ada/revoke"), ("POST", "/tokens/x/revoke"), ("POST", "/bans"), ("PUT", "/rooms/club:a/members/ada"),
                             ("POST", "/rooms/club:a/kick")):
            found.add(stage.status(method, "/api/v1" + path, headers=[f"Authorization: Bearer {stage.scoped(scope)}"], body={} if method != "GET" else None))
    return " / ".join(sorted(found))


@ATTACKS.row("reading without the scope, publishing without the scope", "403")
def _(stage):
    found = {stage.status("GET", "/api/v1/rooms/team:a/history", headers=[f"Authorization: Bearer {stage.scoped(scope)}"]) for scope in ("publish", "tickets", "sessions", "rooms")}
    found |= {stage.status("POST", "/api/v1/rooms/team:a/messages", headers=[f"Authorization: Bearer {stage.scoped(scope)}"], body={"type": "chat"}) for scope in ("read", "tickets", "sessions", "rooms")}
    return " / ".join(sorted(found))


@ATTACKS.row("kill -9: used tickets stay used, revoked sessions stay out, others come back", "401, nothing, nothing, ada", own=True, bystanders=False)
def _(stage):
    used, late = stage.ticket("ada"), stage.ticket("mallory")
    with stage.client(full=True, query={"ticket": used}) as ada, signed_in(stage, "mallory") as mallory, signed_in(stage, "eve") as eve:
        stage.api("POST", "/users/mallory/revoke", {})
        stage.api("DELETE", f"/sessions/{eve.hello['sessionId']}")
        stage.restart(kill=True)
        found = [stage.enters(query={"ticket": used}), back(stage, mallory.hello["resume"]), back(stage, eve.hello["resume"]), back(stage, ada.hello["resume"])]
        check(stage.enters(query={"ticket": late}) == "401", "a ticket of a revoked user is good")
    return ", ".join(found)


@ATTACKS.row("kill -9 in the middle of 200 handshakes with tickets: none is good twice", "none twice", own=True, bystanders=False)
def _(stage):
    from rig.connection import Response
    from rig.frames import request

    for _ in range(2):
        tickets = [stage.ticket(f"user{n}") for n in range(100)]
        peers = [stage.connect() for _ in tickets]
        for peer, ticket in zip(peers, tickets):
            peer.send(request(f"/ws/team:a?ticket={ticket}"))
        first = peers[0].response(10)
        stage.server.process.kill()
        admitted = {ticket for peer, ticket in zip(peers, tickets) if isinstance(answer := (first if peer is peers[0] else peer.response(2)), Response) and answer.status == 101}
        for peer in peers:
            peer.socket.close()
        stage.restart(kill=True)
        check(admitted, "nobody was let in, so the test tests nothing")
        twice = [ticket for ticket in admitted if stage.enters(query={"ticket": ticket}) != "401"]
        check(not twice, f"{len(twice)} of {len(admitted)} tickets are good twice")
    return "none twice"


@ATTACKS.row("an open stream of events of a session that was revoked", "ends at once")
def _(stage):
    with stage.connect() as reader:
        reader.send(f"GET /sse?room=team:a&ticket={stage.ticket('reader')} HTTP/1.1\r\nHost: 127.0.0.1:{stage.port}\r\n\r\n".encode())
        answer = reader.response()
        check(getattr(answer, "status", answer) == 200, f"no stream: {answer}")
        stage.api("POST", "/users/reader/revoke", {})
        started = time.monotonic()
        ended = reader.closed(30)
        took = time.monotonic() - started
        return "ends at once" if ended and took < AT_ONCE else f"{'ends' if ended else 'is open'} after {took:.1f} s"


@ATTACKS.row("an open stream of events of somebody who is banned", "ends at once")
def _(stage):
    with stage.connect() as reader:
        reader.send(f"GET /sse?room=team:a&ticket={stage.ticket('pest')} HTTP/1.1\r\nHost: 127.0.0.1:{stage.port}\r\n\r\n".encode())
        answer = reader.response()
        check(getattr(answer, "status", answer) == 200, f"no stream: {answer}")
        stage.api("POST", "/bans", {"user": "pest"})
        started = time.monotonic()
        ended = reader.closed(30)
        took = time.monotonic() - started
        return "ends at once" if ended and took < AT_ONCE else f"{'ends' if ended else 'is open'} after {took:.1f} s"


@ATTACKS.row("a good resume token with a bad ticket, a bad resume token with a good ticket", "ada resumed, 401, bob")
def _(stage):
    """A session that may be taken up wins; what is out of date does not spoil a ticket; a bad ticket is refused."""
    found = []
    with signed_in(stage, "ada") as ada:
        token = ada.hello["resume"]
        with stage.client(full=True, query={"resume": token, "ticket": "t_" + "a" * 32}) as again:
            found.append(f"{again.user}{' resumed' if again.hello['resumed'] else ''}")
    found.append(stage.enters("/ws/demo:a", query={"resume": "x", "ticket": "t_" + "a" * 32}))
    with stage.client(full=True, query={"resume": "x", "ticket": stage.ticket("bob")}) as bob:
        found.append(bob.user)
    return ", ".join(found)


CLOSED = World("nobody without a credential", '[access]\nanonymous = []\n[rooms]\nanonymous = false\n', bystanders=False)


@ATTACKS.row("no credential where nobody is anonymous: every way in", "401", world=CLOSED)
def _(stage):
    found = {stage.enters(path) for path in ("/", "/ws", "/ws/lobby", "/ws/demo:a", "/ws/@u_x")}
    found |= {stage.refused("/ws", add=["Sec-WebSocket-Protocol: throng.v1"]), stage.enters("/ws/lobby", query={"resume": "x"}), stage.enters("/ws/lobby", query={"name": "admin"}),
              stage.status("GET", "/sse?room=lobby"), stage.status("GET", "/sse?room=lobby&resume=x"), stage.status("POST", "/send", body={"type": "chat", "room": "lobby"}),
              stage.enters("/ws/lobby", query={"ticket": ""}), stage.enters("/ws/lobby", query={"token": ""}), stage.enters("/ws/lobby", headers=["Authorization: Bearer "])}
    check(stage.enters("/ws/team:a", query={"ticket": stage.ticket("ada")}) == "101 ada", "a ticket is not taken")
    return " / ".join(sorted(found))
