"""The results as tables, and docs/benchmarks.md."""

import datetime
import json
import os
import platform
import re
from pathlib import Path

from servers import HERE, REPOSITORY, versions

FLOOR = "floor"
LABELS = {
    "us_per_message": "µs/msg", "us_per_delivery": "µs/dlv", "us_per_connection": "µs/conn",
    "us_per_handshake": "µs/handshake", "per_second": "a second", "p50_ms": "p50 ms",
    "p99_ms": "p99 ms", "max_ms": "max ms", "lost": "lost", "server_cpu_percent": "CPU %",
    "bytes_per_connection": "B/conn", "resident_before": "MB empty", "resident_after": "MB after",
    "handshakes_per_second": "handshakes/s",
}
GROUPS = {
    "echo": ("Echo", "64 connections, text; *depth* messages in flight on each."),
    "fanout": ("Fan-out, closed loop", "One publisher, which is one of the receivers; 128 bytes. "
               "*Window*: messages that may be under way at once; one is until it has reached "
               "everyone. dlv: one message at one receiver."),
    "open": ("Fan-out, open loop", "1,000 receivers, 128 bytes, whatever the server does. Latency "
             "counts from the moment a message was due to its arrival at each receiver. *lost*: "
             "not there two seconds after the last one was due."),
    "idle": ("Idle connections", "Growth of the server's resident memory, divided by 10,000; ten "
             "seconds after the last was opened. One run each."),
    "churn": ("Churn", "64 clients that connect, shake hands, do the closing handshake, and again. "
              "p50 and p99: from connect to ready."),
}
RATIOS = ("floor-write", "throng", "throng-typed", "bun", "tungstenite", "fastwebsockets",
          "axum-tuned", "axum", "deno", "ws")


def tables(results, servers, workloads):
    """Everything that was measured, in Markdown."""
    parts = [ratios(results, servers, workloads)]
    for group, (title, text) in GROUPS.items():
        members = [each for each in workloads if each.group == group and each.name in results]
        if members:
            parts.append(f"## {title}\n\n{text}")
            parts += [table(results[each.name], servers, each) for each in members]
    return "\n\n".join(part for part in parts if part)


def table(result, servers, workload):
    """One workload: a row for each server, the cheapest first."""
    floor = median(result.get(FLOOR, {}), workload.figure)
    header = ["server", *(LABELS[column] for column in workload.columns)]
    compared = workload.group != "idle"  # what the floor keeps for a connection is next to nothing
    header += ["spread", "÷ floor"] if compared else []
    rows = []
    for server in servers:
        figures = result.get(server.name)
        if figures is None:
            continue
        if "error" in figures:
            rows.append((float("inf"), [server.label, "–", figures["error"][:60]]))
            continue
        value = median(figures, workload.figure)
        cells = [number(median(figures, column)) for column in workload.columns]
        spread = figures.get(workload.figure, {}).get("spread", 0)
        ratio = f"{value / floor:.2f}" if floor and value is not None else "–"
        cells += [f"{100 * spread:.0f} %", ratio] if compared else []
        rows.append((value or 0, [server.label, *cells]))
    rows.sort(key=lambda row: row[0])
    faults = [f"- {server.label}: {result[server.name]['fault']}" for server in servers
              if "fault" in result.get(server.name, {})]
    text = f"### {workload.title[0].upper()}{workload.title[1:]}\n\n"
    text += markdown(header, [row for _, row in rows])
    return text + ("\n\n" + "\n".join(faults) if faults else "")


def ratios(results, servers, workloads):
    """CPU time (memory for idle connections) as a multiple of the floor's."""
    columns = [server for server in servers if server.name in RATIOS]
    rows = []
    for workload in workloads:
        result = results.get(workload.name, {})
        floor = median(result.get(FLOOR, {}), workload.figure)
        if not floor or workload.group == "idle":
            continue
        cells = []
        for server in columns:
            value = median(result.get(server.name, {}), workload.figure)
            cells.append("" if value is None else f"{value / floor:.2f}")
        rows.append([workload.title, f"{floor:.3g} µs", *cells])
    if not rows:
        return ""
    header = ["", "floor", *(server.label for server in columns)]
    return "## Ratios to the coalescing floor\n\nServer CPU time.\n\n" + markdown(header, rows)


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    lines += ["| " + " | ".join(row + [""] * (len(header) - len(row))) + " |" for row in rows]
    return "\n".join(lines)


def median(figures, name):
    return figures.get(name, {}).get("median") if isinstance(figures.get(name), dict) else None


def number(value):
    if value is None:
        return "–"
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def write(results, servers, workloads, rounds, bench):
    """docs/benchmarks.md, and the figures beside this program."""
    head = METHOD.format(machine=machine(), date=datetime.date.today().isoformat(),
                         rounds=rounds, seconds=bench.seconds,
                         programs=markdown(["server", "what it runs"],
                                           [[each.label, each.what] for each in servers]),
                         versions="; ".join(f"{name} {version}" for name, version in
                                            versions(bench.places).items()))
    notes = HERE / "findings.md"
    findings = notes.read_text().strip() + "\n\n" if notes.exists() else ""
    document = REPOSITORY / "docs" / "benchmarks.md"
    document.parent.mkdir(exist_ok=True)
    document.write_text(f"{TITLE}{findings}{tables(results, servers, workloads)}\n\n{head}")
    compact = {"date": datetime.date.today().isoformat(), "machine": machine(),
               "results": {name: {server: short(figures) for server, figures in result.items()}
                           for name, result in results.items()}}
    (HERE / "results.json").write_text(json.dumps(compact, indent=1) + "\n")
    print(f"\nwrote {document.relative_to(REPOSITORY)}")


def short(figures):
    return {name: value["median"] if isinstance(value, dict) else value
            for name, value in figures.items() if name in LABELS or name in ("error", "fault")}


def machine():
    def read(path, pattern):
        found = re.search(pattern, Path(path).read_text())
        return found[1].strip() if found else "unknown"

    memory = int(read("/proc/meminfo", r"MemTotal:\s+(\d+)")) / 1024**2
    congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    model = read("/proc/cpuinfo", r"model name\s*:\s*(.*)")
    kernel = platform.release().split("-")[0]
    return (f"{os.cpu_count()} cores, {model}, {memory:.0f} GiB, Linux {kernel}, "
            f"congestion control {congestion}")


TITLE = """# Benchmarks

Written by `bench/compare/run`, which measures throng and its rivals side by side on the machine
where it runs. CPU time of the server for each message or delivery is the figure to compare by;
throughput depends on the generator as well. The *floor* is a bare readiness loop that does no
protocol work beyond what a valid answer needs: what the kernel alone costs.

"""

METHOD = """## Method

- Machine: {machine}; loopback only; {date}.
- The server alone on core 0, the generator (`throng bench`) on core 1, both favoured over other
  processes of the machine. A fresh server for every run; {seconds:g} s measured after 0.6 s of
  warm-up. Medians of {rounds} runs; every server had one run of a workload before any had its next.
  *spread* is (max − min) / median of the first column.
- CPU time is the scheduler's run time of the server's threads. On loopback it contains the
  receiver's TCP input, which runs in the sender's call.
- Every delivery is compared byte by byte with what it must be; *lost* and the faults listed are
  what was wrong. Nothing was lost, duplicated, reordered or altered where none are listed.
- The generator masks all frames with one key and uses one handshake key.
- No TLS, no compression, one room, one publisher. Memory of Node, Bun and Deno includes garbage
  not yet collected.
- Shared machines are noisy: compare within a table, not with figures from elsewhere.

{programs}

Versions: {versions}.
"""
