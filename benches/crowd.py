"""Measures what the exporter costs while an unprivileged user runs hundreds of HAProxys.

    benches/run crowd [N]                         N (500) programs of the user that call themselves haproxy
    python3 benches/crowd.py N EXPORTER...        several exporters one after the other, on one load

Beside them a HAProxy of root's serves 20 ports. Each manner of the crowd is a load of its own, in
namespaces of its own.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from load import Service, await_true, in_namespaces
from measure import Daemon

USER = 65_534
LISTENERS = 20
NAME_CHARACTERS = 150
WINDOW = 20.0
WARM_UP = 15.0

# What a copy of Python does before it looks at its command line: it listens, and waits.
WAITS = """
import os, signal, socket
made = []
for place in os.environ.get('LISTEN', '').split():
    address, _, port = place.rpartition(':')
    made.append(socket.socket())
    made[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made[-1].bind((address, int(port)))
    made[-1].listen()
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
os.write(1, b'.')
while True:
    signal.pause()
"""


def alone(home: str, number: int, pids: list[int]) -> list[str]:
    """Each is a service of its own, under a long name."""
    stem = f"{number:04}".rjust(NAME_CHARACTERS, "x")
    return ["-D", "-p", f"{home}/{stem}.pid", "-f", f"{home}/{stem}.cfg"]


def one_pidfile(home: str, number: int, pids: list[int]) -> list[str]:
    """All claim one pidfile and one configuration, so each later one replaces all before it."""
    return ["-D", "-p", f"{home}/lb.pid", "-f", f"{home}/lb.cfg"]


def told(home: str, number: int, pids: list[int]) -> list[str]:
    """Each was told to replace all before it."""
    return ["-D", "-f", f"{home}/{number}.cfg", "-sf", *map(str, pids)]


def alike(home: str, number: int, pids: list[int]) -> list[str]:
    """All have the same arguments and no pidfile: services that only a number tells apart."""
    return ["-D", "-f", f"{home}/lb.cfg"]


def one_port(home: str, number: int, pids: list[int]) -> list[str]:
    """Services of their own that listen on the same ports through sockets of their own."""
    return ["-D", "-f", f"{home}/{number}.cfg"]


MANNERS = {made.__name__: made for made in (alone, one_pidfile, told, alike, one_port)}


def places(manner: str, number: int) -> str:
    """The addresses on which one of them listens: below the ephemeral range."""
    host = "127.9.0.1" if manner == "one_port" else f"127.8.{number // 250}.{number % 250 + 1}"
    return " ".join(f"{host}:{20_000 + port}" for port in range(LISTENERS))


def start_crowd(directory: Path, manner: str, count: int) -> None:
    """Starts them as the user. They are called haproxy, and are a copy of Python."""
    home = directory / "user"
    home.mkdir()
    program = home / "haproxy"
    shutil.copy("/usr/bin/python3", program)
    (home / "sitecustomize.py").write_text(WAITS)
    directory.chmod(0o755)
    variables = {"PYTHONHOME": "/usr", "PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    pids: list[int] = []
    for number in range(count):
        arguments = MANNERS[manner](str(home), number, pids)
        crowd = subprocess.Popen(
            [program, "-m", "100", *arguments],
            env={**variables, "LISTEN": places(manner, number)},
            stdout=subprocess.PIPE,
            user=USER,
            group=USER,
            extra_groups=[],
            start_new_session=True,
        )
        if crowd.stdout.read(1) != b".":
            raise RuntimeError("one of the crowd did not start")
        crowd.stdout.close()
        pids.append(crowd.pid)


def timestamp(page: str) -> float:
    name = "haproxy_host_sample_timestamp_seconds "
    return next(float(line[len(name):]) for line in page.splitlines() if line.startswith(name))


def cost(exporter: str, directory: Path) -> dict:
    """One exporter on the load that stands: CPU of a sample, memory, and the size of its pages."""
    command = [exporter, "--web.listen-address", "127.0.0.1:10101", "--sample.interval", "1s"]
    with Daemon(command, 10101, "/-/healthy", directory / "exporter.log") as daemon:
        daemon.await_ready()
        await_true("a first sample", lambda: daemon.get("/-/ready")[0] == 200)
        time.sleep(WARM_UP)
        # One scrape each second, which also counts the samples: some take longer than the interval.
        seen = [timestamp(daemon.page())]
        begun = daemon.cpu()
        while seen[-1] - seen[0] < WINDOW:
            time.sleep(1)
            taken = timestamp(page := daemon.page())
            seen += [taken] if taken > seen[-1] else []
        spent, samples = daemon.cpu() - begun, len(seen) - 1
        return {
            "CPU ms a sample": round(1e3 * spent / samples, 2),
            "seconds between samples": round((seen[-1] - seen[0]) / samples, 2),
            "resident MiB": round(daemon.memory("VmRSS") / (1 << 20), 1),
            "peak MiB": round(daemon.memory("VmHWM") / (1 << 20), 1),
            "page KB": round(len(page) / 1e3, 1),
            "state KB": round(len(daemon.get("/state.json")[1]) / 1e3, 1),
            "landing KB": round(len(daemon.get("/")[1]) / 1e3, 1),
            "root's up": 'haproxy_host_up{haproxy="lb1",origin="discovered"} 1' in page,
        }


def stage(order: dict) -> dict:
    directory = Path(order["directory"])
    service = Service(directory / "lb1", "lb1", range(10_200, 10_200 + LISTENERS), True)
    service.start()
    if order["manner"] != "nobody":
        start_crowd(directory, order["manner"], order["count"])
    return {exporter: cost(exporter, directory) for exporter in order["exporters"]}


def main() -> int:
    if sys.argv[1] == "stage":
        order = json.loads(sys.argv[2])
        Path(order["answer"]).write_text(json.dumps(stage(order)))
        return 0
    count, exporters = int(sys.argv[1]), sys.argv[2:]
    for manner in ["nobody", *MANNERS]:
        with tempfile.TemporaryDirectory(prefix="crowd-") as directory:
            answer = Path(directory) / "answer.json"
            order = {"directory": directory, "manner": manner, "count": count}
            order |= {"exporters": exporters, "answer": str(answer)}
            in_namespaces(__file__, "stage", json.dumps(order))
            for exporter, figures in json.loads(answer.read_text()).items():
                shown = ", ".join(f"{name} {value}" for name, value in figures.items())
                print(f"{manner} × {count}, {exporter}: {shown}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
