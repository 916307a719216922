#!/usr/bin/env python3
"""Measures what a gateway does to event streams: added delay and CPU time of an event, memory of an open stream, and how
soon the upstream learns that a client has left. See README.md beside this file."""

import argparse
import collections
import contextlib
import gc
import multiprocessing
import os
import resource
import select
import signal
import sys
import tempfile
import time
import urllib.parse

from gateway import Gateway, certificate, cpu_seconds, resident_kib
from readers import Readers, Target
from upstream import Upstream

PATH = "/v1/chat/completions"
# Before the measurement, so that all that is done at first has been done.
SETTLE_SECONDS = 2
# The time to open streams: handshakes by Python, on a busy machine.
OPEN_SECONDS_MAX = 30
OPENS_A_SECOND_MIN = 50
# From a client's leaving until the upstream has seen it.
ARRIVAL_SECONDS_MAX = 5
# So that an upstream that falls behind its rate still sees who leaves.
SENDS_A_TURN_MAX = 64
# The pause between two clients that leave.
LEAVE_PAUSE_SECONDS = 0.02


def serve(upstream, control, interval):
    """The process of the upstream: told to `send`, it sends an event on each stream each interval, at a moment of its
    own; asked for a `report`, it says what it has seen. It ends when nobody can tell it anything."""
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    upstream.epoll.register(control, select.EPOLLIN)
    turns = collections.deque()
    while True:
        for _ in range(min(len(turns), SENDS_A_TURN_MAX)):
            if turns[0][0] > time.monotonic():
                break
            due, connection = turns.popleft()
            if connection.number in upstream.streams and upstream.send(connection):
                turns.append((due + interval, connection))
        upstream.turn(max(turns[0][0] - time.monotonic(), 0) if turns else 1)
        while control.poll():
            try:
                told = control.recv()
            except EOFError:
                return
            if told == "report":
                control.send((upstream.departures, upstream.failure))
            else:
                # Those of one kind, which were opened one after the other, are not all sent to one after the other.
                streams = sorted(upstream.streams.values(), key=lambda connection: hash_of(connection.number))
                now, step = time.monotonic(), interval / max(len(streams), 1)
                turns = collections.deque((now + at * step, stream) for at, stream in enumerate(streams))


def hash_of(number):
    """Spreads numbers that follow each other, the same in each run (Knuth's multiplicative hash)."""
    return number * 2654435761 % 2**32


class UpstreamProcess:
    """The upstream in a process of its own, with descriptors and a processor's time of its own."""

    def __init__(self, upstream, interval):
        self.control, other = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=self.run, args=(upstream, other, interval), daemon=True)
        self.process.start()
        other.close()
        upstream.listener.close()

    def run(self, upstream, other, interval):
        self.control.close()
        serve(upstream, other, interval)

    def tell(self, what):
        self.control.send(what)

    def report(self):
        self.control.send("report")
        return self.control.recv()

    def stop(self):
        self.control.close()
        self.process.join(3)
        self.process.kill()
        self.process.join()


class Run:
    """One measurement: the upstream, the gateway, and the clients of both."""

    def __init__(self, wanted, upstream, gateway_url, direct_url, pid):
        self.wanted = wanted
        self.upstream = upstream
        self.pid = pid
        self.readers = Readers()
        self.direct = Target("direct", direct_url)
        self.gateway = Target("gateway", gateway_url)
        self.targets = (self.direct, self.gateway)

    def measure(self):
        self.warm_up()
        idle_kib = self.kib()
        self.open(self.direct, self.wanted.direct)
        self.open(self.gateway, self.wanted.streams)
        self.upstream.tell("send")
        self.read_for(SETTLE_SECONDS)
        for target in self.targets:
            target.delays.clear()
        used = self.cpu()
        self.read_for(self.wanted.seconds)
        used, kib = self.cpu() - used, self.kib()
        delays = {target.name: sorted(target.delays) for target in self.targets}
        self.print(delays, self.aborts(), used, idle_kib, kib)

    def warm_up(self):
        """A few streams that are left again, so that what the first ones bring is no part of what one takes."""
        self.open(self.gateway, 10)
        for stream in list(self.gateway.streams):
            self.readers.leave(stream)
        self.read_for(0.5)

    def open(self, target, count):
        self.readers.open(target, count, OPEN_SECONDS_MAX + count / OPENS_A_SECOND_MIN)

    def read_for(self, seconds):
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.readers.turn(left)
            if self.readers.failure:
                raise SystemExit(self.readers.failure)

    def aborts(self):
        """Clients of either kind leave in turn, while all others read on: for each kind the sorted times, in
        nanoseconds, until the upstream saw them leave."""
        left = {target.name: {} for target in self.targets}
        # Only one whose events have come is known by number.
        known = [[stream for stream in target.streams if stream.number] for target in self.targets]
        for pair in list(zip(*known))[:self.wanted.aborts]:
            for stream in pair:
                left[stream.target.name][stream.number] = self.readers.leave(stream)
                self.read_for(LEAVE_PAUSE_SECONDS)
        departures = self.wait_for_departures([number for times in left.values() for number in times])
        return {name: sorted(departures[number] - when for number, when in times.items()) for name, times in left.items()}

    def wait_for_departures(self, numbers):
        """When the upstream saw these leave."""
        until = time.monotonic() + ARRIVAL_SECONDS_MAX
        while True:
            departures, failure = self.upstream.report()
            if failure:
                raise SystemExit(f"the upstream: {failure}")
            unseen = set(numbers) - departures.keys()
            if not unseen:
                return departures
            if time.monotonic() > until:
                raise SystemExit(f"of {len(numbers)} streams that were left the upstream still has {len(unseen)} open")
            self.read_for(0.1)

    def cpu(self):
        return cpu_seconds(self.pid) if self.pid else 0

    def kib(self):
        return resident_kib(self.pid) if self.pid else 0

    def print(self, delays, aborts, used, idle_kib, kib):
        print("|         | streams | events | delay p50, µs | p99, µs | aborts | seen after p50, µs | p99, µs |")
        print("| ------- | ------- | ------ | ------------- | ------- | ------ | ------------------ | ------- |")
        figures = {}
        for target, streams in ((self.direct, self.wanted.direct), (self.gateway, self.wanted.streams)):
            name = target.name
            figures[name] = at50, at99, abort50, abort99 = [
                percentile(values, part) for values in (delays[name], aborts[name]) for part in (50, 99)]
            print(f"| {name:7} | {streams:7} | {len(delays[name]):6} | {at50:13.0f} | {at99:7.0f} "
                  f"| {len(aborts[name]):6} | {abort50:18.0f} | {abort99:7.0f} |")
        at50, at99, abort50, abort99 = [ours - theirs for ours, theirs in zip(figures["gateway"], figures["direct"])]
        print(f"| added   | {'':7} | {'':6} | {at50:13.0f} | {at99:7.0f} | {'':6} | {abort50:18.0f} | {abort99:7.0f} |")
        expected = self.wanted.streams * self.wanted.seconds / self.wanted.interval
        if len(delays["gateway"]) < 0.95 * expected:
            print(f"Only {len(delays['gateway'])} of {expected:.0f} events came: the machine is too slow for this rate, "
                  "and the delays are those of a queue. Give a larger --interval.")
        if self.pid:
            print(f"CPU time of the gateway for an event: {used * 1e6 / len(delays['gateway']):.1f} µs")
            print(f"RSS of the gateway: {idle_kib / 1024:.1f} MiB before, {kib / 1024:.1f} MiB with the streams open: "
                  f"{(kib - idle_kib) / self.wanted.streams:.1f} KiB a stream")


