"""Tickets: used twice, too late, from elsewhere, guessed, for others, for more than they say."""

import statistics
import time
from urllib.parse import urlencode

from attacks import Table, World, check
from attacks.stage import compact, disperse
from rig.connection import Response
from rig.frames import request
from rig.rooms import outcome

PRIVATE = World("private rooms", '[limits]\nhandshake_timeout = "5s"\n')
ATTACKS = Table("tickets", PRIVATE, needs="tickets")
GONE = "t_" + "a" * 32


def row(name, want, **how):
    return ATTACKS.row(name, want, **how)


@row("used twice", "101 ada, then 401")
def _(stage):
    ticket = stage.ticket()
    return f"{stage.enters(query={'ticket': ticket})}, then {stage.enters(query={'ticket': ticket})}"


@row("used twice, by another way", "401")
def _(stage):
    ticket, found = stage.ticket(), set()
    check(stage.enters(protocols=["throng.v1", f"ticket.{ticket}"]).startswith("101"), "a subprotocol is not taken")
    found.add(stage.enters(query={"ticket": ticket}))
    found.add(stage.enters(protocols=[f"ticket.{ticket}"]))
    found.add(stage.enters(headers=[f"Authorization: Bearer {ticket}"]))
    found.add(stage.enters(query={"token": ticket}))
    found.add(stage.status("GET", f"/sse?room=team:a&ticket={ticket}"))
    return " / ".join(sorted(found))


@row("1,000 at once with one ticket", "one gets in, 999 are 401", ceiling=48)
def _(stage):
    ticket, found = stage.ticket(), []
    data = request("/ws/team:a?" + urlencode({"ticket": ticket}))
    for _ in range(2):
        peers = [stage.connect() for _ in range(500)]
        for peer in peers:
            peer.send(data[:-1])
        for peer in peers:
            peer.send(data[-1:])
        for peer in peers:
            answer = peer.response(30)
            found.append(answer.status if isinstance(answer, Response) else answer)
        disperse(peers)
    if found.count(101) == 1 and found.count(401) == 999:
        return "one gets in, 999 are 401"
    return f"{found.count(101)} get in, {found.count(401)} are 401, others: {set(found) - {101, 401}}"


@row("100 refreshes at once with one ticket", "one is authed, 99 are unauthorized")
def _(stage):
    clients = [stage.client("/ws", full=True, query={"ticket": stage.ticket()}) for _ in range(100)]
    ticket = stage.ticket()
    for client in clients:
        client.write({"type": "auth", "ticket": ticket, "ref": 1})
    found = [outcome(client.answer(1)) for client in clients]
    disperse(clients)
    if found.count("authed") == 1 and found.count("error unauthorized") == 99:
        return "one is authed, 99 are unauthorized"
    return f"{found.count('authed')} are authed, others: {set(found)}"


@row("too late", "401")
def _(stage):
    ticket = stage.ticket(ttl=1000)
    time.sleep(1.3)  # the time is what is tested
    return stage.enters(query={"ticket": ticket})


@row("from another address, and then from its own", "401, then 101 ada")
def _(stage):
    ticket = stage.ticket(ip="127.0.0.9")
    wrong = {stage.enters(query={"ticket": ticket}), stage.enters(query={"ticket": ticket}, source="127.0.0.10")}
    return f"{' / '.join(wrong)}, then {stage.enters(query={'ticket': ticket}, source='127.0.0.9')}"


FORWARDS = [f"{name}: {value}" for name, value in (("X-Forwarded-For", "192.0.2.1"), ("X-Real-IP", "192.0.2.1"), ("Forwarded", "for=192.0.2.1"),
            ("CF-Connecting-IP", "192.0.2.1"), ("True-Client-IP", "192.0.2.1"), ("X-Client-IP", "192.0.2.1"))]


@row("from another address, with headers that say otherwise", "401")
def _(stage):
    ticket = stage.ticket(ip="192.0.2.1")
    return " / ".join({stage.enters(query={"ticket": ticket}, headers=[header]) for header in FORWARDS})


PROXY = World("behind a proxy", '[limits]\ntrusted_proxies = ["127.0.0.1/32"]\n')


