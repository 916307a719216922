"""An upstream that dies at a given byte of a streamed turn, in one of the ways in which upstreams die.

Models, for each dialect of `turns`:
    whole               the whole turn
    silent-first        likewise, with a silence of SILENT_SECONDS between the head and the first event
    silent              likewise, with the silence after the first event
    KIND-BYTES          dies after so many bytes of the turn; KIND is one of KINDS
    late-KIND-BYTES     likewise, but after a pause longer than a gateway may hold a stream's opening back
    closed              dies before any byte of the answer
"""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import json
import os
import re
import socket
import ssl
import struct
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from turns import turn_of

BASE_PATH = "/flow-llm-proxy"

# Ways to die, by whether TLS is needed: a close in an open chunk, a reset between chunks; under TLS both ends of the
# connection are closed without close_notify, in an open chunk, and with a body that has no length at all.
PLAIN_KINDS = ("fin", "rst")
TLS_KINDS = ("cut", "eof")
KINDS = PLAIN_KINDS + TLS_KINDS

# A gateway may hold a stream's opening back for 250 ms.
LATE_SECONDS = 0.4
# Longer than the gateway of the matrix lets a stream be silent.
SILENT_SECONDS = 1.5
# After how many events a model is silent.
SILENT_AFTER = {"silent-first": 0, "silent": 1}
# So that what was written is on its way before the connection is reset.
RESET_SECONDS = 0.01


class BreakingUpstream(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, tls: ssl.SSLContext | None = None, handler: type | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler or Handler)
        self._tls = tls

    def start(self) -> str:
        """Returns the URL to give to the gateway."""
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.server_port}{BASE_PATH}"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def get_request(self):
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            # The handshake is left to the thread of the connection.
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def shutdown_request(self, request) -> None:
        """Closes without a FIN of its own before it, which would come before a reset, and without close_notify."""
        self.close_request(request)

    def handle_error(self, *_) -> None:
        """Says nothing: a gateway that leaves is not an error of this upstream."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = re.search(r"/models/([^/:]+):", self.path)
        model = found.group(1) if found else body["model"]
        if model == "closed":
            self.close_connection = True
            return
        found = re.fullmatch(r"(late-)?(\w+)-(\d+)", model)
        self.head(found.group(2) if found else "fin")
        if not found:
            turn = turn_of(self.path)
            count = SILENT_AFTER.get(model, len(turn))
            self.events(turn[:count])
            time.sleep(SILENT_SECONDS if model in SILENT_AFTER else 0)
            self.events(turn[count:])
            self.wfile.write(b"0\r\n\r\n")
            return
        self.die(found.group(2), int(found.group(3)), LATE_SECONDS if found.group(1) else 0)

    def head(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        if kind == "eof":
            self.send_header("connection", "close")
        else:
            self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def events(self, events: list[bytes]) -> None:
        for event in events:
            self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")

    def die(self, kind: str, count: int, pause: float) -> None:
        turn = turn_of(self.path)
        whole = []
        while turn and count >= len(turn[0]):
            count -= len(turn[0])
            whole.append(turn.pop(0))
        half = turn[0][:count] if turn else b""
        if kind == "eof":
            self.wfile.write(b"".join(whole) + half)
        else:
            self.events(whole)
            if half and kind == "rst":
                self.events([half])
            elif half:
                self.wfile.write(f"{len(turn[0]):x}\r\n".encode() + half)
        time.sleep(pause)
        if kind == "rst":
            time.sleep(RESET_SECONDS)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, *_) -> None:
        """Says nothing."""


def tls_context(directory: str) -> tuple[ssl.SSLContext, str]:
    """A server's context with a certificate of its own, and the file to trust it by."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "checks")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file = os.path.join(directory, "certificate.pem")
    key_file = os.path.join(directory, "key.pem")
    with open(certificate_file, "wb") as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM))
    with open(key_file, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    return context, certificate_file
