"""The upstream: it accepts connections under TLS, reads requests, and notes each attempt that it sees. What is failing
at the moment is its `weather`."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct

from ledger import Attempted, Ledger
from traffic.answering import (
    REQUEST_WEATHER,
    SILENCE_SECONDS,
    Answer,
    Left,
    Request,
    answer_whole,
    credential_of,
    reset,
)

# What happens to a connection before a request is read, by how often while the weather is so.
CONNECTION_WEATHER = ("dead", "garbage", "reset_on_accept", "reset_after_handshake", "untrusted")
HEAD_BYTES_MAX = 128 * 1024


class Upstream:
    def __init__(self, ledger: Ledger, seed: int, certificate: tuple[str, str], untrusted: tuple[str, str]) -> None:
        self.ledger = ledger
        # The weather, and which part of the connections or requests it meets.
        self.weather: str | None = None
        self.share = 0.5
        # The open ones, with the last request on each.
        self.connections: dict[asyncio.Transport, Attempted | None] = {}
        self._pick = random.Random(seed)
        self._trusted, self._untrusted = tls_context(*certificate), tls_context(*untrusted)
        self._tasks: set[asyncio.Task] = set()
        self._listener: socket.socket | None = None
        self.port = 0

    def start(self) -> None:
        """Listens, again on the same port if it has listened before."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def stop_listening(self) -> None:
        """Connections are refused from here on."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()

    def drop_idle(self) -> None:
        """Ends all connections, in the midst of whatever they do."""
        for transport, attempt in list(self.connections.items()):
            if attempt is not None:
                # What it has written may not have come.
                attempt.is_torn = True
            reset(transport)

    def _spawn(self, coroutine) -> asyncio.Task:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _meets(self, kinds: tuple[str, ...]) -> str | None:
        if self.weather in kinds and self._pick.random() < self.share:
            return self.weather
        return None

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._spawn(self._connection(accepted, self._meets(CONNECTION_WEATHER)))

    async def _connection(self, accepted: socket.socket, plan: str | None) -> None:
        if plan in ("dead", "garbage", "reset_on_accept"):
            return await self._no_tls(accepted, plan)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=HEAD_BYTES_MAX)
        context = self._untrusted if plan == "untrusted" else self._trusted
        try:
            transport, protocol = await loop.connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader), accepted, ssl=context
            )
        except OSError:
            accepted.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self.connections[transport] = None
        try:
            if plan == "reset_after_handshake":
                self.ledger.blind_drops += 1
                reset(transport)
                return
            await self._requests(reader, writer)
        except (OSError, Left, ssl.SSLError, asyncio.LimitOverrunError, asyncio.IncompleteReadError):
            pass
        except Exception as fault:
            self.ledger.tell(f"the upstream of the soak itself: {fault!r}")
        finally:
            self.connections.pop(transport, None)
            writer.close()

    async def _no_tls(self, accepted: socket.socket, plan: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            if plan == "reset_on_accept":
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif plan == "garbage":
                await loop.sock_sendall(accepted, self._pick.randbytes(400))
            else:
                await asyncio.wait_for(until_end(accepted), SILENCE_SECONDS)
        except (OSError, asyncio.TimeoutError):
            pass
        finally:
            accepted.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        may_go_on, is_fresh = True, True
        while may_go_on:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, OSError):
                # On one that was used before, the gateway sends its request again, and counts no attempt.
                self.ledger.blind_drops += is_fresh
                return
            is_fresh = False
            may_go_on = await self._answer(Request(head), reader, writer)

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        identity = request.fields.get("x-request-id", "")
        token = request.fields.get("authorization", request.fields.get("x-goog-api-key", "")).removeprefix("Bearer ")
        self.ledger.needles.update(part.encode() for part in token.split(".")[1:])
        if identity not in self.ledger.seen:
            self.ledger.own_questions += 1
            await answer_whole(writer, 200, b'{"data":[]}', [])
            return True
        plan = self._meets(REQUEST_WEATHER) or "well"
        attempt = self.ledger.attempt(identity, plan, credential_of(token))
        self.connections[writer.transport] = attempt
        exchange = Answer(self.ledger, self._pick, request, attempt, reader, writer, token)
        await exchange.play()
        return exchange.may_go_on


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def until_end(accepted: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    accepted.setblocking(False)
    while await loop.sock_recv(accepted, 4096):
        pass
