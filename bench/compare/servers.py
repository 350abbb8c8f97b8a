"""Who is measured: how each server is started, and where its endpoints are."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
RIVALS = HERE.parent / "rivals"
MODULES = HERE / "node_modules"


@dataclass(frozen=True)
class Server:
    """A server; `command` gets the places `{throng}`, `{rivals}`, `{bun}`, `{deno}`, `{port}`.

    One without `{port}` chooses a port and prints `ready PORT`.
    """

    name: str
    label: str
    command: tuple
    what: str
    echo: str = "/echo"
    relay: str = "/relay"
    typed: bool = False
    groups: tuple = ()

    def takes(self, workload):
        return not self.groups or workload.group in self.groups


THRONG = ("{throng}", "serve", "--memory", "--workers", "1", "--listen", "127.0.0.1:{port}", "--set", "access.anonymous=*",
          "--set", "rooms.rate=off", "--set", "rooms.bytes_rate=off")
FLOOR = "no protocol work beyond unmasking, no checks: "

SERVERS = [
    Server("floor", "floor, coalescing", ("{rivals}/floor",),
           FLOOR + "one write per socket and loop turn, one buffer for a whole broadcast"),
    Server("floor-write", "floor, a write each", ("{rivals}/floor", "--mode", "write"),
           FLOOR + "one write per frame"),
    Server("floor-hold", "floor, held 5 ms", ("{rivals}/floor", "--hold-ms", "5"),
           FLOOR + "coalescing, and two broadcasts at least 5 ms apart", groups=("open",)),
    Server("throng", "**throng**", THRONG, "one worker; `/echo` and `/relay`"),
    Server("throng-typed", "**throng**, typed chat", THRONG,
           "one worker; JSON messages on `/ws`, stamped by the server", relay="/ws", typed=True,
           groups=("fanout", "open")),
    Server("bun", "Bun", ("{bun}", "programs/bun.mjs"), "`Bun.serve`, `publish` to a topic"),
    Server("tungstenite", "tokio-tungstenite, tuned", ("{rivals}/rival-tungstenite",),
           "4 KiB read buffers, mimalloc, feeds all that is ready before a flush"),
    Server("fastwebsockets", "fastwebsockets", ("{rivals}/rival-fastwebsockets",),
           "on hyper, as in its examples"),
    Server("axum-tuned", "axum, tuned", ("{rivals}/rival-axum", "--tuned"),
           "its chat example with 4 KiB read buffers"),
    Server("axum", "axum", ("{rivals}/rival-axum",), "its chat example"),
    Server("deno", "Deno", ("{deno}", "run", "--allow-net", "programs/deno.mjs"), "`Deno.serve`"),
    Server("ws", "Node ws", ("node", "programs/ws.mjs"), "as in its manual"),
]


def places(throng, rivals):
    """What the places in the commands stand for."""
    return {"throng": throng, "rivals": rivals, "bun": binary("bun", "bun"),
            "deno": binary("deno", "deno")}


def binary(package, name):
    """The program itself and not its launcher, whose CPU time would be the wrong one."""
    candidates = [MODULES / package / "bin" / f"{name}.exe", MODULES / package / name,
                  *MODULES.glob(f"@oven/*/bin/{name}"), *MODULES.glob(f"@deno/*/{name}")]
    return next((str(file) for file in candidates if is_program(file)), name)


def is_program(file):
    try:
        with open(file, "rb") as opened:
            return opened.read(4) == b"\x7fELF"
    except OSError:
        return False


def versions(filled):
    """Versions of everything that was run."""
    def output(*command):
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return "unknown"

    lock = (RIVALS / "Cargo.lock").read_text()
    crates = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', lock))
    rust = ", ".join(f"{name} {crates[name]}" for name in
                     ("tokio", "axum", "tokio-tungstenite", "fastwebsockets", "hyper", "mio"))
    ws = re.search(r'"version": "([^"]+)"', (MODULES / "ws" / "package.json").read_text())
    return {
        "throng": output(filled["throng"], "--version").split()[-1],
        "Rust": output("rustc", "--version").split()[1] + "; " + rust,
        "Node": output("node", "--version").strip().lstrip("v") + (f", ws {ws[1]}" if ws else ""),
        "Bun": output(filled["bun"], "--version").strip(),
        "Deno": output(filled["deno"], "--version").split("\n")[0].split()[1],
    }
