"""Clients that ask one answer after the other, and know what they have been told."""

from __future__ import annotations

import collections
import random
import threading
import time
from dataclasses import dataclass, field

from answers import KINDS, Maker
from gateway import KEYS, ask
from upstream import Upstream

# What is held against the file. Costs follow from them, and depend on prices, which are not set here.
HELD = ("requests", *KINDS)

# So that all the answers of some minutes have room in memory.
PAUSE_SECONDS_MAX = 0.03

Sums = collections.Counter


@dataclass
class Load:
    """Asks whatever gateway listens on the port."""

    upstream: Upstream
    port: int
    seed: int
    clients: int
    # Names the requests of this load.
    name: str
    # The moment at which each answer had come whole, and what it told.
    came: list[tuple[float, Sums]] = field(default_factory=list)
    # Those that did not come whole.
    broken: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._client, args=(number,), daemon=True) for number in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        """Waits for the answers that are on their way."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def no_more(self) -> None:
        self._is_over.set()

    def _client(self, number: int) -> None:
        maker, pick = Maker(self.seed * 1000 + number), random.Random(number)
        asked = 0
        while not self._is_over.is_set():
            answer = maker.answer()
            if not answer.is_told:
                continue
            time.sleep(pick.uniform(0, PAUSE_SECONDS_MAX))
            asked += 1
            identity = f"{self.name}-{number}-{asked}"
            self.upstream.answers[identity] = answer
            try:
                body = ask(self.port, identity, pick.choice(list(KEYS)), answer)
            except Exception as fault:
                body = repr(fault)
            with self._lock:
                if body == answer.body:
                    self.came.append((time.monotonic(), Sums(answer.counts | {"requests": 1})))
                else:
                    self.broken.append(f"{identity}, {answer.label}: {body[:200]!r}")

    def told(self, until: float = float("inf")) -> Sums:
        """What the answers told that had come until then."""
        return sum((sums for moment, sums in self.came if moment <= until), Sums())

    def may_be_told(self) -> Sums:
        """What can have been counted at most: all that the upstream has written to its end."""
        written = (
            self.upstream.answers[name] for name in list(self.upstream.written) if name.startswith(f"{self.name}-")
        )
        return sum((Sums(answer.counts | {"requests": 1}) for answer in written), Sums())
