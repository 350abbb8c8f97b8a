"""Too many connections, and handshakes that do not end."""

import time

from attacks import Connection, attack, bystander, check, crowd, disperse, eventually, throng, unharmed, upgrade
from rig.connection import Response
from rig.frames import close, request


def refused(server):
    """The answer to one upgrade too many."""
    with Connection(server.port) as peer:
        peer.send(request("/echo"))
        return peer.response()


def check_429(answer):
    check(isinstance(answer, Response) and answer.status == 429, f"answered {getattr(answer, 'status', answer)}, not 429")
    check((answer.get("retry-after") or "").isdigit(), "429 without Retry-After")


def accepted(server):
    try:
        peer, _ = upgrade(server.port, "/echo")
    except OSError:
        return False
    with peer:
        return peer.echoes("in")


def cap(config):
    with throng(config) as server:
        peers = crowd(server, 5)
        for _ in range(20):
            check_429(refused(server))
        for peer in peers:
            check(peer.echoes("still in"), "one of those admitted lost its connection")
        peers[0].send(close(1000))
        check(peers[0].closed(10), "the server does not end the TCP connection after a close")
        eventually(lambda: accepted(server), 10, "the place of one who left is not given away")
        disperse(peers)
        eventually(lambda: accepted(server), 10, "places of those who dropped are not given away")


@attack
def one_connection_too_many():
    cap("[limits]\nmax_connections = 5\n")


@attack
def one_connection_too_many_from_one_address():
    cap("[limits]\nmax_connections_per_ip = 5\n")


@attack
def connections_that_never_become_websockets():
    with throng('[limits]\nmax_http_connections = 20\nhandshake_timeout = "2s"\n') as server, bystander(server) as peer:
        idle = [Connection(server.port) for _ in range(20)]
        for one in idle:
            one.send(b"GET /echo HTTP/1.1\r\n")
        answer = refused(server)
        check(answer in ("end of file", "reset") or answer.status == 429, f"answered {answer}")
        check(peer.echoes("in"), "a bystander gets no echo")
        eventually(lambda: accepted(server), 20, "slow handshakes keep others out for ever")
        disperse(idle)
        unharmed(server, peer)


@attack
def handshakes_that_do_not_end():
    with throng('[limits]\nhandshake_timeout = "1s"\n') as server, bystander(server) as peer:
        started = time.monotonic()
        silent = [Connection(server.port) for _ in range(20)]
        half = [Connection(server.port) for _ in range(20)]
        for one in half:
            one.send(b"GET /echo HTTP/1.1\r\nHost: localhost\r\n")
        slow = [Connection(server.port) for _ in range(20)]
        for one in slow:
            one.send(b"GET /echo HTTP/1.1\r\n")

        def all_cut():
            for one in slow:
                if not one.ended:
                    one.send(b"X-More: 1\r\n")
            for one in silent + half + slow:
                one.wait(time.monotonic() + 0.001)
            return all(one.ended for one in silent + half + slow)

        eventually(all_cut, 20, "handshakes are still open after 20 s, with a limit of 1 s")
        check(time.monotonic() - started > 0.5, "cut before the limit")
        disperse(silent + half + slow)
        unharmed(server, peer)


@attack
def upgrades_of_other_paths_and_plain_requests():
    """Refusals, thousands of them, on connections that stay: answered, and nothing is kept."""
    with throng() as server, bystander(server) as peer:
        with Connection(server.port) as client:
            for n in range(500):
                client.send(b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = client.response()
                check(isinstance(answer, Response) and answer.status == 426, f"request {n}: {answer}")
                body = int(answer.get("content-length") or 0)
                while len(client.inbox) < body:
                    check(client.wait(time.monotonic() + 5), "a response without its body")
                del client.inbox[:body]
                if (answer.get("connection") or "").lower() == "close":
                    break
        for _ in range(200):
            with Connection(server.port) as client:
                client.send(request("/nowhere"))
                answer = client.response()
                check(isinstance(answer, Response) and answer.status == 404, f"answered {answer}")
        unharmed(server, peer)