@row("behind a trusted proxy, with addresses of the attacker's before it", "401, then 101 ada", world=PROXY)
def _(stage):
    """Only what the trusted proxy added counts: the last address of the list."""
    ticket, found = stage.ticket(ip="192.0.2.1"), set()
    for value in ("192.0.2.1, 198.51.100.7", "192.0.2.1,198.51.100.7,127.0.0.1", "198.51.100.7", "unknown", "192.0.2.1, garbage", "", "192.0.2.1:80, x"):
        found.add(stage.enters(query={"ticket": ticket}, headers=[f"X-Forwarded-For: {value}"]))
    for headers in (["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 198.51.100.7"], ["X-Real-IP: 192.0.2.1"],
                    ["Forwarded: for=192.0.2.1", "X-Forwarded-For: 198.51.100.7"], ["Forwarded: for=192.0.2.1"]):
        found.add(stage.enters(query={"ticket": ticket}, headers=headers))
    found.add(stage.enters(query={"ticket": ticket}, headers=["X-Forwarded-For: 192.0.2.1"], source="127.0.0.9"))  # not the proxy
    good = stage.enters(query={"ticket": ticket}, headers=["X-Forwarded-For: 198.51.100.7, 192.0.2.1"])
    return f"{' / '.join(sorted(found))}, then {good}"


@row("2,000 guesses", "401")
def _(stage):
    found = set()
    with stage.browser() as client:
        for n in range(2000):
            answer = client.ask("GET", f"/sse?room=team:a&ticket=t_{n:032}")
            found.add(str(getattr(answer, "status", answer)))
    return " / ".join(found)


@row("spelt otherwise", "401")
def _(stage):
    ticket, found = stage.ticket(), set()
    for value in (ticket.upper(), ticket[:-1], ticket + "a", ticket + " ", " " + ticket, ticket + "\0", ticket[2:], "T_" + ticket[2:], ticket + "&", ticket[::-1],
                  "t_" + ticket, "*", "%", "t_%", "' OR 1=1--", "t_" + "'" * 32, "", "null", "[]", "x" * 8000):
        found.add(stage.enters(query={"ticket": value}))
    check(stage.enters(query={"ticket": ticket}) == "101 ada", "the ticket itself is spoilt")
    return " / ".join(sorted(found))


@row("twice in one query, one of them good", "401")
def _(stage):
    found = {stage.enters(f"/ws/team:a?ticket={GONE}&ticket={stage.ticket()}")}
    return " / ".join(found)


@row("a bad one where nobody needs one", "401")
def _(stage):
    """What is shown and not good is never as if nothing had been shown."""
    return " / ".join({stage.enters("/ws/demo:a", query={"ticket": GONE}), stage.enters("/ws/demo:a", headers=[f"Authorization: Bearer {GONE}"]),
                       stage.enters("/ws/demo:a", protocols=[f"ticket.{GONE}"]), stage.enters("/ws/demo:a", query={"token": "x.y.z"}),
                       stage.status("GET", f"/sse?room=demo:a&ticket={GONE}")})


@row("none, for a room that needs one", "401")
def _(stage):
    return " / ".join({stage.enters(), stage.enters("/ws/secret"), stage.enters("/ws/lobby2"), stage.status("GET", "/sse?room=team:a"),
                       stage.enters(headers=[f"Cookie: ticket={stage.ticket()}"]), stage.enters(headers=[f"X-Ticket: {stage.ticket()}"])})


@row("how long a used and a made-up one take tells nothing", "the same time")
def _(stage):
    used = stage.ticket()
    stage.enters(query={"ticket": used})
    with stage.browser() as client:
        for _ in range(4):
            times = {used: [], GONE: []}
            for _ in range(200):
                for ticket in times:
                    started = time.perf_counter()
                    client.ask("GET", f"/sse?room=team:a&ticket={ticket}")
                    times[ticket].append(time.perf_counter() - started)
            apart = abs(statistics.median(times[used]) - statistics.median(times[GONE]))
            if apart < 0.000_25:
                return "the same time"
    return f"{apart * 1e6:.0f} µs apart"


@row("in the log, at the level trace", "not logged", world=World("private rooms, everything logged", log="trace"))
def _(stage):
    tickets = [stage.ticket(name="sekret-name") for _ in range(5)]
    stage.enters(query={"ticket": tickets[0]})
    stage.enters(query={"ticket": tickets[0]})
    stage.enters(protocols=["throng.v1", f"ticket.{tickets[1]}"])
    stage.enters(headers=[f"Authorization: Bearer {tickets[2]}"])
    stage.status("GET", f"/sse?room=other&ticket={tickets[3]}")
    with stage.client(full=True, query={"ticket": stage.ticket()}) as client:
        client.ask({"type": "auth", "ticket": tickets[4]})
        client.ask({"type": "auth", "ticket": tickets[4]})
    log = stage.log() + stage.http("GET", "/metrics").body
    found = [ticket for ticket in tickets if ticket[2:].encode() in log or ticket[2:18].encode() in log]
    return "not logged" if not found and b"sekret" not in log else f"{found} is logged"


