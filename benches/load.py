"""Builds the load that is measured: real HAProxys, connections they hold, other processes.

Runs in namespaces of its own (see bench.py), so whatever it starts ends with them.
"""

import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

# Ends with this process, and everything in it ends with it.
NAMESPACES = [
    *["setpriv", "--pdeathsig", "KILL"],
    *["unshare", "--pid", "--mount", "--net", "--ipc", "--uts", "--mount-proc"],
    *["--fork", "--kill-child", "--"],
    *["sh", "-c", 'ip link set lo up && exec "$@"', "sh", "tini", "--"],
]
# Below the kernel's ephemeral range, whose ports the clients take, there is room for 20,000 listeners.
FIRST_PORT = 10_500
# A process may have 20,000 descriptors on many machines, and not every root may raise that.
CONNECTIONS_PER_HOLDER = 15_000
PATIENCE = 120.0

CONFIGURATION = """global
    stats socket {directory}/admin.sock mode 600 level admin expose-fd listeners
    nbthread 1
    maxconn 18500
    no strict-limits

defaults
    mode tcp
    maxconn 18500
    timeout connect 5s
    timeout client 1h
    timeout server 1h

"""

# Takes a connection and makes one to another service, as a load balancer does.
FORWARDING = """listen f{port}
    bind 127.0.0.1:{port}
    server next 127.0.0.1:{next}

"""

# Waits for a first byte that never comes: a connection is held without a server behind it, and a
# reload leaves it to the old process, as it does any TCP connection.
HOLDING = """frontend f{port}
    bind 127.0.0.1:{port}
    tcp-request inspect-delay 1h
    tcp-request content accept if {{ req.len gt 0 }}

"""


def in_namespaces(script: str, *arguments: str) -> None:
    """Runs a script of this folder in namespaces of its own, with what a daemon would have and no more: HOSTNAME and
    the like would name the HAProxys."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [*NAMESPACES, sys.executable, script, *arguments]
    subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL)


def await_true(what: str, condition, every: float = 0.05) -> None:
    """Polls `condition` until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE:.0f} s in vain for {what}")
        time.sleep(every)


@dataclass
class Size:
    """How large a load is. Of a connection's sockets all but the client's are HAProxys'."""

    processes: int
    listeners: int
    sockets: int
    # What else runs on the host: `ss` and `lsof` ask each of these for its descriptors too.
    others: int = 100

    @property
    def connections(self) -> int:
        """A connection passes through all processes, and has two ends on each way."""
        return self.sockets // (2 * self.processes)

    @property
    def ports_each(self) -> int:
        """One at least: with more processes than listeners there are as many listeners as processes."""
        return max(1, self.listeners // self.processes)


@dataclass
class Service:
    """One HAProxy service: its configuration, its pidfile and the command that starts it."""

    directory: Path
    name: str
    ports: range
    is_last: bool

    def frontend(self, port: int) -> str:
        """Forwards to the next service's port in the same place, or holds."""
        if self.is_last:
            return HOLDING.format(port=port)
        return FORWARDING.format(port=port, next=port + len(self.ports))

    def command(self, *arguments: str) -> list[str]:
        files = ["-f", f"{self.directory}/{self.name}.cfg", "-p", str(self.pidfile)]
        return ["haproxy", "-D", *files, *arguments]

    @property
    def pidfile(self) -> Path:
        return self.directory / f"{self.name}.pid"

    def start(self) -> None:
        self.directory.mkdir()
        text = CONFIGURATION.format(directory=self.directory)
        text += "".join(map(self.frontend, self.ports))
        (self.directory / f"{self.name}.cfg").write_text(text)
        self.run()

    def run(self, *arguments: str) -> None:
        # To a file: a daemon keeps its standard error for a while, and would keep a pipe waiting.
        log = self.directory / "log"
        with log.open("w") as output:
            status = subprocess.call(self.command(*arguments), stdout=output, stderr=output)
        if status != 0:
            raise RuntimeError(f"haproxy {self.name} did not start: {log.read_text()}")

    def reload(self) -> None:
        """Reloads a daemon; the connections stay with the process that has them."""
        old = self.pidfile.read_text().strip()
        self.run("-sf", old, "-x", f"{self.directory}/admin.sock")
        await_true("the reload", lambda: self.pidfile.read_text().strip() not in ("", old))

    def connections(self) -> int:
        """How many connections its serving process has accepted."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(PATIENCE)
            try:
                stream.connect(f"{self.directory}/admin.sock")
            except (FileNotFoundError, ConnectionRefusedError):
                return 0
            stream.sendall(b"show info\n")
            answer = b"".join(iter(lambda: stream.recv(65_536), b""))
        found = re.search(rb"^CurrConns: (\d+)", answer, re.MULTILINE)
        return int(found[1]) if found else 0


@dataclass
class Load:
    """Everything a tool meets when it looks at this host."""

    directory: Path
    size: Size
    services: list[Service] = field(default_factory=list)

    def build(self) -> None:
        for _ in range(self.size.others):
            subprocess.Popen(["sleep", "infinity"])
        for number in range(self.size.processes):
            first = FIRST_PORT + number * self.size.ports_each
            ports = range(first, first + self.size.ports_each)
            name = f"lb{number + 1}"
            is_last = number == self.size.processes - 1
            service = Service(self.directory / name, name, ports, is_last)
            service.start()
            self.services.append(service)
        self.connect()

    def connect(self) -> None:
        wanted = self.size.connections
        arguments = [
            (first, min(wanted, first + CONNECTIONS_PER_HOLDER))
            for first in range(0, wanted, CONNECTIONS_PER_HOLDER)
        ]
        holders = [
            subprocess.Popen(
                [sys.executable, __file__, str(first), str(last), str(self.size.ports_each)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for first, last in arguments
        ]
        for holder in holders:
            if holder.stdout.readline() != "held\n":
                raise RuntimeError("a holder of connections failed")
        await_true(
            "HAProxy to accept the connections",
            lambda: sum(service.connections() for service in self.services)
            == wanted * self.size.processes,
        )


def hold(first: int, last: int, ports: int) -> None:
    """Holds the connections with these numbers, to the first service, until it is killed."""
    held = []
    for number in range(first, last):
        address = ("127.0.0.1", FIRST_PORT + number % ports)
        held.append(socket.create_connection(address, timeout=PATIENCE))
    os.write(1, b"held\n")
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    hold(*map(int, sys.argv[1:]))
