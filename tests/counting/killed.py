#!/usr/bin/env python3
"""Kills gateways that are at work, again and again, and looks at the file that they keep their usage in: it must never
be damaged, must have all but what came in the last minute, and nothing twice. With --take-over one gateway takes the
place of the other instead, and nothing at all may be missing.

    cargo build --release && python3 tests/counting/killed.py [--times N] [--seconds S] [--take-over]

It starts the binary that FLOW_URING_BIN names (default: target/release/flow-uring) on free ports, and ends only these.
The answers come from the seed, which is printed. One line a gateway; exit code 1 when something was wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time

import store
from gateway import Gateway, Place, free_port
from load import HELD, Load, Sums
from upstream import Upstream

# How much longer than promised writing may take, on a busy machine.
WRITE_SLACK_SECONDS = 15

# How long after it was asked to end one is killed at most.
STOPPING_SECONDS = 0.15


class Runs:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.pick = random.Random(arguments.seed)
        self.upstream = Upstream(arguments.seed)
        self.upstream_url = self.upstream.start()
        self.place = Place()
        self.faults: list[str] = []
        # Between these two is what the file must have of the gateways that were killed.
        self.least, self.most, self.last = Sums(), Sums(), Sums()

    def load(self, port: int, name: str) -> Load:
        return Load(self.upstream, port, self.pick.randrange(10**9), self.arguments.clients, name)

    def in_file(self) -> Sums:
        # Whoever was killed before it wrote has left no file, or an empty one.
        if not os.path.exists(self.place.usage_db) or os.path.getsize(self.place.usage_db) == 0:
            return Sums()
        total = store.total(self.place.usage_db)
        return Sums({name: total[name] for name in HELD})

    def wrong(self, what: str, faults: list[str]) -> None:
        self.faults += [f"{what}: {fault}" for fault in faults]

    def kill(self, number: int) -> None:
        seconds = self.pick.uniform(0.05, self.arguments.seconds)
        gateway = Gateway(self.place, self.upstream_url)
        is_asked = self.pick.random() < 0.5
        with self.load(gateway.port, f"kill{number}") as load:
            time.sleep(seconds)
            killed = time.monotonic()
            if is_asked:
                # It writes at its end: so the kill comes where it hurts most. At times it is faster, and loses nothing.
                load.no_more()
                gateway.ask_to_stop()
                time.sleep(self.pick.uniform(0, STOPPING_SECONDS))
            is_killed = gateway.kill()
            load.no_more()
        self.least += load.told(
            killed - self.arguments.write_seconds - WRITE_SLACK_SECONDS if is_killed else float("inf")
        )
        self.most += load.may_be_told()
        self.upstream.forget()
        told = self.in_file()
        manner = "killed" if is_killed and not is_asked else "killed at its end" if is_killed else "ended"
        what = f"gateway {number}, {manner} after {seconds:.2f} s"
        for name in HELD:
            low = max(self.least[name], self.last[name])
            if not low <= told[name] <= self.most[name]:
                self.wrong(what, [f"{name}: {told[name]} in the file, must be {low} to {self.most[name]}"])
        self.last = told
        print(
            f"{what}, with {len(load.came)} answers: in the file {told['requests']} of {self.most['requests']} requests",
            flush=True,
        )

    def end_well(self) -> None:
        """One that is not killed loses nothing, whatever the others have left."""
        gateway = Gateway(self.place, self.upstream_url)
        with self.load(gateway.port, "well") as load:
            time.sleep(min(2.0, self.arguments.seconds))
        self.ends(gateway, "the last gateway")
        self.equal("the last gateway", load)

    def take_over(self) -> None:
        port = free_port()
        gateway = Gateway(self.place, self.upstream_url, port=port)
        with self.load(port, "over") as load:
            for number in range(self.arguments.times):
                time.sleep(self.pick.uniform(0.2, self.arguments.seconds))
                successor = Gateway(self.place, self.upstream_url, "--take-over", port=port)
                code = gateway.ended()
                self.wrong(f"gateway {number}, whose place was taken", [f"exit code {code}"] if code != 0 else [])
                print(f"gateway {number}: its place was taken, after {len(load.came)} answers", flush=True)
                gateway = successor
            time.sleep(self.arguments.seconds)
        self.ends(gateway, "the last gateway")
        self.equal("gateways that took over", load)

    def ends(self, gateway: Gateway, what: str) -> None:
        code = gateway.stop()
        if code != 0:
            self.wrong(what, [f"exit code {code}", *gateway.output[-10:]])

    def equal(self, what: str, load: Load) -> None:
        """The file has got all of what came, and no more."""
        self.wrong(what, load.broken)
        told = self.in_file()
        true = self.last + load.told()
        self.wrong(
            what, [f"{name}: {told[name]} in the file, {true[name]} true" for name in HELD if told[name] != true[name]]
        )
        print(f"{what}: {len(load.came)} answers, in the file {told['requests'] - self.last['requests']}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=90, help="the longest that one works before its end")
    parser.add_argument("--write-seconds", type=float, default=60, help="after how long all must be in the file")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9), help="default: another one each time")
    parser.add_argument("--take-over", action="store_true")
    arguments = parser.parse_args()
    print(f"again with: --seed {arguments.seed}", flush=True)
    runs = Runs(arguments)
    if arguments.take_over:
        runs.take_over()
    else:
        for number in range(arguments.times):
            runs.kill(number)
        runs.end_well()
    runs.upstream.stop()
    runs.wrong("the upstream", runs.upstream.faults)
    runs.place.clean()
    for fault in runs.faults[:30]:
        print(f"FAIL  {fault}", flush=True)
    print(f"{len(runs.faults)} faults", flush=True)
    return 1 if runs.faults else 0


if __name__ == "__main__":
    sys.exit(main())
