"""Opens sockets and tries binds on request. Each request and each answer is a line of JSON."""

import errno
import json
import os
import socket
import struct
import sys

held: list[socket.socket] = []


def opened(spec: dict) -> socket.socket:
    """A socket of this user, with these options, not yet bound."""
    family = socket.AF_INET6 if ":" in spec["address"] else socket.AF_INET
    kind = socket.SOCK_DGRAM if spec["protocol"] == "udp" else socket.SOCK_STREAM
    os.seteuid(spec["uid"])
    made = socket.socket(family, kind)
    os.seteuid(0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, spec["reuse_address"])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, spec["reuse_port"])
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, spec["v6only"])
    if spec["interface"]:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, spec["interface"].encode())
    return made


def keep(*sockets: socket.socket) -> int:
    held.extend(sockets)
    return sockets[0].getsockname()[1]


def hold(spec: dict) -> int:
    """Holds a port in the way that the request names, and gives its number."""
    made, here, kind = opened(spec), (spec["address"], spec["port"]), spec["role"]
    asks = spec["reuse_address"] or spec["reuse_port"]
    if kind in ("listening", "paused", "accepted", "peerless"):
        made.bind(here)
    elif asks and kind != "sending":
        made.bind((spec["address"], 0))
    if kind in ("listening", "paused", "accepted"):
        made.listen()
    if kind == "paused":
        made.shutdown(socket.SHUT_RD)  # as HAProxy pauses a listener
    if kind == "accepted":
        client = socket.create_connection(made.getsockname()[:2])
        accepted, _ = made.accept()
        made.close()
        return keep(accepted, client)
    if kind == "outgoing":
        other = socket.socket(made.family)
        other.bind((spec["address"], 0))
        other.listen()
        made.connect(other.getsockname())
        return keep(made, other)
    if kind == "connected":
        other = socket.socket(made.family, socket.SOCK_DGRAM)
        other.bind((spec["address"], 0))
        made.connect(other.getsockname())
        return keep(made, other)
    if kind == "sending":
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        made.sendto(b"a line", ("::1" if made.family == socket.AF_INET6 else "127.0.0.1", 514))
    return keep(made)


def attempt(spec: dict) -> str:
    """Binds as HAProxy does, and closes the socket again."""
    with opened(spec) as made:
        try:
            made.bind((spec["address"], spec["port"]))
            if spec["protocol"] == "tcp":
                made.listen()
        except OSError as error:
            return errno.errorcode[error.errno]
    return "free"


while line := sys.stdin.readline():
    request = json.loads(line)
    if "hold" in request:
        answer = hold(request["hold"])
    elif "attempts" in request:
        answer = [attempt(spec) for spec in request["attempts"]]
    else:
        while held:
            made = held.pop()
            # A connection is reset: what is left of one that ends by itself would hold its port.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            made.close()
        answer = None
    print(json.dumps(answer), flush=True)
