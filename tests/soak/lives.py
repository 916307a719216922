"""The gateways of a soak, one after the other on the same addresses: starts, take-overs, stops."""

from __future__ import annotations

import os
import signal
import socket

from ledger import Ledger
from place import Place
from running import Gateway

SHARDS = "2"
FLAGS = {
    "--shards": SHARDS,
    "--log-level": "DEBUG",
    "--log-format": "json",
    "--prices": "off",
    "--client-timeout": "6",
    "--head-timeout": "3",
    "--body-timeout": "3",
    "--connect-timeout": "2",
    "--upstream-idle-timeout": "2",
    "--drain-timeout": "8",
    "--retry-deadline": "20",
}
# The C library keeps what was freed for what may come. With these it gives blocks of 16 KiB or more, so the buffers of
# bodies, back at once, and what stays is held by the gateway; holes among smaller blocks are the noise that is left.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "65536"}


class Lives:
    def __init__(self, ledger: Ledger, place: Place, program: str, driver: str, upstream_port: int) -> None:
        self.ledger, self.driver = ledger, driver
        self._place, self._program, self.upstream_port = place, program, upstream_port
        self.port, self.admin_port = free_port(), free_port()
        self.all: list[Gateway] = []
        self.take_overs_count = 0

    @property
    def current(self) -> Gateway:
        return self.all[-1]

    async def start(self, driver: str | None = None, *flags: str) -> None:
        place = self._place
        settings = {
            **FLAGS,
            **place.upstream_flags(self.upstream_port),
            "--port": str(self.port),
            "--admin": f"127.0.0.1:{self.admin_port}",
            "--io-driver": driver or self.driver,
            "--secrets-file": os.path.join(place.path, "secrets.json"),
            "--api-keys-file": os.path.join(place.path, "keys.json"),
            "--usage-db": os.path.join(place.disk, "usage.sqlite"),
            "--capture-dir": os.path.join(place.disk, "captures"),
        }
        environment = {
            "PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": place.path, "XDG_STATE_HOME": place.path,
            "FLOW_URING_ALLOW_CORE": "1", "FLOW_PROXY_LOG_CLEANUP_ENABLED": "false", "RUST_BACKTRACE": "1",
            **ALLOCATOR,
        }  # fmt: skip
        command = [self._program, *(word for pair in settings.items() for word in pair), *flags]
        gateway = Gateway(self.ledger, len(self.all) + 1, command, place.disk, environment)
        self.all.append(gateway)
        await gateway.follow()
        await gateway.until_ready(self.admin_port)

    async def take_over(self, driver: str) -> None:
        began, old = self.ledger.now(), self.current
        await old.metrics(self.admin_port)
        old.was_taken_over = True
        self.take_overs_count += 1
        await self.start(driver, "--take-over")
        await old.ended()
        self.ledger.window("take_over", began)

    async def restart(self) -> None:
        began, old = self.ledger.now(), self.current
        await old.metrics(self.admin_port)
        await old.stop()
        await self.start()
        self.ledger.window("stop", began)

    def reload(self) -> None:
        self.current.signal(signal.SIGHUP)

    def kill(self) -> None:
        """Leaves nothing running."""
        for gateway in self.all:
            gateway.kill()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
