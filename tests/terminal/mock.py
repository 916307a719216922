#!/usr/bin/env python3
"""The admin pages of a made-up gateway, for tests of `flow-uring top`: its state, and its credentials, which can be woken.

    mock.py [PORT]     prints the port, and ends with its standard input
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

STARTED = time.time() - 3700
RESTING = {"team-b"}


def state():
    now = time.time()

    def credential(name):
        rests = [{"scope": "model", "what": "gpt-4o", "reason": "rate_limited", "ends_in": 75.5}] if name in RESTING else []
        return {"name": name, "weight": 1, "state": "limited" if rests else "up", "rest": (rests or [None])[0],
                "rests": rests, "requests": 40, "errors": 1, "share": 0.5}

    exchanges = [
        {"id": f"0-{number}", "request_id": "r", "at": now - number, "method": "POST", "path": f"/v1/messages/{number}",
         "status": 429 if number % 10 == 3 else 200, "end": "ok", "code": None, "credential": "team-a", "key": None,
         "model": "claude", "attempts": 1, "ttfb_ms": 410.5, "duration_ms": 3000.0, "tokens_in": 10, "tokens_out": 20,
         "cost_usd": 0.001, "cost_is_reported": True}
        for number in range(100)
    ]
    return {
        "version": "0.1.0", "started": STARTED, "now": now, "base_url": "http://127.0.0.1:8899", "stage": "serving",
        "upstream": "https://flow.example", "driver": "io_uring", "shards": {"count": 2, "answering": 2},
        "now_figures": {"requests_per_second": 1.5, "time_to_first_byte_p50": 0.4, "time_to_first_byte_p95": 2.1,
                        "open_streams": 1, "open_exchanges": 2, "errors_per_second": 0.0, "output_tokens_per_second": 80.1},
        "totals": {"requests": 123}, "history": {"step": 5, "end": now, "requests": [number % 17 for number in range(180)]},
        "cost": {"today": {"requests": 3, "reported_usd": 1.25, "estimated_usd": 0.0}},
        "credentials": [credential(name) for name in ("team-a", "team-b", "a/b c")],
        "streams": [{"id": "0-1", "age": 3.2, "model": "gpt-4o", "credential": "team-a", "path": "/v1/chat/completions",
                     "tokens_so_far": 120}],
        "streams_count": 1, "exchanges": exchanges,
    }


class Pages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        token = os.environ.get("MOCK_TOKEN")
        if token and self.headers["Authorization"] != f"Bearer {token}":
            self.answer(401, {})
        elif self.path == "/api/state":
            self.answer(200, state())
        else:
            self.answer(404, {})

    def do_POST(self):
        parts = self.path.split("/")
        name = unquote(parts[3]) if len(parts) == 5 and parts[4] == "wake" else None
        is_woken = name in RESTING
        RESTING.discard(name)
        self.answer(200 if name else 404, {"woken": is_woken})

    def log_message(self, *_):
        pass


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Pages)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
