"""What happened to the server is counted, so that an operator sees an attack."""

import re

from attacks import Table, World
from attacks.stage import disperse, eventually
from rig.frames import BINARY, frame, request

ATTACKS = Table("counters")


def metrics(stage):
    """Every series of /metrics with its value."""
    found = re.findall(r"^(\w+(?:\{[^}]*\})?) ([0-9.e+-]+)$", stage.http("GET", "/metrics").body.decode(), re.MULTILINE)
    return {name: float(value) for name, value in found}


def counted(stage, name, before, least):
    """A counter grows by at least so much."""
    eventually(lambda: metrics(stage).get(name, 0) - before.get(name, 0) >= least, 20,
               lambda: f"{name} went from {before.get(name, 0)} to {metrics(stage).get(name, 0)}, at least {least} more expected")


@ATTACKS.row("broken rules and refusals", "counted", world=World("few connections, quick", '[limits]\nmax_connections = 32\nhandshake_timeout = "1s"\n'))
def _(stage):
    before = metrics(stage)
    for peer in stage.crowd(5):
        with peer:
            peer.send(frame(3, b"no such opcode"))
            peer.closed(10)
    for line in (request("/nowhere"), request("/echo", remove=("Sec-WebSocket-Key",)), request("/ws", add=["Origin: http://elsewhere.example"])):
        for _ in range(3):
            stage.raw(line)
    eventually(lambda: metrics(stage)["throng_connections"] == before["throng_connections"], 20, "connections that ended still count as open")
    peers = stage.crowd(30)
    for _ in range(4):
        stage.refused("/echo")
    disperse(peers)
    with stage.connect() as peer:
        peer.closed(10)
    counted(stage, "throng_protocol_errors_total", before, 5)
    for reason, least in (("path", 3), ("handshake", 3), ("origin", 3), ("full", 4)):
        counted(stage, f'throng_refused_upgrades_total{{reason="{reason}"}}', before, least)
    counted(stage, "throng_http_timeouts_total", before, 1)
    return "counted"


@ATTACKS.row("dead and slow peers", "counted", world=World("a quick pulse, small outboxes", 'heartbeat = "1s"\n[relay]\noutbox = "64KiB"\n'))
def _(stage):
    before = metrics(stage)
    silent = stage.crowd(3)
    with stage.upgrade("/relay", receive_buffer=4096), stage.upgrade("/relay") as sender:
        for _ in range(200):
            sender.send(frame(BINARY, bytes(60_000)))
            if isinstance(sender.message(20), str):
                return "the sender is cut off"
        counted(stage, "throng_slow_disconnects_total", before, 1)
        counted(stage, "throng_heartbeat_timeouts_total", before, 3)
    disperse(silent)
    return "counted"
