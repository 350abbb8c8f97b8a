"""What a server must survive, each against a throng of its own.

An attack is a function without arguments that raises (usually by `check`) when throng gives way. It
starts throng with the limits it needs and leaves nothing behind.
"""

import functools
import time

from rig import servers
from rig.connection import Connection, upgrade
from rig.frames import TEXT

ATTACKS = []
MEBIBYTE = 1 << 20


def attack(function):
    """Adds a function to the list."""
    ATTACKS.append(function)
    return function


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def all_attacks():
    from attacks import counters, life, limits, memory, readers  # noqa: F401

    return ATTACKS


@functools.cache
def program():
    return servers.binary()


def throng(config=""):
    return servers.throng(config, program=program())


class Growth:
    """How much more memory the server holds at the end, and at the highest point, than at the start."""

    def __init__(self, server):
        self.server = server
        warm_up(server)
        self.start, self.peak_start = server.memory(), server.peak_memory()

    def check(self, limit, what):
        now, peak = self.server.memory() - self.start, self.server.peak_memory() - self.peak_start
        worst = max(now, peak)
        check(worst <= limit, f"{what}: {worst / MEBIBYTE:.1f} MiB more, at most {limit / MEBIBYTE:.1f} MiB expected")


def warm_up(server):
    """One message each way, so that buffers which every server needs once are there."""
    with bystander(server) as peer:
        check(peer.echoes("warm " * 4000), "no echo before the attack")


def bystander(server):
    peer, _ = upgrade(server.port, "/echo")
    return peer


def unharmed(server, peer, what="after the attack"):
    """Both an old connection and a new one work."""
    check(server.alive(), f"throng died:\n{server.tail()}")
    check(peer.echoes(f"still here {what}", 20), f"a bystander gets no echo {what}")
    with bystander(server) as fresh:
        check(fresh.echoes("new here", 20), f"a new connection gets no echo {what}")


def eventually(condition, seconds, message):
    """Until the condition holds; the limit is generous and only ends a test that has failed."""
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, message)
        time.sleep(0.02)


def crowd(server, count, path="/echo", **how):
    return [upgrade(server.port, path, **how)[0] for _ in range(count)]


def disperse(peers):
    for peer in peers:
        peer.socket.close()


__all__ = ["ATTACKS", "MEBIBYTE", "TEXT", "Connection", "Growth", "all_attacks", "attack", "bystander", "check", "crowd",
           "disperse", "eventually", "throng", "unharmed", "upgrade", "warm_up"]
