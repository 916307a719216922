"""The clients of event streams: they open many, note when each event arrives, and leave in mid-stream.

One thread, epoll. A stream knows its upstream connection by the number in its events (upstream.py), which is how what a
client did is matched with what the upstream saw.
"""

import re
import select
import socket
import ssl
import time
import urllib.parse

BODY = b'{"model":"measured","messages":[{"role":"user","content":"Hello there"}],"stream":true}'
REQUEST = (b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nAuthorization: Bearer any\r\n"
           b"X-Api-Key: any\r\nContent-Length: %d\r\n\r\n%b")
SENT = re.compile(rb"@(\d+)\.(\d+)@")
# Longer than what `SENT` finds: of an event that has come in part no more need be kept.
REST_BYTES_MAX = 64
ANSWERED = (b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")
# Requests that wait for the head of their answer: each may be a TLS handshake with the upstream.
UNANSWERED_MAX = 64
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Target:
    """Where streams are asked for, and what is known of them."""

    def __init__(self, name, url):
        self.name = name
        parts = urllib.parse.urlsplit(url)
        self.address = (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        self.tls = None
        if parts.scheme == "https":
            # All of it is on this machine.
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.tls.check_hostname = False
            self.tls.verify_mode = ssl.CERT_NONE
        self.request = REQUEST % (parts.path.encode(), parts.netloc.encode(), len(BODY), BODY)
        self.streams = set()
        # Nanoseconds from sending to arrival, of each event.
        self.delays = []


class Stream:
    __slots__ = ("socket", "target", "number", "rest", "is_answered")

    def __init__(self, connected, target):
        self.socket = connected
        self.target = target
        self.number = None
        self.rest = b""
        self.is_answered = False


class Readers:
    """All clients, of all targets."""

    def __init__(self):
        self.epoll = select.epoll()
        self.streams = {}
        self.buffer = bytearray(64 * 1024)
        self.unanswered = 0
        self.failure = None

    def open(self, target, count, seconds_max):
        """Opens that many streams, and waits until all are answered."""
        until = time.monotonic() + seconds_max
        for _ in range(count):
            self.start(target)
            while self.unanswered >= UNANSWERED_MAX:
                self.check(until)
        while self.unanswered:
            self.check(until)

    def check(self, until):
        self.turn(1)
        if self.failure or time.monotonic() > until:
            raise SystemExit(f"not all streams could be opened: {self.failure or 'no answer in time'}")

    def start(self, target):
        try:
            connected = socket.create_connection(target.address, timeout=30)
        except OSError as error:
            raise SystemExit(f"{target.name}: no connection: {error}") from None
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.tls:
            connected = target.tls.wrap_socket(connected)
        connected.sendall(target.request)
        connected.setblocking(False)
        stream = Stream(connected, target)
        self.streams[connected.fileno()] = stream
        target.streams.add(stream)
        self.unanswered += 1
        self.epoll.register(connected, select.EPOLLIN)

    def turn(self, seconds):
        """Reads what has come, and waits for it so long."""
        for descriptor, _ in self.epoll.poll(seconds):
            stream = self.streams.get(descriptor)
            if stream:
                self.read(stream)

    def read(self, stream):
        try:
            while count := stream.socket.recv_into(self.buffer):
                self.take(stream, count, time.monotonic_ns())
                # Of TLS a whole record has been read, and nothing beyond it.
                if not stream.target.tls or not stream.socket.pending():
                    return
            self.fail(stream, "a stream has ended early")
        except WOULD_BLOCK:
            pass
        except OSError as error:
            self.fail(stream, f"a stream has ended early: {error}")

    def fail(self, stream, failure):
        self.failure = f"{stream.target.name}: {failure}"
        self.leave(stream)

    def take(self, stream, count, now):
        received = self.buffer
        if stream.rest:
            received = stream.rest + self.buffer[:count]
            count = len(received)
        if not stream.is_answered:
            if not received.startswith(ANSWERED):
                return self.fail(stream, f"refused: {bytes(received[:count])}")
            stream.is_answered = True
            self.unanswered -= 1
        taken = 0
        for found in SENT.finditer(received, 0, count):
            stream.target.delays.append(now - int(found[1]))
            stream.number = int(found[2])
            taken = found.end()
        stream.rest = bytes(received[max(taken, count - REST_BYTES_MAX):count]) if taken < count else b""

    def leave(self, stream):
        """Closes the connection, and returns when it did: in nanoseconds, of the clock that events carry."""
        if not stream.is_answered:
            self.unanswered -= 1
        del self.streams[stream.socket.fileno()]
        stream.target.streams.discard(stream)
        self.epoll.unregister(stream.socket)
        now = time.monotonic_ns()
        stream.socket.close()
        return now
