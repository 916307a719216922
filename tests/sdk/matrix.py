#!/usr/bin/env python3
"""Lets the upstream die at every border of a streamed turn, and within each event, and looks at what users of real
clients see: each must get its client's own error, and none half an answer that looks whole. And lets it be silent for a
while, which none may notice.

    python3 -m venv target/sdk-venv && target/sdk-venv/bin/pip install -r tests/sdk/requirements.txt
    mkdir -p target/sdk-node && cp tests/sdk/package*.json target/sdk-node
    target/sdk-venv/bin/npm ci --ignore-scripts --prefix target/sdk-node
    cargo build --release && target/sdk-venv/bin/python tests/sdk/matrix.py [CLIENT...]

It starts the binary that FLOW_URING_BIN names (default: target/release/flow-uring) on free ports, one gateway for each
kind of upstream, and one process for each client, and ends only these. The last thing printed is a table; exit code 1
when something in it is wrong.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field

from breaking_upstream import PLAIN_KINDS, TLS_KINDS, BreakingUpstream, tls_context
from deaths import COLUMNS, Death, deaths_of
from gateway import Gateway
from turns import WHOLE_TEXT

HERE = os.path.dirname(os.path.abspath(__file__))
# Node is a package of Python's; its own packages are where the program must be that uses them.
NODE = os.path.join(os.path.dirname(sys.executable), "node")
NODE_DIRECTORY = os.environ.get("SDK_NODE_DIRECTORY") or os.path.join(HERE, "..", "..", "target", "sdk-node")
NODE_PROGRAM = "clients.mjs"
DEFAULT_BINARY = os.path.join(HERE, "..", "..", "target", "release", "flow-uring")

# After how much silence the gateways write into a stream.
HEARTBEAT_SECONDS = 1

# What the gateway says in all of its errors here.
GATEWAY_WORDS = "upstream closed the connection"

# What no client takes for all of its answers. One that waits for each is not run to the end.
CLIENT_SECONDS_MAX = 300.0

# What all of them together take, with room for a busy machine: more is a fault too.
MATRIX_SECONDS_MAX = 240.0

# What a client takes to end at the end of its input, before it is killed.
STOP_SECONDS_MAX = 2.0

# How many faults of a client are printed.
FAULTS_PRINTED_MAX = 12

# What no answer takes, even on a busy machine.
ANSWER_SECONDS_MAX = 90.0


@dataclass(frozen=True)
class Client:
    """One way to ask, in one process."""

    label: str
    # The name of its function in clients.py or clients.mjs.
    name: str
    # What it asks, which tells the dialect.
    path: str
    # The classes of its own errors.
    errors: tuple[str, ...]
    is_node: bool = False

    @property
    def key(self) -> str:
        return f"node.{self.name}" if self.is_node else f"python.{self.name}"

    def command(self, base_url: str) -> list[str]:
        if self.is_node:
            return [NODE, os.path.join(NODE_DIRECTORY, NODE_PROGRAM), self.name, base_url]
        return [sys.executable, os.path.join(HERE, "clients.py"), self.name, base_url]


CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
VERTEX = "/vertex_ai/v1/projects/p/locations/l/publishers/anthropic/models/m:streamRawPredict"
GEMINI = "/v1beta/models/m:streamGenerateContent"
OPENAI, ANTHROPIC, GOOGLE = ("openai.APIError",), ("anthropic.APIError",), ("google.APIError",)
# "error part" is a part of a stream that holds the error of the answer as it came.
AI = ("AI_APICallError", "error part")

CLIENTS = (
    Client("openai (Python), chat", "openai_chat", CHAT, OPENAI),
    Client("openai (Python), responses", "openai_responses", RESPONSES, OPENAI),
    Client("openai (Python), `responses.stream`", "openai_responses_stream", RESPONSES, OPENAI),
    Client("anthropic (Python)", "anthropic_messages", MESSAGES, ANTHROPIC),
    Client("anthropic (Python), `messages.stream`", "anthropic_stream", MESSAGES, ANTHROPIC),
    Client("`AnthropicVertex` (Python)", "anthropic_vertex", VERTEX, ANTHROPIC),
    Client("google-genai (Python)", "google_genai", GEMINI, GOOGLE),
    Client("google-genai (Python), `/gemini/`", "google_genai_passed_through", f"/gemini{GEMINI}", GOOGLE),
    Client("langchain-openai, chat", "langchain_chat", CHAT, OPENAI),
    Client("langchain-openai, responses", "langchain_responses", RESPONSES, OPENAI),
    Client("openai (Node), chat", "openai_chat", CHAT, ("APIError",), is_node=True),
    Client("openai (Node), responses", "openai_responses", RESPONSES, ("APIError",), is_node=True),
    Client("openai (Node), `responses.stream`", "openai_responses_stream", RESPONSES, ("APIError",), is_node=True),
    Client("@anthropic-ai/sdk", "anthropic_messages", MESSAGES, ("APIError",), is_node=True),
    Client("@anthropic-ai/sdk, `messages.stream`", "anthropic_stream", MESSAGES, ("APIError",), is_node=True),
    Client("`AnthropicVertex` (Node)", "anthropic_vertex", VERTEX, ("APIError",), is_node=True),
    Client("@google/genai", "google_genai", GEMINI, ("ApiError",), is_node=True),
    Client("@google/genai, `/gemini/`", "google_genai_passed_through", f"/gemini{GEMINI}", ("ApiError",), is_node=True),
    Client("ai, @ai-sdk/openai, chat", "ai_openai_chat", CHAT, AI, is_node=True),
    Client("ai, @ai-sdk/openai, responses", "ai_openai_responses", RESPONSES, AI, is_node=True),
    Client("ai, @ai-sdk/anthropic", "ai_anthropic", MESSAGES, AI, is_node=True),
    Client("ai, @ai-sdk/google", "ai_google", GEMINI, AI, is_node=True),
)


@dataclass
class Row:
    """What came of one client."""

    client: Client
    raised: dict = field(default_factory=lambda: {column: collections.Counter() for column in COLUMNS})
    faults: list[str] = field(default_factory=list)
    deaths_count: int = 0
    seconds: float = 0.0

    def judge(self, death: Death, seen: dict) -> None:
        self.deaths_count += 1
        fault = self.fault_of(death, seen)
        error = seen["error"]
        self.raised[death.column][error["classes"][0] if error else ("whole" if not fault else "HALF")] += 1
        if fault:
            self.faults.append(f"{self.client.key} {death.model} ({death.column}): {fault}: {json.dumps(seen)}")

    def fault_of(self, death: Death, seen: dict) -> str | None:
        error, text = seen["error"], seen["text"]
        if error is None:
            if text != WHOLE_TEXT or not seen["finish"]:
                return "half an answer that looks whole"
            return None if death.may_be_whole else "no error, and the turn had not ended"
        if not set(error["classes"]) & set(self.client.errors):
            return "not the client's own error"
        if seen["finish"] and text != WHOLE_TEXT:
            return "half an answer that ended for a reason"
        if death.must_be_whole:
            return "an error, and the turn is whole"
        if GATEWAY_WORDS not in error["message"]:
            return "an error, but not the gateway's"
        # The last letter of a half word may be completed to another one.
        if not text.startswith(death.text) or not WHOLE_TEXT.startswith(text[:-1]):
            return "not what had come"
        return None


class Worker:
    """The process of one client."""

    def __init__(self, client: Client, base_url: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self._process = subprocess.Popen(
            client.command(base_url),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # `node` is a wrapper in Python that has the real one as a child: they are ended together.
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def ask(self, model: str, due: float) -> dict:
        self._process.stdin.write(f"{model}\n")
        self._process.stdin.flush()
        line = self._lines.get(timeout=max(0.0, min(ANSWER_SECONDS_MAX, due - time.monotonic())))
        if line is None:
            raise RuntimeError(f"the client ended with code {self._process.wait()}")
        return json.loads(line)

    def stop(self) -> None:
        """Ends the process and its children: by the end of its input, or else by force."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS_MAX)
        # The group lives for as long as anything in it does.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)


