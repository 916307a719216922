"""The clients of every kind, each of which makes its requests on a connection of its own."""

from __future__ import annotations

import asyncio
import random

from ledger import Seen
from traffic import wire
from traffic.asking import PATIENCE_SECONDS, Asking, Load
from traffic.wire import Cut, Wire

UPGRADE = [
    ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]  # fmt: skip
# How often each kind of client comes.
KINDS = {
    "plain": 30, "stream": 22, "upload": 6, "upload_chunked": 5, "websocket": 6, "leaving": 10, "slow_reader": 3,
    "half_head": 3, "half_body": 3, "limited": 6, "stranger": 2, "local": 3,
}  # fmt: skip
# So many come at once at the beginning: memory and descriptors are then what they come to.
SURGE = {"upload": 12, "limited": 30, "websocket": 20, "slow_reader": 20, "stream": 60, "plain": 60}
# The longest stream of those.
SURGE_SECONDS = 3.0


class Clients:
    """Some of them at a time, each with one connection after the other."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._tasks: list[asyncio.Task] = []

    async def surge(self) -> None:
        load, longest = self._load, self._load.longest_stream
        load.longest_stream = SURGE_SECONDS
        kinds = [kind for kind, count in SURGE.items() for _ in range(count)]
        await asyncio.gather(*(self._client(number).once(kind) for number, kind in enumerate(kinds)))
        load.longest_stream = longest

    def start(self, clients: int, pause: float) -> None:
        self._load.is_over.clear()
        self._tasks = [asyncio.create_task(self._client(number).work(pause)) for number in range(clients)]

    async def stop(self) -> None:
        """Waits for the requests under way."""
        self._load.is_over.set()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, BaseException):
                self._load.ledger.tell(f"a client of the soak itself: {result!r}")

    def _client(self, number: int) -> Client:
        # Other choices in each part of the run.
        return Client(self._load, random.Random(f"{self._load.seed}-{len(self._load.ledger.seen)}-{number}"))


class Client(Asking):
    async def work(self, pause: float) -> None:
        while not self._load.is_over.is_set():
            await self.once(self._pick.choices(list(KINDS), list(KINDS.values()))[0])
            await self._load.rest(self._pick.expovariate(1 / pause))

    async def once(self, kind: str) -> None:
        connection = Wire()
        try:
            await connection.open(self._load.port)
        except OSError as error:
            seen = self._ledger.begin(self._load.next_identity(), kind)
            self._ledger.end(seen, "refused", type(error).__name__)
            return await self._load.rest(0.2)
        try:
            await getattr(self, f"_{kind}")(connection)
        finally:
            connection.leave()

    async def _plain(self, connection: Wire) -> None:
        for _ in range(self._pick.choice((1, 1, 3, 6))):
            size = int(self._pick.paretovariate(0.7) * 200)
            wish = f"bytes={min(size, 300_000)}" + (" chunked=1" if self._pick.random() < 0.3 else "")
            if not await self._ask(connection, "plain", wish=wish):
                return
            await self._load.rest(self._pick.uniform(0, 0.3))

    async def _stream(self, connection: Wire) -> None:
        for _ in range(self._pick.choice((1, 2))):
            if not await self._ask(connection, "stream", wish=self._stream_wish()):
                return

    async def _upload(self, connection: Wire) -> None:
        size = self._pick.choice((50_000, 400_000, 1_500_000, 4_000_000))
        for _ in range(self._pick.choice((1, 2))):
            if not await self._ask(connection, "upload", text=filler(size)):
                return

    async def _upload_chunked(self, connection: Wire) -> None:
        size = self._pick.choice((20_000, 300_000, 2_000_000))
        await self._ask(connection, "upload_chunked", text=filler(size), chunk=self._pick.choice((700, 9000, 64_000)))

    async def _leaving(self, connection: Wire) -> None:
        await self._ask(connection, "leaving", wish=self._stream_wish(), leaves=True)

    async def _slow_reader(self, connection: Wire) -> None:
        connection.read_slowly()
        await self._ask(connection, "slow_reader", wish="bytes=600000", pause=0.02)

    async def _limited(self, connection: Wire) -> None:
        key = self._pick.choice(("narrow", "few", "models"))
        wish = self._stream_wish(1.5) if key == "narrow" else ""
        await self._ask(connection, f"limited_{key}", wish=wish, key=key)

    async def _stranger(self, connection: Wire) -> None:
        await self._ask(connection, "stranger", key="stranger")

    def _stream_wish(self, longest: float | None = None) -> str:
        longest = longest or self._load.longest_stream
        # Most are short, and some as long as they come.
        seconds = longest * self._pick.random() ** 4
        pause = self._pick.choice((0.0, 0.02, 0.2)) if seconds < 5 else self._pick.uniform(0.1, 0.5)
        count = max(1, int(seconds / pause)) if pause else self._pick.randrange(1, 300)
        return f"events={count} pause={pause:.3f}"

    async def _half_head(self, connection: Wire) -> None:
        """Sends a part of a head, and leaves, or waits for the gateway to tire."""
        identity = self._load.next_identity()
        seen = self._ledger.begin(identity, "half_head")
        seen.has_whole_head = False
        head = wire.request("POST", "/v1/chat/completions", self._fields(identity, "free", ""))
        await connection.send(head[: self._pick.randrange(1, len(head) - 4)])
        if self._pick.random() < 0.4:
            await self._load.rest(self._pick.choice((0.0, 0.5)))
            is_abrupt = self._pick.random() < 0.5
            connection.leave(is_abrupt)
            return self._ledger.end(seen, "left_abruptly" if is_abrupt else "left")
        try:
            answer = await connection.head()
            seen.status, seen.code = answer.status, answer.fields.get("x-flow-uring-error")
            await connection.body(answer)
            self._ledger.end(seen, "whole")
        except Cut as cut:
            self._ledger.end(seen, "cut" if cut.has_begun else "silent", cut.how)

    async def _half_body(self, connection: Wire) -> None:
        """Sends a part of a body, and leaves, or waits for the gateway to tire."""
        identity = self._load.next_identity()
        seen = self._ledger.begin(identity, "half_body")
        connection.requests_count += 1
        fields = [
            *self._fields(identity, "free", ""),
            ("Content-Type", "application/json"),
            ("Content-Length", "50000"),
        ]
        await connection.send(wire.request("POST", "/v1/chat/completions", fields) + b'{"model":"soak-a"')
        if self._pick.random() < 0.4:
            await self._load.rest(self._pick.choice((0.1, 0.5)))
            is_abrupt = self._pick.random() < 0.5
            connection.leave(is_abrupt)
            return self._ledger.end(seen, "left_abruptly" if is_abrupt else "left")
        await self._read(connection, seen, 0.0)

    async def _local(self, connection: Wire) -> None:
        """Asks for what the gateway answers by itself."""
        for target in self._pick.sample(("/", "/v1/../etc", "/v1/models/%00"), 2):
            if connection.is_ended():
                return
            identity = self._load.next_identity()
            seen = self._ledger.begin(identity, "local")
            seen.is_reused = connection.requests_count > 0
            connection.requests_count += 1
            await connection.send(wire.request("GET", target, self._fields(identity, "free", "")))
            try:
                head = await connection.head()
                seen.status, seen.code = head.status, head.fields.get("x-flow-uring-error")
                seen.body_bytes = len(await connection.body(head))
                self._ledger.end(seen, "whole")
            except Cut as cut:
                return self._ledger.end(seen, "cut" if cut.has_begun else "silent", cut.how)
            if not head.keeps_alive():
                return

    async def _websocket(self, connection: Wire) -> None:
        identity = self._load.next_identity()
        seen = self._ledger.begin(identity, "websocket")
        connection.requests_count += 1
        fields = [*self._fields(identity, "free", ""), *UPGRADE]
        await connection.send(wire.request("GET", "/v1/realtime?model=soak-a", fields))
        try:
            head = await asyncio.wait_for(connection.head(), PATIENCE_SECONDS)
            self._note(seen, head)
            if head.status != 101:
                return self._compare(seen, head, await connection.body(head))
            await self._talk(connection, seen)
        except Cut as cut:
            self._broken(seen, cut)
        except (asyncio.IncompleteReadError, OSError) as error:
            self._ledger.end(seen, "cut", type(error).__name__)
        finally:
            self._ledger.settle(identity)

    async def _talk(self, connection: Wire, seen: Seen) -> None:
        frames = self._pick.randrange(1, 30)
        for number in range(frames):
            if self._load.is_over.is_set():
                break
            await self._echo(connection, seen, 2, f"{seen.identity}.{number}".encode())
            await self._load.rest(self._pick.uniform(0, 0.4))
        if self._pick.random() < 0.3:
            return self._ledger.end(seen, "left", f"after {frames} frames")
        await self._echo(connection, seen, 8, b"\x03\xe8")
        self._ledger.end(seen, "whole")

    async def _echo(self, connection: Wire, seen: Seen, opcode: int, content: bytes) -> None:
        mask = self._pick.randbytes(4)
        hidden = bytes(byte ^ mask[place % 4] for place, byte in enumerate(content))
        await connection.send(bytes([0x80 | opcode, 0x80 | len(content)]) + mask + hidden)
        came = await connection.reader.readexactly(2 + len(content))
        if came == bytes([0x80 | opcode, len(content)]) + content:
            return
        if came[0] & 0x0F == 8:
            # The gateway's own farewell.
            raise OSError("closed")
        self._ledger.tell(f"{seen.identity}: a frame came back as {came!r}")


def filler(size: int) -> str:
    return ("Words of a prompt. " * (size // 19 + 1))[:size]
