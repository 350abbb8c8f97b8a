"""What is measured: arguments of `throng bench`, and which of its figures are shown."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """One row of the comparison."""

    name: str
    title: str
    command: str
    arguments: tuple = ()
    endpoint: str = "relay"
    figure: str = "us_per_delivery"
    columns: tuple = ()
    group: str = "fanout"
    timed: bool = True
    rounds: int = 99


ECHO = ("us_per_message", "per_second", "p50_ms", "p99_ms")
FAN = ("us_per_delivery", "per_second", "p50_ms", "p99_ms")
OPEN = ("us_per_delivery", "server_cpu_percent", "p50_ms", "p99_ms", "max_ms", "lost")
IDLE = ("bytes_per_connection", "resident_before", "resident_after", "handshakes_per_second",
        "us_per_handshake")
CHURN = ("us_per_connection", "per_second", "p50_ms", "p99_ms")


def echo(name, title, size, depth):
    arguments = ("--connections", "64", "--size", str(size), "--depth", str(depth))
    return Workload(name, title, "echo", arguments, "echo", "us_per_message", ECHO, "echo")


def fan(name, title, connections, window):
    arguments = ("--connections", str(connections), "--size", "128", "--window", str(window))
    return Workload(name, title, "fanout", arguments, columns=FAN)


def open_loop(name, title, rate):
    arguments = ("--connections", "1000", "--size", "128", "--rate", str(rate))
    return Workload(name, title, "fanout", arguments, columns=OPEN, group="open")


def idle(name, title, endpoint, *more):
    """Held for ten seconds, after which allocators have given back what they will."""
    arguments = ("--connections", "10000", "--hold", "10", *more)
    return Workload(name, title, "idle", arguments, endpoint, "bytes_per_connection", IDLE, "idle",
                    timed=False, rounds=1)


WORKLOADS = [
    echo("echo-32-d1", "echo 32 B, depth 1", 32, 1),
    echo("echo-32-d16", "echo 32 B, depth 16", 32, 16),
    echo("echo-16k-d1", "echo 16 KiB, depth 1", 16384, 1),
    fan("fan-1000-w1", "fan-out to 1,000, window 1", 1000, 1),
    fan("fan-1000-w16", "fan-out to 1,000, window 16", 1000, 16),
    fan("fan-1000-w64", "fan-out to 1,000, window 64", 1000, 64),
    fan("fan-5000-w4", "fan-out to 5,000, window 4", 5000, 4),
    open_loop("open-20", "20 messages/s to 1,000", 20),
    open_loop("open-1000", "1,000 messages/s to 1,000", 1000),
    idle("idle", "10,000 idle, in a room", "relay"),
    idle("idle-echo", "10,000 idle, after one echo", "echo", "--echo"),
    Workload("churn", "connect, handshake, close", "churn", ("--connections", "64"), "echo",
             "us_per_connection", CHURN, "churn"),
]
