"""An upstream on loopback that answers with event streams, and tells when they were left.

Its invariant: it sends an event only when it is told to (`send`), and answers a request for no stream at once, or, while
`holds_answers`, when it is told to (`answer_held`): so that a caller decides what arrives at the same time. One thread,
epoll, TLS or plain HTTP/1.1. What measures, and what reads the streams, is not here.
"""

import errno
import select
import socket
import ssl
import time

# One event as an OpenAI chunk, so that gateways which read and write the JSON anew keep what it says: when it was sent
# (CLOCK_MONOTONIC, in nanoseconds, which is the same clock in all processes of a machine), and on which connection.
EVENT = (b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":1700000000,"model":"measured",'
         b'"choices":[{"index":0,"delta":{"content":"@%d.%d@"},"finish_reason":null}]}\n\n')
STREAM_HEAD = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
               b"Transfer-Encoding: chunked\r\n\r\n")
ANSWER_BODY = (b'{"id":"chatcmpl-0","object":"chat.completion","created":1700000000,"model":"measured","choices":[{"index":0,'
               b'"message":{"role":"assistant","content":"' + b"Words of an answer. " * 20 + b'"},"finish_reason":"stop"}]}')
ANSWER = (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER_BODY)) + ANSWER_BODY
# A request of more is none of those that are sent here.
REQUEST_BYTES_MAX = 64 * 1024
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Connection:
    """One connection of a gateway, from its handshake to its end."""

    __slots__ = ("socket", "number", "received", "is_shaking_hands")

    def __init__(self, accepted, number, is_tls):
        self.socket = accepted
        self.number = number
        self.received = b""
        self.is_shaking_hands = is_tls


class Upstream:
    """Listens on `port` (0: any free one), with TLS if there are a certificate and a key."""

    def __init__(self, port=0, certificate=None, key=None):
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.tls = None
        if certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(certificate, key)
        self.epoll = select.epoll()
        self.epoll.register(self.listener, select.EPOLLIN)
        self.connections = {}
        self.streams = {}
        self.departures = {}
        self.held = []
        self.holds_answers = False
        self.accepted = 0
        self.failure = None

    def turn(self, seconds):
        """Does what there is to do, and waits for it so long."""
        for descriptor, _ in self.epoll.poll(seconds):
            if descriptor == self.listener.fileno():
                self.accept()
            elif descriptor in self.connections:
                self.read(self.connections[descriptor])

    def accept(self):
        while True:
            try:
                accepted, _ = self.listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Without descriptors left it would be tried again without a pause.
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    raise
                continue
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                accepted = self.tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
            self.accepted += 1
            connection = Connection(accepted, self.accepted, bool(self.tls))
            self.connections[accepted.fileno()] = connection
            self.epoll.register(accepted, select.EPOLLIN | select.EPOLLRDHUP)

    def read(self, connection):
        try:
            if connection.is_shaking_hands:
                connection.socket.do_handshake()
                connection.is_shaking_hands = False
            while received := connection.socket.recv(65536):
                connection.received += received
                if connection.number in self.streams or len(connection.received) > REQUEST_BYTES_MAX:
                    self.failure = "a client sent what is no request"
                    break
                self.answer_requests(connection)
            self.close(connection)
        except WOULD_BLOCK:
            pass
        except OSError as error:
            # The gateway's certificate check, for one: else nothing would say so.
            if connection.is_shaking_hands:
                self.failure = f"a TLS handshake failed: {error}"
            self.close(connection)

    def close(self, connection):
        if self.streams.pop(connection.number, None):
            self.departures[connection.number] = time.monotonic_ns()
        if connection in self.held:
            self.held.remove(connection)
        del self.connections[connection.socket.fileno()]
        self.epoll.unregister(connection.socket)
        connection.socket.close()

    def answer_requests(self, connection):
        while (length := request_length(connection.received)) is not None:
            request, connection.received = connection.received[:length], connection.received[length:]
            if b'"stream":true' in request.replace(b" ", b""):
                connection.socket.sendall(STREAM_HEAD)
                self.streams[connection.number] = connection
            else:
                self.held.append(connection)
        if not self.holds_answers:
            self.answer_held()

    def answer_held(self):
        held = list(self.held)
        self.held.clear()
        for connection in held:
            connection.socket.sendall(ANSWER)

    def send(self, connection):
        """Sends an event. A stream whose reader has fallen so far behind that none fits ends."""
        event = EVENT % (time.monotonic_ns(), connection.number)
        try:
            connection.socket.sendall(b"%x\r\n%b\r\n" % (len(event), event))
            return True
        except OSError as error:
            if isinstance(error, WOULD_BLOCK):
                self.failure = "a stream was not read for so long that its socket is full"
            self.close(connection)
            return False


def request_length(received):
    """The length of the first request, or None as long as it is not whole."""
    head_end = received.find(b"\r\n\r\n") + 4
    if head_end < 4:
        return None
    head = received[:head_end].lower()
    if b"\r\ntransfer-encoding: chunked\r\n" in head:
        body_end = received.find(b"0\r\n\r\n", head_end) + 5
        return body_end if body_end >= 5 else None
    body_bytes = 0
    if b"\r\ncontent-length:" in head:
        body_bytes = int(head.split(b"\r\ncontent-length:", 1)[1].split(b"\r\n", 1)[0])
    return head_end + body_bytes if len(received) >= head_end + body_bytes else None
