"""Reading and saying what is another room's or another user's."""

from attacks import Table, World, check
from rig.rooms import outcome

ATTACKS = Table("rooms of others")
RULES = World("rooms with rules", """
[[room]]
match = "demo:closed"
allow = false
[[room]]
match = "demo:quiet"
presence = "off"
[[room]]
match = "demo:counted"
presence = "count"
""")


def ask(name, want, message, full=False, path="/ws/demo:mine", world=None):
    def run(stage):
        with stage.client("/ws/demo:theirs", query={"name": "victim"}) as victim, stage.client("/ws" if full else path, full=full) as client:
            victim.ask({"type": "chat", "text": "private"})
            found = client.ask(message(victim) if callable(message) else message)
            check("private" not in str(found) + str(client.all(0.1)), f"it reads {found}")
            return outcome(found)

    ATTACKS.add(name, want, run, world=world)


THEIRS = "demo:theirs"
for full, who in ((False, "a plain client"), (True, "a full client")):
    ask(f"the past of a room one is not in, by {who}", "error not_joined", {"type": "history", "room": THEIRS}, full)
    ask(f"who is in a room one is not in, by {who}", "error not_joined", {"type": "presence", "room": THEIRS}, full)
    ask(f"saying something in a room one is not in, by {who}", "error not_joined", {"type": "chat", "room": THEIRS}, full)
ask("leaving a room one is not in", "error not_joined", {"type": "leave", "room": THEIRS}, True)
ask("a plain client that joins", "error bad_message", {"type": "join", "room": THEIRS})
ask("a plain client that resumes other rooms", "error bad_message", {"type": "resume", "rooms": {THEIRS: {}}})
ask("a room that the rules close", "error unknown_room", {"type": "join", "room": "demo:closed"}, True, world=RULES)
ask("publishing into a room that the rules close", "error not_joined", {"type": "chat", "room": "demo:closed"}, True, world=RULES)


@ATTACKS.row("a closed room by path, by events and by /send", "404, 404, 404", world=RULES)
def _(stage):
    with stage.client(full=True) as client:
        sent = stage.http("POST", "/send", headers=[f"Authorization: Bearer {client.hello['resume']}"], body={"type": "chat", "room": "demo:closed"})
        return f"{stage.refused('/ws/demo:closed')}, {stage.status('GET', '/sse?room=demo:closed')}, {sent.status}"


@ATTACKS.row("who is in a room whose presence is off", "error forbidden, no users, no news", world=RULES)
def _(stage):
    with stage.client("/ws/demo:quiet") as client:
        with stage.client("/ws/demo:quiet", query={"name": "victim"}) as victim:
            answer = outcome(client.ask({"type": "presence"}))
            user = victim.user
        joined = stage.client(full=True)
        shown = joined.ask({"type": "join", "room": "demo:quiet", "presence": True})
        joined.peer.socket.close()
        seen = str(client.all(0.3)) + str(shown)
        return f"{answer}, {'users' if 'users' in shown or user in seen else 'no users'}, {'news' if 'user_joined' in seen or 'user_left' in seen else 'no news'}"


@ATTACKS.row("who is in a room that only counts", "only how many", world=RULES)
def _(stage):
    with stage.client("/ws/demo:counted") as client, stage.client("/ws/demo:counted", query={"name": "victim"}) as victim:
        answer = client.ask({"type": "presence"})
        joined = stage.client(full=True)
        shown = joined.ask({"type": "join", "room": "demo:counted", "presence": True})
        joined.peer.socket.close()
        seen = str(client.all(0.5)) + str(shown) + str(answer)
        return "only how many" if answer.get("userCount") and victim.user not in seen and "victim" not in seen else seen


@ATTACKS.row("a message to one user is read by nobody else", "only by that user")
def _(stage):
    with stage.client(full=True) as ada, stage.client(full=True) as bob, stage.client(full=True) as eve, stage.client("/ws/demo:x") as plain:
        for client in (ada, bob, eve):
            client.ask({"type": "join", "room": "demo:x"})
        sent = ada.ask({"type": "note", "to": bob.user, "text": "for bob"})
        check(sent["type"] == "ack", f"{sent}")
        got = bob.until(lambda m: m.get("text") == "for bob")
        check(got.get("room") == f"@{bob.user}", f"{got}")
        for client in (eve, plain, ada):
            check("for bob" not in str(client.all(0.2)), "somebody else reads it")
        for room in (f"@{bob.user}", bob.user):
            check("for bob" not in str(eve.ask({"type": "history", "room": room})), "the past of a user's room is read")
        return "only by that user"