# --- What a ticket is not good for.
@row("a refresh with another user's ticket", "error unauthorized, and the ticket is still good")
def _(stage):
    with stage.client(full=True, query={"ticket": stage.ticket("ada")}) as client:
        bobs = stage.ticket("bob")
        found = outcome(client.ask({"type": "auth", "ticket": bobs}))
        check(client.works(), "the connection is gone")
        still = stage.enters(query={"ticket": bobs})
        return f"{found}, {'and the ticket is still good' if still == '101 bob' else still}"


@row("a refresh that is made up, used or missing", "error unauthorized")
def _(stage):
    with stage.client(full=True, query={"ticket": stage.ticket()}) as client:
        good = stage.ticket()
        check(outcome(client.ask({"type": "auth", "ticket": good})) == "authed", "a good one is not taken")
        found = {outcome(client.ask({"type": "auth", "ticket": ticket})) for ticket in (good, GONE, "", "x", "t_" + "é" * 32)}
        check(client.works(), "the connection is gone")
        return " / ".join(sorted(found - {"error bad_message"}))


@row("a refresh of an anonymous session", "error unauthorized")
def _(stage):
    with stage.client("/ws/demo:a") as client:
        return outcome(client.ask({"type": "auth", "ticket": stage.ticket()}))


def rights(name, want, rooms, *tries, path="/ws", full=True, **how):
    """What somebody with these rights tries."""

    def run(stage):
        with stage.client("/ws/team:a", query={"ticket": stage.ticket("owner")}) as owner:
            owner.ask({"type": "chat", "text": "private"})
            with stage.client(path, full=full, query={"ticket": stage.ticket("eve", rooms=rooms)}) as eve:
                found = [outcome(answer := eve.ask(message)) for message in tries]
                seen = compact(answer) + compact(eve.all(0.2))
                check("private" not in seen, f"it reads {seen}")
                return ", ".join(found)

    ATTACKS.add(name, want, run, **how)


JOIN, CHAT, NOTE = {"type": "join", "room": "team:a"}, {"type": "chat", "room": "team:a"}, {"type": "note", "room": "team:a"}
PAST, WHO = {"type": "history", "room": "team:a"}, {"type": "presence", "room": "team:a"}
rights("rights for another room", "error forbidden, error not_joined, error not_joined, error not_joined", {"team:b": ["join", "send"]}, JOIN, CHAT, PAST, WHO)
rights("the right to join only: sending", "joined, error forbidden", {"team:a": ["join"]}, JOIN, CHAT)
rights("the right to join only: the past", "joined, error forbidden", {"team:a": ["join"]}, JOIN, PAST)
rights("the right to join only: who is there", "joined, error forbidden", {"team:a": ["join"]}, JOIN, WHO)
rights("the right to join only: the past by since and rewind", "joined, error forbidden", {"team:a": ["join"]}, {**JOIN, "rewind": 100}, PAST)
rights("the right to send one type only", "joined, ack, error forbidden", {"team:a": ["join", "send:chat"]}, JOIN, CHAT, NOTE)
rights("no rights at all", "error forbidden, error not_joined", {}, JOIN, CHAT)
rights("rights by a name that begins alike", "error forbidden", {"team": ["join"], "tea*m": ["join"], "team:": ["join"], "team:aa": ["join"]}, JOIN)


@row("the past without its right, by rewind and since, of plain clients and events", "nothing of it")
def _(stage):
    with stage.client("/ws/team:a", query={"ticket": stage.ticket("owner")}) as owner:
        owner.ask({"type": "chat", "text": "private"})
        epoch = owner.hello["epoch"]
    seen = ""
    for query in ({"rewind": "100"}, {"since": f"{epoch}.0"}):
        with stage.client("/ws/team:a", query={"ticket": stage.ticket("eve", rooms={"team:a": ["join"]}), **query}) as eve:
            seen += compact(eve.all(0.3))
    with stage.client(full=True, query={"ticket": stage.ticket("eve", rooms={"team:a": ["join"]})}) as eve:
        eve.ask({"type": "resume", "rooms": {"team:a": {"epoch": epoch, "seq": 0}}})
        seen += compact(eve.all(0.3))
    with stage.browser() as client:
        got = client.ask("GET", f"/sse?room=team:a&rewind=100&ticket={stage.ticket('eve', rooms={'team:a': ['join']})}", timeout=1,
                         headers=[f"Last-Event-ID: {epoch}.0"])
        seen += str(getattr(got, "body", got))
    return "nothing of it" if "private" not in seen else seen


