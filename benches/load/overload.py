#!/usr/bin/env python3
"""Measures what gateways do under ten times the load that they can take, and after it. See README.md beside this file."""

import argparse
import collections
import heapq
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time

from gateway import Gateway, certificate, resident_kib
from overload_clients import Clients, Outcome, offer, percentile, press
from overload_gateways import GATEWAYS, Limited
from upstream import Upstream

# The share of a core that each gateway has: so small that the machine can offer ten times what it serves.
SHARE = 0.06
IDLE_SECONDS, LOAD_SECONDS, AFTER_SECONDS = 4, 10, 8
# Connections that have it work all the time.
SATURATING = 16
# Of clients: a process may have so many descriptors, and use so much of a core.
PROCESSES = 4
# Beside the load, and before and after it: a part of what the gateway can take.
IDLE_PART = 0.25
# After the load an answer is in time within so long: a gateway that has used up its share stands still for a while.
SOON_SECONDS = 0.5
# An answer that is streamed: so many events, one after the other.
EVENTS, EVENT_SECONDS = 40, 0.01


class Answers(Upstream):
    """An upstream whose streams have so many events each, and then end."""

    def __init__(self, path, key):
        super().__init__(0, path, key)
        self.events = []

    def answer_requests(self, connection):
        super().answer_requests(connection)
        if self.streams.pop(connection.number, None):
            heapq.heappush(self.events, (time.monotonic(), connection.number, EVENTS, connection))

    def serve(self):
        while True:
            now = time.monotonic()
            self.turn(max(0, min(self.events[0][0] - now, 1)) if self.events else 1)
            while self.events and self.events[0][0] <= time.monotonic():
                due, number, left, connection = heapq.heappop(self.events)
                if connection.socket.fileno() < 0:
                    continue
                if left and self.send(connection):
                    heapq.heappush(self.events, (due + EVENT_SECONDS, number, left - 1, connection))
                elif not left:
                    self.end(connection)

    def end(self, connection):
        try:
            connection.socket.sendall(b"0\r\n\r\n")
        except OSError:
            self.close(connection)


def serve_upstream(sender, path, key):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    upstream = Answers(path, key)
    sender.send(upstream.port)
    upstream.serve()


def watch_memory(pid, largest, ends):
    while not ends.is_set():
        try:
            largest.value = max(largest.value, resident_kib(pid))
        except OSError:
            pass
        ends.wait(0.1)


def capacity(port, load):
    """What it serves in a second when it has all it can do, of few clients."""
    # The first ones open the connections to the upstream, which takes its time.
    clients = Clients(port, load, patience=60)
    count = SATURATING * (4 if load == "streams" else 1)
    press(clients, time.monotonic() + 6, count)
    clients.outcomes.clear()
    press(clients, time.monotonic() + 3, count)
    return sum(outcome.kind == "ok" for outcome in clients.outcomes) / 3


class Plan:
    """The load of one process of clients: some, then much, then some."""

    def __init__(self, port, load, began, rate, factor):
        self.port, self.load, self.began, self.rate, self.factor = port, load, began, rate, factor

    def follow(self, sender):
        clients = Clients(self.port, self.load)
        loaded = self.began + IDLE_SECONDS
        ended = loaded + LOAD_SECONDS
        lag = offer(clients, self.began, loaded, IDLE_PART * self.rate)
        if self.load == "closed":
            press(clients, ended, int(self.factor * SATURATING / PROCESSES))
        else:
            lag = max(lag, offer(clients, loaded, ended, self.factor * self.rate))
        lag = max(lag, offer(clients, ended, ended + AFTER_SECONDS, IDLE_PART * self.rate))
        while clients.open:
            clients.turn(0.05)
        sender.send((lag, [(outcome.due, outcome.seconds, outcome.kind, outcome.pause) for outcome in clients.outcomes]))


