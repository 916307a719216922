#!/usr/bin/env python3
"""Runs one gateway after the other under load and under faults of every kind, and accounts for every exchange.

    scripts/soak [--seconds N] [--driver io-uring|epoll] [--seed N] [--program PATH]

First a round of everything, so that memory and descriptors are what they come to; then faults that the process has to
live through; then take-overs and restarts too. After each part the load stops and the gateway rests: its metrics must
equal its lines, and in the end its memory and descriptors what they were after the first part. Exit code 1 when
anything is wrong.

Not here: steps of the clock, since a process cannot have one of its own that is set (a time namespace moves the
monotonic clock alone); a name that vanishes for good, since a gateway that runs goes on with the addresses it knows, so
names fail at starts. As another user than root there are neither those nor full disks.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import logging
import os
import random
import sys
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path += [os.path.join(ROOT, "benches", "load"), os.path.join(ROOT, "tests", "sdk")]

import report  # noqa: E402
from account import Account  # noqa: E402
from faults import FATAL, STEADY, Faults  # noqa: E402
from ledger import Ledger  # noqa: E402
from lives import Lives  # noqa: E402
from place import Place  # noqa: E402
from rest import Rest  # noqa: E402
from traffic.asking import Load  # noqa: E402
from traffic.clients import Clients  # noqa: E402
from traffic.connections import Upstream  # noqa: E402

CLIENTS_COUNT = 60
PAUSE_SECONDS = 0.5
PROGRESS_SECONDS = 10
# What the surge and the ends of the parts take.
REST_SECONDS = 50
# The longest stream, in a short run.
LONGEST_SECONDS = 15.0
# The longest that one kind of failure of the upstream lasts, and the pause between two of the gateway's, in a run of
# `LONG_SECONDS`.
WEATHER_SECONDS, MACHINE_SECONDS, LONG_SECONDS = 4.0, 15.0, 1500


class Soak:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.seed, self.seconds = arguments.seed, arguments.seconds
        self.ledger = Ledger()
        self.place = Place(arguments.seed, arguments.own_mounts)
        self.ledger.needles |= self.place.needles()
        self.upstream = Upstream(self.ledger, self.seed, self.place.certificate, self.place.untrusted)
        self._arguments = arguments
        self.rests: list[Rest] = []

    async def run(self) -> None:
        self.upstream.start()
        driver = "uring" if self._arguments.driver == "io-uring" else "epoll"
        self.lives = Lives(self.ledger, self.place, self._arguments.program, driver, self.upstream.port)
        progress = asyncio.create_task(report.progress(self, PROGRESS_SECONDS))
        try:
            await self.lives.start()
            longest = max(LONGEST_SECONDS, self.seconds / 12)
            self.clients = Clients(Load(self.ledger, self.seed, self.lives.port, self.place.keys, longest))
            self.faults = Faults(self.ledger, self.place, self.upstream, self.lives, self.seed)
            # All of the surge is open at once.
            self.upstream.weather, self.upstream.share = "slow_head", 1.0
            await self.clients.surge()
            self.upstream.weather = None
            await self._part("warm-up", 0.3, STEADY)
            await self._part("steady", 0.4, STEADY)
            await self._part("lives", 0.3, FATAL)
            self._compare()
            await self.lives.current.stop()
            # The account of a long run takes a while.
            faulthandler.cancel_dump_traceback_later()
            Account(self.ledger, self.lives.all).check()
            self.place.search(self.ledger)
        finally:
            progress.cancel()
            self.lives.kill()

    async def _part(self, name: str, share: float, kinds: tuple[str, ...]) -> None:
        """A part of the time under load and faults, then a rest."""
        print(f"{self.ledger.now():7.1f} s  {name}", flush=True)
        # The rests take some of it too.
        seconds = share * max(self.seconds - REST_SECONDS, self.seconds / 3)
        self.clients.start(CLIENTS_COUNT, PAUSE_SECONDS)
        # So that each kind comes up in a short run too.
        pace = min(1.0, self.seconds / LONG_SECONDS)
        weather = asyncio.create_task(self.faults.weather(WEATHER_SECONDS * max(pace, 0.3)))
        machine = asyncio.create_task(self.faults.machine(kinds, MACHINE_SECONDS * pace))
        await asyncio.sleep(seconds)
        for task in (machine, weather):
            task.cancel()
        for result in await asyncio.gather(machine, weather, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                raise result
        await self.faults.mended()
        await self.clients.stop()
        self.rests.append(await Rest.of(name, self.lives))
        Account(self.ledger, [self.lives.current]).metrics(self.lives.current)

    def _compare(self) -> None:
        for later in self.rests[1:]:
            for fault in later.beyond(self.rests[0]):
                self.ledger.tell(fault)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--driver", choices=("io-uring", "epoll"), default="io-uring")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="default: another one each time")
    parser.add_argument("--program", required=True)
    parser.add_argument("--own-mounts", action="store_true", help="this process has a mount namespace of its own")
    arguments = parser.parse_args()
    # What it warns of are connections that were reset, which is meant here.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    begun = time.monotonic()
    soak = Soak(arguments)
    try:
        asyncio.run(soak.run())
    finally:
        report.table(soak, time.monotonic() - begun)
        soak.place.clean()
    return 1 if soak.ledger.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
