"""A client socket that reads while it writes, so that no flood of ours can lock both sides."""

import base64
import hashlib
import os
import select
import socket
import struct
import time
import zlib
from dataclasses import dataclass, field

from rig import frames

ENDED = ("end of file", "reset", "timeout")


@dataclass
class Response:
    status: int
    lines: list
    raw: bytes

    def all(self, name):
        return [value for key, value in self.lines if key == name.lower()]

    def get(self, name):
        values = self.all(name)
        return ", ".join(values) if values else None


@dataclass
class Frame:
    fin: bool
    rsv: int
    opcode: int
    payload: bytes
    masked: bool


@dataclass
class Connection:
    """One TCP connection. Every wait has a deadline; nothing here raises for what a peer does."""

    port: int
    host: str = "127.0.0.1"
    receive_buffer: int = 0
    source: str = ""  # the address to connect from, such as 127.0.0.2
    inbox: bytearray = field(default_factory=bytearray)
    ended: str = ""  # "end of file" or "reset" once the peer has gone

    def __post_init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if self.receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        if self.source:
            self.socket.bind((self.source, 0))
        self.socket.settimeout(10)
        self.socket.connect((self.host, self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data, timeout=20.0):
        """Writes everything, reading what arrives meanwhile. False when the peer stopped taking it."""
        view, deadline = memoryview(data), time.monotonic() + timeout
        while view:
            left = deadline - time.monotonic()
            if left <= 0 or self.ended == "reset":
                return False
            events = self._ready(select.POLLOUT | (0 if self.ended else select.POLLIN), left)
            if events & ~select.POLLOUT:
                self._read()
            if events & select.POLLOUT:
                try:
                    view = view[self.socket.send(view[: 1 << 18]):]
                except BlockingIOError:
                    continue
                except OSError:
                    self._drain()
                    return False
        return True

    def _read(self):
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            self.ended = "reset"
            return
        if data:
            self.inbox += data
        else:
            self.ended = "end of file"

    def _drain(self):
        """Takes what had arrived before the peer went away."""
        while not self.ended:
            before = len(self.inbox)
            self._read()
            if len(self.inbox) == before:
                break
        self.ended = self.ended or "reset"

    def wait(self, deadline):
        """Waits for more bytes. False at the end of the connection and at the deadline."""
        if self.ended:
            return False
        left = deadline - time.monotonic()
        if left <= 0 or not self._ready(select.POLLIN, left):
            return False
        self._read()
        return not self.ended

    def _ready(self, events, seconds):
        """What the socket is ready for (poll, as select knows only 1,024 files)."""
        poll = select.poll()
        poll.register(self.socket, events)
        found = poll.poll(seconds * 1000)
        return found[0][1] if found else 0

    def closed(self, timeout):
        """Whether the peer ends the TCP connection in time; what it still sends is thrown away."""
        deadline = time.monotonic() + timeout
        while self.wait(deadline):
            self.inbox.clear()
        return bool(self.ended)

    def response(self, timeout=6.0):
        """The response head, or one of ENDED."""
        deadline = time.monotonic() + timeout
        while b"\r\n\r\n" not in self.inbox:
            if not self.wait(deadline):
                return self.ended or "timeout"
        head, _, rest = bytes(self.inbox).partition(b"\r\n\r\n")
        self.inbox[:] = rest
        first, *rows = head.decode("latin-1").split("\r\n")
        parts = first.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            return f"no HTTP response ({first[:40]!r})"
        lines = [(name.strip().lower(), value.strip()) for name, _, value in (row.partition(":") for row in rows)]
        return Response(int(parts[1]), lines, head)

    def frame(self, timeout=6.0, deadline=None):
        """The next frame, or one of ENDED."""
        deadline = deadline or time.monotonic() + timeout
        while True:
            found = self._parse()
            if found:
                return found
            if not self.wait(deadline):
                return self._parse() or self.ended or "timeout"

    def _parse(self):
        box = self.inbox
        if len(box) < 2:
            return None
        size, at = box[1] & 0x7F, 2
        if size == 126:
            if len(box) < 4:
                return None
            size, at = struct.unpack("!H", box[2:4])[0], 4
        elif size == 127:
            if len(box) < 10:
                return None
            size, at = struct.unpack("!Q", box[2:10])[0], 10
        masked = bool(box[1] & 0x80)
        key = bytes(box[at:at + 4]) if masked else b""
        at += 4 if masked else 0
        if len(box) < at + size:
            return None
        payload = bytes(box[at:at + size])
        if masked:
            payload = frames.masked(payload, key)
        found = Frame(bool(box[0] & 0x80), box[0] & 0x70, box[0] & 0x0F, payload, masked)
        del box[:at + size]
        return found

    def message(self, timeout=6.0):
        """The next data message as (opcode, payload): pings are answered, compressed ones inflated
        without context. Or a string: one of ENDED, or "close 1000"."""
        deadline = time.monotonic() + timeout
        opcode, rsv, parts = None, 0, []
        while True:
            got = self.frame(deadline=deadline)
            if isinstance(got, str):
                return got
            if got.opcode == frames.PING:
                self.send(frames.frame(frames.PONG, got.payload))
            elif got.opcode == frames.CLOSE:
                return describe_close(got.payload)
            elif got.opcode != frames.PONG:
                if got.opcode:
                    opcode, rsv = got.opcode, got.rsv
                parts.append(got.payload)
                if got.fin:
                    data = b"".join(parts)
                    if rsv & frames.RSV1:
                        data = zlib.decompressobj(-15).decompress(data + b"\x00\x00\xff\xff")
                    return opcode, data

    def echoes(self, payload, timeout=10.0):
        """Sends a text and says whether it comes back."""
        self.send(frames.text(payload))
        return self.message(timeout) == (frames.TEXT, payload.encode())

    def reset(self):
        """Ends the connection with a TCP reset instead of a goodbye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def describe_close(payload):
    if len(payload) == 1:
        return "close with a payload of one byte"
    return f"close {struct.unpack('!H', payload[:2])[0]}" if payload else "close without code"


class Refused(ConnectionError):
    """A handshake that was not answered with a good 101; `status` is its status, or one of ENDED."""

    def __init__(self, path, status, answer):
        super().__init__(f"handshake on {path[:100]} refused: {status}")
        self.status, self.answer = status, answer


def upgrade(port, path, *, extensions=None, add=(), receive_buffer=0, source="", timeout=10.0):
    """A connection after a good handshake, with the response. Raises `Refused`."""
    peer = Connection(port, receive_buffer=receive_buffer, source=source)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = list(add) + ([f"Sec-WebSocket-Extensions: {extensions}"] if extensions else [])
    peer.send(frames.request(path, host=f"127.0.0.1:{port}", change={"Sec-WebSocket-Key": key}, add=lines))
    answer = peer.response(timeout)
    status = answer.status if isinstance(answer, Response) else answer
    if status != 101 or answer.get("sec-websocket-accept") != accept_for(key):
        peer.socket.close()
        raise Refused(path, status, answer)
    return peer, answer


def accept_for(key):
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()
