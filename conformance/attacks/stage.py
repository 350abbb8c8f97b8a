"""Where an attack is played: the server, the two bystanders, and what is measured meanwhile."""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from attacks import API, AUTHORIZED, MEBIBYTE, PATIENCE, SCOPES, Check, check
from rig import servers
from rig.connection import Connection, Refused, Response, upgrade
from rig.frames import request
from rig.rooms import Client, Http, http

AGAIN = 3  # how often an attack is repeated because the machine was slow
LEAST = 5  # round trips that are looked at
AS_SLOW = 4  # a round trip by the server is that many between two processes: it wakes more than one of them
BYSTANDERS = Path(__file__).with_name("bystanders.py")


@dataclass
class Result:
    attack: object
    outcome: str
    trouble: str = ""  # empty: withstood
    seconds: float = 0.0
    grown: float = 0.0  # MiB
    median: float = 0.0  # ms, the bystanders'
    machine: float = 0.0  # ms, the same between processes that nobody attacks
    worst: float = 0.0  # ms
    tries: int = 1


class Stage:
    """A running server with bystanders, for the attacks of one world, one after the other."""

    def __init__(self, world, program):
        self.world, self.program = world, program
        self.start()

    def start(self):
        self.server = servers.throng(self.world.config + ("" if self.world.name == "no keys" else API), arguments=("--log", self.world.log, *self.world.arguments), program=self.program,
                                     prepare=self.world.prepare, data=self.world.data,
                                     limit_files=self.world.limit_files)
        self.bystanders = Bystanders(self.port) if self.world.bystanders else None
        self._mark = 0
        self._warm_up()
        self.begin()

    def stop(self, tidy=False):
        """Ends the server; `tidy` throws its folder and log away."""
        if self.bystanders:
            self.bystanders.stop()
        self.server.stop()
        if tidy:
            shutil.rmtree(self.server.folder, ignore_errors=True)

    # --- For attacks.

    @property
    def port(self):
        return self.server.port

    @property
    def facts(self):
        """What `World.prepare` left for the attacks: keys, files."""
        return self.server.facts

    def connect(self, **how):
        return Connection(self.port, **how)

    def upgrade(self, path="/ws", **how):
        return upgrade(self.port, path, **how)[0]

    def client(self, path="/ws", **how):
        return Client(self.port, path, **how)

    def refused(self, path="/ws", **how):
        """The outcome of an upgrade: `101`, a status, or how it ended."""
        try:
            upgrade(self.port, path, **how)[0].socket.close()
        except Refused as error:
            return "cut" if error.status in ("reset", "end of file") else str(error.status)
        return "101"

    def http(self, method, target, **how):
        return http(self.port, method, target, **how)

    def status(self, method, target, **how):
        """The status of one request, as text."""
        answer = self.http(method, target, **how)
        return str(answer.status) if hasattr(answer, "status") else "cut" if answer != "timeout" else "open"

    def api(self, method, path, body=None, headers=(), **how):
        """A request of the HTTP API, with the key of the suite."""
        return self.http(method, "/api/v1" + path, headers=[AUTHORIZED, *headers], body=body, **how)

    def ticket(self, user="ada", **fields):
        """A ticket of the API; by default with all rights in `team:*`."""
        fields.setdefault("rooms", {"team:*": ["join", "send", "presence", "history"]})
        answer = self.api("POST", "/tickets", {"userId": user, **fields})
        check(answer.status in (200, 201), f"no ticket: {answer.status} {answer.body[:200]}")
        return answer.json()["ticket"]

    def enters(self, path="/ws/team:a", *, query=None, protocols=(), headers=(), source=""):
        """The outcome of coming in as a plain client: `101 USER`, a status, `close 4403`."""
        try:
            with self.client(path, query=query, protocols=protocols, headers=headers, source=source) as client:
                if client.hello["type"] != "connected":
                    return client.hello.get("how") or f"error {client.hello['code']}"
                return f"101 {'u_' if client.user.startswith('u_') else client.user}"
        except Refused as error:
            return "cut" if error.status in ("reset", "end of file") else str(error.status)

    def scoped(self, scope):
        """A key of the API that is good for this only."""
        return SCOPES[scope]

    def browser(self, **how):
        return Http(self.port, **how)

    def raw(self, data, timeout=8.0, path=None, **how):
        """The outcome of bytes sent to the port: a status, `cut` or `open`."""
        with self.connect() as peer:
            peer.send(data if data is not None else request(path or "/ws", host=f"127.0.0.1:{self.port}", **how))
            answer = peer.response(timeout)
            if isinstance(answer, Response):
                return str(answer.status)
            return "open" if answer == "timeout" else "cut" if answer in ("end of file", "reset") else answer

    def log(self):
        """What the server has logged since the attack began."""
        with self.server.log.open("rb") as file:
            file.seek(self._mark)
            return file.read()

    def crowd(self, count, path="/echo", **how):
        return [self.upgrade(path, **how) for _ in range(count)]

    def open_files(self):
        return len(os.listdir(f"/proc/{self.server.pid}/fd"))

    def restart(self, kill=False):
        """The same server again: same folder, same port, same data."""
        if kill:
            self.server.process.kill()
            self.server.process.wait()
        self.server = self.server.again()

    # --- For the runner.

    def begin(self):
        """From here memory, round trips and log lines are the next attack's."""
        self.began = time.monotonic()
        self._mark = self.server.log.stat().st_size
        Path(f"/proc/{self.server.pid}/clear_refs").write_text("5")  # the peak is counted anew
        self.memory = self.server.memory()

    def play(self, attack):
        """Plays a row, again when the bystanders were slow."""
        result = None
        for tries in range(1, 2 + AGAIN):
            result = self._play(attack)
            result.tries = tries
            if not self._healthy():
                break
            most = PATIENCE * 1000 + AS_SLOW * result.machine
            if attack.bystanders and not result.trouble and result.median > most:
                result.trouble = f"the bystanders' round trips take {result.median:.1f} ms in the middle, at most {most:.0f} expected"
                continue
            break
        return result

    def _play(self, attack):
        self.begin()
        trouble = ""
        try:
            outcome = attack.run(self)
            if not attack.as_wanted(outcome):
                trouble = f"{outcome!r} instead of {' or '.join(map(repr, attack.want))}"
        except (Check, Refused) as error:
            outcome, trouble = "", str(error)
        seconds = time.monotonic() - self.began
        result = Result(attack, outcome, trouble, seconds)
        if self.server.alive():
            result.grown = (self.server.peak_memory() - self.memory) / MEBIBYTE
            if result.grown > attack.ceiling and not trouble:
                result.trouble = f"{result.grown:.1f} MiB more, at most {attack.ceiling} expected"
        if attack.bystanders:
            trips, lost = self.bystanders.since(self.began)
            if lost:
                result.trouble = result.trouble or f"bystanders {lost}"
            if trips:
                result.median, result.worst = statistics.median(took for took, _ in trips), max(took for took, _ in trips)
                result.machine = statistics.median(idle for _, idle in trips)
            elif not lost:
                result.trouble = result.trouble or "the bystanders have no round trip"
        log = self.log()
        if b"panicked at" in log:
            result.trouble = "a thread of the server panicked:\n" + log.decode(errors="replace")[-2000:]
        if not self.server.alive() and not attack.own:
            result.trouble = f"the server died:\n{self.server.tail()}"
        return result

    def _healthy(self):
        return self.server.alive() and (self.bystanders is None or not self.bystanders.lost)

    def healthy_again(self):
        """After an attack that broke something: a new server, so that the others are judged by themselves."""
        if not self._healthy():
            self.stop()
            self.start()

    def _warm_up(self):
        """One of everything, so that buffers which every server needs once are there."""
        for path in ("/echo", "/relay"):
            try:
                with self.upgrade(path, extensions="permessage-deflate") as peer:
                    peer.echoes("warm " * 4000)
            except (Refused, OSError):
                pass
        for _ in range(2):
            self.http("GET", "/")
            self.http("GET", "/metrics")
        if self.bystanders:
            trips, lost = self.bystanders.since(time.monotonic())
            if lost:
                raise RuntimeError(f"bystanders {lost}\n{self.server.tail()}")


