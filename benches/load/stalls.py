#!/usr/bin/env python3
"""Measures what a flood costs a client that is being served by the same shard. See README.md beside this file."""

import argparse
import json
import multiprocessing
import os
import resource
import select
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

EXCHANGE = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: any\r\n\r\n"
LOCAL = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
FILTERED = (b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: any\r\nContent-Type: application/json\r\n"
            b"anthropic-version: 2023-06-01\r\nanthropic-beta: some\r\nContent-Length: %d\r\n\r\n")
RESET = struct.pack("ii", 1, 0)


class Gateway:
    """The demo with one shard on a free port, and what floods need to know of it."""

    def __init__(self, program, directory, key, arguments):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.authority = key and certificate(directory, key)
        tls = ["--tls-cert", self.authority, "--tls-key", self.authority + ".key"] if key else []
        command = [program, "--port", str(self.port), "--shards", "1", "--admin", "off", "--log-level", "ERROR"]
        home = {"HOME": directory, "XDG_RUNTIME_DIR": directory, "PATH": os.environ["PATH"]}
        self.process = subprocess.Popen([*command, *tls, *arguments, "demo"], env=home, cwd=directory,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while True:
            try:
                return self.connect().close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    sys.exit("the gateway has not started")
                time.sleep(0.05)

    def shard_cpu(self):
        """The file in which the kernel counts the CPU time of the shard, in nanoseconds."""
        tasks = f"/proc/{self.process.pid}/task"
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/comm") as name:
                if name.read().startswith("flow-shard"):
                    return f"{tasks}/{task}/schedstat"

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port))

    def connect_many(self, count):
        return [self.connect() for _ in range(count)]

    def client(self):
        """A connection that speaks TLS if the gateway does."""
        connection = self.connect()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.authority:
            connection = ssl.create_default_context(cafile=self.authority).wrap_socket(
                connection, server_hostname="localhost")
        connection.settimeout(60)
        return connection

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def certificate(directory, key):
    path = os.path.join(directory, key.replace(":", "-") + ".pem")
    kind = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ecdsa" else [key]
    subprocess.run(["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", path + ".key", "-out", path],
                   check=True, capture_output=True)
    return path


def client_hello(gateway):
    sent = ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=gateway.authority)
    session = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()


def wait_for_answers(connections):
    """Reads the first bytes of every connection's answer."""
    waiting = select.poll()
    by_number = {connection.fileno(): connection for connection in connections}
    for number in by_number:
        waiting.register(number, select.POLLIN)
    until = time.monotonic() + 60
    while by_number and time.monotonic() < until:
        for number, _ in waiting.poll(1000):
            waiting.unregister(number)
            by_number.pop(number)
    return len(by_number)


def hellos(gateway, count):
    """Clients that have connected all send their first bytes at the same time."""
    hello, connections = client_hello(gateway), gateway.connect_many(count)
    time.sleep(0.3)
    yield
    for connection in connections:
        connection.sendall(hello)
    yield wait_for_answers(connections)


def opens(gateway, count):
    """Clients connect as fast as they can."""
    yield
    connections = []
    for _ in range(count):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", gateway.port))
        connections.append(connection)
    for connection in connections:
        connection.setblocking(True)
        connection.sendall(LOCAL)
    yield wait_for_answers(connections)


def idle(gateway, count):
    """Connections that have had an answer each, and are idle."""
    connections = gateway.connect_many(count)
    for connection in connections:
        connection.sendall(LOCAL)
    wait_for_answers(connections)
    time.sleep(1.5)
    return connections


def resets(gateway, count):
    """Clients with idle connections all reset them."""
    connections = idle(gateway, count)
    yield
    for connection in connections:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()
    yield 0


def expiries(gateway, count):
    """Idle connections have all been idle for too long."""
    connections = idle(gateway, count)
    yield
    time.sleep(4)
    yield count - len([connection for connection in connections if connection.recv(4096)])


