"""Measures commands and daemons: wall time, CPU time, peak memory, system calls."""

import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from load import PATIENCE, await_true


@dataclass
class Cost:
    """What one sample, scrape or run costs."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    system_calls: int
    # Over how many of them the times are taken.
    times: int
    # Resident now, of this exporter only.
    resident_bytes: int = 0
    # Of these its own, such as heap and stacks: not backed by a file, as pages of the program are.
    anonymous_bytes: int = 0


def repeat(work, seconds: float) -> list:
    """What `work` gives, again and again for about so long: three times at least, 20 at most."""
    results = []
    deadline = time.monotonic() + seconds
    while len(results) < 3 or (time.monotonic() < deadline and len(results) < 20):
        results.append(work())
    return results


def run(command: list[str]) -> tuple[float, float]:
    """Runs a command to its end: wall and CPU seconds, those of its children included."""
    silent = [
        (os.POSIX_SPAWN_OPEN, descriptor, "/dev/null", os.O_RDWR, 0) for descriptor in (0, 1, 2)
    ]
    start = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=silent)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        raise RuntimeError(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    return wall, usage.ru_utime + usage.ru_stime


def peak_of_command(command: list[str], directory: Path) -> int:
    """Bytes resident at most. Asked of time(1): a child of ours would begin with our own peak."""
    answer = directory / "time.txt"
    run(["/usr/bin/time", "-f", "%M", "-o", str(answer), *command])
    return int(answer.read_text()) * 1024


def calls_of_command(command: list[str], directory: Path) -> int:
    answer = directory / "strace.txt"
    run([*STRACE, "-o", str(answer), *command])
    return counted(answer)


STRACE = ["strace", "-f", "-q", "-c", "-U", "calls,name"]


def counted(answer: Path) -> int:
    found = re.search(r"^\s*(\d+) total$", answer.read_text(), re.MULTILINE)
    if not found:
        raise RuntimeError(f"strace counted nothing: {answer.read_text()}")
    return int(found[1])


class Daemon:
    """A daemon with an HTTP server, stopped at the end of a `with`."""

    def __init__(self, command: list[str], port: int, ready: str, log: Path):
        self.port = port
        self.ready = ready
        self.start = time.perf_counter()
        with log.open("w") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.log = log

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()

    def await_ready(self) -> None:
        def is_ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.process.args} ended: {self.log.read_text()}")
            try:
                return self.get(self.ready)[0] == 200
            except ConnectionRefusedError:
                return False

        await_true(f"{self.process.args[0]} to be ready", is_ready, every=0.01)

    def cpu(self) -> float:
        """CPU seconds of all its threads, also of those that have ended.

        By its CPU clock, as clock_getcpuclockid(3) names it: /proc/PID/stat has only ticks of it,
        and /proc/PID/task/*/schedstat only the threads that live.
        """
        return time.clock_gettime_ns(~self.process.pid << 3 | 2) / 1e9

    def memory(self, field: str) -> int:
        """Bytes of a field of /proc/PID/status."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s*(\d+) kB$", status, re.MULTILINE)[1]) * 1024

    def anonymous(self) -> int:
        """Bytes of /proc/PID/smaps_rollup that no file backs."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Anonymous:\s*(\d+) kB$", rollup, re.MULTILINE)[1]) * 1024

    def get(self, path: str = "/metrics") -> tuple[int, str]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as stream:
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            stream.sendall(request.encode())
            answer = b"".join(iter(lambda: stream.recv(1 << 20), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode(errors="replace")

    def scrape(self) -> float:
        """Wall seconds of one scrape."""
        start = time.perf_counter()
        self.page()
        return time.perf_counter() - start

    def page(self) -> str:
        status, body = self.get()
        if status != 200:
            raise RuntimeError(f"{self.process.args[0]} answered {status}: {body}")
        return body

    def calls(self, work, directory: Path) -> tuple:
        """System calls of all its threads while `work` is done, and what that gives."""
        answer = directory / "strace.txt"
        pid = self.process.pid
        strace = subprocess.Popen(
            [*STRACE, "-o", str(answer), "-p", str(pid)], stderr=subprocess.DEVNULL
        )
        try:
            await_true("strace to attach", lambda: all_traced(pid))
            given = work()
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait()
        return counted(answer), given


def all_traced(pid: int) -> bool:
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)


def wrk(port: int, connections: int, seconds: int) -> float:
    """Scrapes in a second, as many as the server gives."""
    url = f"http://127.0.0.1:{port}/metrics"
    # A scrape may take longer than the two seconds wrk waits by itself.
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(re.search(r"^Requests/sec:\s*([\d.]+)", output, re.MULTILINE)[1])
