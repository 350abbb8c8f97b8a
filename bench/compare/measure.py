"""Runs a server and the generator side by side and collects the generator's figures."""

import json
import os
import resource
import select
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from servers import HERE, MODULES, REPOSITORY, RIVALS, places

SERVER_CORE, GENERATOR_CORE = 0, 1
START, LONGEST = 15, 120


class Broken(Exception):
    """Nothing can be measured."""


class Bench:
    """Everything built and installed, ready to measure."""

    def __init__(self, servers, throng, seconds):
        if (os.cpu_count() or 1) < 2:
            raise Broken("two cores are needed, one for the server and one for the load")
        self.servers, self.seconds = servers, seconds
        self.throng = str(Path(throng).resolve()) if throng else build_throng()
        self.places = places(self.throng, build_rivals())
        if any(server.name in ("ws", "bun", "deno") for server in servers):
            install()
            self.places = places(self.throng, self.places["rivals"])

    def run(self, workloads, rounds):
        """Results by workload and server: figure → {median, spread}; `error` when a run failed."""
        results = {}
        for workload in workloads:
            runs = {server.name: [] for server in self.servers if server.takes(workload)}
            for number in range(min(rounds, workload.rounds)):
                for server in self.servers:
                    if server.takes(workload):
                        figures = self.measure(server, workload)
                        runs[server.name].append(figures)
                        note(workload, server, number, figures)
            results[workload.name] = {name: summary(each) for name, each in runs.items()}
        return results

    def measure(self, server, workload):
        """One run against a fresh server."""
        port = free_port() if any("{port}" in part for part in server.command) else None
        command = [part.format(**self.places, port=port) for part in server.command]
        process = subprocess.Popen(
            command, cwd=HERE, env=environment(), stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.DEVNULL if port else subprocess.PIPE,
            stderr=subprocess.DEVNULL, preexec_fn=lambda: favour(SERVER_CORE))
        try:
            port = port or ready_port(process)
            wait_for(port, process)
            return self.generate(server, workload, port, process.pid)
        except Broken as broken:
            return {"error": str(broken)}
        finally:
            process.kill()
            process.wait()

    def generate(self, server, workload, port, pid):
        path = server.echo if workload.endpoint == "echo" else server.relay
        command = [self.throng, "bench", workload.command, f"ws://127.0.0.1:{port}{path}",
                   "--json", "--pid", str(pid), "--cpu", str(GENERATOR_CORE), *workload.arguments]
        if workload.timed:
            command += ["--duration", str(self.seconds)]
        if server.typed:
            command.append("--typed")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST,
                                  preexec_fn=lambda: favour(GENERATOR_CORE))
        except subprocess.TimeoutExpired:
            return {"error": "took too long"}
        if done.returncode > 1:
            return {"error": done.stderr.strip()}
        return json.loads(done.stdout)


def build_throng():
    print("building throng …", file=sys.stderr)
    cargo(REPOSITORY, "--package", "throng-server")
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    return str(target.resolve() / "release" / "throng")


def build_rivals():
    print("building the rivals …", file=sys.stderr)
    cargo(RIVALS)
    target = Path(os.environ.get("CARGO_TARGET_DIR", RIVALS / "target"))
    return str(target.resolve() / "release")


def cargo(directory, *arguments):
    command = ["cargo", "build", "--release", "--locked", "--quiet", *arguments]
    if subprocess.run(command, cwd=directory).returncode:
        raise Broken(f"{' '.join(command)} failed in {directory.name}")


def install():
    if (MODULES / "ws").is_dir():
        return
    print("installing ws, Bun and Deno …", file=sys.stderr)
    npm = shutil.which("npm")
    if not npm or subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=HERE).returncode:
        raise Broken("npm ci failed")


def favour(core):
    """In the child: one core, as many files as allowed, and priority over others if we may."""
    os.setsid()
    os.sched_setaffinity(0, {core})
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -15)
        Path("/proc/self/autogroup").write_text("-15")
    except OSError:
        pass


def environment():
    """Ours without settings of throng, so that it runs with its defaults."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("THRONG_")}
    return kept | {"NO_COLOR": "1"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ready_port(process):
    """The port from the line `ready PORT`."""
    end = time.monotonic() + START
    while time.monotonic() < end:
        if select.select([process.stdout], [], [], 0.1)[0]:
            line = process.stdout.readline()
            if line.startswith("ready "):
                return int(line.split()[1])
            if not line:
                break
    raise Broken("the server did not start")


def wait_for(port, process):
    end = time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            time.sleep(0.2)
            return
        except OSError:
            time.sleep(0.02)
    raise Broken("the server does not listen")


def summary(runs):
    """Medians of the good runs, and the spread of each: (max − min) / median."""
    errors = [run["error"] for run in runs if "error" in run]
    good = [run for run in runs if "error" not in run]
    if not good:
        return {"error": errors[0]}
    names = [name for name, value in good[0].items() if isinstance(value, (int, float))
             and not isinstance(value, bool) and all(name in run for run in good)]
    figures = {}
    for name in names:
        values = [run[name] for run in good]
        median = statistics.median(values)
        spread = (max(values) - min(values)) / median if median else 0
        figures[name] = {"median": round(median, 4), "spread": round(spread, 3)}
    faults = next((run["first_fault"] for run in good if "first_fault" in run), None)
    return figures | ({"fault": faults} if faults else {})


def note(workload, server, number, figures):
    value = figures.get("error") or f"{figures.get(workload.figure, float('nan')):,.3f}"
    fault = f"  ({figures['first_fault']})" if "first_fault" in figures else ""
    print(f"{workload.name:14} {number + 1} {server.name:16} {value}{fault}", file=sys.stderr)