@row("who is there without its right: joined, user_joined, user_left, events", "nobody")
def _(stage):
    grants = {"team:quiet": ["join", "send"]}
    with stage.client(full=True, query={"ticket": stage.ticket("eve", rooms=grants)}) as eve:
        shown = compact(eve.ask({"type": "join", "room": "team:quiet", "presence": True}))
        with stage.client("/ws/team:quiet", query={"ticket": stage.ticket("victim", name="Victim")}) as victim:
            victim.ask({"type": "ping"})
        shown += compact(eve.all(0.4)) + compact(eve.ask({"type": "resume", "rooms": {"team:quiet": {"presenceSeq": 1}}})) + compact(eve.all(0.3))
    return "nobody" if "victim" not in shown.lower() else shown


@row("plain clients without the right to their room", "401 without a ticket, 403 with one")
def _(stage):
    return f"{stage.enters('/ws/other')} without a ticket, {stage.enters('/ws/other', query={'ticket': stage.ticket()})} with one"


@row("events without the right to a room", "401, 403")
def _(stage):
    return f"{stage.status('GET', '/sse?room=team:a')}, {stage.status('GET', '/sse?room=team:a&room=other&ticket=' + stage.ticket())}"


@row("/send without the right", "403")
def _(stage):
    with stage.client(full=True, query={"ticket": stage.ticket("eve", rooms={"team:a": ["join"]})}) as eve:
        token = eve.hello["resume"]
        found = {stage.status("POST", "/send", headers=[f"Authorization: Bearer {token}"], body={"type": "chat", "room": room}) for room in ("team:a", "other")}
        return " / ".join(found)


@row("another user's own room, with a ticket", "error forbidden, 403")
def _(stage):
    with stage.client(full=True, query={"ticket": stage.ticket("eve")}) as eve:
        found = outcome(eve.ask({"type": "join", "room": "@ada"}))
    return f"{found}, {stage.enters('/ws/@ada', query={'ticket': stage.ticket('eve')})}"


@row("anonymous visitors outside of the demo", "error forbidden")
def _(stage):
    with stage.client(full=True) as client:
        return " / ".join({outcome(client.ask({"type": "join", "room": room})) for room in ("team:a", "secret", "demo", "lobby2", "Lobby", "live:x", "a")})


@row("anonymous visitors write to a signed-in user", "error forbidden")
def _(stage):
    with stage.client(full=True) as client:
        return outcome(client.ask({"type": "chat", "to": "ada"}))


# --- Asking for tickets.
def asked(name, want, *bodies):
    def run(stage):
        found = set()
        for body in bodies:
            answer = stage.api("POST", "/tickets", body)
            found.add(f"{answer.status} {answer.json().get('error', {}).get('code', '')}".strip())
        return " / ".join(sorted(found))

    ATTACKS.add(name, want, run)


BAD = "400 bad_message"
asked("issued for ids that are none", BAD, *({"userId": user} for user in ("", "a b", "a\n", "é", "x" * 128, 1, None, "*")), {})
asked("issued with fields nobody knows", BAD, {"userId": "ada", "session_ttl": 1}, {"userId": "ada", "admin": True}, {"userId": "ada", "__proto__": {}})
asked("issued with times that are none", BAD, *({"userId": "ada", field: value} for field in ("ttl", "sessionTtl") for value in (-1, 1.5, "30s", 1e30)))
asked("issued with addresses that are none", BAD, *({"userId": "ada", "ip": ip} for ip in ("*", "1.2.3", "127.0.0.1/8", "localhost", 1)))
asked("issued with rights that are none", BAD, *({"userId": "ada", "rooms": rooms} for rooms in (
    {"team:*": ["admin"]}, {"team:*": "join"}, {"team:*": [1]}, {"te am": ["join"]}, {f"r{n}": ["join"] for n in range(65)}, [], "x",
    {"r" * 200: ["join"]}, {"team:*": ["send:"]})))
asked("issued with info that is too large", BAD, {"userId": "ada", "info": {"x": "y" * 5000}})


@row("issued without the scope for it", "403")
def _(stage):
    found = set()
    for scope in ("publish", "read", "sessions", "rooms"):
        found.add(stage.status("POST", "/api/v1/tickets", headers=[f"Authorization: Bearer {stage.scoped(scope)}"], body={"userId": "ada"}))
    return " / ".join(found)

