"""Starts `flow-uring` on a free port, keeps what it prints, and ends that one process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import threading

# What neither takes, even on a busy machine.
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60

# What the banner says to paste.
LISTENING = re.compile(r"ANTHROPIC_BASE_URL=https?://[^\s/:]+:([1-9][0-9]*)")

# For a gateway in front of an upstream of these checks. `run.py` looks for the secret in what it prints.
SECRET = "made-up-secret-of-the-sdk-checks-not-a-real-one"
CREDENTIALS = [{"name": "checks", "clientId": "sdk-checks", "clientSecret": SECRET, "tenant": "nowhere"}]


class Gateway:
    def __init__(self, binary: str, *arguments: str) -> None:
        self.binary = os.path.abspath(binary)
        self.arguments = arguments
        self.output: list[str] = []
        self._port: str | None = None
        self._is_settled = threading.Event()

    def start(self) -> str:
        """Returns the base URL once the gateway has printed where it listens."""
        # A directory of its own, so that neither a `.env` nor a `secrets.json` of this place takes part.
        self._directory = tempfile.TemporaryDirectory(prefix="flow-uring-sdk-")
        with open(os.path.join(self._directory.name, "secrets.json"), "w", encoding="utf-8") as secrets:
            os.fchmod(secrets.fileno(), 0o600)
            json.dump(CREDENTIALS, secrets)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FLOW_PROXY_")}
        environment["XDG_RUNTIME_DIR"] = environment["XDG_STATE_HOME"] = self._directory.name
        self._process = subprocess.Popen(
            [self.binary, "--port", "0", "--admin", "off", *self.arguments],
            cwd=self._directory.name,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._is_settled.wait(START_SECONDS_MAX)
        if self._port is None:
            self.stop()
            raise RuntimeError(f"{self.binary} printed no address to connect to:\n{''.join(self.output)}")
        return f"http://127.0.0.1:{self._port}"

    def stop(self) -> int:
        """Asks it to end as an operator would, and returns its exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOP_SECONDS_MAX)
        self._directory.cleanup()
        return self._process.returncode

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output.append(line)
            found = LISTENING.search(line)
            if self._port is None and found:
                self._port = found.group(1)
                self._is_settled.set()
        self._is_settled.set()
