"""One answer of the upstream, or what comes in its place: in all dialects, with every way to fail that a server has."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import socket
import struct

from ledger import Attempted, Ledger
from traffic import dialects

# What happens to a request.
REQUEST_WEATHER = (
    "slow_head", "slow_body", "silent", "reset_before_head", "close_before_head", "reset_in_head", "half_head",
    "reset_in_body", "cut_in_body", "stalled_body", "too_many", "unauthorized", "forbidden", "error_500", "error_502",
    "error_503", "error_529", "error_event", "token_echo", "malformed_head", "unasked_101", "early_refusal",
)  # fmt: skip
STATUS_OF = {
    "too_many": 429, "unauthorized": 401, "forbidden": 403, "error_500": 500, "error_502": 502, "error_503": 503,
    "error_529": 529, "token_echo": 400, "early_refusal": 413,
}  # fmt: skip
BROKEN_HEADS = (
    "reset_before_head", "close_before_head", "reset_in_head", "half_head", "malformed_head", "unasked_101",
)  # fmt: skip
PIECE_BYTES = 16 * 1024
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# Longer than any limit of the gateway here.
SILENCE_SECONDS = 60


class Left(Exception):
    """The connection is no more."""


class Request:
    def __init__(self, head: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = lines[0].split(" ", 2)
        self.fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        # What the client wishes for: NAME=VALUE between blanks.
        self.wish = dict(pair.split("=") for pair in self.fields.get("x-soak", "").split())

    async def body(self, reader: asyncio.StreamReader) -> bytes:
        if self.fields.get("transfer-encoding") == "chunked":
            content = bytearray()
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                content += (await reader.readexactly(size + 2))[:size]
            await reader.readuntil(b"\r\n")
            return bytes(content)
        return await reader.readexactly(int(self.fields.get("content-length", 0)))


class Answer:
    """One answer, or what comes in its place."""

    def __init__(
        self, ledger: Ledger, pick: random.Random, request: Request, attempt: Attempted, reader, writer, token: str
    ) -> None:
        self._ledger, self._pick = ledger, pick
        self._request, self._attempt, self._token = request, attempt, token
        self._reader, self._writer = reader, writer
        self._identity = request.fields["x-request-id"]
        self.may_go_on = True

    async def play(self) -> None:
        plan = self._attempt.plan
        if plan == "early_refusal" and "transfer-encoding" not in self._request.fields:
            self.may_go_on = False
            return await self._refuse(413)
        try:
            await self._take_body()
        except (asyncio.IncompleteReadError, ValueError):
            raise Left from None
        if plan == "slow_head":
            await asyncio.sleep(self._pick.uniform(0.3, 3))
        elif plan == "silent":
            # The end of the silence is that of the gateway's patience, or of its client's.
            await asyncio.wait_for(self._reader.read(1), SILENCE_SECONDS)
            raise Left
        if plan in STATUS_OF and plan != "early_refusal":
            await self._refuse(STATUS_OF[plan])
        elif plan in BROKEN_HEADS:
            await self._break_head(plan)
        elif "upgrade" in self._request.fields:
            await self._websocket()
        else:
            await self._send()

    async def _take_body(self) -> None:
        body = await self._request.body(self._reader)
        self._attempt.request_bytes = len(body)
        asked = self._ledger.bodies.get(self._identity)
        self._attempt.is_request_true = asked is None or body == asked

    async def _refuse(self, status: int) -> None:
        plan = self._attempt.plan
        message = f"{plan} of {self._identity}.{self._attempt.number}"
        fields = []
        if status == 429:
            fields.append(("retry-after", "1"))
        shown = message
        if plan == "token_echo":
            message, shown = f"{message} {self._token}", f"{message} {masked(self._token)}"
        if not self.may_go_on:
            fields.append(("connection", "close"))
        self._note(status, dialects.error_of(plan, shown))
        self._attempt.is_whole = True
        await answer_whole(self._writer, status, dialects.error_of(plan, message), [*self._names(), *fields])

    async def _break_head(self, plan: str) -> None:
        self.may_go_on = False
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n"
        if plan in ("reset_in_head", "half_head"):
            await self._write(head[: self._pick.randrange(1, len(head) - 1)])
        elif plan == "malformed_head":
            await self._write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy")
        elif plan == "unasked_101":
            await self._write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: soak\r\nconnection: upgrade\r\n\r\n")
        if plan.startswith("reset"):
            reset(self._writer.transport)

    async def _send(self) -> None:
        wish, tag = self._request.wish, f"{self._identity}.{self._attempt.number}"
        dialect = dialects.dialect_of(self._request.target)
        is_stream = "events" in wish
        if is_stream:
            path = self._request.target.removeprefix(dialects.BASE_PATH)
            pieces = dialects.stream_of(path, tag, int(wish["events"]))
            if self._attempt.plan == "error_event":
                pieces = [b'data: {"error":{"message":"%b","type":"overloaded_error"}}\n\n' % tag.encode()]
            pause = float(wish["pause"])
            framing = ("transfer-encoding", "chunked")
        else:
            body = dialects.whole_of(dialect, tag, int(wish.get("bytes", 100)))
            pieces = [body[at : at + PIECE_BYTES] for at in range(0, len(body), PIECE_BYTES)]
            pause = 0.0
            framing = ("transfer-encoding", "chunked") if wish.get("chunked") else ("content-length", str(len(body)))
        kind = "text/event-stream" if is_stream else "application/json"
        self._attempt.status = 200
        await self._write(head_of(200, [("content-type", kind), framing, *self._names()]))
        broken_at = self._broken_at(sum(map(len, pieces)))
        await self._pieces(pieces, pause, framing[1] == "chunked", broken_at)
        # Before the client can have it.
        self._attempt.is_whole = True
        if framing[1] == "chunked":
            await self._write(b"0\r\n\r\n")

    def _broken_at(self, size: int) -> int | None:
        if self._attempt.plan in ("reset_in_body", "cut_in_body", "stalled_body"):
            return self._pick.randrange(size)
        return None

    async def _pieces(self, pieces: list[bytes], pause: float, is_chunked: bool, broken_at: int | None) -> None:
        for number, piece in enumerate(pieces, 1):
            if broken_at is not None and broken_at < len(piece):
                await self._piece(piece[:broken_at], len(piece), is_chunked)
                return await self._break_body()
            self._attempt.is_turn_whole = number == len(pieces)
            await self._piece(piece, len(piece), is_chunked)
            if broken_at is not None:
                broken_at -= len(piece)
            if self._attempt.plan == "slow_body":
                await asyncio.sleep(self._pick.uniform(0, 0.5))
            elif pause:
                await asyncio.sleep(pause)

    async def _piece(self, piece: bytes, said: int, is_chunked: bool) -> None:
        if self._attempt.sent is not None:
            self._attempt.sent += piece
        if is_chunked:
            piece = b"%x\r\n" % said + piece + (b"\r\n" if said == len(piece) else b"")
        await self._write(piece)

    async def _break_body(self) -> None:
        if self._attempt.plan == "stalled_body":
            await asyncio.wait_for(self._reader.read(1), SILENCE_SECONDS)
        elif self._attempt.plan == "reset_in_body":
            reset(self._writer.transport)
        else:
            self._writer.transport.abort()
        raise Left

    async def _websocket(self) -> None:
        """Returns each frame without its mask."""
        self.may_go_on = False
        self._attempt.status = 101
        asked = self._request.fields["sec-websocket-key"].encode()
        accept = base64.b64encode(hashlib.sha1(asked + WEBSOCKET_GUID).digest()).decode()
        fields = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", accept)]
        await self._write(head_of(101, [*fields, *self._names()]))
        left = self._pick.randrange(1, 12) if self._attempt.plan in ("reset_in_body", "cut_in_body") else None
        while True:
            start = await self._reader.readexactly(2)
            length = start[1] & 0x7F
            mask, content = await self._reader.readexactly(4), await self._reader.readexactly(length)
            content = bytes(byte ^ mask[place % 4] for place, byte in enumerate(content))
            if left == 0:
                await self._break_body()
            left = left - 1 if left is not None else None
            await self._write(bytes([start[0], length]) + content)
            if start[0] & 0x0F == 8:
                self._attempt.is_whole = True
                return

    def _names(self) -> list[tuple[str, str]]:
        return [("x-soak-attempt", str(self._attempt.number))]

    def _note(self, status: int, body: bytes) -> None:
        self._attempt.status = status
        if self._attempt.sent is not None:
            self._attempt.sent += body

    async def _write(self, content: bytes) -> None:
        if self._writer.transport.is_closing():
            raise Left
        self._writer.write(content)
        await self._writer.drain()


async def answer_whole(writer: asyncio.StreamWriter, status: int, body: bytes, fields: list[tuple[str, str]]) -> None:
    kinds = [("content-type", "application/json"), ("content-length", str(len(body)))]
    writer.write(head_of(status, [*kinds, *fields]) + body)
    await writer.drain()


def head_of(status: int, fields: list[tuple[str, str]]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"HTTP/1.1 {status} Soak\r\n{lines}\r\n".encode()


def masked(token: str) -> str:
    """A token as the gateway lets it through: its payload and signature as stars."""
    header, *secret = token.split(".")
    return ".".join([header, *("*" * len(part) for part in secret)])


def credential_of(token: str) -> str:
    claims = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        return json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["clientId"]
    except ValueError:
        return "none"


def reset(transport: asyncio.Transport) -> None:
    """Ends a connection with RST, under TLS too."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
