#!/usr/bin/env python3
"""The small parts of the demo that are neither HAProxy nor Prometheus.

  loopback                     brings up the loopback interface of this network namespace
  backend PORT                 the server behind HAProxy: it answers each line with the same line, until "bye"
  client PORT SOURCE_PORT      a client that connects from SOURCE_PORT, says "ready" and stays until SIGTERM
  receiver PORT FOLDER         writes each notification of Alertmanager into a file of FOLDER
  ready URL                    succeeds when URL answers with status 200
  reachable PORT... -- COMMAND listens on the host for each PORT, then becomes COMMAND in its namespaces
  forward                      carries what `reachable` listens for to the same ports of this namespace
"""
import fcntl
import http.server
import json
import os
import pathlib
import signal
import socket
import socketserver
import struct
import sys
import threading
import urllib.request

HOST = "127.0.0.1"
LISTENING = "DEMO_LISTENING"


def loopback():
    set_flags, up_and_running = 0x8914, 0x41  # SIOCSIFFLAGS, IFF_UP | IFF_RUNNING of netdevice(7)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", up_and_running))


def backend(port):
    class Echo(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                if line == b"bye\n":
                    break  # it ends the connection first, so that HAProxy's port waits for no late packet
                self.wfile.write(line)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True

    Server((HOST, int(port)), Echo).serve_forever()


def client(port, source_port):
    with socket.create_connection((HOST, int(port)), source_address=(HOST, int(source_port))) as own:
        own.sendall(b"hello\n")
        if own.recv(6) != b"hello\n":
            sys.exit("stage.py: the backend did not answer through HAProxy")
        print("ready", flush=True)
        signal.sigwait({signal.SIGTERM})
        own.sendall(b"bye\n")
        own.recv(1)


def receiver(port, folder):
    class Receiver(http.server.BaseHTTPRequestHandler):
        count = 0

        def do_POST(self):
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            attachment = message["attachments"][0]
            text = f"to {self.path.strip('/')}\n\n{attachment['title'].strip()}\n\n{attachment['text'].strip()}\n"
            Receiver.count += 1
            # In one step, for the demo reads the folder all the time.
            new = pathlib.Path(folder, "new")
            new.write_text(text)
            new.rename(pathlib.Path(folder, f"{Receiver.count:03}.txt"))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    http.server.HTTPServer((HOST, int(port)), Receiver).serve_forever()


def ready(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            sys.exit(answer.status != 200)
    except OSError:
        sys.exit(1)


def reachable(*words):
    """A socket belongs to the network namespace in which it was made, wherever it is used later."""
    split = words.index("--")
    listening = []
    for port in words[:split]:
        own = socket.socket()
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            own.bind((HOST, int(port)))
        except OSError:
            own.bind((HOST, 0))  # something else has the port: take any
        own.listen()
        own.set_inheritable(True)
        host_port = own.getsockname()[1]
        listening.append(f"{own.detach()}:{port}:{host_port}")
    os.environ[LISTENING] = ",".join(listening)
    os.execvp(words[split + 1], words[split + 1:])


def forward():
    def carry(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        finally:
            for own in (source, target):
                try:
                    own.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def serve(listening, port):
        while True:
            near, _ = listening.accept()
            try:
                far = socket.create_connection((HOST, port))
            except OSError:
                near.close()
                continue
            for pair in ((near, far), (far, near)):
                threading.Thread(target=carry, args=pair, daemon=True).start()

    threads = []
    for entry in os.environ[LISTENING].split(","):
        descriptor, port, _ = map(int, entry.split(":"))
        thread = threading.Thread(target=serve, args=(socket.socket(fileno=descriptor), port))
        thread.start()
        threads.append(thread)


if __name__ == "__main__":
    parts = {part.__name__: part for part in (loopback, backend, client, receiver, ready, reachable, forward)}
    # Signals that a client waits for must not end it before.
    if sys.argv[1] == "client":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    parts[sys.argv[1]](*sys.argv[2:])
