"""Peers that die without a word, and the end of the server itself."""

import signal
import time

from attacks import Table, World, check
from attacks.stage import disperse, eventually
from rig.connection import Connection, Response, describe_close
from rig.frames import CLOSE, PING, PONG, frame, request, text

ATTACKS = Table("life and death")
PULSE = World("a quick pulse", 'heartbeat = "3s"\n')
GRACE = World("a short farewell", 'shutdown_grace = "4s"\n')
PATIENT = World("a long farewell", 'shutdown_grace = "30s"\n')


@ATTACKS.row("peers that never answer a ping", "terminated, after a ping", world=PULSE)
def _(stage):
    dead, alive = stage.crowd(10), stage.crowd(5)
    got = {id(peer): [] for peer in dead}
    started = time.monotonic()

    def all_gone():
        for peer in alive:
            answer_pings(peer)
        for peer in dead:
            peer.wait(time.monotonic() + 0.001)
            while not isinstance(one := peer.frame(0.001), str):
                got[id(peer)].append(one.opcode)
        return all(peer.ended for peer in dead)

    eventually(all_gone, 60, "peers that never answer are still connected after 60 s, with a heartbeat of 3 s")
    check(time.monotonic() - started > 3, "terminated before a ping could be answered")
    check(all(PING in seen for seen in got.values()), "terminated without a ping")
    for peer in alive:
        answer_pings(peer)
        check(not peer.ended and peer.echoes("alive"), "a peer that answers was terminated")
    disperse(dead + alive)
    return "terminated, after a ping"


def answer_pings(peer):
    while not isinstance(one := peer.frame(0.001), str):
        if one.opcode == PING:
            peer.send(frame(PONG, one.payload))


@ATTACKS.row("a peer that talks and never answers a ping (lives)", "lives", world=PULSE)
def _(stage):
    with stage.upgrade("/echo") as peer:
        until = time.monotonic() + 8
        while time.monotonic() < until:
            peer.send(text("tick"))
            got = peer.frame(5)
            check(not isinstance(got, str) and got.opcode != CLOSE, f"a talking peer was terminated: {got}")
            time.sleep(0.05)
    return "lives"


@ATTACKS.row("peers of a room that vanish", "the others are told", world=World("a quick pulse and grace", 'heartbeat = "3s"\n[[room]]\nmatch = "demo:gone"\ngrace = "500ms"\n'))
def _(stage):
    stays, gone = stage.upgrade("/ws/demo:gone"), stage.upgrade("/ws/demo:gone")
    seen, deadline = b"", time.monotonic() + 60
    while b'"user_left"' not in seen:
        check(time.monotonic() < deadline, f"nobody was told: {seen[-300:]}")
        got = stays.frame(1)
        if not isinstance(got, str):
            seen += got.payload
            if got.opcode == PING:
                stays.send(frame(PONG, got.payload))
    disperse([stays, gone])
    return "the others are told"


@ATTACKS.row("a shutdown among peers that do not answer", "1012 for everyone, exit 0", world=GRACE, own=True, bystanders=False)
def _(stage):
    good, deaf = stage.crowd(10), stage.crowd(3)
    room = stage.upgrade("/ws/demo:x")
    stage.server.process.send_signal(signal.SIGTERM)
    for peer in [*good, room]:
        check((code := close_of(peer)) == "close 1012", f"{code} instead of close 1012")
        peer.send(frame(CLOSE, b"\x03\xf4"))
        check(peer.closed(30), "TCP is left open after both close frames")
    check(not_admitted(stage), "a new client is let in during the shutdown")
    for peer in deaf:
        check((code := close_of(peer)) == "close 1012", f"{code} instead of close 1012 for one that does not answer")
        check(peer.closed(30), "one that does not answer is never terminated")
    return f"1012 for everyone, exit {stage.server.process.wait(60)}"


@ATTACKS.row("a shutdown among polite peers", "at once, exit 0", world=PATIENT, own=True, bystanders=False)
def _(stage):
    stage.bystanders and stage.bystanders.stop()
    peers = stage.crowd(20)
    stage.server.process.send_signal(signal.SIGINT)
    for peer in peers:
        check(close_of(peer) == "close 1001", "no close 1001")
        peer.send(frame(CLOSE, b"\x03\xe9"))
    return f"at once, exit {stage.server.process.wait(25)}"  # well before the farewell is over


def close_of(peer):
    while not isinstance(got := peer.frame(30), str):
        if got.opcode == CLOSE:
            return describe_close(got.payload)
    return got


def not_admitted(stage):
    try:
        with Connection(stage.port) as peer:
            peer.send(request("/echo"))
            answer = peer.response(30)
    except OSError:
        return True  # the listener is closed already
    return not isinstance(answer, Response) or (answer.status == 503 and answer.get("retry-after"))
