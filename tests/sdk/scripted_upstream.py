"""An upstream on plain HTTP that does what the request's model names: dies in mid-stream, closes unasked, or refuses.

Models, for any of the three streaming APIs:
    whole                   all events, and the chunked framing ends as it should
    cut-PLACE               three whole events, then the connection closes at PLACE (see CUTS), without a last chunk
    closed                  the connection closes before any byte of an answer
    status-CODE             an error of that status, whose body and fields are `error_body` and `ERROR_FIELDS`
"""

from __future__ import annotations

import http.server
import json
import threading

from turns import turn_of

BASE_PATH = "/flow-llm-proxy"

# How many events come before the one that is cut.
WHOLE_EVENTS = 3

# What is sent of the next event's bytes before the cut, and how many bytes more than that its chunk promised.
CUTS = {
    "between-events": (lambda event: b"", 0),
    "in-field-name": (lambda event: event[:2], 0),
    # Of an event without a name line, which is nothing.
    "before-data": (lambda event: event[: event.index(b"data")], 0),
    "before-blank-line": (lambda event: event[:-1], 0),
    "in-data": (lambda event: event[: event.index(b"{") + 12], 0),
    "in-chunk": (lambda event: event[:2], 300),
    # After the event that ends the turn.
    "after-end": (None, 0),
}

ERROR_FIELDS = {"content-type": "application/json; charset=utf-8", "x-litellm-call-id": "Call-1", "retry-after": "7"}


def error_body(status: int) -> bytes:
    """Spaces, line ends and letters that a parser would not give back as they were."""
    return (
        f'{{ "error" :{{"message": "litellm.Error: n\u00e3o, \\u00e9 {status}","type":null,  "param":null,\r\n'
        f'"code":"{status}"}} }}\n'
    ).encode()


class ScriptedUpstream:
    def __init__(self) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.requests_count = 0

    def start(self) -> str:
        """Returns the URL to give to the gateway."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}{BASE_PATH}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def requests_count(self) -> int:
        """Of those that said how long their body is."""
        return self._server.requests_count


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self) -> None:
        if "Content-Length" not in self.headers:
            # A chunked body comes from the one check whose upload is refused on its way: it never comes whole. Its head
            # may be read here long after the client has its answer, so nobody counts it.
            while self.rfile.read(65536):
                pass
            self.close_connection = True
            return
        self.server.requests_count += 1
        model = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"]
        kind, _, detail = model.partition("-")
        if kind == "closed":
            self.close_connection = True
        elif kind == "status":
            self.refuse(int(detail))
        else:
            self.stream(None if kind == "whole" else detail)

    def refuse(self, status: int) -> None:
        body = error_body(status)
        self.send_response(status)
        for name, value in ERROR_FIELDS.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, cut: str | None) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        events = events_of(self.path)
        if cut is None or cut == "after-end":
            for event in events:
                self.chunk(event)
            if cut is None:
                self.wfile.write(b"0\r\n\r\n")
        else:
            for event in events[:WHOLE_EVENTS]:
                self.chunk(event)
            take, missing = CUTS[cut]
            self.chunk(take(events[WHOLE_EVENTS]), missing)
        self.close_connection = cut is not None

    def chunk(self, data: bytes, missing: int = 0) -> None:
        if data:
            self.wfile.write(f"{len(data) + missing:x}\r\n".encode() + data + (b"" if missing else b"\r\n"))
        self.wfile.flush()

    def log_message(self, *_) -> None:
        """Says nothing."""


def events_of(path: str) -> list[bytes]:
    """A whole turn of the API at `path`, less the pings, which SDKs keep to themselves."""
    return [event for event in turn_of(path) if not event.startswith(b"event: ping")]
