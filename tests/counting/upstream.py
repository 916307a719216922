"""An upstream on plain HTTP that gives each request the answer laid ready for its `x-request-id`, in random pieces, and
keeps by which credential it was asked."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import threading

from answers import Answer

BASE_PATH = "/base"
# What a client that leaves takes to be seen here, even on a busy machine.
LEAVING_SECONDS_MAX = 60


class Upstream:
    """Serves on a thread of its own. The answers are put into `answers` before they are asked for."""

    def __init__(self, seed: int) -> None:
        self.answers: dict[str, Answer] = {}
        # The credential of the last attempt of each request, and those whose answer has been written to its end.
        self.credential_of: dict[str, str] = {}
        self.written: set[str] = set()
        self.faults: list[str] = []
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> str:
        """Returns the URL to give to the gateway."""
        self._thread.start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result()
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{BASE_PATH}"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def forget(self) -> None:
        """Drops what was laid ready, when nobody asks any more."""
        for kept in (self.answers, self.credential_of, self.written):
            kept.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception as fault:
            self.faults.append(f"the upstream of this test: {fault!r}")
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Returns if the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        await reader.readexactly(int(fields.get("content-length", 0)))
        identity = fields.get("x-request-id", "")
        answer = self.answers.get(identity)
        if answer is None:
            # Such as a question for prices, which are not told here.
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}")
            return True
        self.credential_of[identity] = credential(fields.get("authorization", ""))
        return await self._answer(identity, answer, reader, writer)

    async def _answer(self, identity: str, answer: Answer, reader, writer) -> bool:
        framing = self._framing(answer)
        fields = [*answer.headers, *framing]
        writer.write(
            ("HTTP/1.1 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields) + "\r\n").encode(
                "latin-1"
            )
        )
        is_chunked = framing[0][0] == "transfer-encoding"
        end = next(at for at in (answer.cut_at, answer.left_at, len(answer.body)) if at is not None)
        await self._pieces(writer, answer.body[:end], is_chunked)
        if answer.cut_at is not None:
            return False
        if answer.left_at is not None:
            # All that comes is the end.
            await asyncio.wait_for(reader.read(), LEAVING_SECONDS_MAX)
            return False
        if is_chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        self.written.add(identity)
        return ("connection", "close") not in framing

    def _framing(self, answer: Answer) -> list[tuple[str, str]]:
        is_whole = answer.cut_at is None and answer.left_at is None
        if answer.is_stream or self._random.random() < 0.4:
            return [("transfer-encoding", "chunked")]
        if is_whole and self._random.random() < 0.1:
            return [("connection", "close")]
        return [("content-length", str(len(answer.body)))]

    async def _pieces(self, writer: asyncio.StreamWriter, body: bytes, is_chunked: bool) -> None:
        """Chunks have random borders, and what is written at once has others."""
        pick = self._random
        # Some answers byte by byte, most in few pieces: so it ends some day.
        most = (
            pick.choice((3, 200, 5000, 100_000))
            if len(body) < 2000
            else pick.choice((len(body) // 50, len(body) // 3, len(body)))
        )
        framed = bytearray()
        at = 0
        while at < len(body):
            size = pick.randint(1, max(1, most))
            chunk = body[at : at + size]
            framed += f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" if is_chunked else chunk
            at += size
        at = 0
        most = pick.choice((most, len(framed)))
        while at < len(framed):
            size = pick.randint(1, max(1, most))
            writer.write(bytes(framed[at : at + size]))
            await writer.drain()
            # Others come in between, so that it leaves this process as it is.
            await asyncio.sleep(0)
            at += size


def credential(authorization: str) -> str:
    """The `clientId` of a token."""
    claims = authorization.removeprefix("Bearer ").split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["clientId"]
