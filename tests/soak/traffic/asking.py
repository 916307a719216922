"""One request of a client: it is sent, its answer is read or left, noted, and compared with what the upstream sent."""

from __future__ import annotations

import asyncio
import os
import random

from ledger import Attempted, Ledger, Seen
from traffic import dialects, wire
from traffic.wire import Cut, Head, Wire

MODELS = ("soak-a", "soak-b", "soak-c", "other-a")
# Longer than the gateway may take for anything here: a client that waits so long was forgotten.
PATIENCE_SECONDS = 90
LEAVING_SECONDS = (0.0, 0.01, 0.3, 2.0)
# For which those that still read go on when the load is over.
OVER_SECONDS = 3
# What is added to a stream that breaks: half an event's end, and one event.
TOLD_BYTES_MAX = 2000
UPLOAD_PIECE_BYTES = 64 * 1024


class Load:
    """What all clients share."""

    def __init__(self, ledger: Ledger, seed: int, port: int, keys: dict[str, str], longest_stream: float) -> None:
        self.ledger, self.port, self.seed = ledger, port, seed
        self.longest_stream = longest_stream
        self.is_over = asyncio.Event()
        self._keys, self._count = keys, 0

    def next_identity(self) -> str:
        self._count += 1
        return f"soak-{self._count}"

    def key(self, name: str) -> str:
        return self._keys[name]

    async def over_for_a_while(self) -> None:
        await self.is_over.wait()
        await asyncio.sleep(OVER_SECONDS)

    async def rest(self, seconds: float) -> None:
        """A pause that the end of the load cuts short."""
        try:
            await asyncio.wait_for(self.is_over.wait(), seconds)
        except asyncio.TimeoutError:
            pass


