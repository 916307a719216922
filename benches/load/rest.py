#!/usr/bin/env python3
"""Measures what a request pays after a pause, before a far upstream, and how many handshakes that takes. See README.md
beside this file."""

import argparse
import asyncio
import json
import os
import ssl
import statistics
import subprocess
import tempfile
import time

REQUEST = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: any\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CREDENTIAL = {"clientId": "made-up-id", "clientSecret": "made-up-secret-of-a-benchmark", "tenant": "none"}


class FarUpstream:
    """An upstream that speaks TLS, behind a relay that makes each way half a round trip long. `seconds` is how long its
    answers take; `opened` counts its connections."""

    def __init__(self, certificate, round_trip, seconds):
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificate, certificate + ".key")
        self.round_trip, self.seconds, self.opened = round_trip, seconds, 0

    async def start(self):
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0, ssl=self.context)
        self.near = server.sockets[0].getsockname()[1]
        relay = await asyncio.start_server(self.relay, "127.0.0.1", 0)
        return relay.sockets[0].getsockname()[1]

    async def answer(self, reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(self.seconds)
                writer.write(ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            writer.close()

    async def relay(self, reader, writer):
        self.opened += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.near)
        # The kernel has answered its SYN at once: what comes first waits for that round trip.
        opened = time.monotonic() + self.round_trip
        try:
            await asyncio.gather(self.carry(reader, far_writer, opened), self.carry(far_reader, writer, 0))
        except asyncio.CancelledError:
            writer.close()

    async def carry(self, reader, writer, not_before):
        """Passes bytes on half a round trip after they came, in their order, however many are on their way."""
        on_their_way = asyncio.Queue()

        async def deliver():
            while True:
                due, data = await on_their_way.get()
                await asyncio.sleep(max(0, due - time.monotonic()))
                if not data:
                    return writer.close()
                writer.write(data)

        delivering = asyncio.ensure_future(deliver())
        data = True
        while data:
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            on_their_way.put_nowait((max(not_before, time.monotonic()) + self.round_trip / 2, data))
        await delivering


class Gateway:
    """A gateway with one shard before an upstream of its own."""

    def __init__(self, options, warm, seconds=0.0):
        self.options, self.warm = options, warm
        self.upstream = FarUpstream(options.certificate, options.round_trip / 1000, seconds)

    async def __aenter__(self):
        port = await self.upstream.start()
        self.directory = tempfile.TemporaryDirectory()
        secrets = os.path.join(self.directory.name, "secrets.json")
        with open(os.open(secrets, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            json.dump([CREDENTIAL], file)
        self.process = await asyncio.create_subprocess_exec(
            self.options.gateway, "--port", "0", "--shards", "1", "--admin", "off", "--secrets-file", secrets,
            "--upstream", f"https://localhost:{port}/base", "--upstream-addr", f"127.0.0.1:{port}",
            "--upstream-ca", self.options.certificate, "--warm-connections", str(self.warm),
            env={"HOME": self.directory.name, "XDG_RUNTIME_DIR": self.directory.name}, cwd=self.directory.name,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while True:
            line = (await self.process.stderr.readline()).decode()
            if "OPENAI_BASE_URL=" in line:
                self.port = int(line.rsplit(":", 1)[1].split("/")[0])
                break
        self.reading = asyncio.ensure_future(self.process.stderr.read())
        return self

    async def __aexit__(self, *_):
        self.process.terminate()
        await self.process.wait()
        await self.reading
        self.directory.cleanup()

    async def ask(self):
        """Returns the milliseconds to the first byte of an answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        began = time.monotonic()
        writer.write(REQUEST)
        status = await reader.readline()
        assert b" 200 " in status, status
        taken = time.monotonic() - began
        await reader.readuntil(b"\r\n\r\n{}")
        writer.close()
        return taken * 1000


async def first_bytes(options, warm):
    """Requests after pauses, and one right after each of them."""
    async with Gateway(options, warm) as gateway:
        await gateway.ask()
        rested, at_once = [], []
        for _ in range(options.pauses):
            await asyncio.sleep(options.pause)
            rested.append(await gateway.ask())
            at_once.append(await gateway.ask())
    text = " ".join(f"{value:.0f}" for value in rested)
    return f"first byte after {options.pause:g} s: median {statistics.median(rested):.0f} ms ({text}); at once: " \
           f"{statistics.median(at_once):.0f} ms"


async def agents(options, warm, count, seconds, pause):
    """Agents that take turns: answers take so many seconds, pauses follow."""
    async with Gateway(options, warm, seconds) as gateway:
        turns = 0

        async def agent(number):
            nonlocal turns
            await asyncio.sleep(number * (seconds + pause) / count)
            while True:
                await gateway.ask()
                turns += 1
                await asyncio.sleep(pause)

        running = [asyncio.ensure_future(agent(number)) for number in range(count)]
        # All have begun then.
        await asyncio.sleep(seconds + pause)
        turns, before = 0, gateway.upstream.opened
        await asyncio.sleep(options.seconds)
        handshakes = gateway.upstream.opened - before
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    hour = 3600 / options.seconds
    return f"{count} agents, answers of {seconds:g} s, pauses of {pause:g} s: {turns * hour:.0f} turns and " \
           f"{handshakes * hour:.0f} handshakes an hour"


async def quiet(options, warm, requests):
    """Nobody asks, or nobody does any more."""
    async with Gateway(options, warm) as gateway:
        for _ in range(requests):
            await gateway.ask()
        before = gateway.upstream.opened
        await asyncio.sleep(options.seconds)
        opened = gateway.upstream.opened - before
    since = "after the last request" if requests else "without any request"
    return f"{since}: {opened} handshakes in {options.seconds:g} s"


async def measure(options):
    for warm in (0, 1):
        print(f"--warm-connections {warm}", flush=True)
        for line in await asyncio.gather(
                first_bytes(options, warm), agents(options, warm, 1, 5, 15), agents(options, warm, 8, 4, 4),
                agents(options, warm, 40, 2, 1), quiet(options, warm, 1), quiet(options, warm, 0)):
            print(f"  {line}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateway", default="target/release/flow-uring")
    parser.add_argument("--round-trip", type=float, default=100, help="milliseconds to the upstream and back")
    parser.add_argument("--pause", type=float, default=12, help="seconds between two requests, beyond the idle limit")
    parser.add_argument("--pauses", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=65, help="for which handshakes are counted")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        options.certificate = os.path.join(directory, "upstream.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                        "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", options.certificate + ".key",
                        "-out", options.certificate], check=True, capture_output=True)
        asyncio.run(measure(options))


if __name__ == "__main__":
    main()
