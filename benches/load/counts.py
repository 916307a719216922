#!/usr/bin/env python3
"""Counts what an event of a stream, and a request, take in a whole gateway, in user space: instructions, and cold lines.

    benches/load/counts.py path/to/flow-uring

The gateway runs under callgrind, which simulates the processor: the figures do not depend on how fast or busy the
machine is. It runs on its epoll driver, since valgrind knows no io_uring; its upstream speaks TLS. What happens in the
kernel is not seen.

A cold line is a miss of the simulated first-level data cache: a read or write (callgrind's D1mr and D1mw) of 64 bytes
that were not used lately enough to be among the 48 KiB that processors of these years have. The state of 300 streams is
more than it holds, so each event finds that of its own stream cold. The simulated cache is fully associative: with the 12
ways of a real one a request missed between 551 and 604 times by where the heap happened to be, now between 420 and 428.

What arrives together decides how often the gateway wakes up. So it is stopped (SIGSTOP) while the events of all streams,
or the requests or answers of all connections, are written, and goes on when all are there.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

from gateway import Gateway, certificate
from upstream import Upstream

STREAM_COUNT = 300
# That many wait for an answer at the same time.
CONNECTION_COUNT = 64
# Connections to the upstream that are being made at a time.
OPENING_MAX = 16
# After these rounds what is done once is done, and the caches hold what they hold from then on.
WARM_ROUNDS = 3
ROUNDS = 10
# Three times what a client's connection rests before the gateway takes it as idle: else it would depend on the machine
# which of them are.
REST_SECONDS = 0.3
# For each step: a hundred times what it takes on an idle machine.
STEP_SECONDS_MAX = 60
CALLGRIND = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--cache-sim=yes", "--I1=32768,8,64",
             "--D1=49152,768,64", "--LL=2097152,16,64"]
# With time limits that nothing reaches here, however slow: a connection that is made anew would be counted.
# So would one that is kept ready.
ARGUMENTS = ["--io-driver", "epoll", "--connect-timeout", "600", "--head-timeout", "600", "--upstream-idle-timeout", "600",
             "--warm-connections", "0"]
BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello there"}]%b}'
REQUEST = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
           b"X-Api-Key: any\r\nContent-Length: %d\r\n\r\n%b")


def request(more):
    body = BODY % more
    return REQUEST % (len(body), body)


class Counted:
    """A gateway under callgrind, its upstream, and its clients, all driven from this one thread."""

    def __init__(self, program, directory):
        self.directory = directory
        pem, key = certificate(directory)
        self.upstream = Upstream(0, pem, key)
        self.vgdb_prefix = f"--vgdb-prefix={directory}/vgdb"
        wrapper = [*CALLGRIND, self.vgdb_prefix, f"--callgrind-out-file={directory}/callgrind"]
        self.gateway = Gateway(program, directory, self.upstream.port, pem, ARGUMENTS, wrapper)
        self.clients = []

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.gateway.port), STEP_SECONDS_MAX)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.clients.append(client)
        return client

    def wait(self, what, is_so):
        """Lets the upstream work until something is so."""
        until = time.monotonic() + STEP_SECONDS_MAX
        while not is_so():
            if self.upstream.failure or time.monotonic() > until:
                raise SystemExit(f"counts.py: {self.upstream.failure or 'too long'}: {what}\n{self.gateway.said()}")
            self.upstream.turn(0.1)

    def together(self, write_all):
        """Writes while the gateway stands still, and lets it go on."""
        self.wait_until_idle()
        os.kill(self.gateway.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.gateway.pid, os.WSTOPPED)
        try:
            write_all()
        finally:
            os.kill(self.gateway.pid, signal.SIGCONT)

    def wait_until_idle(self):
        """An answer is read before the gateway has done what follows it: that too belongs to the round before."""
        until, is_asleep = time.monotonic() + STEP_SECONDS_MAX, 0
        while is_asleep < 2:
            if self.gateway.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"counts.py: the gateway has ended, or does not come to rest\n{self.gateway.said()}")
            is_asleep = is_asleep + 1 if all(state == "S" for state in self.states()) else 0
            time.sleep(0.001)

    def states(self):
        """Those of its threads, as proc_pid_stat(5) names them: S waits, R works, or would if there were a processor."""
        tasks = f"/proc/{self.gateway.pid}/task"
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/stat", encoding="utf-8", errors="replace") as stat:
                yield stat.read().rsplit(")", 1)[1].split()[0]

    def read_all(self, ending):
        for client in self.clients:
            received = b""
            while not received.endswith(ending):
                part = client.recv(65536)
                if not part:
                    raise SystemExit(f"counts.py: the gateway ended an answer: {received}\n{self.gateway.said()}")
                received += part
            if received.startswith(b"HTTP/") and not received.startswith(b"HTTP/1.1 200 "):
                raise SystemExit(f"counts.py: refused: {received}")

    def count(self, a_round):
        """The events of callgrind in `ROUNDS` rounds, by name."""
        self.tell("instrumentation on")
        for _ in range(WARM_ROUNDS):
            a_round()
        self.wait_until_idle()
        self.tell("zero")
        for _ in range(ROUNDS):
            a_round()
        self.wait_until_idle()
        self.tell("dump")
        with open(f"{self.directory}/callgrind.1", encoding="utf-8", errors="replace") as file:
            dump = file.read()
        names = re.search(r"^events: (.*)$", dump, re.M)[1].split()
        return dict(zip(names, map(int, re.search(r"^(?:totals|summary): (.*)$", dump, re.M)[1].split())))

    def tell(self, command):
        """Valgrind's own way; callgrind_control calls the same, and says nothing if it fails."""
        told = subprocess.run(["vgdb", self.vgdb_prefix, f"--pid={self.gateway.pid}", *command.split()], capture_output=True, text=True,
                              timeout=STEP_SECONDS_MAX)
        if told.returncode != 0:
            raise SystemExit(f"counts.py: vgdb cannot reach the gateway: {told.stderr}")

    def stop(self):
        self.gateway.stop()


