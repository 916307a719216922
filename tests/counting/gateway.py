"""Starts gateways that keep their usage in a file, and asks them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import urllib.request

from answers import Answer

DEFAULT_BINARY = os.path.join(os.path.dirname(__file__), "..", "..", "target", "release", "flow-uring")

# What none of them takes, even on a busy machine.
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60
ANSWER_SECONDS_MAX = 90

# The client's identity is what the upstream knows a credential by.
CREDENTIALS = {"client-a": "team-a", "client-b": "team-b"}
KEYS = {"alice": "made-up-key-of-alice", "bob": "made-up-key-of-bob"}

# In what the gateway prints when it is ready.
PORT = re.compile(r"ANTHROPIC_BASE_URL=http://[^\s/:]+:([1-9][0-9]*)")
ADMIN = re.compile(r"^\s+admin\s+(http://\S+)", re.M)


def binary() -> str:
    return os.path.abspath(os.environ.get("FLOW_URING_BIN") or DEFAULT_BINARY)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Place:
    """A directory with what gateways share: credentials, prices, the file with the usage."""

    def __init__(self, prices: dict | None = None) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="flow-uring-usage-")
        self.path = self._directory.name
        self.usage_db = os.path.join(self.path, "usage.sqlite")
        secrets = [
            {"name": name, "clientId": client, "clientSecret": f"made-up-secret-of-{client}", "tenant": "nowhere"}
            for client, name in CREDENTIALS.items()
        ]
        self.write("secrets.json", secrets)
        self._prices: dict[str, str] = {}
        if prices is not None:
            self.write("prices.json", prices)
            self._prices["FLOW_PROXY_PRICES"] = "prices.json"

    def write(self, name: str, value: object) -> None:
        with open(os.path.join(self.path, name), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            json.dump(value, file)

    def environment(self) -> dict[str, str]:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("FLOW_", "HTTPS_PROXY"))
        }
        return (
            environment
            | self._prices
            | {
                "XDG_RUNTIME_DIR": self.path,
                "FLOW_PROXY_API_KEYS": ",".join(f"{name}:{key}" for name, key in KEYS.items()),
                "FLOW_PROXY_USAGE_DB": self.usage_db,
            }
        )

    def usage(self, *arguments: str) -> str:
        """What `flow-uring usage` prints."""
        command = [binary(), "usage", *arguments]
        return subprocess.run(
            command,
            cwd=self.path,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=STOP_SECONDS_MAX,
        ).stdout

    def clean(self) -> None:
        self._directory.cleanup()


class Gateway:
    def __init__(self, place: Place, upstream: str, *arguments: str, port: int = 0, command: str | None = None) -> None:
        self.output: list[str] = []
        self._is_ready = threading.Event()
        # A command is asked without a key.
        keys = {} if command is None else {"FLOW_PROXY_API_KEYS": ""}
        words = [] if command is None else [command]
        flags = ["--port", str(port), "--admin", "127.0.0.1:0", "--shards", "2", "--upstream", upstream]
        self._process = subprocess.Popen(
            [binary(), *words, *flags, *arguments],
            cwd=place.path,
            env=place.environment() | keys,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._is_ready.wait(START_SECONDS_MAX)
        text = "".join(self.output)
        listening = PORT.search(text)
        if listening is None:
            self.kill()
            raise RuntimeError(f"{binary()} printed no address to connect to:\n{''.join(self.output)}")
        self.port = int(listening[1])
        admin = ADMIN.search(text)
        self.admin = admin[1] if admin else None

    def _read(self) -> None:
        for line in self._process.stdout:
            self.output.append(line)
            if PORT.search(line):
                self._is_ready.set()
        self._is_ready.set()

    def stop(self) -> int:
        """Asks it to end as an operator would, and returns its exit code."""
        self.ask_to_stop()
        return self.ended()

    def ask_to_stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Waits for its end."""
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOP_SECONDS_MAX)
        return self._process.returncode

    def kill(self) -> bool:
        """Returns False where it had ended by itself before."""
        self._process.kill()
        code = self._process.wait()
        self._reader.join(STOP_SECONDS_MAX)
        return code == -signal.SIGKILL

    def exchanges(self) -> list[dict]:
        """What it has logged of its exchanges, with `--log-format json`."""
        lines = (json.loads(line) for line in self.output if line.startswith("{"))
        return [line for line in lines if line.get("message") == "exchange"]

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """All of the metrics page: the value of each name and labels."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=ANSWER_SECONDS_MAX) as page:
            return dict(sample(line) for line in page.read().decode().splitlines() if line and not line.startswith("#"))


LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')
ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def sample(line: str) -> tuple[tuple[str, tuple[tuple[str, str], ...]], float]:
    name, _, rest = line.partition("{")
    if not rest:
        name, _, value = line.partition(" ")
        return (name, ()), float(value)
    labels = LABEL.findall(rest[: rest.rindex("}")])
    plain = tuple(
        sorted((label, re.sub(r'\\[\\"n]', lambda found: ESCAPES[found[0]], value)) for label, value in labels)
    )
    return (name, plain), float(rest[rest.rindex("}") + 1 :].split()[0])


def ask(port: int, identity: str, key: str, answer: Answer, timeout: float = ANSWER_SECONDS_MAX) -> bytes:
    """The body as the client sees it, of which it reads only so much as the answer says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        request = {
            "model": answer.model,
            "stream": answer.is_stream,
            "messages": [{"role": "user", "content": "?" * (len(identity) * 7)}],
        }
        fields = {"x-request-id": identity, "content-type": "application/json"}
        fields |= (
            {"x-api-key": KEYS[key]}
            if answer.path.startswith("/v1/messages")
            else {"authorization": f"Bearer {KEYS[key]}"}
        )
        if answer.is_coded:
            fields["accept-encoding"] = "gzip"
        connection.request("POST", answer.path, json.dumps(request).encode(), fields)
        response = connection.getresponse()
        assert response.status == 200, f"status {response.status}: {response.read()[:300]!r}"
        if answer.left_at is None:
            return response.read()
        body = b""
        while len(body) < answer.left_at:
            piece = response.read1(answer.left_at - len(body))
            assert piece, f"the answer has ended after {len(body)} bytes"
            body += piece
        return body
    except http.client.IncompleteRead as broken:
        return broken.partial
    finally:
        connection.close()
