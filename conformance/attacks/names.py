"""Names of rooms and users as a way in: patterns, queries, paths, other people's."""

from urllib.parse import quote

from attacks import Table, World, check
from rig.rooms import outcome

ATTACKS = Table("names")
DISK = World("rooms on disk", '[limits]\nhandshake_timeout = "2s"\n', data=True)

BAD = {
    "patterns": ["*", "demo:*", "demo:?", "demo:[a-z]", "demo:{a,b}", "demo:**", "^demo:.*$", "demo:a|b", "%", "demo:_%"],
    "commands of Redis": ["demo:a\r\nFLUSHALL", "demo:a\r\n*1\r\n$8\r\nFLUSHALL\r\n", "demo:{a}", 'demo:a"', "demo:a\0b", "demo:a b"],
    "SQL": ["demo:'; DROP TABLE rooms;--", "demo:' OR '1'='1", "demo:a\" UNION SELECT * FROM sqlite_master--", "demo:a;--", "demo:a\\'", "demo:a)"],
    "paths": ["demo:..\\..\\x", "demo:a\\b", "demo:~", "demo:a%2fb", "demo:a%00"],
    "markup and shells": ["<script>", "demo:<b>", "demo:&lt;", "demo:$(id)", "demo:`id`", "demo:a;id", "demo:a&b", "demo:a#b", "demo:a?b"],
    "control characters and blanks": ["", " ", "demo:\n", "demo:\x1b[31m", "demo:\x7f", "\tdemo", "demo:\u2028", "demo:\u202e", "demo:\u200b"],
    "letters beyond ASCII": ["demo:é", "demo:ｌobby", "dеmo:a", "demo:😀", "demo:\u0130", "demo:\ufeff"],
    "lengths": ["a" * 129, "demo:" + "a" * 60_000],
}


def joined(what, names):
    """None of the names is a room: for joining, for sending, for asking."""

    def run(stage):
        found = set()
        with stage.client(full=True) as client:
            for name in names:
                for message in ({"type": "join", "room": name}, {"type": "chat", "room": name}, {"type": "history", "room": name},
                                {"type": "presence", "room": name}, {"type": "leave", "room": name}, {"type": "resume", "rooms": {name: {}}}):
                    found.add(outcome(client.ask(message)))
        return " / ".join(sorted(found))

    ATTACKS.add(f"rooms named like {what}", "error bad_message", run)


for what, names in BAD.items():
    joined(what, names)


def in_paths(stage):
    """The same in the path of a WebSocket, percent-encoded in several ways: never a room."""
    found = set()
    for name in [name for names in BAD.values() for name in names if len(name) < 1000 and name]:
        for encoded in (quote(name, safe=""), quote(quote(name, safe=""), safe="")):
            found.add(stage.refused(f"/ws/{encoded}"))
    return " / ".join(sorted(found))


ATTACKS.add("all of them in the path of a WebSocket, encoded once and twice", "404", in_paths)


def in_api(stage):
    """And in the API, where the path is percent-decoded once."""
    found = set()
    for name in [name for names in BAD.values() for name in names if name and len(name) < 1000]:
        encoded = quote(name, safe="")
        for method, path, body in (("GET", f"/rooms/{encoded}", None), ("GET", f"/rooms/{encoded}/history", None),
                                   ("POST", f"/rooms/{encoded}/messages", {"type": "chat"}), ("POST", f"/users/{encoded}/messages", {"type": "chat"})):
            found.add(str(stage.api(method, path, body).status))
    return " / ".join(sorted(found))


ATTACKS.add("all of them in paths of the API", "400 / 404", in_api)


def encoded(name, want, path):
    ATTACKS.add(f"path of a WebSocket: {name}", want, lambda stage: stage.refused(path))


encoded("%2e%2e%2f to climb out", "404", "/ws/%2e%2e%2fadmin")
encoded(".. to climb out", "404", "/ws/../../admin/x/y")
encoded("an encoded slash", "404", "/ws/demo:a%2Fb")
encoded("an encoded letter of a room", "404", "/ws/%64emo:a")
encoded("an encoded NUL", "404", "/ws/demo:a%00")
encoded("an overlong UTF-8 slash", "404", "/ws/demo:%c0%af")
encoded("a percent sign without digits", "404", "/ws/demo:%zz")
encoded("two segments", "404", "/ws/demo/a")
encoded("somebody's own room", "401", "/ws/@u_somebody")
encoded("somebody's own room, encoded", "404", "/ws/%40u_somebody")


@ATTACKS.row("other people's own rooms", "error forbidden")
def _(stage):
    found = set()
    with stage.client(full=True) as victim, stage.client(full=True) as client:
        for name in (f"@{victim.user}", "@u_nobody", "@server", "@admin", "@@", f"@{victim.user}/x", f"@{client.user}x", "@"):
            found.add(outcome(client.ask({"type": "join", "room": name})))
    return " / ".join(sorted(found - {"error bad_message"}))


@ATTACKS.row("own rooms of users by another spelling", "error not_joined")
def _(stage):
    """No spelling of a name leads to another room's past."""
    found = set()
    with stage.client(full=True) as victim, stage.client(full=True) as client:
        for name in (f"@{victim.user}", f"@{victim.user}".upper(), f"@{victim.user}:", f"@{victim.user}/", f"@{victim.user}/."):
            for kind in ("history", "presence"):
                found.add(outcome(client.ask({"type": kind, "room": name})))
            found.add(outcome(client.ask({"type": "leave", "room": name})))
    return " / ".join(sorted(found))


@ATTACKS.row("SQL in everything that is stored, then a restart by kill -9", "everything is as it was", world=DISK, own=True, bystanders=False)
def _(stage):
    texts = ["'); DROP TABLE messages;--", "' OR 1=1--", "\"; DELETE FROM messages; --", "%' --", "\\'; VACUUM;", "a\0b", "x'41'"]
    with stage.client("/ws/demo:sql", query={"name": "'); DROP TABLE rooms;--"}) as client:
        for text in texts:
            kind = text.replace("\0", "")[:60]
            answer = client.ask({"type": kind, "text": text, kind: text})
            check(answer["type"] == "ack", f"{text!r}: {answer}")
    for text in texts[:5]:
        stage.api("POST", "/rooms/demo:sql/messages", {"type": "chat", "text": text, "from": "server"},
                  headers=[f"Idempotency-Key: {quote(text)}'--"])
    before = stage.api("GET", "/rooms/demo:sql/history").json()["messages"]
    stage.restart(kill=True)
    after = stage.api("GET", "/rooms/demo:sql/history").json()["messages"]
    check(len(after) == 12, f"{len(after)} messages of 12")
    return "everything is as it was" if after == before else f"{after}"


@ATTACKS.row("names and types that differ by case, or a dot, or an ending", "separate rooms")
def _(stage):
    """Names are compared byte by byte: what is said in one is not heard in a neighbour."""
    names = ["demo:Case", "demo:case", "demo:case.", "demo:case/", "demo:case:", "demo:case-", "demo:cas"]
    clients = []
    for name in names:
        client = stage.client(full=True)
        check(client.ask({"type": "join", "room": name})["type"] == "joined", f"{name} cannot be joined")
        clients.append(client)
    for name, client in zip(names, clients):
        client.ask({"type": "chat", "room": name, "text": name})
    for name, client in zip(names, clients):
        heard = {message["text"] for message in client.all(0.2) if message["type"] == "chat"}
        check(heard <= {name}, f"{name} hears {heard}")
        client.peer.socket.close()
    return "separate rooms"
