"""A gateway at rest: what it holds when nobody asks any more, and what of that is too much."""

from __future__ import annotations

import asyncio
import collections
import functools
from dataclasses import dataclass

from lives import SHARDS, Lives

# The pools of upstream connections are empty after 2 s (`--upstream-idle-timeout`), lingering closes after 5 s.
REST_SECONDS = 7
# For holes that the allocator keeps among small blocks in use (`ALLOCATOR` in lives.py says how small), in the arenas
# of a dozen threads: runs without a leak differed by up to 1.4 MiB.
NOISE_SHARE, NOISE_KIB = 0.05, 1024
# What is there at every look: the rest comes and goes, as the connections that are kept ready do.
LOOKS_COUNT, LOOK_SECONDS = 4, 0.3
# One of each shard (`--warm-connections`), and one that is about to take its place.
WARM_MAX = 2 * int(SHARDS)


@dataclass
class Rest:
    name: str
    process: int
    # Memory of its own: the rest of what is resident are pages of the program's file.
    anonymous_kib: int
    resident_kib: int
    descriptors: collections.Counter
    # Connections to the upstream, which are kept ready and opened anew all the time.
    warm_count: int

    @classmethod
    async def of(cls, name: str, lives: Lives) -> Rest:
        await asyncio.sleep(REST_SECONDS)
        gateway = lives.current
        await gateway.metrics(lives.admin_port)
        looks = [look(lives)]
        for _ in range(LOOKS_COUNT - 1):
            await asyncio.sleep(LOOK_SECONDS)
            looks.append(look(lives))
        descriptors, warm = functools.reduce(lambda one, other: (one[0] & other[0], min(one[1], other[1])), looks)
        return cls(name, gateway.number, gateway.anonymous_kib(), gateway.resident_kib(), descriptors, warm)

    def __str__(self) -> str:
        memory = f"{self.resident_kib} KiB resident, {self.anonymous_kib} KiB of its own"
        descriptors = f"{self.descriptors.total()} descriptors and {self.warm_count} connections to the upstream"
        return f"{self.name}: gateway {self.process}, {memory}, {descriptors}"

    def beyond(self, first: Rest) -> list[str]:
        """What it holds more than it did after the warm-up."""
        faults = []
        if self.process == first.process and (more := self.descriptors - first.descriptors):
            faults.append(f"descriptors after {self.name} that were not there before: {dict(more)}")
        if self.warm_count > WARM_MAX:
            faults.append(f"{self.warm_count} connections to the upstream after {self.name}, {WARM_MAX} may be kept")
        if self.anonymous_kib > first.anonymous_kib * (1 + NOISE_SHARE) + NOISE_KIB:
            faults.append(f"{self.anonymous_kib} KiB of its own memory after {self.name}, {first.anonymous_kib} before")
        return faults


def look(lives: Lives) -> tuple[collections.Counter, int]:
    """Its descriptors by what they are, but for connections to the upstream, and the number of those."""
    sockets, shown = lives.current.sockets(), collections.Counter()
    for name in lives.current.descriptors().values():
        local, remote, state = sockets.get(name, (0, 0, "not of TCP"))
        if remote == lives.upstream_port:
            shown["to the upstream"] += 1
        elif name.startswith("socket"):
            side = {lives.port: "clients'", lives.admin_port: "admin's"}.get(local, "other")
            shown[f"{side} socket, state {state}"] += 1
        else:
            shown[name] += 1
    return shown, shown.pop("to the upstream", 0)
