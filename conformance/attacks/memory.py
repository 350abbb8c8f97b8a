"""Peers that try to make the server keep more than they send."""

from attacks import MEBIBYTE, Table, World, check
from attacks.stage import disperse
from rig.frames import BINARY, CONTINUATION, frame, text

ATTACKS = Table("memory", ceiling=12)


@ATTACKS.row("1,000 announce 16 MiB and send one byte", "held")
def _(stage):
    liars = stage.crowd(1000)
    for liar in liars:
        liar.send(frame(BINARY, b"x", announce=16 * MEBIBYTE))
    answer = stage.status("GET", "/healthz")
    disperse(liars)
    return "held" if answer == "200" else answer


@ATTACKS.row("100 send 1 MiB of 16 MiB", "held", ceiling=212)
def _(stage):
    """What is really sent may be kept, but not much more than that."""
    senders = stage.crowd(100)
    for sender in senders:
        sender.send(frame(BINARY, bytes(MEBIBYTE), announce=16 * MEBIBYTE))
    answer = stage.status("GET", "/healthz")
    disperse(senders)
    return "held" if answer == "200" else answer


@ATTACKS.row("300 keep a message of a room open, in 60,000 bytes of fragments of one byte", "held", ceiling=64)
def _(stage):
    peers = [stage.upgrade("/ws/demo:partial") for _ in range(300)]
    burst = text(b"a", fin=False) + frame(CONTINUATION, b"b", fin=False) * 20_000
    for peer in peers:
        peer.send(burst)
    answer = stage.status("GET", "/healthz")
    disperse(peers)
    return "held" if answer == "200" else answer


@ATTACKS.row("10,000 rooms that are each joined once", "held", ceiling=48)
def _(stage):
    for start in range(0, 10_000, 100):
        with stage.client(full=True) as client:
            for n in range(start, start + 100):
                client.write({"type": "join", "room": f"demo:once{n}", "ref": n + 1})
            client.answer(start + 100)
    return "held" if stage.status("GET", "/healthz") == "200" else "not healthy"


BUDGET = World("a small budget", '[limits]\nmemory = "64MiB"\nhandshake_timeout = "2s"\n')


@ATTACKS.row("partial messages up to the budget of the process", "held: newcomers are refused, then let in again", world=BUDGET, needs="memory budget",
             ceiling=160)
def _(stage):
    from attacks.stage import eventually

    senders, refused = [], ""
    for _ in range(60):
        try:
            sender = stage.upgrade("/echo")
        except OSError as error:
            refused = str(error)
            break
        senders.append(sender)
        sender.send(frame(BINARY, bytes(3 * MEBIBYTE), announce=16 * MEBIBYTE), timeout=3)
    answer = stage.refused("/echo")
    disperse(senders)
    eventually(lambda: stage.refused("/echo") == "101", 20, "nobody gets in when the memory is free again")
    return "held: newcomers are refused, then let in again" if refused or answer in ("429", "503") else f"held, {answer}"


@ATTACKS.row("the budget of one connection", "close 1009", needs="connection budget", world=World(
    "a small budget of each connection", '[echo]\nbudget = "1MiB"\nmax_message = "16MiB"\n'))
def _(stage):
    with stage.upgrade("/echo") as peer:
        peer.send(frame(BINARY, bytes(8 * MEBIBYTE), announce=16 * MEBIBYTE), timeout=5)
        got = peer.message(10)
        return got if isinstance(got, str) else "taken"


@ATTACKS.row("more new rooms than one address may open", "error too_many_rooms, others open theirs", needs="total rooms",
             world=World("few rooms from one address", '[limits]\nmax_rooms_per_ip = 40\nexempt = ["127.0.0.77/32"]\n'))
def _(stage):
    """On several connections; others come from another address."""
    from rig.rooms import outcome

    found, clients = set(), [stage.client("/ws", full=True) for _ in range(3)]
    for n in range(90):
        found.add(outcome(clients[n % 3].ask({"type": "join", "room": f"demo:mine{n}"})))
    check(found == {"joined", "error too_many_rooms"}, f"{found}")
    with stage.client("/ws/demo:mine0", source="127.0.0.9") as other:
        check(other.works(), "a room that is there cannot be joined")
    check(outcome(clients[2].ask({"type": "join", "room": "demo:mine1"})) == "joined", "a room that is there cannot be joined by whoever is at the limit")
    with stage.client(full=True, source="127.0.0.9") as other:
        theirs = {outcome(other.ask({"type": "join", "room": f"demo:theirs{n}"})) for n in range(20)}
    for client in clients:
        client.peer.socket.close()
    return "error too_many_rooms, others open theirs" if theirs == {"joined"} else f"others: {theirs}"


@ATTACKS.row("more rooms than the server may have", "error too_many_rooms",
             needs="total rooms", world=World("few rooms", "[limits]\nmax_total_rooms = 50\n"))
def _(stage):
    from rig.rooms import outcome

    found = set()
    for start in range(0, 100, 50):
        with stage.client(full=True) as client:
            found |= {outcome(client.ask({"type": "join", "room": f"demo:total{n}"})) for n in range(start, start + 50)}
    found.discard("joined")
    return " / ".join(sorted(found)) or "no refusal"
