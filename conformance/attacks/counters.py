"""What happened to the server is counted, so that an operator sees an attack."""

import re
import time

from attacks import Connection, attack, bystander, check, crowd, disperse, eventually, throng, upgrade
from rig.connection import Response
from rig.frames import BINARY, frame, request


def metrics(server):
    """Every series of /metrics with its value."""
    with Connection(server.port) as client:
        client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = client.response()
        check(isinstance(answer, Response) and answer.status == 200, f"/metrics: {answer}")
        while not client.ended:
            check(client.wait(time.monotonic() + 10) or client.ended, "/metrics does not end")
        found = re.findall(r"^(\w+(?:\{[^}]*\})?) ([0-9.e+-]+)$", client.inbox.decode(), re.MULTILINE)
    return {name: float(value) for name, value in found}


def counted(server, name, before, least):
    """A counter grows by at least so much."""
    eventually(lambda: metrics(server).get(name, 0) - before.get(name, 0) >= least, 20,
               f"{name} went from {before.get(name, 0)} to {metrics(server).get(name, 0)}, at least {least} more expected")


@attack
def broken_rules_and_refusals_are_counted():
    with throng('[limits]\nmax_connections = 30\nhandshake_timeout = "1s"\n') as server, bystander(server):
        before = metrics(server)
        for peer in crowd(server, 5):
            with peer:
                peer.send(frame(3, b"no such opcode"))
                peer.closed(10)
        for line in (request("/nowhere"), request("/echo", remove=("Sec-WebSocket-Key",)),
                     request("/ws", add=["Origin: http://elsewhere.example"])):
            for _ in range(3):
                with Connection(server.port) as peer:
                    peer.send(line)
                    peer.response()
        eventually(lambda: metrics(server)["throng_connections"] == 1, 20, "connections that ended still count as open")
        peers = crowd(server, 29)
        for _ in range(4):
            with Connection(server.port) as peer:
                peer.send(request("/echo"))
                peer.response()
        disperse(peers)
        with Connection(server.port) as peer:
            peer.closed(10)
        counted(server, "throng_protocol_errors_total", before, 5)
        for reason, least in (("path", 3), ("handshake", 3), ("origin", 3), ("full", 4)):
            counted(server, f'throng_refused_upgrades_total{{reason="{reason}"}}', before, least)
        counted(server, "throng_http_timeouts_total", before, 1)


@attack
def dead_and_slow_peers_are_counted():
    with throng('heartbeat = "1s"\n[relay]\noutbox = "64KiB"\n') as server:
        before = metrics(server)
        silent = crowd(server, 3)
        slow, _ = upgrade(server.port, "/relay", receive_buffer=4096)
        sender, _ = upgrade(server.port, "/relay")
        with slow, sender:
            for _ in range(200):
                sender.send(frame(BINARY, bytes(60_000)))
                check(not isinstance(sender.message(20), str), "the sender is cut off")
            counted(server, "throng_slow_disconnects_total", before, 1)
            counted(server, "throng_heartbeat_timeouts_total", before, 3)
        disperse(silent)


@attack
def pages_from_elsewhere_do_not_get_into_rooms():
    with throng() as server:
        for origin, status in ((f"http://127.0.0.1:{server.port}", 101), ("http://elsewhere.example", 403), ("null", 403),
                               (f"http://127.0.0.1:{server.port}.elsewhere.example", 403)):
            with Connection(server.port) as peer:
                peer.send(request("/ws", host=f"127.0.0.1:{server.port}", add=[f"Origin: {origin}"]))
                answer = peer.response()
                got = getattr(answer, "status", answer)
                check(got == status, f"Origin {origin}: {got} instead of {status}")
