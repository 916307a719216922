#!/usr/bin/env python3
"""The static program in an empty root, in a network with a resolver of its own.

To be run as root, which it needs for a network of its own and for the empty root. The root's nsswitch.conf names modules
alone, which a program with the C library within it must not load; the name of the upstream is known to the resolver alone.

    unshare --net python3 tests/packages/names.py PROGRAM
"""

from __future__ import annotations

import http.server
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

NAME = "upstream.test"
ADDRESS = "127.0.0.2"
PORT = 8000
TYPE_A = 1
PATIENCE_SECONDS = 20


class Resolver(threading.Thread):
    """Knows one name (RFC 1035 §4)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        self.asked: set[str] = set()

    def run(self) -> None:
        while True:
            query, client = self._socket.recvfrom(512)
            labels, place = [], 12
            while query[place]:
                labels.append(query[place + 1 : place + 1 + query[place]].decode())
                place += 1 + query[place]
            name, kind = ".".join(labels), int.from_bytes(query[place + 1 : place + 3])
            self.asked.add(name)
            question = query[12 : place + 5]
            answers = b""
            if name == NAME and kind == TYPE_A:
                answers = b"\xc0\x0c\x00\x01\x00\x01" + (5).to_bytes(4) + b"\x00\x04" + socket.inet_aton(ADDRESS)
            flags = b"\x81\x80" if name == NAME else b"\x81\x83"
            counts = b"\x00\x01" + (1 if answers else 0).to_bytes(2) + bytes(4)
            self._socket.sendto(query[:2] + flags + counts + question + answers, client)


class Answering(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"object":"list","data":[]}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def empty_root(program: pathlib.Path, folder: pathlib.Path) -> None:
    shutil.copy(program, folder / "flow-uring")
    (folder / "etc").mkdir()
    (folder / "etc" / "nsswitch.conf").write_text("hosts: mdns4_minimal resolve\n")
    (folder / "etc" / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:2\n")
    secrets = folder / "secrets.json"
    secrets.touch(0o600)
    entry = {"name": "a", "clientId": "a", "clientSecret": "made-up-for-a-test", "tenant": "nowhere"}
    secrets.write_text(json.dumps([entry]))


def main() -> int:
    program = pathlib.Path(sys.argv[1])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    resolver = Resolver()
    resolver.start()
    upstream = http.server.ThreadingHTTPServer((ADDRESS, PORT), Answering)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="flow-uring-empty-") as name:
        folder = pathlib.Path(name)
        empty_root(program, folder)
        inside = ["chroot", name, "/flow-uring"]
        settings = ["--upstream", f"http://{NAME}:{PORT}/x", "--allow-plain-upstream", "--usage-db", "off"]
        gateway = subprocess.Popen([*inside, *settings], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            until = time.monotonic() + PATIENCE_SECONDS
            while subprocess.run([*inside, "healthcheck"], capture_output=True).returncode != 0:
                if time.monotonic() > until:
                    raise SystemExit(f"the gateway does not come up: {gateway.communicate(timeout=5)}")
                time.sleep(0.1)
            with urllib.request.urlopen("http://127.0.0.1:8899/v1/models", timeout=PATIENCE_SECONDS) as answer:
                status = answer.status
        finally:
            gateway.terminate()
            log = gateway.communicate(timeout=PATIENCE_SECONDS)[1]
    print(f"an answer of {NAME}, which only the resolver knows: {status}; exit code {gateway.returncode}")
    is_well = status == 200 and gateway.returncode == 0 and NAME in resolver.asked
    if not is_well:
        print(log)
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