def bodies(gateway, count):
    """Large bodies that are filtered all end at the same time."""
    body = b"{" + b'"a":1,' * (15 * 1024 * 1024 // 6) + b'"model":"m"}'
    connections = gateway.connect_many(count)
    for connection in connections:
        connection.sendall(FILTERED % len(body) + body[:-1])
    time.sleep(0.5)
    yield
    for connection in connections:
        connection.sendall(body[-1:])
    yield wait_for_answers(connections)


# Name: the flood, how many, the listener's key, and arguments of the gateway.
SCENARIOS = {
    "hellos": (hellos, 2000, "ecdsa", ()),
    "hellos-rsa": (hellos, 2000, "rsa:2048", ()),
    "opens": (opens, 4000, None, ()),
    "resets": (resets, 5000, None, ()),
    "expiries": (expiries, 5000, None, ("--keepalive-timeout", "5")),
    "bodies": (bodies, 8, None, ("--filter", "anthropic-compat")),
}


def probe(gateway, delays, is_over):
    """Asks without a pause from another process, and sends how long each answer took, and how much CPU time of the
    shard, in milliseconds."""
    connection = gateway.client()
    taken = []
    shard_cpu = gateway.shard_cpu()
    while not is_over.is_set():
        worked = cpu_time(shard_cpu)
        began = time.monotonic()
        connection.sendall(EXCHANGE)
        answer = b""
        while b'"object":"list"' not in answer.replace(b" ", b""):
            answer += connection.recv(65536) or sys.exit("the probe was cut off")
        took = (time.monotonic() - began) * 1e3
        taken.append((began, took, cpu_time(shard_cpu) - worked))
        time.sleep(0.001)
    delays.send(taken)


def cpu_time(schedstat):
    with open(schedstat) as file:
        return int(file.read().split()[0]) / 1e6


def measure(program, name, count):
    flood, usual, key, arguments = SCENARIOS[name]
    count = count or usual
    with tempfile.TemporaryDirectory() as directory:
        gateway = Gateway(program, directory, key, arguments)
        try:
            steps = flood(gateway, count)
            next(steps)
            receiver, sender = multiprocessing.Pipe(False)
            is_over = multiprocessing.Event()
            prober = multiprocessing.Process(target=probe, args=(gateway, sender, is_over), daemon=True)
            prober.start()
            time.sleep(2)
            began = time.monotonic()
            missing = next(steps)
            ended = time.monotonic()
            time.sleep(0.2)
            is_over.set()
            taken = receiver.recv()
            prober.join()
        finally:
            gateway.stop()
    quiet = [taking for taking in taken if taking[0] + taking[1] / 1e3 < began]
    loud = [taking for taking in taken if taking[0] + taking[1] / 1e3 >= began and taking[0] < ended + 0.1]
    print(f"| {name:12} | {count:5} | {figures(quiet)} | {figures(loud)} | {(ended - began) * 1e3:8.0f} | {missing:10} |",
          flush=True)


def figures(taken):
    if not taken:
        return f"{'-':>7} | {'-':>7} | {'-':>7}"
    delays = sorted(delay for _, delay, _ in taken)
    return f"{delays[len(delays) // 2]:7.2f} | {delays[-1]:7.1f} | {max(worked for _, _, worked in taken):7.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateway", default="target/release/flow-uring", help="the program (default: %(default)s)")
    parser.add_argument("--count", type=int, help="clients of the flood, or bodies")
    parser.add_argument("scenarios", nargs="*", choices=[[], *SCENARIOS], help=f"of {', '.join(SCENARIOS)} (default: all)")
    wanted = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print("| flood        | count | p50, ms |     max | max CPU | flooded |     max | max CPU | took, ms | unanswered |")
    print("| ------------ | ----- | ------- | ------- | ------- | ------- | ------- | ------- | -------- | ---------- |")
    for name in wanted.scenarios or SCENARIOS:
        measure(os.path.abspath(wanted.gateway), name, wanted.count)


if __name__ == "__main__":
    main()
