#!/usr/bin/env python3
"""Three gateways behind HAProxy, with the configurations of deploy/haproxy as they are but for addresses and size.

For each configuration, with the official SDK as the client, which may not try anything again:

* a rolling restart while 300 streams run: none is lost, and no request fails;
* a credential that is refused: each gateway learns it by its own first failures, and no client sees one;
* sessions: all gateways choose the same credential for the same session;
* clients that leave before their answer begins: the upstream learns it;
* a gateway that is killed: its own streams end, each with an error that the client shows, and no other.

    cargo build --release && python3 tests/scaling/run.py [--streams N]

Needs haproxy, and the packages of tests/sdk/requirements.txt. It starts the binary that FLOW_URING_BIN names (default:
target/release/flow-uring) on free ports, and ends only what it started. Exit code 1 when something was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

import httpx
import openai
from upstream import Upstream, process_of

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CONFIGURATIONS = ["l7", "l4"]
GATEWAYS_COUNT = 3
# The addresses of the configurations, and those that stand for them here.
ADDRESS, LOCAL_ADDRESS = "10.0.0.1", "127.0.0.1"
CREDENTIALS = ["client-a", "client-b", "client-c"]

STREAM_EVENTS = 12
# As many as are under way when a credential begins to fail.
PARALLEL = 12
SESSIONS, SESSION_REQUESTS = 60, 6
PATIENCE_SECONDS = 60

faults: list[str] = []


def expect(is_so: bool, what: str) -> None:
    if not is_so:
        faults.append(what)


def free_port(address: str) -> int:
    with socket.socket() as taken:
        taken.bind((address, 0))
        return taken.getsockname()[1]


def wait_until(condition, what: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"waited in vain: {what}")
        time.sleep(0.05)


class Gateway:
    """One of the gateways, on an address of its own and on the ports of all."""

    def __init__(self, number: int, ports: tuple[int, int], upstream: str, folder: pathlib.Path) -> None:
        self.address = f"{LOCAL_ADDRESS}{number}"
        self.port, self.admin_port = ports
        self._folder = folder / f"gateway{number}"
        self._folder.mkdir(exist_ok=True)
        secrets = [
            {"name": name, "clientId": name, "clientSecret": f"made-up-secret-of-{name}", "tenant": "nowhere"}
            for name in CREDENTIALS
        ]
        path = self._folder / "secrets.json"
        path.touch(0o600)
        path.write_text(json.dumps(secrets))
        self._upstream = upstream

    def start(self) -> None:
        program = os.environ.get("FLOW_URING_BIN") or ROOT / "target" / "release" / "flow-uring"
        flags = {
            "--host": self.address,
            "--port": str(self.port),
            "--admin": f"{self.address}:{self.admin_port}",
            "--upstream": self._upstream,
            # Its request ids begin with a number of the shard.
            "--shards": "1",
            "--affinity": "session",
            "--usage-db": "off",
            "--prices": "off",
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FLOW_PROXY_")}
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [program, *(word for pair in flags.items() for word in pair)],
                cwd=self._folder,
                env=environment | {"XDG_RUNTIME_DIR": str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        wait_until(self.is_ready, f"{self.address} is ready: {(self._folder / 'log').read_text()[-2000:]}")

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}:{self.admin_port}/readyz", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError):
            return False

    def process_id(self) -> str:
        """What its request ids begin with."""
        request = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        answer = httpx.post(f"http://{self.address}:{self.port}/v1/chat/completions", json=request)
        return process_of(answer.headers["x-request-id"])

    def ask_to_stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        return self._process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class HAProxy:
    def __init__(self, configuration: str, ports: tuple[int, int], folder: pathlib.Path) -> None:
        port, admin_port = ports
        self.port = free_port(LOCAL_ADDRESS)
        self.url = f"http://{LOCAL_ADDRESS}:{self.port}"
        text = (ROOT / "deploy" / "haproxy" / f"{configuration}.cfg").read_text()
        for written, local in {
            "bind :8890": f"bind {LOCAL_ADDRESS}:{self.port}",
            ADDRESS: LOCAL_ADDRESS,
            ":8899": f":{port}",
            "check port 8900": f"check port {admin_port}",
            # As many descriptors as any machine allows.
            "maxconn 8000": "maxconn 1500",
        }.items():
            if written not in text:
                raise SystemExit(f"{configuration}.cfg has no {written}")
            text = text.replace(written, local)
        path = folder / f"{configuration}.cfg"
        path.write_text(text)
        program = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")
        if program is None:
            raise SystemExit("haproxy is missing (apt install haproxy)")
        self._process = subprocess.Popen(
            [program, "-db", "-q", "-f", str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        wait_until(self._accepts, "HAProxy accepts")
        # Until it has looked at all three.
        time.sleep(1.5)

    def _accepts(self) -> bool:
        with socket.socket() as attempt:
            return attempt.connect_ex((LOCAL_ADDRESS, self.port)) == 0

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass
class Seen:
    """What clients have seen."""

    whole: int = 0
    # Of the streams that ended otherwise: the gateway, and the error.
    broken: list[tuple[str, str]] = field(default_factory=list)


def new_client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)


async def stream(client: openai.AsyncOpenAI, seen: Seen, events: int = STREAM_EVENTS) -> None:
    """Reads a stream to its end, as a program of a user would."""
    gateway = "none"
    try:
        raw = await client.chat.completions.with_raw_response.create(
            model="m", messages=[{"role": "user", "content": "x"}], max_tokens=events, stream=True
        )
        gateway = process_of(raw.headers["x-request-id"])
        text, end = "", None
        async for chunk in raw.parse():
            text += chunk.choices[0].delta.content
            end = chunk.choices[0].finish_reason
        if (text, end) == ("".join(f"{number} " for number in range(events)), "stop"):
            seen.whole += 1
        else:
            seen.broken.append((gateway, "no error at all"))
    except (openai.OpenAIError, httpx.HTTPError) as error:
        seen.broken.append((gateway, type(error).__name__))


async def ask(client: openai.AsyncOpenAI, session: str | None = None) -> str | None:
    """Returns the error."""
    headers = {} if session is None else {"x-session-id": session}
    try:
        message = {"role": "user", "content": "x"}
        await client.chat.completions.create(model="m", messages=[message], extra_headers=headers)
    except openai.OpenAIError as error:
        return f"{type(error).__name__}: {error}"
    return None


async def ask_anew(url: str) -> str | None:
    """Asks on a connection of its own."""
    async with new_client(url) as client:
        return await ask(client)


async def rolling_restart(name: str, url: str, gateways: list[Gateway], streams: int) -> None:
    client, seen, is_over = new_client(url), Seen(), asyncio.Event()

    async def keep_streaming() -> None:
        while not is_over.is_set():
            await stream(client, seen)

    begun = time.monotonic()
    running = [asyncio.create_task(keep_streaming()) for _ in range(streams)]
    await asyncio.sleep(1)
    for gateway in gateways:
        gateway.ask_to_stop()
        code = await asyncio.to_thread(gateway.ended)
        expect(code == 0, f"{name}: {gateway.address} ended with {code}")
        await asyncio.to_thread(gateway.start)
        # HAProxy asks once a second.
        await asyncio.sleep(2)
    is_over.set()
    await asyncio.gather(*running)
    await client.close()
    expect(not seen.broken, f"{name}: a rolling restart broke {collections.Counter(seen.broken)}")
    print(
        f"ok {name}: a rolling restart of {len(gateways)} under {streams} streams took {time.monotonic() - begun:.0f} s: "
        f"{seen.whole} streams whole, {len(seen.broken)} lost"
    )


async def refused_credential(name: str, url: str, upstream: Upstream, gateways: list[Gateway]) -> None:
    client, errors, count = new_client(url), [], 0
    processes = [gateway.process_id() for gateway in gateways]
    upstream.refusals.clear()
    upstream.refused = CREDENTIALS[1]
    until = time.monotonic() + 3

    async def keep_asking() -> None:
        nonlocal count
        while time.monotonic() < until:
            count += 1
            errors.append(await ask(client))

    await asyncio.gather(*(keep_asking() for _ in range(PARALLEL)))
    await client.close()
    upstream.refused = None
    refusals = {process: upstream.refusals[process] for process in processes}
    failed = [error for error in errors if error]
    expect(not failed, f"{name}: clients saw a refusal: {failed[:3]}")
    expect(all(1 <= found <= PARALLEL for found in refusals.values()), f"{name}: refusals by gateway: {refusals}")
    print(f"ok {name}: {count} requests, a refused credential: {sorted(refusals.values())} refusals by gateway, none seen")


async def sessions(name: str, url: str, upstream: Upstream) -> None:
    upstream.credentials.clear()
    upstream.gateways.clear()
    names = [f"session-{number}" for number in range(SESSIONS)]
    for _ in range(SESSION_REQUESTS):
        # Other connections each time: those of one client may all lead to the same gateway.
        client = new_client(url)
        errors = [error for error in await asyncio.gather(*(ask(client, session) for session in names)) if error]
        expect(not errors, f"{name}: {errors[:3]}")
        await client.close()
    wandering = [session for session in names if len(upstream.credentials[session]) != 1]
    apart = sum(len(upstream.gateways[session]) > 1 for session in names)
    expect(not wandering, f"{name}: sessions with several credentials: {wandering}")
    expect(apart > SESSIONS // 2, f"{name}: only {apart} sessions met several gateways")
    used = collections.Counter(min(upstream.credentials[session]) for session in names)
    print(f"ok {name}: {SESSIONS} sessions, {apart} of them through several gateways, one credential each: {dict(used)}")


async def leaving(name: str, url: str, upstream: Upstream) -> None:
    """Clients that leave before their answer begins: what they asked for is given up, and costs nothing more."""
    upstream.thinking = upstream.given_up = 0
    client = new_client(url)
    message = {"role": "user", "content": "x"}
    asking = [
        asyncio.create_task(client.chat.completions.create(model="thinking", messages=[message])) for _ in range(PARALLEL)
    ]
    await asyncio.to_thread(wait_until, lambda: upstream.thinking == PARALLEL, "all requests are with the upstream")
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    await client.close()
    begun = time.monotonic()
    await asyncio.to_thread(wait_until, lambda: upstream.given_up == PARALLEL, f"{name}: what clients left is given up")
    print(f"ok {name}: {PARALLEL} clients left before their answer, all given up within {time.monotonic() - begun:.1f} s")


async def killed(name: str, url: str, gateways: list[Gateway], streams: int) -> None:
    client, seen = new_client(url), Seen()
    victim = gateways[1]
    process = victim.process_id()
    running = [asyncio.create_task(stream(client, seen, events=20)) for _ in range(streams)]
    await asyncio.sleep(2.5)
    victim.kill()
    # From the first moment on: HAProxy may not know yet.
    after = [error for error in await asyncio.gather(*(ask_anew(url) for _ in range(30))) if error]
    await asyncio.gather(*running)
    await client.close()
    others = [broken for broken in seen.broken if broken[0] != process]
    silent = [broken for broken in seen.broken if broken[1] == "no error at all"]
    expect(not others, f"{name}: streams of others ended: {collections.Counter(others)}")
    expect(not silent, f"{name}: {len(silent)} streams ended without an error")
    expect(len(seen.broken) >= streams // 6, f"{name}: only {len(seen.broken)} streams were the killed one's")
    expect(seen.whole + len(seen.broken) == streams, f"{name}: {seen.whole} whole, {len(seen.broken)} broken")
    expect(not after, f"{name}: requests after the kill failed: {after[:3]}")
    errors = dict(collections.Counter(error for _, error in seen.broken))
    print(f"ok {name}: one of {len(gateways)} killed: {seen.whole} streams whole, its own {len(seen.broken)} end: {errors}")
    await asyncio.to_thread(victim.start)


async def try_all(configuration: str, streams: int, folder: pathlib.Path) -> None:
    upstream = Upstream()
    url = upstream.start()
    ports = free_port(f"{LOCAL_ADDRESS}1"), free_port(f"{LOCAL_ADDRESS}1")
    gateways = [Gateway(number + 1, ports, url, folder) for number in range(GATEWAYS_COUNT)]
    started: list[Gateway | HAProxy] = []
    try:
        for gateway in gateways:
            gateway.start()
            started.append(gateway)
        haproxy = HAProxy(configuration, ports, folder)
        started.append(haproxy)
        await sessions(configuration, haproxy.url, upstream)
        await rolling_restart(configuration, haproxy.url, gateways, streams)
        await refused_credential(configuration, haproxy.url, upstream, gateways)
        await leaving(configuration, haproxy.url, upstream)
        await killed(configuration, haproxy.url, gateways, streams)
    finally:
        for one in started:
            one.stop() if isinstance(one, HAProxy) else one.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--streams", type=int, default=300)
    arguments = parser.parse_args()
    for configuration in CONFIGURATIONS:
        with tempfile.TemporaryDirectory(prefix="flow-uring-scaling-") as folder:
            asyncio.run(try_all(configuration, arguments.streams, pathlib.Path(folder)))
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
