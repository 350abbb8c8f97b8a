"""Clients that try to make the server keep, or inflate, more than they send."""

from attacks import (MEBIBYTE, Growth, attack, bystander, check, crowd, disperse, throng, unharmed, upgrade)
from rig.connection import describe_close
from rig.frames import BINARY, CLOSE, CONTINUATION, PING, RSV1, deflated, frame, request, text

DEFLATE = "permessage-deflate"


def closed_with(peer, code, timeout=30):
    """The server's close frame has this code; a connection that is reset first counts as well when
    the code is None."""
    while True:
        got = peer.frame(timeout)
        if isinstance(got, str):
            return check(False, f"{got} instead of close {code}")
        if got.opcode == CLOSE:
            said = describe_close(got.payload)
            return check(said == f"close {code}", f"{said} instead of close {code}")


@attack
def a_thousand_announce_16_mebibytes_and_send_one_byte():
    with throng() as server, bystander(server) as peer:
        growth = Growth(server)
        liars = crowd(server, 1000)
        for liar in liars:
            liar.send(frame(BINARY, b"x", announce=16 * MEBIBYTE))
        unharmed(server, peer, "while 16 GiB are announced")
        growth.check(12 * MEBIBYTE, "1,000 connections with one byte of 16 MiB")
        disperse(liars)
        unharmed(server, peer)


@attack
def a_hundred_send_one_mebibyte_of_an_endless_message():
    """What is really sent may be kept, but not much more than that."""
    with throng() as server, bystander(server) as peer:
        growth = Growth(server)
        senders = crowd(server, 100)
        for sender in senders:
            sender.send(frame(BINARY, bytes(MEBIBYTE), announce=16 * MEBIBYTE))
        unharmed(server, peer, "while 100 MiB are held")
        growth.check(2 * 100 * MEBIBYTE + 12 * MEBIBYTE, "100 connections with 1 MiB of 16 MiB")
        disperse(senders)
        unharmed(server, peer)


@attack
def bombs_are_not_inflated_beyond_the_limit():
    with throng('[echo]\nmax_message = "4MiB"\ndeflate = true\n') as server, bystander(server) as peer:
        growth = Growth(server)
        bomb = frame(BINARY, deflated(bytes(512 * MEBIBYTE)), rsv=RSV1)
        for _ in range(8):
            bomber, _ = upgrade(server.port, "/echo", extensions=DEFLATE)
            with bomber:
                bomber.send(bomb)
                closed_with(bomber, 1009)
        growth.check(24 * MEBIBYTE, "8 bombs of 512 MiB")
        unharmed(server, peer)


@attack
def bombs_in_fragments():
    with throng('[echo]\nmax_message = "4MiB"\ndeflate = true\n') as server, bystander(server) as peer:
        growth, data = Growth(server), deflated(bytes(128 * MEBIBYTE))
        parts = [data[at:at + 1000] for at in range(0, len(data), 1000)]
        bomber, _ = upgrade(server.port, "/echo", extensions=DEFLATE)
        with bomber:
            bomber.send(frame(BINARY, parts[0], rsv=RSV1, fin=False))
            bomber.send(b"".join(frame(CONTINUATION, part, fin=False) for part in parts[1:-1]))
            bomber.send(frame(CONTINUATION, parts[-1]))
            closed_with(bomber, 1009)
        growth.check(24 * MEBIBYTE, "a bomb in fragments")
        unharmed(server, peer)


@attack
def floods_of_empty_fragments():
    with throng() as server, bystander(server) as peer:
        growth = Growth(server)
        for _ in range(4):
            flooder, _ = upgrade(server.port, "/echo")
            with flooder:
                flooder.send(text("", fin=False) + frame(CONTINUATION, fin=False) * 300_000)
                closed_with(flooder, 1008)
        growth.check(12 * MEBIBYTE, "fragments of nothing")
        unharmed(server, peer)


@attack
def floods_of_one_byte_fragments():
    with throng() as server, bystander(server) as peer:
        growth = Growth(server)
        for _ in range(4):
            flooder, _ = upgrade(server.port, "/echo")
            with flooder:
                flooder.send(text("a", fin=False) + frame(CONTINUATION, b"b", fin=False) * 300_000)
                closed_with(flooder, 1008)
        growth.check(16 * MEBIBYTE, "fragments of one byte")
        unharmed(server, peer)


@attack
def headers_without_end():
    with throng() as server, bystander(server) as peer:
        growth = Growth(server)
        for flood in (["X-Test: " + "a" * (2 * MEBIBYTE)], [f"X-{n}: {n}" for n in range(50_000)], ["b" * (2 * MEBIBYTE) + ": 1"]):
            for _ in range(5):
                with attack_connection(server) as flooder:
                    flooder.send(request("/echo", add=flood))
                    answer = flooder.response()
                    check(answer in ("reset", "end of file") or answer.status in (400, 431), f"answered {answer}")
        growth.check(12 * MEBIBYTE, "heads of 2 MiB")
        unharmed(server, peer)


def attack_connection(server):
    from attacks import Connection

    return Connection(server.port)


@attack
def pings_whose_pongs_are_never_read():
    with throng() as server, bystander(server) as peer:
        growth = Growth(server)
        flooders = crowd(server, 8, receive_buffer=4096)
        for flooder in flooders:
            flood(flooder, frame(PING, b"p" * 125) * 2000, 16 * MEBIBYTE)
        unharmed(server, peer, "during a flood of pings")
        growth.check(8 * 3 * MEBIBYTE, "8 floods of pings")  # an outbox each, and the buffers that hold it
        disperse(flooders)
        unharmed(server, peer)


@attack
def echoes_that_are_never_read():
    with throng() as server, bystander(server) as peer:
        growth = Growth(server)
        flooders = crowd(server, 8, receive_buffer=4096)
        for flooder in flooders:
            flood(flooder, frame(BINARY, bytes(50_000)) * 4, 16 * MEBIBYTE)
        unharmed(server, peer, "while echoes pile up")
        growth.check(8 * 3 * MEBIBYTE, "8 floods of echoes")
        disperse(flooders)
        unharmed(server, peer)


def flood(peer, burst, most):
    """Sends without ever reading, until the server stops taking it."""
    peer.socket.setblocking(True)
    peer.socket.settimeout(0.7)
    sent = 0
    try:
        while sent < most:
            sent += peer.socket.send(burst)
    except OSError:
        pass  # held back, or cut: both are good
