"""Measures every load in turn, each in namespaces of its own, and writes what came out."""

import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from load import Size, in_namespaces
from report import Results, verdicts, write

HERE = Path(__file__).resolve().parent
# What has to hold has to at the first; one size changes at a time around the third.
LOADS = [
    *[Size(10, 1_000, 180_000), Size(10, 1_000, 0), Size(10, 1_000, 20_000)],
    *[Size(1, 1_000, 20_000), Size(100, 1_000, 20_000), Size(2_000, 1_000, 20_000)],
    *[Size(10, 100, 20_000), Size(10, 10_000, 20_000), Size(10, 20_000, 20_000)],
    *[Size(10, 1_000, 20_000, 2_000), Size(10, 1_000, 20_000, 20_000)],
]
WINDOW = 20
# Proves that everything runs; its figures say nothing.
QUICK_LOADS = [Size(10, 50, 1_000), Size(10, 50, 0), Size(10, 50, 100), Size(2, 50, 100)]
QUICK_LOADS += [Size(10, 10, 100), Size(20, 10, 100, 50), Size(10, 50, 100, 50)]
QUICK_WINDOW = 4


def measure(size: Size, window: int, extras: bool, programs: dict) -> dict:
    print(f"==> {', '.join(f'{number:,} {name}' for name, number in vars(size).items())}")
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        answer = Path(directory) / "answer.json"
        order = {"size": vars(size), "window": window, "extras": extras, **programs}
        order |= {"directory": directory, "answer": str(answer)}
        in_namespaces(str(HERE / "point.py"), json.dumps(order))
        return json.loads(answer.read_text())


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "CPU": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{int(memory[1]) / (1 << 20):.0f} GiB",
        "kernel": f"Linux {platform.release()}",
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "load average before": f"{os.getloadavg()[0]:.1f}",
    }


def versions(exporter: str) -> dict[str, str]:
    def first(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr).splitlines()[0]

    packages = ["haproxy", "iproute2", "lsof"]
    packages += ["prometheus-process-exporter", "prometheus-node-exporter"]
    query = ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *packages]
    lines = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    named = dict(line.split(" ", 1) for line in lines)
    return {"haproxy-host-exporter": first(exporter, "--version").split(" ", 1)[1], **named}


def run(quick: bool, exporter: str, parts: str, floor: str) -> dict:
    loads, window = (QUICK_LOADS, QUICK_WINDOW) if quick else (LOADS, WINDOW)
    programs = {"exporter": exporter, "parts": parts, "floor": floor}
    about = {"machine": machine(), "versions": versions(exporter)}
    points = [measure(size, window, size == loads[0], programs) for size in loads]
    return {**about, "points": points}


def main() -> int:
    # Whoever ends it ends the loads too, and their directories.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    what, destination, *programs = sys.argv[1:]
    folder = Path(destination)
    file = folder / "results.json"
    if what != "draw":
        raw = run(what == "quick", *programs)
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(raw, indent=1) + "\n")
    results = Results(json.loads(file.read_text()))
    print(write(results, folder))
    if what == "quick":
        print("Everything ran. These loads are too small for their figures to say anything.")
        return 0
    return 0 if all(verdict.holds or verdict.is_aim for verdict in verdicts(results)) else 1


if __name__ == "__main__":
    sys.exit(main())
