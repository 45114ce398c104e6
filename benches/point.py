"""Measures all tools on one load, which it builds. bench.py runs it in namespaces of its own."""

import ctypes
import http.client
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from load import Load, Size, await_true
from measure import (
    STRACE,
    Cost,
    Daemon,
    calls_of_command,
    counted,
    peak_of_command,
    repeat,
    run,
    wrk,
)

INTERVAL = 1.0
# HAProxys are young for so long, and so is all that the exporter sees for the first time: it is
# looked at in every sample.
WARM_UP = 15.0
COMMANDS = {
    "ss": ["ss", "-tlnp"],
    "lsof": ["lsof", "-nP", "-iTCP", "-sTCP:LISTEN"],
}
PROCESS_EXPORTER_CONFIGURATION = "process_names: [{name: '{{.Comm}}', comm: [haproxy]}]\n"


class Bench:
    """The tools, and how long each is measured."""

    def __init__(self, order: dict, directory: Path):
        self.exporter = order["exporter"]
        self.parts = order["parts"]
        self.floor_program = order["floor"]
        self.window = order["window"]
        # For a command or the scrapes of one exporter.
        self.seconds = self.window / 5
        self.directory = directory

    def all(self) -> dict[str, Cost]:
        """What each costs on the load that stands."""
        costs = {"steady": self.steady, "cold": self.cold}
        costs |= {name: lambda name=name: self.command(name) for name in COMMANDS}
        costs |= {"process-exporter": lambda: self.scraped(self.process_exporter())}
        costs |= {"node-exporter": lambda: self.scraped(self.node_exporter())}
        results = {}
        for name, measure in costs.items():
            results[name] = asdict(measure())
            print(f"    {name}: {results[name]['cpu_seconds'] * 1e3:.2f} ms of CPU", flush=True)
        return results

    def floor(self) -> dict:
        """What a look at the load must cost at least: the median of a few rounds of `floor.rs`."""
        rounds = [json.loads(subprocess.check_output([self.floor_program])) for _ in range(5)]
        return sorted(rounds, key=lambda one: one["cpu_seconds"])[len(rounds) // 2]

    def extras(self) -> dict:
        """What is measured on one load only."""
        return {
            "scrapes_per_second": self.scrapes_per_second(),
            "latency": self.latency(),
            "parts": json.loads(subprocess.check_output([self.parts])),
        }

    # This exporter.

    def sampler(self, interval: str, before: tuple[str, ...] = ()) -> Daemon:
        flags = ["--web.listen-address", "127.0.0.1:10101", "--sample.interval", interval]
        command = [*before, self.exporter, *flags]
        return Daemon(command, 10101, "/-/ready", self.directory / "exporter.log")

    def steady(self) -> Cost:
        """A sample of a running exporter.

        No scrape is made between the two readings of the clock: the samples are counted by the
        timestamps of the pages before and after.
        """
        with self.sampler(f"{INTERVAL:.0f}s") as daemon:
            daemon.await_ready()
            time.sleep(WARM_UP)
            before = self.in_a_pause(daemon)
            cpu = daemon.cpu()
            time.sleep(self.window * INTERVAL)
            cpu = daemon.cpu() - cpu
            after = daemon.page()
            samples = samples_between(before, after)
            peak, resident = daemon.memory("VmHWM"), daemon.memory("VmRSS")
            anonymous = daemon.anonymous()
            calls = self.calls_of_a_sample(daemon)
        wall = (sample_seconds(before) + sample_seconds(after)) / 2
        return Cost(wall, cpu / samples, peak, calls, samples, resident, anonymous)

    def in_a_pause(self, daemon: Daemon) -> str:
        """The page of a sample that has just ended, a while before the next begins."""
        last = sample_timestamp(daemon.page())
        await_true("a next sample", lambda: sample_timestamp(daemon.page()) > last)
        time.sleep(0.2 * INTERVAL)
        return daemon.page()

    def calls_of_a_sample(self, daemon: Daemon) -> int:
        """With those of the scrapes that tell that samples have been taken, two for each."""
        last = sample_timestamp(self.in_a_pause(daemon))

        def samples() -> int:
            # From a pause to the end of a sample: none is counted in part. Under strace a sample
            # may take longer than the interval.
            start, seen = time.monotonic(), {last}
            while len(seen) <= 2 or (len(seen) <= 5 and time.monotonic() - start < 10):
                time.sleep(INTERVAL / 2)
                seen.add(sample_timestamp(daemon.page()))
            return len(seen) - 1

        calls, taken = daemon.calls(samples, self.directory)
        return round(calls / taken)

    def cold(self) -> Cost:
        """A fresh process until it has its first page."""

        def first_page() -> tuple[float, float, int]:
            # It must not begin a second sample.
            with self.sampler("1h") as daemon:
                daemon.await_ready()
                wall, cpu = time.perf_counter() - daemon.start, daemon.cpu()
                return wall, cpu, daemon.memory("VmHWM")

        results = repeat(first_page, self.seconds)
        walls, cpus, peaks = zip(*results)
        calls = self.calls_of_first_page()
        return Cost(
            statistics.median(walls), statistics.median(cpus), max(peaks), calls, len(results)
        )

    def calls_of_first_page(self) -> int:
        answer = self.directory / "strace.txt"
        with self.sampler("1h", before=(*STRACE, "-o", str(answer))) as strace:
            strace.await_ready()
            pid = strace.process.pid
            os.kill(int(Path(f"/proc/{pid}/task/{pid}/children").read_text()), signal.SIGTERM)
            strace.process.wait()
        return counted(answer)

    def latency(self) -> dict:
        """How long scrapes take, one at a time, while fresh processes sample all the time.

        A fresh process has no page until its first sample, the costly one: it answers 503 then, and
        those answers are told by themselves. What they take of a process at rest is the machine's
        own: other work on it makes all of them worse.
        """
        phases = {"first_sample": [], "later": [], "at_rest": []}
        for interval, later in [("100ms", "later")] * 10 + [("1h", "at_rest")] * 2:
            with self.sampler(interval) as daemon:
                for seconds, status in timed_scrapes(daemon, self.window / 10):
                    phases[later if status == 200 else "first_sample"].append(seconds)
        return {phase: percentiles(seconds) for phase, seconds in phases.items()}

    def scrapes_per_second(self) -> dict[str, float]:
        daemons = {
            "this": self.sampler(f"{INTERVAL:.0f}s"),
            "process-exporter": self.process_exporter(),
            "node-exporter": self.node_exporter(),
        }
        rates = {}
        with daemons["this"], daemons["process-exporter"], daemons["node-exporter"]:
            for name, daemon in daemons.items():
                daemon.await_ready()
                rates[name] = wrk(daemon.port, connections=4, seconds=self.window // 2)
        return rates

    # Its peers.

    def command(self, name: str) -> Cost:
        command = COMMANDS[name]
        # The first run also fills the kernel's caches.
        peak = peak_of_command(command, self.directory)
        walls, cpus = zip(*(results := repeat(lambda: run(command), self.seconds)))
        calls = calls_of_command(command, self.directory)
        return Cost(statistics.median(walls), statistics.median(cpus), peak, calls, len(results))

    def process_exporter(self) -> Daemon:
        configuration = self.directory / "process-exporter.yaml"
        configuration.write_text(PROCESS_EXPORTER_CONFIGURATION)
        flags = ["-config.path", str(configuration), "-web.listen-address", "127.0.0.1:9256"]
        log = self.directory / "process-exporter.log"
        return Daemon(["prometheus-process-exporter", *flags], 9256, "/", log)

    def node_exporter(self) -> Daemon:
        flags = ["--collector.processes", "--collector.tcpstat"]
        flags += ["--web.listen-address=127.0.0.1:9100"]
        log = self.directory / "node-exporter.log"
        return Daemon(["prometheus-node-exporter", *flags], 9100, "/", log)

    def scraped(self, daemon: Daemon) -> Cost:
        """A scrape of an exporter that looks at the host when it is asked."""
        with daemon:
            daemon.await_ready()
            daemon.page()
            cpu = daemon.cpu()
            walls = repeat(daemon.scrape, self.seconds)
            # A mean: what a scrape leaves to the garbage collector may be done in the next one.
            cpu = (daemon.cpu() - cpu) / len(walls)
            peak = daemon.memory("VmHWM")
            calls, _ = daemon.calls(daemon.page, self.directory)
        return Cost(statistics.median(walls), cpu, peak, calls, len(walls))


def value(page: str, name: str) -> list[float]:
    """Values of a metric, with whatever labels."""
    return [float(text) for text in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE)]


def sample_timestamp(page: str) -> float:
    return value(page, "haproxy_host_sample_timestamp_seconds")[0]


def sample_seconds(page: str) -> float:
    return sum(value(page, "haproxy_host_sample_duration_seconds"))


def samples_between(before: str, after: str) -> int:
    """How many samples were taken: one begins each interval, or when one that is longer ends."""
    between = sample_timestamp(after) - sample_timestamp(before)
    return max(1, round(between / max(INTERVAL, sample_seconds(after))))


def listens(port: int) -> bool:
    try:
        http.client.HTTPConnection("127.0.0.1", port).connect()
    except ConnectionRefusedError:
        return False
    return True


def timed_scrapes(daemon: Daemon, duration: float):
    """Scrapes over one kept connection, from the moment the daemon listens: seconds and status."""
    await_true("the exporter to listen", lambda: listens(daemon.port), every=0.001)
    client = http.client.HTTPConnection("127.0.0.1", daemon.port)
    deadline = time.monotonic() + duration
    while time.monotonic() < deadline:
        start = time.perf_counter()
        client.request("GET", "/metrics")
        response = client.getresponse()
        response.read()
        yield time.perf_counter() - start, response.status
        time.sleep(0.002)


def percentiles(seconds: list[float]) -> dict:
    if len(seconds) < 2:
        return {"p50": 0.0, "p99": 0.0, "worst": 0.0, "scrapes": len(seconds)}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98], "worst": max(seconds), "scrapes": len(seconds)}


def shared_tables(load: Load) -> int:
    """How many pairs of the load's HAProxys share one table of descriptors, as kcmp(2) says."""
    numbers = {"x86_64": 312, "aarch64": 272}
    files = 2
    kcmp = ctypes.CDLL(None).syscall
    pids = [int(service.pidfile.read_text()) for service in load.services]
    pairs = itertools.combinations(pids, 2)
    return sum(kcmp(numbers[os.uname().machine], a, b, files, 0, 0) == 0 for a, b in pairs)


def main() -> None:
    order = json.loads(sys.argv[1])
    directory = Path(order["directory"])
    load = Load(directory, Size(**order["size"]))
    start = time.monotonic()
    load.build()
    print(f"    load built in {time.monotonic() - start:.0f} s", flush=True)
    bench = Bench(order, directory)
    results = {"size": order["size"], "floor": bench.floor(), "costs": bench.all()}
    if order["extras"]:
        results["extras"] = bench.extras() | {"shared_tables": shared_tables(load)}
        # Connections of a stale process are read, for which the whole socket table is.
        load.services[-1].reload()
        print("    with a stale process that drains", flush=True)
        results["draining"] = bench.all()
    Path(order["answer"]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