class Bystanders:
    """The process of bystanders.py, and what it has measured."""

    def __init__(self, port, room="demo:bystanders"):
        self.process = subprocess.Popen([sys.executable, BYSTANDERS, str(port), room], stdout=subprocess.PIPE, text=True)
        self.trips, self.lost, self.news = deque(maxlen=100_000), "", threading.Condition()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self):
        for line in self.process.stdout:
            with self.news:
                if re.fullmatch(r"[\d.]+ [\d.]+ [\d.]+\n", line):
                    when, took, idle = map(float, line.split())
                    self.trips.append((when, (took, idle)))
                else:
                    self.lost = line.strip()
                self.news.notify_all()
        with self.news:
            self.lost = self.lost or "lost: ended"
            self.news.notify_all()

    def since(self, began, least=LEAST, timeout=40.0):
        """Round trips that ended after this, at least so many of them; and why there are no more."""
        deadline = time.monotonic() + timeout
        with self.news:
            while True:
                found = [took for when, took in self.trips if when > began]
                left = deadline - time.monotonic()
                if len(found) >= least or self.lost or left <= 0:
                    return found, self.lost
                self.news.wait(left)

    def stop(self):
        self.process.kill()
        self.process.wait()


def eventually(condition, seconds, message):
    """Until the condition holds; the limit is generous and only ends a test that has failed."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        check(time.monotonic() < deadline, message() if callable(message) else message)
        time.sleep(0.02)
    return found


def disperse(peers):
    for peer in peers:
        (peer.peer if isinstance(peer, Client) else peer).socket.close()


def compact(value):
    return json.dumps(value, separators=(",", ":"))
