"""The clients of overload.py: each has a request when it is due, and gives up after a while."""

import collections
import errno
import heapq
import select
import socket
import time

BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"' + b"Words of a prompt. " * 40 + b'"}]}'
STREAM_BODY = BODY[:-1] + b',"stream":true}'
# A client that has no answer by then gives up, and closes its connection.
PATIENCE_SECONDS = 3
# What SDKs wait for after a refusal that does not say it.
PAUSE_SECONDS = 0.5
# Each of the loopback's addresses has ports of its own.
SOURCES = [f"127.0.0.{number}" for number in range(2, 18)]
IP_BIND_ADDRESS_NO_PORT = 24


def asked(body):
    return (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer any\r\nContent-Length: %d\r\n\r\n" % len(body)) + body


class Request:
    """One request of a client, from the moment at which it was due."""

    __slots__ = ("due", "socket", "received", "fresh", "sent", "first")

    def __init__(self, due, connection, fresh):
        self.due, self.socket, self.fresh, self.received, self.sent = due, connection, fresh, b"", False
        self.first = None


class Outcome:
    """How a request ended, and when that was decided."""

    __slots__ = ("due", "seconds", "kind", "pause")

    def __init__(self, due, seconds, kind, pause=0.0):
        self.due, self.seconds, self.kind, self.pause = due, seconds, kind, pause


class Clients:
    """Clients of one gateway: one thread, epoll, plain HTTP/1.1."""

    def __init__(self, port, load, patience=PATIENCE_SECONDS):
        self.port, self.keeps, self.patience_seconds = port, load != "fresh", patience
        self.request = asked(STREAM_BODY if load == "streams" else BODY)
        self.epoll = select.epoll()
        self.open = {}
        self.patience = collections.deque()
        self.free = collections.deque()
        self.outcomes = []
        self.source = 0
        self.on_end = None

    def begin(self, due, connection=None):
        """Sends the request that was due then, on `connection`, on one that is free, or on a new one."""
        if connection is None and self.keeps and self.free:
            connection = self.free.pop()
        if connection is not None:
            request = Request(due, connection, False)
            self.watch(request, select.EPOLLIN, False)
            return self.send(request)
        connection = socket.socket()
        connection.setblocking(False)
        # So that a port is chosen when both ends are known, and not one that no other connection has.
        connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        self.source = (self.source + 1) % len(SOURCES)
        connection.bind((SOURCES[self.source], 0))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        failed = connection.connect_ex(("127.0.0.1", self.port))
        request = Request(due, connection, True)
        if failed not in (0, errno.EINPROGRESS):
            return self.end(request, "connect", False)
        self.watch(request, select.EPOLLOUT, True)

    def watch(self, request, events, is_new):
        self.open[request.socket.fileno()] = request
        self.patience.append(request)
        if is_new:
            self.epoll.register(request.socket, events)

    def send(self, request):
        try:
            request.socket.send(self.request)
            request.sent = True
        except BlockingIOError:
            raise SystemExit("a request did not fit into a socket")
        except OSError:
            self.end(request, "stale" if not request.fresh else "reset", False)

    def turn(self, seconds):
        for descriptor, events in self.epoll.poll(seconds):
            request = self.open.get(descriptor)
            if request is None:
                # A connection that was kept has been closed.
                self.forget_free(descriptor)
            elif not request.sent:
                if events & (select.EPOLLERR | select.EPOLLHUP):
                    self.end(request, "connect", False)
                    continue
                self.epoll.modify(descriptor, select.EPOLLIN)
                self.send(request)
            else:
                self.read(request)
        now = time.monotonic()
        while self.patience and (self.patience[0].socket is None or self.patience[0].due + self.patience_seconds <= now):
            request = self.patience.popleft()
            # A stream that has begun is read to its end.
            if request.socket is not None and not request.first:
                self.end(request, "timeout", False)

    def forget_free(self, descriptor):
        for connection in self.free:
            if connection.fileno() == descriptor:
                self.free.remove(connection)
                self.epoll.unregister(connection)
                connection.close()
                return

    def read(self, request):
        try:
            received = request.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            return self.end(request, "reset", False)
        if not received:
            # A keep-alive connection may be closed by the server at any time: a client then tries again.
            stale = not request.fresh and not request.received
            return self.end(request, "stale" if stale else "closed", False)
        request.first = request.first or time.monotonic()
        request.received += received
        head_end = request.received.find(b"\r\n\r\n") + 4
        if head_end < 4:
            return
        head = request.received[:head_end].lower()
        keeps = self.keeps and b"\r\nconnection: close" not in head
        if b"\r\ntransfer-encoding: chunked" in head:
            if request.received.endswith(b"\r\n0\r\n\r\n"):
                self.end(request, "ok", keeps)
            return
        if b"\r\ncontent-length:" not in head:
            # The page of an error: its connection closes.
            if not head.startswith(b"http/1.1 2"):
                self.end(request, head[9:12].decode(), False)
            return
        length = int(head.split(b"\r\ncontent-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(request.received) < head_end + length:
            return
        pause = 0.0
        if b"\r\nretry-after:" in head:
            pause = float(head.split(b"\r\nretry-after:", 1)[1].split(b"\r\n", 1)[0])
        status = head[9:12].decode()
        self.end(request, "ok" if status == "200" else status, keeps, pause)

    def end(self, request, kind, keeps, pause=0.0):
        connection, request.socket = request.socket, None
        self.open.pop(connection.fileno(), None)
        # Of a streamed answer the time to its first byte counts.
        now = request.first if kind == "ok" else time.monotonic()
        if keeps:
            self.free.append(connection)
        else:
            connection.close()
        if kind == "stale":
            return self.begin(request.due)
        outcome = Outcome(request.due, now - request.due, kind, pause)
        self.outcomes.append(outcome)
        if self.on_end:
            self.on_end(outcome)


def offer(clients, begins, ends, rate):
    """An open loop: requests are due at this rate, whatever becomes of those before them."""
    due, step, latest = begins, 1 / rate, 0.0
    while due < ends:
        now = time.monotonic()
        count = 0
        while due <= now and due < ends and count < 64:
            latest = max(latest, now - due)
            clients.begin(due)
            due += step
            count += 1
        clients.turn(0 if due <= now else min(due - now, 0.01))
    return latest


def press(clients, ends, count):
    """A closed loop: so many clients, each of which sends its next request when it has an answer. One that is refused
    waits as long as it is told, or as long as SDKs wait."""
    waiting = []

    def go_on(outcome):
        now = time.monotonic()
        pause = 0 if outcome.kind == "ok" else outcome.pause or PAUSE_SECONDS
        heapq.heappush(waiting, now + pause)

    clients.on_end = go_on
    for _ in range(count):
        heapq.heappush(waiting, time.monotonic())
    while time.monotonic() < ends:
        now = time.monotonic()
        begun = 0
        while waiting and waiting[0] <= now and begun < 64:
            clients.begin(heapq.heappop(waiting))
            begun += 1
        clients.turn(0.001 if waiting and waiting[0] <= now + 0.001 else 0.01)
    clients.on_end = None


def percentile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")