def run_client(client: Client, base_urls: dict[tuple[str, ...], str], due: float) -> Row:
    row = Row(client)
    started = time.monotonic()
    due = min(due, started + CLIENT_SECONDS_MAX)
    for kinds, base_url in base_urls.items():
        worker = Worker(client, base_url)
        try:
            for death in deaths_of(client.path, kinds):
                if time.monotonic() > due:
                    raise RuntimeError("no time was left")
                row.judge(death, worker.ask(death.model, due))
        except queue.Empty:
            row.faults.append(f"{client.key} {death.model}: hangs")
        except (OSError, RuntimeError, ValueError) as error:
            row.faults.append(f"{client.key} {death.model}: {error}")
        finally:
            worker.stop()
    row.seconds = time.monotonic() - started
    return row


def table(rows: list[Row]) -> str:
    lines = ["| client | " + " | ".join(COLUMNS) + " |", "| --- " * (len(COLUMNS) + 1) + "|"]
    for row in rows:
        cells = [", ".join(f"{name} × {count}" for name, count in row.raised[column].items()) for column in COLUMNS]
        lines.append(f"| {row.client.label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def stop_gateway(gateway: Gateway, faults: list[str]) -> None:
    code = gateway.stop()
    if code:
        faults.append(f"a gateway ended with code {code}:\n{''.join(gateway.output)}")


@contextlib.contextmanager
def gateways(binary: str, faults: list[str]):
    """The base URLs of two gateways, by the kinds of death that the upstream of each knows. What was wrong with the
    gateways themselves is told by `faults` in the end."""
    with tempfile.TemporaryDirectory(prefix="flow-uring-matrix-") as directory, contextlib.ExitStack() as started:
        context, certificate = tls_context(directory)
        urls = {}
        for kinds, tls in ((PLAIN_KINDS, None), (TLS_KINDS, context)):
            upstream = BreakingUpstream(tls)
            started.callback(upstream.stop)
            options = ["--upstream", upstream.start(), "--sse-heartbeat", str(HEARTBEAT_SECONDS)]
            gateway = Gateway(binary, *options, *(["--upstream-ca", certificate] if tls else []))
            urls[kinds] = gateway.start()
            started.callback(stop_gateway, gateway, faults)
        yield urls


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", help="something that runs, and plays both upstream and gateway")
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help="the clients to run; default: all")
    arguments = parser.parse_args()
    unknown = set(arguments.clients) - {client.key for client in CLIENTS}
    if unknown:
        parser.error(f"no such client: {', '.join(sorted(unknown))}; there are {', '.join(c.key for c in CLIENTS)}")
    clients = [client for client in CLIENTS if not arguments.clients or client.key in arguments.clients]

    if any(client.is_node for client in clients):
        shutil.copy(os.path.join(HERE, NODE_PROGRAM), NODE_DIRECTORY)
    started = time.monotonic()
    faults: list[str] = []
    with contextlib.ExitStack() as stack:
        if arguments.base_url:
            urls = {PLAIN_KINDS + TLS_KINDS: arguments.base_url}
        else:
            urls = stack.enter_context(gateways(os.environ.get("FLOW_URING_BIN") or DEFAULT_BINARY, faults))
        # A client waits for the death that it asked for as long as it works.
        with concurrent.futures.ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
            rows = list(pool.map(lambda client: run_client(client, urls, started + MATRIX_SECONDS_MAX), clients))
    seconds = time.monotonic() - started
    if seconds > MATRIX_SECONDS_MAX:
        faults.append(f"the matrix took {seconds:.1f} s, more than {MATRIX_SECONDS_MAX:.0f} s")

    failed = 0
    for row in rows:
        state = "FAIL" if row.faults else "ok  "
        failed += bool(row.faults)
        print(f"{state}  {row.client.label} ({row.deaths_count} deaths; {len(row.faults)} wrong; {row.seconds:.1f} s)")
        for fault in row.faults[:FAULTS_PRINTED_MAX]:
            print(f"      {fault}")
    print(f"\n{table(rows)}\n\n{seconds:.1f} s of at most {MATRIX_SECONDS_MAX:.0f} s")
    for fault in faults:
        print(f"FAIL  {fault}")
    print(f"{len(rows) - failed} passed, {failed} failed", flush=True)
    return 1 if failed or faults else 0


if __name__ == "__main__":
    sys.exit(main())
