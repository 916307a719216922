"""One process of the gateway: its start, its log on both outputs, its metrics, its memory and descriptors."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import subprocess
import time
import urllib.request

from gateway import end_with_parent, resident_kib
from ledger import Ledger

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60
TAIL_SECONDS = 0.2
SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? ([0-9.e+-]+)$")
OUTPUTS = ("stderr", "file")


class Gateway:
    def __init__(
        self, ledger: Ledger, number: int, command: list[str], directory: str, environment: dict[str, str]
    ) -> None:
        self.ledger, self.number = ledger, number
        # By the hash of a line: the outputs that have it, one bit each.
        self.lines: dict[int, int] = {}
        # Those lines that count, read.
        self.exchanges: list[dict] = []
        self.events: list[dict] = []
        self.odd_lines: list[str] = []
        self.words: list[str] = []
        self.exit_code: int | None = None
        self.last_metrics: dict[tuple[str, str], float] = {}
        self.was_taken_over = False
        self._log_path = os.path.join(directory, f"gateway-{number}.log")
        self._rotations = 0
        self._log = None
        self._pieces = [b"", b""]
        self._process = subprocess.Popen(
            [*command, "--log-file", self._log_path],
            cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
        )  # fmt: skip
        self.pid = self._process.pid
        self._tailing = asyncio.create_task(self._tail())

    async def follow(self) -> None:
        """Reads what it says from here on."""
        gateway = self

        class Reading(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                gateway._read(0, data)

        loop = asyncio.get_running_loop()
        self._pipe, _ = await loop.connect_read_pipe(Reading, self._process.stdout)

    def block_output(self) -> None:
        self._pipe.pause_reading()

    def unblock_output(self) -> None:
        self._pipe.resume_reading()

    def rotate(self) -> None:
        """Moves the log away, as logrotate does it."""
        self._rotations += 1
        os.replace(self._log_path, f"{self._log_path}.{self._rotations}")

    async def until_ready(self, admin_port: int) -> None:
        until = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if json.loads(await self.ask(admin_port, "/readyz"))["process"] == self.pid:
                    return
            except (OSError, ValueError):
                pass
            await asyncio.sleep(0.05)
        raise SystemExit(f"the gateway has not started: {''.join(self.words)[-2000:]}")

    async def ask(self, admin_port: int, path: str) -> str:
        return (await asyncio.to_thread(fetch, f"http://127.0.0.1:{admin_port}{path}")).decode()

    async def metrics(self, admin_port: int) -> dict[tuple[str, str], float]:
        text = await self.ask(admin_port, "/metrics")
        if self.ledger.leaks(text.encode()):
            self.ledger.tell(f"gateway {self.number}: a secret in its metrics")
        found = (SAMPLE.match(line) for line in text.splitlines())
        self.last_metrics = {(one[1], one[2] or ""): float(one[3]) for one in found if one}
        return self.last_metrics

    def resident_kib(self) -> int:
        return resident_kib(self.pid)

    def anonymous_kib(self) -> int:
        """Its own memory; 0 once it has ended, which may be at any time while it is not at rest."""
        try:
            with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as status:
                return next((int(line.split()[1]) for line in status if line.startswith("RssAnon:")), 0)
        except (FileNotFoundError, ProcessLookupError):
            return 0

    def descriptors(self) -> dict[str, str]:
        """What each descriptor stands for."""
        folder = f"/proc/{self.pid}/fd"
        found = {}
        for name in os.listdir(folder):
            try:
                found[name] = os.readlink(f"{folder}/{name}")
            except OSError:
                continue
        return found

    def sockets(self) -> dict[str, tuple[int, int, str]]:
        """The sockets of its network, as `descriptors` names them: local port, remote port, state."""
        with open(f"/proc/{self.pid}/net/tcp", encoding="ascii") as table:
            rows = [line.split() for line in table][1:]
        return {f"socket:[{row[9]}]": (int(row[1][-4:], 16), int(row[2][-4:], 16), row[3]) for row in rows}

    def limit_descriptors(self, count: int) -> None:
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (count, self.hard_limit()))

    def hard_limit(self) -> int:
        return resource.prlimit(self.pid, resource.RLIMIT_NOFILE)[1]

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """Its exit code, once all that it said was read."""
        try:
            self.exit_code = await asyncio.wait_for(asyncio.to_thread(self._process.wait), STOP_SECONDS_MAX)
        except asyncio.TimeoutError:
            self._process.kill()
            self.ledger.tell(f"gateway {self.number}: did not end in {STOP_SECONDS_MAX} s")
            self.exit_code = await asyncio.to_thread(self._process.wait)
        if self.exit_code != 0:
            self.ledger.tell(f"gateway {self.number}: exit code {self.exit_code}: {''.join(self.words)[-1000:]}")
        await asyncio.sleep(2 * TAIL_SECONDS)
        self._tailing.cancel()
        self._read_file()
        return self.exit_code

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    async def _tail(self) -> None:
        while True:
            await asyncio.sleep(TAIL_SECONDS)
            self._read_file()

    def _read_file(self) -> None:
        while True:
            if self._log is None:
                try:
                    self._log = open(self._log_path, "rb")
                except FileNotFoundError:
                    return
            while piece := self._log.read(1 << 20):
                self._read(1, piece)
            # The one that was moved away is read to its end first.
            try:
                is_current = os.path.samestat(os.fstat(self._log.fileno()), os.stat(self._log_path))
            except FileNotFoundError:
                return
            if is_current:
                return
            self._log.close()
            self._log = None

    def _read(self, output: int, data: bytes) -> None:
        if self.ledger.leaks(data):
            self.ledger.tell(f"gateway {self.number}: a secret in its log ({OUTPUTS[output]})")
        *lines, self._pieces[output] = (self._pieces[output] + data).split(b"\n")
        for line in lines:
            self._take(output, line)

    def _take(self, output: int, line: bytes) -> None:
        if not line.startswith(b"{"):
            self.words.append(line.decode(errors="replace") + "\n")
            return
        name = hash(line)
        known = self.lines.get(name, 0)
        if known & (1 << output):
            self.ledger.tell(f"gateway {self.number}: the same line twice on {OUTPUTS[output]}: {line!r}")
        self.lines[name] = known | 1 << output
        if known:
            return
        try:
            entry = json.loads(line)
        except ValueError:
            del self.lines[name]
            self.odd_lines.append(line.decode(errors="replace"))
            return
        (self.exchanges if entry["message"] == "exchange" else self.events).append(entry)

    def lost(self, output: str) -> int:
        """Lines that it says, with its last words, this output has lost."""
        said = re.search(rf"^(\d+) log lines were lost in all: {output} ", "".join(self.words), re.M)
        return int(said[1]) if said else 0

    def losses(self) -> int:
        return sum(map(self.lost, OUTPUTS))

    def missing(self, output: int) -> int:
        """Lines that are on the other output alone."""
        return sum(1 for bits in self.lines.values() if not bits & (1 << output))


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()