def percentile(ordered, part):
    """In microseconds, of nanoseconds that are in order."""
    return ordered[(len(ordered) - 1) * part // 100] / 1e3 if ordered else float("nan")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=500, help="open through the gateway at a time (default: %(default)s)")
    parser.add_argument("--direct", type=int, default=100, help="to the upstream itself, beside them (default: %(default)s)")
    parser.add_argument("--interval", type=float, default=0.5,
                        help="seconds between two events of a stream (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=10, help="that are measured (default: %(default)s)")
    parser.add_argument("--aborts", type=int, default=100, help="clients that leave, of either kind (default: %(default)s)")
    parser.add_argument("--plain", action="store_true", help="the upstream speaks plain HTTP, not TLS")
    parser.add_argument("--program", default="target/release/flow-uring", help="the gateway (default: %(default)s)")
    parser.add_argument("--argument", action="append", default=[], metavar="WORD", help="one more for the gateway")
    parser.add_argument("--url", help="a gateway that runs already on this machine, whose upstream is --upstream-port "
                        f"(with a path; default path: {PATH})")
    parser.add_argument("--pid", type=int, help="with --url: its process, for CPU time and memory")
    parser.add_argument("--upstream-port", type=int, default=0, help="with --url: where the upstream is to listen")
    parser.add_argument("--upstream-cert", help="with --url: its certificate, a PEM file, and")
    parser.add_argument("--upstream-key", help="its key; without them it speaks plain HTTP")
    wanted = parser.parse_args()
    if wanted.streams < 1 or wanted.direct < 1 or wanted.interval <= 0 or wanted.seconds < 1:
        parser.error("streams, direct, interval and seconds are more than none")
    if wanted.url and urllib.parse.urlsplit(wanted.url).hostname not in ("127.0.0.1", "::1", "localhost"):
        parser.error("only a gateway on this machine is put under load")
    if wanted.url and not wanted.upstream_port:
        parser.error("--url needs --upstream-port, which the gateway forwards to")
    return wanted


def main():
    wanted = arguments()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()
    # So that what was started ends with this too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with contextlib.ExitStack() as at_end:
        directory = at_end.enter_context(tempfile.TemporaryDirectory())
        pem, key = wanted.upstream_cert, wanted.upstream_key
        if not wanted.url and not wanted.plain:
            pem, key = certificate(directory)
        listening = Upstream(wanted.upstream_port, pem, key)
        upstream = UpstreamProcess(listening, wanted.interval)
        at_end.callback(upstream.stop)
        direct_url = f"{'https' if pem else 'http'}://127.0.0.1:{listening.port}{PATH}"
        url, pid = wanted.url, wanted.pid
        if not url:
            more = ["--max-connections", str(wanted.streams + 500), *wanted.argument]
            gateway = Gateway(os.path.abspath(wanted.program), directory, listening.port, pem, more)
            at_end.callback(gateway.stop)
            url, pid = f"http://127.0.0.1:{gateway.port}", gateway.pid
        if not urllib.parse.urlsplit(url).path.strip("/"):
            url = url.rstrip("/") + PATH
        print(f"{wanted.streams} streams of an event each {wanted.interval:g} s, for {wanted.seconds} s; "
              f"upstream: {'TLS' if pem else 'plain HTTP'}", flush=True)
        Run(wanted, upstream, url, direct_url, pid).measure()


if __name__ == "__main__":
    main()