@ATTACKS.row("events of another user's own room", "401")
def _(stage):
    with stage.client(full=True) as victim:
        found = {stage.status("GET", f"/sse?room={room}") for room in (f"@{victim.user}", f"%40{victim.user}")}
        found.add(stage.status("GET", f"/sse?room=demo:x&room=@{victim.user}", headers=["Last-Event-ID: 0,0"]))
        return " / ".join(found)


@ATTACKS.row("/send without a token, with a made-up one, with an id", "401")
def _(stage):
    with stage.client(full=True) as victim:
        found = set()
        for headers in ([], ["Authorization: Bearer x"], [f"Authorization: Bearer {victim.user}"], [f"Authorization: Bearer {victim.hello['sessionId']}"],
                        [f"Authorization: Basic {victim.hello['resume']}"], [f"Cookie: resume={victim.hello['resume']}"]):
            found.add(stage.status("POST", "/send", headers=headers, body={"type": "chat", "room": "demo:x"}))
        return " / ".join(found)


@ATTACKS.row("/send in another's name", ("400, reserved_field",))
def _(stage):
    with stage.client(full=True) as client:
        found = {(answer.status, answer.json().get("error", answer.json()).get("code")) for field in ("from", "seq", "timestamp") if
                 (answer := stage.http("POST", "/send", headers=[f"Authorization: Bearer {client.hello['resume']}"],
                                       body={"type": "chat", "room": "demo:x", field: 1}))}
        return " / ".join(f"{status}, {code}" for status, code in found)


@ATTACKS.row("a token of /send in the API, and a key of the API in /send", "401, 401")
def _(stage):
    from attacks import AUTHORIZED

    with stage.client(full=True) as client:
        api = stage.status("GET", "/api/v1/counts", headers=[f"Authorization: Bearer {client.hello['resume']}"])
        send = stage.status("POST", "/send", headers=[AUTHORIZED], body={"type": "chat", "room": "demo:x"})
        return f"{api}, {send}"


@ATTACKS.row("a relay does not hear rooms, nor another relay", "nothing")
def _(stage):
    with stage.upgrade("/relay/demo:x") as relay, stage.upgrade("/relay/demo:y") as other, stage.client("/ws/demo:x") as room:
        room.ask({"type": "chat", "text": "in the room"})
        from rig.frames import text

        relay.send(text('{"type":"chat","from":"admin","text":"in the relay"}'))
        own = relay.message()
        heard = [got for peer in (relay, other) if not isinstance(got := peer.message(0.3), str)]
        heard += [message for message in room.all(0.2) if message.get("text") == "in the relay"]
        check(not isinstance(own, str), "the relay does not answer")
        return "nothing" if not heard else f"{heard}"


@ATTACKS.row("another session's ref", "both are published")
def _(stage):
    """A repeated ref is recognised within its session only: nobody can make another's message look like a repetition."""
    with stage.client("/ws/demo:refs") as ada, stage.client("/ws/demo:refs") as eve:
        first = eve.ask({"type": "chat", "text": "eve"})
        second = ada.ask({"type": "chat", "text": "ada"})
        check(first["ref"] == second["ref"], "different refs")
        return "both are published" if second["seq"] == first["seq"] + 1 and "duplicate" not in second else f"{second}"


@ATTACKS.row("somebody else's name (is shown, and is another user)", "another user")
def _(stage):
    with stage.client("/ws/demo:names", query={"name": "Ada"}) as ada, stage.client("/ws/demo:names", query={"name": "Ada"}) as eve:
        return "another user" if ada.user != eve.user else "the same user"


@ATTACKS.row("more rooms than a connection may have", "error too_many_rooms")
def _(stage):
    with stage.client(full=True) as client:
        found = {outcome(client.ask({"type": "join", "room": f"demo:many{n}"})) for n in range(140)}
        found.discard("joined")
        return " / ".join(found)
