"""A process that does with sockets what it is told, a line at a time, and answers each with a line.

Run by a copy of Python that is called haproxy, whose options are such as HAProxy has too; so this is
no script that is named on its command line but the sitecustomize of that Python.
"""

import contextlib
import os
import resource
import signal
import socket
import sys
import traceback

sockets: dict[int, socket.socket] = {}
filling: list[socket.socket] = []


def keep(made: socket.socket) -> int:
    sockets[made.fileno()] = made
    return made.fileno()


def tcp() -> int:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen()
    return keep(made)


def udp(port: str) -> int:
    made = socket.socket(type=socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", int(port)))
    return keep(made)


def unix() -> int:
    made = socket.socket(socket.AF_UNIX)
    made.bind("")  # an abstract name of the kernel's choice
    made.listen()
    return keep(made)


def dup(number: str) -> int:
    return keep(sockets[int(number)].dup())


def close(number: str) -> str:
    sockets.pop(int(number)).close()
    return "closed"


def pause(number: str) -> str:
    """As HAProxy does. Another holder may have done it already."""
    with contextlib.suppress(OSError):
        sockets[int(number)].shutdown(socket.SHUT_RD)
    return "paused"


def resume(number: str) -> str:
    sockets[int(number)].listen()
    return "resumed"


def inbox() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(f"\0actor {os.getpid()}")
    return made


def send(number: str, pid: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outbox:
        outbox.connect(f"\0actor {pid}")
        socket.send_fds(outbox, [b"one"], [int(number)])
    return "sent"


def receive() -> int:
    _, numbers, _, _ = socket.recv_fds(mailbox, 3, 1)
    return keep(socket.socket(fileno=numbers[0]))


def fill(count: str) -> str:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(most, 2 * int(count) + 1000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for _ in range(int(count)):
        filling.extend(socket.socketpair())
    return "filled"


def fork(commands: str, answers: str) -> int | str:
    """The child takes its commands elsewhere, and says so when it is ready."""
    global mailbox
    pid = os.fork()
    if pid:
        return pid
    os.dup2(os.open(commands, os.O_RDONLY), 0)
    os.dup2(os.open(answers, os.O_WRONLY), 1)
    mailbox.close()
    mailbox = inbox()
    return "ready"


def execute() -> None:
    """Itself anew, with the sockets it has."""
    for kept in sockets.values():
        kept.set_inheritable(True)
    os.environ["ACTOR_SOCKETS"] = " ".join(map(str, sockets))
    mailbox.close()
    os.execv(sys.executable, sys.orig_argv)


def play() -> None:
    global mailbox
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    mailbox = inbox()
    for number in os.environ.pop("ACTOR_SOCKETS", "").split():
        keep(socket.socket(fileno=int(number)))
    print("ready", flush=True)
    while line := sys.stdin.readline():
        verb, *arguments = line.split()
        print(globals()[verb](*arguments), flush=True)


try:
    play()
except BaseException:
    traceback.print_exc()
finally:
    os._exit(0)  # else Python would go on to read its program from its input
