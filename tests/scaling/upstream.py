"""An upstream on plain HTTP that streams at a human's pace, and keeps which credential and which gateway asked for what."""

from __future__ import annotations

import asyncio
import base64
import collections
import json
import threading

BASE_PATH = "/flow-llm-proxy"
EVENT_SECONDS = 0.25


def process_of(request_id: str) -> str:
    """The gateway that made an `x-request-id`: such ids begin with one of its shard, and it has one."""
    return request_id.split("-")[0]


class Upstream:
    """Serves on a thread of its own."""

    def __init__(self) -> None:
        # This credential is refused with 429.
        self.refused: str | None = None
        # Of the gateways, by their processes.
        self.refusals: collections.Counter[str] = collections.Counter()
        # Of each session, by which credentials and by which gateways it came.
        self.credentials: dict[str, set[str]] = collections.defaultdict(set)
        self.gateways: dict[str, set[str]] = collections.defaultdict(set)
        # Requests for the model "thinking", which is not done with them, and how many of them were given up.
        self.thinking = 0
        self.given_up = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> str:
        """Returns the URL to give to the gateways."""
        self._thread.start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000)
        server = asyncio.run_coroutine_threadsafe(serving, self._loop).result()
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{BASE_PATH}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                fields = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                request = json.loads(body)
                if request["model"] == "thinking":
                    await self._think(reader)
                    return
                await self._answer(fields, request, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _think(self, reader: asyncio.StreamReader) -> None:
        """Answers nothing until who asked has left."""
        self.thinking += 1
        try:
            await reader.read(1)
        except ConnectionError:
            pass
        self.given_up += 1

    async def _answer(self, fields: dict[str, str], request: dict, writer: asyncio.StreamWriter) -> None:
        gateway, credential = process_of(fields["x-request-id"]), credential_of(fields["authorization"])
        if credential == self.refused:
            self.refusals[gateway] += 1
            body = b'{"error":{"message":"slow down","type":"rate_limit_error","code":"429"}}'
            head = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 30\r\n"
            writer.write(head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            return
        if session := fields.get("x-session-id"):
            self.credentials[session].add(credential)
            self.gateways[session].add(gateway)
        if request.get("stream"):
            await self._stream(request["max_tokens"], writer)
            return
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}
        body = json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write((head + body).encode())

    async def _stream(self, count: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(count):
            delta = {"content": f"{number} "}
            end = "stop" if number == count - 1 else None
            choice = {"index": 0, "delta": delta, "finish_reason": end}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            write_chunk(writer, f"data: {json.dumps(chunk)}\n\n".encode())
            await writer.drain()
            await asyncio.sleep(EVENT_SECONDS)
        write_chunk(writer, b"data: [DONE]\n\n")
        write_chunk(writer, b"")


def write_chunk(writer: asyncio.StreamWriter, content: bytes) -> None:
    writer.write(b"%x\r\n" % len(content) + content + b"\r\n")


def credential_of(authorization: str) -> str:
    """The `clientId` of a token."""
    claims = authorization.removeprefix("Bearer ").split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["clientId"]
