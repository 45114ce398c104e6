"""Compares exporters on one load, round after round, so that what else the machine does meets all of them."""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from load import Load, Size, in_namespaces
from point import Bench

ROUNDS = 5
WINDOW = 10
LOADS = [Size(10, 1_000, 0), Size(10, 1_000, 20_000), Size(100, 1_000, 20_000)]


def stage(order: dict) -> dict:
    """The costs of a sample of each exporter, a list with one for each round."""
    directory = Path(order["directory"])
    Load(directory, Size(**order["size"])).build()
    costs = {exporter: [] for exporter in order["exporters"]}
    for _ in range(ROUNDS):
        for exporter, of_rounds in costs.items():
            programs = {"exporter": exporter, "parts": None, "floor": None, "window": WINDOW}
            cost = Bench(programs, directory).steady()
            of_rounds.append([cost.cpu_seconds, cost.system_calls, cost.resident_bytes])
    return costs


def compare(size: Size, exporters: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="compare-") as directory:
        answer = Path(directory) / "answer.json"
        order = {"size": vars(size), "directory": directory, "answer": str(answer)}
        in_namespaces(__file__, "stage", json.dumps(order | {"exporters": exporters}))
        costs = json.loads(answer.read_text())
    print(f"==> {size.processes} processes, {size.listeners:,} listeners, {size.sockets:,} sockets")
    first = None
    for exporter in exporters:
        cpu, calls, resident = map(statistics.median, zip(*costs[exporter]))
        first = first or cpu
        spread = " ".join(f"{1e3 * of_round[0]:.2f}" for of_round in costs[exporter])
        print(
            f"    {exporter}: {1e3 * cpu:.2f} ms of CPU a sample ({spread}), {cpu / first:.2f} of the first; "
            f"{calls:.0f} system calls, {resident / (1 << 20):.1f} MiB resident",
            flush=True,
        )


def main() -> int:
    if sys.argv[1] == "stage":
        order = json.loads(sys.argv[2])
        Path(order["answer"]).write_text(json.dumps(stage(order)))
        return 0
    for size in LOADS:
        compare(size, sys.argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
