"""A client's side of HTTP/1.1: one connection, and how an answer on it ends."""

from __future__ import annotations

import asyncio
import socket
import struct

HEAD_BYTES_MAX = 128 * 1024
# No answer of the soak is larger.
BODY_BYTES_MAX = 32 * 1024 * 1024


class Cut(Exception):
    """The connection ended within an answer, or before it."""

    def __init__(self, how: str, body: bytes = b"", has_begun: bool = False) -> None:
        super().__init__(how)
        self.how, self.body, self.has_begun = how, body, has_begun


class Head:
    def __init__(self, text: bytes) -> None:
        lines = text.decode("latin-1").split("\r\n")
        self.text = text
        self.status = int(lines[0].split(" ")[1])
        self.fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }

    def keeps_alive(self) -> bool:
        return self.fields.get("connection", "").lower() != "close"


class Wire:
    def __init__(self) -> None:
        self.requests_count = 0

    async def open(self, port: int) -> None:
        """Raises `OSError` where there is no connection."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port, limit=HEAD_BYTES_MAX)

    def is_ended(self) -> bool:
        """Tells whether the gateway has closed it: no client asks on such a connection."""
        return self.reader.at_eof() or self.writer.transport.is_closing()

    async def send(self, content: bytes) -> None:
        """What a gateway that ends the connection no longer takes is no error here: its answer may be there."""
        if self.writer.transport.is_closing():
            return
        try:
            self.writer.write(content)
            await self.writer.drain()
        except OSError:
            pass

    async def head(self) -> Head:
        while True:
            try:
                head = Head(await self.reader.readuntil(b"\r\n\r\n"))
            except asyncio.IncompleteReadError as left:
                raise Cut("end", has_begun=bool(left.partial)) from None
            except OSError as error:
                raise Cut(type(error).__name__) from None
            if head.status >= 200 or head.status == 101:
                return head

    async def body(self, head: Head, pause: float = 0.0, enough: int = BODY_BYTES_MAX) -> bytes:
        """Reads to the end, or until there is enough of it."""
        content = bytearray()
        try:
            if head.fields.get("transfer-encoding") == "chunked":
                while len(content) < enough:
                    size = int(await self.reader.readuntil(b"\r\n"), 16)
                    await self._read(content, size, pause)
                    await self.reader.readexactly(2)
                    if size == 0:
                        break
            elif "content-length" in head.fields:
                await self._read(content, min(enough, int(head.fields["content-length"])), pause)
            else:
                while len(content) < enough and (piece := await self.reader.read(65536)):
                    content += piece
        except asyncio.IncompleteReadError as left:
            raise Cut("end", bytes(content) + left.partial, True) from None
        except OSError as error:
            raise Cut(type(error).__name__, bytes(content), True) from None
        return bytes(content)

    async def _read(self, content: bytearray, size: int, pause: float) -> None:
        """Adds to `content` also what came before the end, if that comes too early."""
        while size:
            piece = await self.reader.read(min(size, 4096 if pause else 65536))
            if not piece:
                raise asyncio.IncompleteReadError(b"", size)
            content += piece
            size -= len(piece)
            if pause:
                await asyncio.sleep(pause)

    def read_slowly(self) -> None:
        """Makes the kernel's buffer for what arrives so small that a reader that pauses is felt by who writes."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def leave(self, is_abrupt: bool = False) -> None:
        if is_abrupt:
            connection = self.writer.get_extra_info("socket")
            if connection is not None and connection.fileno() >= 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        else:
            self.writer.close()


def request(method: str, target: str, fields: list[tuple[str, str]]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n".encode()


def chunked(body: bytes, size: int) -> bytes:
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
