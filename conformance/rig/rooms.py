"""Clients of rooms, and of HTTP: what an ordinary program would use, and what lies for it when asked to."""

import json
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from rig.connection import Connection, Response, upgrade
from rig.frames import TEXT, text

SUBPROTOCOL = "throng.v1"


class Client:
    """One connection to a rooms endpoint: plain, or full with `full=True`."""

    def __init__(self, port, path="/ws", *, full=False, query=None, protocols=(), headers=(), source="", **how):
        offered = ([SUBPROTOCOL] if full else []) + list(protocols)
        add = list(headers) + ([f"Sec-WebSocket-Protocol: {', '.join(offered)}"] if offered else [])
        target = path + ("?" + urlencode(query) if query else "")
        self.peer, self.response = upgrade(port, target, add=add, source=source, **how)
        self.seen = []  # messages that were read while another one was awaited
        self.ended = ""
        self.hello = self.next("connected", "error")
        if full and self.hello["type"] == "connected" and not self.hello["resumed"]:
            self.next("joined", "error")  # of its own room
        self.ref = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.peer.socket.close()

    @property
    def user(self):
        return self.hello["userId"]

    def write(self, message):
        """Sends text as it is, anything else as JSON."""
        return self.peer.send(text(message if isinstance(message, (str, bytes)) else json.dumps(message)))

    def ask(self, message, *types, timeout=10.0):
        """Sends a command with a fresh `ref` and returns what answers it (`type: end` when the connection ends)."""
        self.ref += 1
        self.write({**message, "ref": self.ref})
        return self.answer(self.ref, timeout)

    def answer(self, ref, timeout=10.0):
        return self.until(lambda m: m.get("ref") == ref, timeout)

    def next(self, *types, timeout=10.0):
        """The next message, of these types if any are named."""
        return self.until(lambda m: not types or m.get("type") in types, timeout)

    def until(self, wanted, timeout=10.0):
        """The next message that is wanted; `{"type": "end", "how": …}` at the end of the connection."""
        deadline = time.monotonic() + timeout
        while True:
            got = self.peer.message(max(0.0, deadline - time.monotonic()))
            if isinstance(got, str):
                self.ended = got
                return {"type": "end", "how": got}
            message = json.loads(got[1], parse_int=number)
            if wanted(message):
                return message
            self.seen.append(message)

    def all(self, quiet=0.3):
        """Everything that came and still comes, until nothing comes for so long."""
        while (got := self.next(timeout=quiet))["type"] != "end":
            self.seen.append(got)
        found, self.seen = self.seen, []
        return found

    def works(self):
        """Whether it is still served."""
        return self.ask({"type": "ping"}).get("type") == "pong"


def number(digits):
    """Integers of any length: Python refuses those of more than 4,300 digits."""
    return int(digits) if len(digits) < 100 else digits


def outcome(message):
    """An answer in words: `error bad_json`, `close 1009`, `ack`."""
    if message["type"] == "end":
        return message["how"]
    return f"error {message['code']}" if message["type"] == "error" else message["type"]


@dataclass
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: Response
    body: bytes

    def json(self):
        return json.loads(self.body)

    def get(self, name):
        return self.headers.get(name)


@dataclass
class Http:
    """A keep-alive connection that speaks HTTP/1.1 to the letter, or not."""

    port: int
    source: str = ""
    peer: Connection = field(default=None)
    last: bool = False  # whether the server said that this answer was the last of the connection

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.peer:
            self.peer.socket.close()
            self.peer = None

    def ask(self, method, target, *, headers=(), body=None, timeout=10.0):
        """Sends a request and reads its answer; an `Answer`, or one of `rig.connection.ENDED`."""
        if self.peer is None or self.peer.ended or self.last:
            self.close()
            self.peer, self.last = Connection(self.port, source=self.source), False
        lines = [f"{method} {target} HTTP/1.1", *headers]
        if not any(line.lower().startswith("host:") for line in lines[1:]):
            lines.insert(1, f"Host: 127.0.0.1:{self.port}")
        if body is not None:
            if not isinstance(body, bytes):
                body = (body if isinstance(body, str) else json.dumps(body)).encode()
                if not any(line.lower().startswith("content-type:") for line in lines):
                    lines.append("Content-Type: application/json")
            lines.append(f"Content-Length: {len(body)}")
        self.peer.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b""))
        return self.answer(timeout, head=method == "HEAD")

    def answer(self, timeout=10.0, head=False):
        """Reads one answer."""
        got = self.peer.response(timeout)
        if not isinstance(got, Response):
            return got
        if (got.get("connection") or "").lower() == "close":
            self.last = True
        deadline = time.monotonic() + timeout
        if head or got.status in (101, 204, 304):
            return Answer(got.status, got, b"")
        if (got.get("transfer-encoding") or "").lower() == "chunked":
            return Answer(got.status, got, self._chunks(deadline))
        size, box = got.get("content-length"), self.peer.inbox
        while (size is None or len(box) < int(size)) and self.peer.wait(deadline):
            pass
        body = bytes(box if size is None else box[: int(size)])
        del box[: len(body)]
        return Answer(got.status, got, body)

    def _chunks(self, deadline):
        box, body = self.peer.inbox, b""
        while True:
            while b"\r\n" not in box:
                if not self.peer.wait(deadline):
                    return body
            line, _, _ = bytes(box).partition(b"\r\n")
            size = int(line.split(b";")[0], 16)
            while len(box) < len(line) + 4 + size:
                if not self.peer.wait(deadline):
                    return body
            start = len(line) + 2
            body += bytes(box[start:start + size])
            del box[: start + size + 2]
            if size == 0:
                return body


def http(port, method, target, **how):
    """One request on a connection of its own."""
    source = how.pop("source", "")
    with Http(port, source) as client:
        return client.ask(method, target, **how)


__all__ = ["Answer", "Client", "Http", "SUBPROTOCOL", "TEXT", "http", "outcome"]
