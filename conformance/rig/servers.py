"""Starts throng and the servers it is compared with, each on a free loopback port.

Every server gets the same limits: messages up to 1 MiB, handshakes within 5 s, the subprotocol
`throng.v1`, deflate where the server has it.
"""

import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "conformance"
TARGET_DIR = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
MEBIBYTE = 1 << 20
SUBPROTOCOL = "throng.v1"


@dataclass
class Server:
    """A running server under test."""

    name: str
    port: int
    path: str = "/"
    subprotocol: str = SUBPROTOCOL  # one that it speaks, or None
    max_message: int = MEBIBYTE
    handshake_timeout: float = 5.0  # seconds
    process: subprocess.Popen = None
    log: Path = None
    host: str = "127.0.0.1"
    facts: dict = field(default_factory=dict)  # what the preparation of its folder left: keys, files
    command: list = field(default_factory=list)
    folder: Path = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is None or self.process.poll() is None

    def memory(self):
        """Resident memory in bytes."""
        return self._memory("VmRSS")

    def peak_memory(self):
        """The most it ever was."""
        return self._memory("VmHWM")

    def _memory(self, field):
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(field + r":\s+(\d+) kB", status)[1]) * 1024

    def stop(self):
        if self.process and self.alive():
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def again(self, wait=60.0):
        """The same server once more: same command, port, folder, log."""
        process = launch(self.command, self.folder, self.log)
        wait_for_port(self.port, process, wait)
        return replace(self, process=process)

    def tail(self, lines=20):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log else ""


def free_port():
    """A port that nobody has, below those that the system gives to whoever connects: it stays free while its server is down."""
    while True:
        port = 10_100 + (os.getpid() * 911 + next(_ports)) % 20_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


_ports = itertools.count()


def binary():
    """The throng binary: THRONG_BIN, or built now (dev profile)."""
    if path := os.environ.get("THRONG_BIN"):
        return Path(path).resolve()
    subprocess.run(["cargo", "build", "--quiet", "--package", "throng-server"], cwd=ROOT, check=True)
    return TARGET_DIR / "debug" / "throng"


def without_settings():
    """The environment without `THRONG_…`: throng takes those for settings, and refuses unknown ones."""
    return {name: value for name, value in os.environ.items() if not name.startswith("THRONG_")}


def throng(config="", *, arguments=(), program=None, wait=60.0, prepare=None, data=False, limit_files=0):
    """Starts throng with this configuration text on a free port.

    `prepare` is called with the folder before the start; it may write files there and returns facts about them, of which
    `config` is added to the configuration and `arguments` to the command. With `data` the server keeps its rooms there; `limit_files` is its `ulimit -n`.
    """
    folder = Path(tempfile.mkdtemp(prefix="throng-test-"))
    port, log = free_port(), folder / "log"
    facts = (prepare(folder) if prepare else None) or {}
    (folder / "throng.toml").write_text(config + facts.get("config", ""))
    command = [program or binary(), "serve", "--config", folder / "throng.toml", *arguments]
    command += ["--data", folder / "data"] if data else ["--memory"]
    if "--listen" not in arguments:
        command += ["--listen", f"127.0.0.1:{port}"]
    command += facts.get("arguments", [])
    if limit_files:
        command = ["prlimit", f"--nofile={limit_files}", *command]
    log.touch()
    process = launch(command, folder, log)
    server = Server("throng", port, path="/echo", subprotocol=None, process=process, log=log, facts=facts, command=command,
                    folder=folder)
    try:
        wait_for_port(port, process, wait)
    except RuntimeError as error:
        raise RuntimeError(f"{error}:\n{server.tail()}") from None
    return server


def launch(command, folder, log):
    with log.open("ab") as sink:
        return subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=without_settings())


def wait_for_port(port, process, seconds=60.0):
    """Until the process listens there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    process.kill()
    raise RuntimeError(f"nothing listens on port {port}")


def throng_as_compared():
    """throng with the limits that every compared server gets."""
    return throng("""
[limits]
handshake_timeout = "5s"
[echo]
max_message = "1MiB"
deflate = true
""")


SETTINGS = {"maxPayload": MEBIBYTE, "protocol": SUBPROTOCOL, "handshakeTimeout": 5000}


def ws():
    folder = HERE / "interop" / "node"
    install_node(folder)
    return _peer("ws", ["node", folder / "echo-server.mjs"])


def websockets():
    return _peer("websockets", [python_environment(HERE / "peers" / "requirements.txt"), HERE / "peers" / "websockets_echo.py"])


def axum():
    crate = HERE / "peers" / "axum"
    subprocess.run(["cargo", "build", "--quiet"], cwd=crate, check=True,
                   env={**os.environ, "CARGO_TARGET_DIR": str(TARGET_DIR)})
    return _peer("axum", [TARGET_DIR / "debug" / "axum-echo"])


def elsewhere(url):
    """A server that runs already, named by its URL."""
    parts = urlsplit(url)
    return Server(url, parts.port or 80, path=parts.path or "/", subprotocol=None, host=parts.hostname)


def _peer(name, command):
    """A peer prints its port and goes when its standard input ends."""
    process = subprocess.Popen([*map(str, command), json.dumps(SETTINGS)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = process.stdout.readline().strip()
    if not line.isdigit():
        process.kill()
        raise RuntimeError(f"{name} did not start")
    return Server(name, int(line), process=process)


def install_node(folder):
    """`npm ci` unless the installed tree is the locked one."""
    lock, mark = folder / "package-lock.json", folder / "node_modules" / ".locked"
    if not mark.exists() or mark.read_text() != lock.read_text():
        subprocess.run(["npm", "ci", "--silent"], cwd=folder, check=True, stdin=subprocess.DEVNULL)
        mark.write_text(lock.read_text())


def python_environment(requirements):
    """The interpreter of a virtual environment in target/ that has these requirements."""
    folder = TARGET_DIR / "python"
    mark, wanted = folder / ".requirements", requirements.read_text()
    if not mark.exists() or mark.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", "-r", requirements], check=True,
                       stdin=subprocess.DEVNULL)
        mark.write_text(wanted)
    return folder / "bin" / "python"