def events(counted):
    streams = counted.upstream.streams
    for count in range(1, STREAM_COUNT + 1):
        counted.connect().sendall(request(b',"stream":true'))
        counted.wait("a stream is not open", lambda: len(streams) >= count - OPENING_MAX)
    counted.wait("not all streams are open", lambda: len(streams) == STREAM_COUNT)
    counted.read_all(b"\r\n\r\n")
    connections = list(streams.values())

    def a_round():
        counted.together(lambda: all(map(counted.upstream.send, connections)))
        counted.read_all(b"\n\n\r\n")

    return a_round, STREAM_COUNT


def requests(counted):
    held = counted.upstream.held
    counted.upstream.holds_answers = True
    asked = request(b"")
    for count in range(1, CONNECTION_COUNT + 1):
        counted.connect().sendall(asked)
        counted.wait("a request has not come", lambda: len(held) >= count - OPENING_MAX)

    def finish():
        counted.wait("not all requests have come", lambda: len(held) == CONNECTION_COUNT)
        counted.together(counted.upstream.answer_held)
        counted.read_all(b'"finish_reason":"stop"}]}')

    def a_round():
        time.sleep(REST_SECONDS)
        counted.together(lambda: [client.sendall(asked) for client in counted.clients])
        finish()

    # Before anything is counted, so that all connections to the upstream are there.
    finish()
    return a_round, CONNECTION_COUNT


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} path/to/flow-uring")
    # So that what was started ends with this too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for name, prepare in (("stream-event", events), ("request", requests)):
        with tempfile.TemporaryDirectory() as directory:
            counted = Counted(os.path.abspath(sys.argv[1]), directory)
            try:
                a_round, each_round = prepare(counted)
                counts = counted.count(a_round)
            finally:
                counted.stop()
        each = ROUNDS * each_round
        if not counts["Ir"]:
            sys.exit("counts.py: nothing was counted")
        print(f"{name} instructions {counts['Ir'] / each:.0f}")
        print(f"{name} cold-lines {(counts['D1mr'] + counts['D1mw']) / each:.1f}", flush=True)


if __name__ == "__main__":
    main()