class Run:
    """One gateway under one load."""

    def __init__(self, name, load, wanted, upstream, authority):
        self.name, self.load = name, load
        with tempfile.TemporaryDirectory() as directory:
            limited = Limited(wanted.share)
            gateway = GATEWAYS[name](wanted, directory, upstream, authority)
            try:
                limited.take_in(gateway.pid)
                self.capacity = capacity(gateway.port, load)
                self.before = resident_kib(gateway.pid)
                largest, ends = multiprocessing.Value("q", 0), multiprocessing.Event()
                watcher = multiprocessing.Process(target=watch_memory, args=(gateway.pid, largest, ends), daemon=True)
                watcher.start()
                self.measure(gateway.port, wanted)
                ends.set()
                watcher.join()
                self.rss = largest.value
                if wanted.log and isinstance(gateway, Gateway):
                    print(gateway.said(), file=sys.stderr)
            finally:
                gateway.stop()
                limited.remove()

    def measure(self, port, wanted):
        began = time.monotonic() + 0.2
        rate = self.capacity / PROCESSES
        plan = Plan(port, self.load, began, rate, wanted.factor)
        pipes = []
        for _ in range(PROCESSES):
            receiver, sender = multiprocessing.Pipe(False)
            multiprocessing.Process(target=plan.follow, args=(sender,), daemon=True).start()
            pipes.append(receiver)
        outcomes = []
        self.lag = 0.0
        for pipe in pipes:
            lag, some = pipe.recv()
            self.lag = max(self.lag, lag)
            outcomes.extend(Outcome(*outcome) for outcome in some)
        loaded, ended = began + IDLE_SECONDS, began + IDLE_SECONDS + LOAD_SECONDS
        # Those of its first second are not under the load yet.
        self.seconds = LOAD_SECONDS - 1
        before = [outcome.seconds for outcome in outcomes if outcome.due < loaded and outcome.kind == "ok"]
        self.idle = percentile(before, 0.99)
        self.loaded = [outcome for outcome in outcomes if loaded + 1 <= outcome.due < ended]
        self.after = [outcome for outcome in outcomes if outcome.due >= ended]
        self.recovery = self.recovered(ended)

    def recovered(self, ended):
        """The first second after the load in which 99 of 100 that are due have an answer in time."""
        for second in range(AFTER_SECONDS):
            due = [outcome for outcome in self.after if second <= outcome.due - ended < second + 1]
            well = [outcome for outcome in due if outcome.kind == "ok" and outcome.seconds <= SOON_SECONDS]
            if due and len(well) >= 0.99 * len(due):
                return str(second + 1)
        return f"> {AFTER_SECONDS}"

    def row(self):
        admitted = [outcome.seconds for outcome in self.loaded if outcome.kind == "ok"]
        refused = [outcome for outcome in self.loaded if outcome.kind.isdigit()]
        broken = collections.Counter(outcome.kind for outcome in self.loaded
                                     if outcome.kind != "ok" and not outcome.kind.isdigit())
        told = collections.Counter(outcome.kind + (" with Retry-After" if outcome.pause else "") for outcome in refused)
        second = [outcome.seconds for outcome in refused]
        return (f"| {self.name} | {self.load} | {self.capacity:.0f} | {len(self.loaded) / self.seconds:.0f} "
                f"| {len(admitted) / self.seconds:.0f} | {self.idle * 1e3:.0f} | {percentile(admitted, 0.5) * 1e3:.0f} "
                f"| {percentile(admitted, 0.99) * 1e3:.0f} | {len(refused) / self.seconds:.0f} "
                f"| {', '.join(sorted(told)) or '-'} | {percentile(second, 0.99) * 1e3:.0f} "
                f"| {', '.join(f'{count / self.seconds:.0f} {kind}' for kind, count in broken.most_common()) or '-'} "
                f"| {self.before / 1024:.0f} | {self.rss / 1024:.0f} | {self.recovery} | {self.lag * 1e3:.0f} |")


HEADINGS = ("gateway", "load", "capacity/s", "offered/s", "admitted/s", "idle p99, ms", "admitted p50, ms", "p99, ms",
            "refused/s", "how", "p99, ms", "broken/s", "RSS before, MiB", "most", "recovered in, s", "lag, ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="target/release/flow-uring", help="(default: %(default)s)")
    parser.add_argument("--argument", action="append", help="of flow-uring, may be repeated")
    parser.add_argument("--factor", type=float, default=10, help="of what it can take (default: %(default)s)")
    parser.add_argument("--share", type=float, default=SHARE, help="of a core for the gateway (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--loads", default="closed,streams,kept,fresh")
    parser.add_argument("--log", action="store_true", help="prints what flow-uring has logged")
    parser.add_argument("gateways", nargs="*", help=f"of {', '.join(GATEWAYS)} (default: all)")
    wanted = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path, key = certificate(directory)
        receiver, sender = multiprocessing.Pipe(False)
        upstream = multiprocessing.Process(target=serve_upstream, args=(sender, path, key), daemon=True)
        upstream.start()
        port = receiver.recv()
        print("| " + " | ".join(HEADINGS) + " |\n" + "| --- " * len(HEADINGS) + "|", flush=True)
        for _ in range(wanted.rounds):
            for load in wanted.loads.split(","):
                for name in wanted.gateways or GATEWAYS:
                    print(Run(name, load, wanted, port, path).row(), flush=True)


if __name__ == "__main__":
    main()
