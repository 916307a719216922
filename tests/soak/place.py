"""The directory of a soak: certificates, credentials, keys of callers, a small file system for what the gateway writes,
and the names that it can look up."""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile

from gateway import HOST, certificate
from ledger import Ledger

BASE_BYTES = 400 * 1024 * 1024
COMMAND_SECONDS_MAX = 60
CREDENTIALS_COUNT = 5
KEYS = ("free", "narrow", "few", "models", "stranger")
LIMITS = {
    "narrow": {"limits": {"parallel": 2}},
    "few": {"limits": {"requests_per_minute": 20}},
    "models": {"models": ["soak-*"]},
}


class Place:
    def __init__(self, seed: int, has_own_mounts: bool) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="flow-uring-soak-", ignore_cleanup_errors=True)
        self.path = self._directory.name
        self._pick = random.Random(seed)
        self.secrets = {f"client-{number}": self._made_up() for number in range(CREDENTIALS_COUNT)}
        self.keys = {name: self._made_up() for name in KEYS}
        self.certificate, self.untrusted = (certificate(self._made(name)) for name in ("trusted", "untrusted"))
        # What the gateway writes: on a file system of its own where that can be had.
        self.disk = self._made("disk")
        self.has_own_mounts = has_own_mounts
        self._hosts = os.path.join(self.path, "hosts")
        if has_own_mounts:
            run("mount", "-t", "tmpfs", "-o", f"size={BASE_BYTES}", "soak", self.disk)
            # A resolver that refuses at once.
            self._bind("resolv.conf", "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n")
            self._bind("hosts", "")
            self.set_name(True)
        self.write_secrets(list(self.secrets))
        self.write_keys()

    def needles(self) -> set[bytes]:
        return {text.encode() for text in [*self.secrets.values(), *self.keys.values()]}

    def upstream_flags(self, port: int) -> dict[str, str]:
        address = f"{HOST}:{port}" if self.has_own_mounts else f"127.0.0.1:{port}"
        return {
            "--upstream": f"https://{HOST}/flow-llm-proxy",
            "--upstream-addr": address,
            "--upstream-ca": self.certificate[0],
        }

    def set_name(self, is_known: bool) -> None:
        """Lets look-ups of the upstream's name succeed, or fail."""
        with open(self._hosts, "w", encoding="ascii") as hosts:
            hosts.write(f"127.0.0.1 localhost{f' {HOST}' if is_known else ''}\n")

    def set_disk_full(self, is_full: bool) -> None:
        """Makes the file system hardly larger than what is in it, or as large as it was."""
        for spare_blocks in (1, 8, 64):
            state = os.statvfs(self.disk)
            used = (state.f_blocks - state.f_bfree + spare_blocks) * state.f_frsize
            try:
                return run("mount", "-o", f"remount,size={used if is_full else BASE_BYTES}", self.disk)
            except subprocess.CalledProcessError:
                # The gateway has written more meanwhile.
                continue

    def write_secrets(self, names: list[str]) -> None:
        entries = [{"name": n, "clientId": n, "clientSecret": self.secrets[n], "tenant": "nowhere"} for n in names]
        self._write("secrets.json", json.dumps(entries))

    def write_keys(self) -> None:
        """The stranger's key is in no file."""
        entries = [{"name": name, "key": self.keys[name], **LIMITS.get(name, {})} for name in KEYS[:-1]]
        self._write("keys.json", json.dumps(entries))

    def write_bad(self, name: str) -> None:
        bad = self._pick.choice(["", "[{]", '[{"name": "x"}]', "[]", '{"a": 1}'])
        self._write(name, bad)

    def search(self, ledger: Ledger) -> None:
        """Looks for secrets in all that gateways have written: failed exchanges, usage, logs."""
        for folder, _, names in os.walk(self.disk):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    if ledger.leaks(file.read()):
                        ledger.tell(f"a secret in {os.path.join(folder, name)}")

    def clean(self) -> None:
        if self.has_own_mounts:
            for mounted in ("/etc/hosts", "/etc/resolv.conf", self.disk):
                run("umount", "--lazy", mounted)
        self._directory.cleanup()

    def _bind(self, name: str, text: str) -> None:
        self._write(name, text)
        run("mount", "--bind", os.path.join(self.path, name), f"/etc/{name}")

    def _write(self, name: str, text: str) -> None:
        """A file of secrets is replaced, as editors do it."""
        path = os.path.join(self.path, name)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
        os.replace(f"{path}.new", path)

    def _made(self, name: str) -> str:
        path = os.path.join(self.path, name)
        os.mkdir(path)
        return path

    def _made_up(self) -> str:
        return f"made-up-{self._pick.randbytes(16).hex()}"


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=COMMAND_SECONDS_MAX)
