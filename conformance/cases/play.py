"""Playing one row against a server and naming what came of it."""

import time
import zlib
from dataclasses import dataclass, field

from rig import frames
from rig.connection import Connection, Response, accept_for, describe_close, upgrade
from rig.frames import CLOSE, CONTINUATION, PING, PONG, RSV1

QUIET = 10.0  # seconds without anything from the server, then the row is over
CUT = ("end of file", "reset")


def handshake(server, data, *, require=None, pieces=None, timeout=6.0,
              key=frames.KEY):
    """Sends a request and names the answer; after a 101 the connection must work."""
    with Connection(server.port, server.host) as peer:
        for piece in pieces or [data]:
            peer.send(piece)
            if pieces:
                time.sleep(0.001)
        answer = peer.response(timeout)
        if not isinstance(answer, Response):
            return "cut" if answer in CUT else "open" if answer == "timeout" else answer
        for name, value in (require or {}).items():
            if value.lower() not in (answer.get(name) or "").lower():
                return f"{answer.status} without {name}: {value}"
        if answer.status != 101:
            return str(answer.status)
        return outcome_of_101(peer, answer, key)


def outcome_of_101(peer, answer, key):
    if answer.get("sec-websocket-accept") != accept_for(key):
        return "101 with a wrong Sec-WebSocket-Accept"
    if (answer.get("upgrade") or "").lower() != "websocket" or "upgrade" not in (answer.get("connection") or "").lower():
        return "101 without Upgrade and Connection"
    if not peer.echoes("after the handshake"):
        return "101, then no echo"
    extensions, protocol = answer.get("sec-websocket-extensions"), answer.get("sec-websocket-protocol")
    name = (extensions or "").split(";")[0].strip().replace("permessage-", "")
    return " ".join(part for part in ("101", name, protocol) if part)


@dataclass
class Seen:
    """What a server sent after the handshake."""

    messages: list = field(default_factory=list)  # (opcode, payload), inflated
    pongs: list = field(default_factory=list)
    raw: list = field(default_factory=list)  # (rsv, payload) of each data frame
    end: str = ""  # "survived", "close 1002", "cut", "open" or what was wrong with a frame


def watch(peer, *, until=None, awaited=0, inflater=None, timeout=QUIET, sent_close=False):
    """Reads until the end of the connection, or silence, or the pong `until` and `awaited` messages
    have come and nothing follows. (Servers may answer a ping before the messages in front of it.)"""
    seen, opcode, compressed, parts, survived = Seen(), None, False, [], False
    while not seen.end:
        done = survived and len(seen.messages) >= awaited
        got = peer.frame(0.25 if done else timeout)
        if isinstance(got, str):
            seen.end = "cut" if got != "timeout" else "survived" if survived else "open"
        elif got.masked:
            seen.end = "a masked frame"
        elif got.rsv & ~(RSV1 if inflater else 0) or (got.rsv and got.opcode in (CONTINUATION, CLOSE, PING, PONG)):
            seen.end = "a frame with a reserved bit"
        elif got.opcode == PING:
            peer.send(frames.frame(PONG, got.payload))
        elif got.opcode == PONG:
            if until is not None and got.payload == until:
                survived = True
            else:
                seen.pongs.append(got.payload)
        elif got.opcode == CLOSE:
            seen.end = describe_close(got.payload)
            if not sent_close:
                peer.send(frames.close(1000) if len(got.payload) < 2 else frames.frame(CLOSE, got.payload[:2]))
            if not peer.closed(QUIET):
                seen.end += ", TCP left open"
        else:
            if got.opcode != CONTINUATION:
                opcode, compressed = got.opcode, bool(got.rsv & RSV1)
            seen.raw.append((got.rsv, got.payload))
            parts.append(got.payload)
            if got.fin:
                data = b"".join(parts)
                try:
                    seen.messages.append((opcode, inflater(data) if compressed else data))
                except zlib.error as error:
                    seen.end = f"a message that does not inflate ({error})"
                parts = []
    return seen


def inflate_fresh(data):
    """Inflates a message that was compressed without context."""
    return zlib.decompressobj(-15).decompress(data + b"\x00\x00\xff\xff")


def play(server, pieces, *, expects=(), pongs=None, deflate=None, probe=True, half_close=False,
         timeout=QUIET, gap=0.0):
    """Sends the pieces over a fresh connection and names the outcome."""
    peer, answer = upgrade(server.port, server.path, extensions=deflate)
    with peer:
        if deflate and not answer.get("sec-websocket-extensions"):
            return "no deflate"
        for piece in pieces:
            if not peer.send(piece):
                break
            if gap:
                time.sleep(gap)
        if probe:
            peer.send(frames.frame(PING, b"probe"))
        if half_close:
            peer.socket.shutdown(1)
        sent_close = any(piece[:1] == b"\x88" for piece in pieces)
        seen = watch(peer, until=b"probe", awaited=len(expects), inflater=inflate_fresh if deflate else None, timeout=timeout,
                     sent_close=sent_close)
        return outcome(seen, list(expects), pongs)


def outcome(seen, expects, pongs=None):
    if seen.end == "survived":
        if seen.messages != expects:
            return "wrong echo" if expects else "accepted, and echoed"
        if pongs is not None and seen.pongs != pongs:
            return f"{len(seen.pongs)} of {len(pongs)} pongs"
        return "echo" if expects else "pong" if pongs else "ignored"
    if len(seen.messages) > len(expects):
        return f"{seen.end}, but echoed"
    if seen.messages != expects:
        return f"{seen.end}, echo missing"
    return seen.end
