"""The books of both sides of the gateway: what clients saw of each request, and what the upstream saw and sent."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Seen:
    """One request as its client saw it."""

    identity: str
    what: str
    began: float
    # The connection had carried a request before.
    is_reused: bool = False
    # The head went out whole, so that the gateway knows the request by its id.
    has_whole_head: bool = True
    # One of ENDS.
    end: str = "open"
    detail: str = ""
    ended: float = 0.0
    status: int | None = None
    # Of an answer of the gateway's own.
    code: str | None = None
    # Which attempt the answer is of, as the upstream names it.
    attempt: int | None = None
    body_bytes: int = 0
    # Of a request that went out whole.
    request_bytes: int | None = None


# whole: an answer to its end; told: a stream that ends well formed, by the gateway's error event; cut: an answer that
# breaks off; silent: a connection that ends before an answer; left, left_abruptly: the client did; refused: no
# connection.
ENDS = ("whole", "told", "cut", "silent", "left", "left_abruptly", "refused")


@dataclass
class Attempted:
    """One request as the upstream saw it."""

    number: int
    began: float
    plan: str
    credential: str
    status: int | None = None
    # What a client may get of the body that was sent; dropped when nobody compares it any more.
    sent: bytearray | None = field(default_factory=bytearray)
    is_whole: bool = False
    # Its connection was reset, maybe before all of it had left.
    is_torn: bool = False
    # The stream has come to the event that ends its turn.
    is_turn_whole: bool = False
    # What came of the request's body, if all of it came.
    request_bytes: int | None = None
    is_request_true: bool = True


class Ledger:
    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.seen: dict[str, Seen] = {}
        self.attempts: dict[str, list[Attempted]] = {}
        # What a request's body is made of, until it is settled.
        self.bodies: dict[str, bytes] = {}
        # Connections that the upstream ended without having read a head on them: an attempt may have gone there unseen.
        self.blind_drops = 0
        # Questions of the gateway's own.
        self.own_questions = 0
        # Intervals, by what happened to the gateway in them.
        self.windows: list[tuple[str, float, float]] = []
        self.faults: dict[str, int] = {}
        # What is wrong, with its story.
        self.wrong: list[str] = []
        # Texts that nobody may see: client secrets, keys of callers, parts of tokens.
        self.needles: set[bytes] = set()
        self._story: list[str] = []

    def now(self) -> float:
        return time.monotonic() - self.begun

    def begin(self, identity: str, what: str) -> Seen:
        self.seen[identity] = seen = Seen(identity, what, self.now())
        return seen

    def attempt(self, identity: str, plan: str, credential: str) -> Attempted:
        known = self.attempts.setdefault(identity, [])
        known.append(Attempted(len(known) + 1, self.now(), plan, credential))
        return known[-1]

    def end(self, seen: Seen, end: str, detail: str = "") -> None:
        seen.end, seen.detail, seen.ended = end, detail, self.now()

    def settle(self, identity: str) -> None:
        """Drops the bytes of a request that nobody compares any more."""
        self.bodies.pop(identity, None)
        for attempt in self.attempts.get(identity, ()):
            attempt.sent = None

    def fault(self, kind: str, detail: str = "") -> None:
        """Notes that something was broken on purpose."""
        self.faults[kind] = self.faults.get(kind, 0) + 1
        self._story.append(f"{self.now():8.2f} {kind} {detail}")

    def window(self, kind: str, began: float) -> None:
        self.windows.append((kind, began, self.now()))

    def was(self, kinds: tuple[str, ...], began: float, ended: float, slack: float = 1.5) -> bool:
        """Tells whether something of these kinds happened to the gateway meanwhile."""
        return any(
            kind in kinds and begin - slack <= ended and began <= end + slack for kind, begin, end in self.windows
        )

    def tell(self, what: str) -> None:
        self.wrong.append(f"at {self.now():.2f} s: {what}")

    def story(self) -> list[str]:
        return self._story

    def leaks(self, content: bytes) -> bool:
        return any(needle in content for needle in self.needles)
