#!/usr/bin/env python3
"""Measures WebSockets through a gateway: the added delay of a message, memory and descriptors of a socket, and how soon
a client that vanishes frees the upstream. See README.md beside this file."""

import argparse
import base64
import hashlib
import multiprocessing
import os
import resource
import select
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

from gateway import Gateway, cpu_seconds, end_with_parent, resident_kib

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
UPGRADE = (b"GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % KEY)
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          b"Sec-WebSocket-Accept: %b\r\n\r\n" % ACCEPT)
# A text message of some event's size, of a client (masked by nothing) and of a server.
TEXT = b'{"type":"response.output_text.delta","delta":"hello"}'
ASKED = bytes([0x81, 0x80 | len(TEXT), 0, 0, 0, 0]) + TEXT
ECHOED = bytes([0x81, len(TEXT)]) + TEXT
HAPROXY = """
global
  maxconn 9000
  nbthread 1
defaults
  mode http
  timeout connect 10s
  timeout client 600s
  timeout server 600s
  timeout tunnel 600s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  server s 127.0.0.1:{upstream}
"""
VANISHED = 50


def serve(listener, closed):
    """The upstream: switches, and echoes each message. Writes when a connection has ended."""
    epoll, peers, pending = select.epoll(), {}, {}
    epoll.register(listener, select.EPOLLIN)
    while True:
        for descriptor, _ in epoll.poll():
            if descriptor == listener.fileno():
                peer, _ = listener.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[peer.fileno()], pending[peer.fileno()] = peer, b""
                epoll.register(peer, select.EPOLLIN)
                continue
            peer = peers[descriptor]
            try:
                data = peer.recv(65536)
            except OSError:
                data = b""
            if not data:
                os.write(closed, b"%f\n" % time.monotonic())
                epoll.unregister(descriptor)
                peer.close()
                del peers[descriptor], pending[descriptor]
                continue
            data = pending[descriptor] + data
            if data.startswith(b"GET "):
                head, _, data = data.partition(b"\r\n\r\n")
                peer.sendall(SWITCH)
            count = len(data) // len(ASKED)
            pending[descriptor] = data[count * len(ASKED):]
            if count:
                peer.sendall(ECHOED * count)


def opened(port):
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(UPGRADE)
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = client.recv(4096)
        assert part, answer
        answer += part
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    client.setblocking(False)
    return client


def measured(clients, seconds):
    """Lets each client send a message a second, spread over it, and returns the delays of the echoes in milliseconds."""
    epoll, by_descriptor = select.epoll(), {client.fileno(): client for client in clients}
    for client in clients:
        epoll.register(client, select.EPOLLIN)
    sent, received, delays = {}, dict.fromkeys(by_descriptor, 0), []
    began = time.monotonic()
    step, next_number = 1 / len(clients), 0
    total = len(clients) * seconds
    last = began + seconds + 5
    while len(delays) < total and time.monotonic() < last:
        now = time.monotonic()
        while next_number < total and began + next_number * step <= now:
            client = clients[next_number % len(clients)]
            if client.fileno() not in sent:
                sent[client.fileno()] = time.monotonic()
                client.send(ASKED)
            next_number += 1
        pause = max(began + next_number * step - time.monotonic(), 0) if next_number < total else 1
        for descriptor, _ in epoll.poll(pause, 256):
            data = by_descriptor[descriptor].recv(65536)
            assert data, "a socket has ended"
            received[descriptor] += len(data)
            if received[descriptor] >= len(ECHOED):
                received[descriptor] -= len(ECHOED)
                delays.append((time.monotonic() - sent.pop(descriptor)) * 1000)
    return delays


def vanished(port, closes):
    """Returns how long it took the upstream to see that each of some clients had gone, in milliseconds."""
    delays = []
    for _ in range(VANISHED):
        client = opened(port)
        at = time.monotonic()
        client.close()
        # Others may have ended before, such as one that was kept ready.
        while (seen := float(closes.readline())) < at:
            pass
        delays.append((seen - at) * 1000)
    return delays


def spread(delays):
    delays = sorted(delays)
    return statistics.median(delays), delays[int(len(delays) * 0.99) - 1]


def run(name, port, pid, arguments, closes):
    before = resident_kib(pid) if pid else 0
    descriptors = len(os.listdir(f"/proc/{pid}/fd")) if pid else 0
    clients = [opened(port) for _ in range(arguments.tunnels)]
    cpu = cpu_seconds(pid) if pid else 0
    delays = measured(clients, arguments.seconds)
    used = (cpu_seconds(pid) - cpu) / max(len(delays), 1) * 1e6 if pid else 0
    each = (resident_kib(pid) - before) / arguments.tunnels if pid else 0
    for client in clients:
        client.close()
    for _ in clients:
        closes.readline()
    time.sleep(0.5)
    left = len(os.listdir(f"/proc/{pid}/fd")) - descriptors if pid else 0
    gone = max(vanished(port, closes))
    median, tail = spread(delays)
    print(f"{name:<12}{len(delays):>9}{median:>10.3f}{tail:>10.3f}{each:>12.1f}{used:>12.1f}{left:>10}{gone:>12.1f}",
          flush=True)
    return median, tail


def haproxy(directory, port, upstream):
    path = os.path.join(directory, "haproxy.cfg")
    with open(path, "w", encoding="utf-8") as file:
        file.write(HAPROXY.format(port=port, upstream=upstream))
    process = subprocess.Popen(["haproxy", "-db", "-f", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               preexec_fn=end_with_parent)
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process
        except OSError:
            time.sleep(0.05)
    raise SystemExit("HAProxy does not listen")


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gateway", nargs="?", default="target/release/flow-uring")
    parser.add_argument("--tunnels", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    reading, writing = os.pipe()
    upstream = multiprocessing.Process(target=serve, args=(listener, writing), daemon=True)
    upstream.start()
    closes = os.fdopen(reading)
    upstream_port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        gateway = Gateway(os.path.abspath(arguments.gateway), directory, upstream_port, None)
        other = haproxy(directory, port := free_port(), upstream_port) if shutil.which("haproxy") else None
        try:
            print(f"{'way':<12}{'messages':>9}{'p50 ms':>10}{'p99 ms':>10}{'KiB each':>12}{'CPU µs':>12}{'fds left':>10}"
                  f"{'vanish ms':>12}")
            for _ in range(arguments.rounds):
                direct = run("directly", upstream_port, None, arguments, closes)
                ways = [("flow-uring", gateway.port, gateway.pid)]
                ways += [("HAProxy", port, other.pid)] if other else []
                for name, number, pid in ways:
                    median, tail = run(name, number, pid, arguments, closes)
                    print(f"{'  added':<21}{median - direct[0]:>10.3f}{tail - direct[1]:>10.3f}", flush=True)
        finally:
            gateway.stop()
            if other:
                other.terminate()
                other.wait()
            upstream.terminate()


if __name__ == "__main__":
    main()