class Asking:
    """A client's part in one request after the other."""

    def __init__(self, load: Load, pick: random.Random) -> None:
        self._load, self._pick, self._ledger = load, pick, load.ledger

    def _fields(self, identity: str, key: str, wish: str) -> list[tuple[str, str]]:
        value = self._load.key(key)
        shown = ("Authorization", f"Bearer {value}") if self._pick.random() < 0.5 else ("x-api-key", value)
        return [("X-Request-Id", identity), shown, ("x-soak", wish)]

    async def _ask(
        self, connection: Wire, what: str, wish: str = "", text: str = "hi", key: str = "free", chunk: int = 0,
        leaves: bool = False, pause: float = 0.0,
    ) -> bool:  # fmt: skip
        """Makes one request; returns whether the connection may carry another."""
        if connection.is_ended():
            return False
        dialect, is_streamed = self._pick.choice(dialects.DIALECTS), "events=" in wish
        model = self._pick.choice(MODELS)
        body = dialects.request_of(dialect, model, is_streamed, text)
        identity = self._load.next_identity()
        framing = ("Transfer-Encoding", "chunked") if chunk else ("Content-Length", str(len(body)))
        fields = [*self._fields(identity, key, wish), ("Content-Type", "application/json"), framing]
        head = wire.request("POST", dialects.path_of(dialect, model, is_streamed), fields)
        seen = self._ledger.begin(identity, f"{what}/{dialect}")
        seen.is_reused = connection.requests_count > 0
        self._ledger.bodies[identity] = body
        connection.requests_count += 1
        framed = wire.chunked(body, chunk) if chunk else body
        sending = asyncio.create_task(self._send(connection, seen, head, framed, len(body)))
        try:
            # Those that leave are all done by then.
            patience = self._pick.choice(LEAVING_SECONDS) if leaves else PATIENCE_SECONDS + self._load.longest_stream
            return await self._read_or_leave(connection, seen, pause, patience, leaves)
        finally:
            sending.cancel()
            self._ledger.settle(identity)

    async def _send(self, connection: Wire, seen: Seen, head: bytes, body: bytes, true_bytes: int) -> None:
        await connection.send(head)
        for at in range(0, len(body), UPLOAD_PIECE_BYTES):
            await connection.send(body[at : at + UPLOAD_PIECE_BYTES])
        seen.request_bytes = true_bytes

    async def _read(self, connection: Wire, seen: Seen, pause: float) -> bool:
        try:
            head = await connection.head()
            self._note(seen, head)
            body = await connection.body(head, pause)
        except Cut as cut:
            return self._broken(seen, cut)
        self._compare(seen, head, body)
        return head.keeps_alive() and seen.request_bytes is not None

    async def _read_or_leave(self, connection: Wire, seen: Seen, pause: float, patience: float, leaves: bool) -> bool:
        """Reads the answer, and leaves before its end if that takes longer, or if the load is over for a while."""
        reading = asyncio.create_task(self._read(connection, seen, pause))
        over = asyncio.create_task(self._load.over_for_a_while())
        await asyncio.wait([reading, over], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            over.cancel()
            return reading.result()
        is_patient = not leaves and not over.done()
        over.cancel()
        reading.cancel()
        await asyncio.wait([reading])
        if seen.end == "open":
            is_abrupt = self._pick.random() < 0.5
            connection.leave(is_abrupt)
            self._ledger.end(seen, "left_abruptly" if is_abrupt else "left")
        if is_patient:
            self._ledger.tell(f"{seen.identity} ({seen.what}): no end of its answer for {patience:.0f} s")
        return False

    def _note(self, seen: Seen, head: Head) -> None:
        seen.status, seen.code = head.status, head.fields.get("x-flow-uring-error")
        if "x-soak-attempt" in head.fields:
            seen.attempt = int(head.fields["x-soak-attempt"])
        if self._ledger.leaks(head.text):
            self._ledger.tell(f"{seen.identity}: a secret in the head of its answer")
        if head.fields.get("x-request-id", seen.identity) != seen.identity:
            self._ledger.tell(f"{seen.identity}: its answer is that of {head.fields['x-request-id']}")

    def _broken(self, seen: Seen, cut: Cut) -> bool:
        seen.body_bytes = len(cut.body)
        if seen.status is None:
            self._ledger.end(seen, "cut" if cut.has_begun else "silent", cut.how)
            return False
        self._ledger.end(seen, "cut", cut.how)
        attempt = self._answered_by(seen)
        if attempt is not None and attempt.sent is not None and not attempt.sent.startswith(cut.body):
            self._ledger.tell(f"{seen.identity}: a broken answer with other bytes: {differing(attempt.sent, cut.body)}")
        return False

    def _compare(self, seen: Seen, head: Head, body: bytes) -> None:
        seen.body_bytes = len(body)
        self._ledger.end(seen, "whole")
        if seen.status >= 400 and self._ledger.leaks(body):
            self._ledger.tell(f"{seen.identity}: a secret in the body of its answer")
        if seen.code is not None:
            return
        attempt = self._answered_by(seen)
        if attempt is None or attempt.sent is None:
            return self._ledger.tell(f"{seen.identity}: status {seen.status} of nobody")
        is_stream = head.fields.get("content-type") == "text/event-stream"
        if body == attempt.sent and seen.status == attempt.status and (attempt.is_whole or attempt.is_turn_whole):
            return
        if is_stream and body == attempt.sent:
            return self._ledger.tell(f"{seen.identity}: a broken stream ended as if it were whole")
        kept = len(os.path.commonprefix([bytes(attempt.sent), body]))
        tail = body[kept:]
        if is_stream and 0 < len(tail) < TOLD_BYTES_MAX and b"rror" in tail:
            return self._ledger.end(seen, "told")
        what = f"{seen.what}, status {seen.status}, attempt {attempt.number}, {attempt.plan}"
        self._ledger.tell(f"{seen.identity} ({what}): an answer with other bytes: {differing(attempt.sent, body)}")

    def _answered_by(self, seen: Seen) -> Attempted | None:
        attempts = self._ledger.attempts.get(seen.identity, ())
        return next((one for one in attempts if one.number == seen.attempt), None)


def differing(sent: bytes, came: bytes) -> str:
    """The place where both part, with what is there."""
    at = len(os.path.commonprefix([bytes(sent), came]))
    return f"at {at} of {len(sent)}: {bytes(sent[at : at + 80])!r} was sent, {came[at : at + 80]!r} of {len(came)} came"
