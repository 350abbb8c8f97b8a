"""Peers that die without a word, peers that come and go, and the end of the server itself."""

import os
import signal
import time

from attacks import Connection, attack, bystander, check, crowd, disperse, eventually, throng, unharmed, upgrade
from rig.connection import Response, describe_close
from rig.frames import CLOSE, PING, PONG, frame, request, text


@attack
def peers_that_do_not_answer_pings_are_terminated():
    with throng('heartbeat = "1s"\n') as server:
        dead, alive = crowd(server, 10), crowd(server, 5)
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

        eventually(all_gone, 30, "peers that never answer are still connected after 30 s, with a heartbeat of 1 s")
        took = time.monotonic() - started
        check(took > 1, f"terminated after {took:.2f} s, before a ping could be answered")
        check(all(PING in seen for seen in got.values()), "terminated without a ping")
        for peer in alive:
            answer_pings(peer)
            check(not peer.ended, "a peer that answers was terminated")
            check(peer.echoes("alive"), "a peer that answers gets no echo")
        disperse(dead + alive)


def answer_pings(peer):
    while not isinstance(one := peer.frame(0.001), str):
        if one.opcode == PING:
            peer.send(frame(PONG, one.payload))


@attack
def any_frame_counts_as_life():
    """A peer that sends, but never answers a ping, is alive (PROTOCOL §5)."""
    with throng('heartbeat = "700ms"\n') as server, bystander(server) as peer:
        until = time.monotonic() + 4
        while time.monotonic() < until:
            peer.send(text("tick"))
            got = peer.frame(5)
            check(not isinstance(got, str) and got.opcode != CLOSE, f"a talking peer was terminated: {got}")
            time.sleep(0.05)


@attack
def four_thousand_come_and_go():
    with throng() as server, bystander(server) as peer:
        before = open_files(server)
        for _ in range(20):
            peers = crowd(server, 200)
            for n, one in enumerate(peers):
                if n % 4 == 0:
                    one.send(text("unfinished", fin=False))
                if n % 4 == 1:
                    one.send(frame(8, b"\x03\xe8"))
                if n % 4 == 2:
                    one.reset()
                else:
                    one.socket.close()
        unharmed(server, peer)
        eventually(lambda: open_files(server) <= before + 2, 20, f"{open_files(server)} files open, {before} before")


def open_files(server):
    return len(os.listdir(f"/proc/{server.pid}/fd"))


@attack
def an_orderly_shutdown():
    """Everyone is told 1001, those who do not answer are cut after the grace, nobody new is let in."""
    with throng('shutdown_grace = "1500ms"\n') as server:
        good, deaf = crowd(server, 10), crowd(server, 3)
        room, _ = upgrade(server.port, "/ws")
        server.process.send_signal(signal.SIGTERM)
        for peer in [*good, room]:
            code = close_of(peer)
            check(code == "close 1001", f"{code} instead of close 1001")
            peer.send(frame(CLOSE, b"\x03\xe9"))
            check(peer.closed(10), "TCP is left open after both close frames")
        check(not_admitted(server), "a new client is let in during the shutdown")
        for peer in deaf:
            code = close_of(peer)
            check(code == "close 1001", f"{code} instead of close 1001 for one that does not answer")
            check(peer.closed(15), "one that does not answer is never terminated")
        status = server.process.wait(15)
        check(status == 0, f"exit code {status}:\n{server.tail()}")


@attack
def a_shutdown_with_polite_clients_does_not_wait():
    with throng('shutdown_grace = "30s"\n') as server:
        peers = crowd(server, 20)
        server.process.send_signal(signal.SIGINT)
        for peer in peers:
            check(close_of(peer) == "close 1001", "no close 1001")
            peer.send(frame(CLOSE, b"\x03\xe9"))
        check(server.process.wait(25) == 0, "exit code")  # well before the grace is over


def close_of(peer):
    while True:
        got = peer.frame(10)
        if isinstance(got, str):
            return got
        if got.opcode == CLOSE:
            return describe_close(got.payload)


def not_admitted(server):
    try:
        with Connection(server.port) as peer:
            peer.send(request("/echo"))
            answer = peer.response(3)
    except OSError:
        return True  # the listener is closed already
    return not isinstance(answer, Response) or (answer.status == 503 and answer.get("retry-after"))


@attack
def half_open_peers_of_a_room_leave_it():
    """Those who vanish are taken out of the room: everyone else is told."""
    with throng('heartbeat = "700ms"\n') as server:
        stays, _ = upgrade(server.port, "/ws")
        gone, _ = upgrade(server.port, "/ws")
        seen, deadline = b"", time.monotonic() + 20
        while b'"user_left"' not in seen:
            check(time.monotonic() < deadline, f"nobody was told: {seen[-300:]}")
            got = stays.frame(1)
            if not isinstance(got, str):
                seen += got.payload
                if got.opcode == PING:
                    stays.send(frame(PONG, got.payload))
        disperse([stays, gone])
