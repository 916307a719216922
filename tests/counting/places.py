#!/usr/bin/env python3
"""Has more clients than their keys may have requests under way, and kills them at random: while they send, wait in the
queue, or read. The upstream counts how many requests of a key are under way: never more than its limit, all places are
free at the end, and those who waited were served in the order in which they came.

    cargo build --release && python3 tests/counting/places.py [--seconds S] [--clients N] [-- FLAGS OF THE GATEWAY]

It starts the binary that FLOW_URING_BIN names (default: target/release/flow-uring) on free ports, and ends only these.
Exit code 1 when something was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import random
import sys
import time

from gateway import Gateway, Place

PARALLEL = 5
NAMES = ["ana", "ben", "cem", "dee"]
KEYS = {name: f"made-up-key-of-{name}-0123456789" for name in NAMES}

# How much later than another one a client may have begun that is served before it: two shards and one clock of a busy
# machine are between them.
ORDER_SLACK = 0.5
# The upstream hears of a client that has left a moment after the gateway has.
LEAVING_SLACK = 0.25


class Upstream:
    """Counts the requests of each key that it works on."""

    def __init__(self) -> None:
        self.under_way: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.most: collections.Counter[str] = collections.Counter()
        # Of each key: when its client sent it, and when it came.
        self.served: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
        # Since when there are too many of a key.
        self.over: dict[str, float] = {}

    async def start(self) -> str:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=1000)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/flow-llm-proxy"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                await reader.readexactly(int(fields["content-length"]))
                await self.answer(fields, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, fields: dict, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = fields["x-holder"]
        self.change(name, 1)
        self.served[name].append((float(fields["x-sent"]), time.monotonic()))
        # Nothing is pipelined: what can be read next is the end.
        gone = asyncio.ensure_future(reader.read(1))
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(int(fields["x-events"])):
                event = b'data: {"choices":[{"delta":{"content":"12345678"}}]}\n\n'
                writer.write(b"%x\r\n%s\r\n" % (len(event), event))
                await writer.drain()
                done, _ = await asyncio.wait([gone], timeout=0.02)
                if done:
                    gone.exception()
                    raise ConnectionResetError
        finally:
            self.change(name, -1)
            if not gone.done():
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)
        event = b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event))
        await writer.drain()

    def change(self, name: str, by: int) -> None:
        self.under_way[name] += by
        count, now = self.under_way[name], time.monotonic()
        self.most[name] = max(self.most[name], count)
        if count > PARALLEL:
            self.over.setdefault(name, now)
        elif name in self.over:
            lasted = now - self.over.pop(name)
            if lasted > LEAVING_SLACK:
                self.faults.append(f"{name}: more than {PARALLEL} requests under way for {lasted:.2f} s")


class Clients:
    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.pick = random.Random(seed)
        self.ends: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []

    async def ask(self, name: str, events: int, killed_after: float | None, cut: float = 1.0) -> str:
        """Sends a request, or a part of it, and returns how it ended."""
        body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "x" * 500}]}).encode()
        request = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEYS[name]}\r\n"
            f"x-holder: {name}\r\nx-events: {events}\r\nx-sent: {time.monotonic()}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode() + body
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request[: int(len(request) * cut)])
            answer = await asyncio.wait_for(reader.read(-1), killed_after if cut == 1.0 else 0.05)
        except (TimeoutError, asyncio.TimeoutError):
            return "killed"
        finally:
            writer.transport.abort()
        status = answer.split(b" ", 2)[1:2]
        if status == [b"200"] and answer.endswith(b"0\r\n\r\n"):
            return "whole"
        if status == [b"429"] and b"limit_reached" in answer:
            return "refused"
        self.faults.append(f"{name}: {answer[:300]!r}")
        return "wrong"

    async def run(self, name: str, until: float) -> None:
        while time.monotonic() < until:
            killed_after = self.pick.choice([None, None, self.pick.uniform(0, 4), self.pick.uniform(0, 0.3)])
            cut = 1.0 if self.pick.random() < 0.9 else self.pick.random() * 0.99
            self.ends[await self.ask(name, self.pick.randrange(1, 30), killed_after, cut)] += 1


def out_of_order(served: list[tuple[float, float]]) -> float:
    """By how much the one that was passed most had been sent before one that was served before it."""
    latest, worst = 0.0, 0.0
    for sent, _ in sorted(served, key=lambda both: both[1]):
        worst = max(worst, latest - sent)
        latest = max(latest, sent)
    return worst


async def check(arguments: argparse.Namespace, place: Place) -> list[str]:
    upstream = Upstream()
    keys = [{"name": name, "key": key, "limits": {"parallel": PARALLEL}} for name, key in KEYS.items()]
    place.write("keys.json", keys)
    url = await upstream.start()
    flags = ["--api-keys-file", "keys.json", *arguments.flags]
    loop = asyncio.get_running_loop()
    gateway = await loop.run_in_executor(None, lambda: Gateway(place, url, *flags))
    try:
        clients = Clients(gateway.port, arguments.seed)
        until = time.monotonic() + arguments.seconds
        names = [NAMES[number % len(NAMES)] for number in range(arguments.clients)]
        await asyncio.gather(*(clients.run(name, until) for name in names))
        await asyncio.sleep(1)
        faults = upstream.faults + clients.faults
        worst = max(out_of_order(served) for served in upstream.served.values())
        if worst > ORDER_SLACK:
            faults.append(f"one that came {worst:.2f} s later was served before")
        page = await loop.run_in_executor(None, gateway.metrics)
        for name in NAMES:
            used = page.get(("flow_uring_key_limit_used", (("key", name), ("limit", "parallel"))))
            if used != 0:
                faults.append(f"{name}: {used} places are still taken")
        # All places at once: each must be free.
        most = dict(upstream.most)
        upstream.most.clear()
        ends = await asyncio.gather(*(clients.ask(name, 100, 20) for name in NAMES for _ in range(PARALLEL)))
        free = sum(upstream.most[name] for name in NAMES)
        if free != len(ends) or any(end != "whole" for end in ends):
            faults.append(f"{free} of {len(ends)} places were free")
        faults += [f"{name}: more than {PARALLEL} requests are under way at the end" for name in upstream.over]
        counts = ", ".join(f"{count} {end}" for end, count in sorted(clients.ends.items()))
        print(f"{counts}; most under way {most}; out of order by {worst:.3f} s; {free} of {len(ends)} free")
        return faults
    finally:
        await loop.run_in_executor(None, gateway.stop)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("flags", nargs="*")
    arguments = parser.parse_args()
    place = Place()
    # The keys are those of the file.
    os.environ.pop("FLOW_PROXY_API_KEYS", None)
    place.environment = lambda base=place.environment: base() | {"FLOW_PROXY_API_KEYS": "", "FLOW_PROXY_PRICES": "off"}
    try:
        faults = asyncio.run(check(arguments, place))
    finally:
        place.clean()
    for fault in faults[:20]:
        print(f"wrong: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
