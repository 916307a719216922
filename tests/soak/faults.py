"""What is broken on purpose, in an order that a seed gives: the upstream's weather, the machine, the gateway itself."""

from __future__ import annotations

import asyncio
import os
import random
import signal

from ledger import Ledger
from lives import Lives
from place import Place
from traffic.answering import REQUEST_WEATHER
from traffic.connections import CONNECTION_WEATHER, Upstream
from traffic.wire import Wire

# What the process has to live through, and what ends it.
STEADY = (
    "frozen", "starved", "crowd", "disk_full", "blocked_output", "log_moved", "secrets", "bad_secrets", "keys",
    "bad_keys", "no_name",
)  # fmt: skip
FATAL = ("take_over", "take_over", "restart", "nameless_restart", "starved", "crowd", "secrets", "frozen")
CROWD_COUNT = 150
FROZEN_SECONDS = 5


class Faults:
    def __init__(self, ledger: Ledger, place: Place, upstream: Upstream, lives: Lives, seed: int) -> None:
        self._ledger, self._place, self._upstream, self._lives = ledger, place, upstream, lives
        self._weather_pick, self._pick = random.Random(f"{seed}-weather"), random.Random(f"{seed}-machine")
        self._breaking: asyncio.Future | None = None

    async def weather(self, longest: float) -> None:
        """Fails on the upstream's side until it is cancelled; then the upstream is well."""
        pick, upstream = self._weather_pick, self._upstream
        kinds = [*CONNECTION_WEATHER, *REQUEST_WEATHER, "not_listening", "all_dropped"]
        bag: list[str] = []
        try:
            while True:
                await asyncio.sleep(pick.uniform(0.1, longest / 2))
                # Each kind comes up before any comes again.
                bag = bag or pick.sample(kinds, len(kinds))
                kind, upstream.share = bag.pop(), pick.choice((0.2, 0.6, 1.0))
                seconds = pick.uniform(0.2, longest)
                self._ledger.fault(f"upstream: {kind}", f"{seconds:.1f} s, {upstream.share:.0%}")
                if kind == "not_listening":
                    upstream.stop_listening()
                    try:
                        await asyncio.sleep(seconds)
                    finally:
                        upstream.start()
                elif kind == "all_dropped":
                    upstream.drop_idle()
                else:
                    if kind in CONNECTION_WEATHER:
                        # Else hardly any would be opened meanwhile.
                        upstream.drop_idle()
                    upstream.weather = kind
                    await asyncio.sleep(seconds)
                upstream.weather = None
        finally:
            upstream.weather = None

    async def machine(self, kinds: tuple[str, ...], pause: float) -> None:
        """Breaks one thing after the other until it is cancelled; then all is mended."""
        bag: list[str] = []
        while True:
            await asyncio.sleep(self._pick.uniform(0.5, 1.5) * pause)
            bag = bag or self._pick.sample(kinds, len(kinds))
            kind = bag.pop()
            self._ledger.fault(f"gateway: {kind}")
            # What has begun is mended in any case.
            self._breaking = asyncio.ensure_future(getattr(self, f"_{kind}")())
            await asyncio.shield(self._breaking)

    async def mended(self) -> None:
        if self._breaking is not None:
            await self._breaking

    async def _frozen(self) -> None:
        began = self._ledger.now()
        self._lives.current.signal(signal.SIGSTOP)
        await asyncio.sleep(FROZEN_SECONDS)
        self._lives.current.signal(signal.SIGCONT)
        self._ledger.window("frozen", began)

    async def _starved(self) -> None:
        """No more descriptors than there are, and one."""
        began, gateway = self._ledger.now(), self._lives.current
        limit = gateway.hard_limit()
        gateway.limit_descriptors(max(map(int, os.listdir(f"/proc/{gateway.pid}/fd"))) + 2)
        await asyncio.sleep(self._pick.uniform(1, 3))
        gateway.limit_descriptors(limit)
        self._ledger.window("starved", began)

    async def _crowd(self) -> None:
        """Connections that ask for nothing, or for one thing and then nothing more."""
        began = self._ledger.now()
        crowd = [Wire() for _ in range(CROWD_COUNT)]
        try:
            await asyncio.gather(*(one.open(self._lives.port) for one in crowd), return_exceptions=True)
            await asyncio.sleep(self._pick.uniform(1, 3))
        finally:
            for one in crowd:
                if hasattr(one, "writer"):
                    one.leave(self._pick.random() < 0.5)
            self._ledger.window("crowd", began)

    async def _disk_full(self) -> None:
        if not self._place.has_own_mounts:
            return
        self._place.set_disk_full(True)
        await asyncio.sleep(self._pick.uniform(2, 4))
        self._place.set_disk_full(False)

    async def _blocked_output(self) -> None:
        gateway = self._lives.current
        gateway.block_output()
        await asyncio.sleep(self._pick.uniform(3, 6))
        gateway.unblock_output()

    async def _log_moved(self) -> None:
        self._lives.current.rotate()

    async def _secrets(self) -> None:
        names = list(self._place.secrets)
        self._place.write_secrets(self._pick.sample(names, self._pick.randrange(2, len(names) + 1)))
        self._lives.reload()

    async def _bad_secrets(self) -> None:
        self._place.write_bad("secrets.json")
        self._lives.reload()
        await asyncio.sleep(2)
        self._place.write_secrets(list(self._place.secrets))

    async def _keys(self) -> None:
        self._place.write_keys()
        self._lives.reload()

    async def _bad_keys(self) -> None:
        self._place.write_bad("keys.json")
        self._lives.reload()
        await asyncio.sleep(2)
        self._place.write_keys()

    async def _no_name(self) -> None:
        if not self._place.has_own_mounts:
            return
        self._place.set_name(False)
        # So that somebody looks it up.
        self._upstream.drop_idle()
        await asyncio.sleep(3)
        self._place.set_name(True)

    async def _take_over(self) -> None:
        number = self._lives.take_overs_count
        drivers = ("epoll", "uring") if self._lives.driver == "uring" else ("uring", "epoll")
        await self._lives.take_over(drivers[number % 2])

    async def _restart(self) -> None:
        await self._lives.restart()

    async def _nameless_restart(self) -> None:
        """A start whose look-ups fail at first: a gateway that runs goes on with the addresses that it knows."""
        if not self._place.has_own_mounts:
            return
        self._place.set_name(False)
        try:
            await self._lives.restart()
            await asyncio.sleep(2)
        finally:
            self._place.set_name(True)
