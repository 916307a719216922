#!/usr/bin/env python3
"""Has a gateway of two shards pass answers of the demo, cut anywhere on their way, and compares what it counted with what
the demo says that it served.

    cargo build --release && python3 tests/counting/demo.py [--answers N] [--seed N]

It starts the binary that FLOW_URING_BIN names (default: target/release/flow-uring) on free ports, twice, and ends only
those. One line a check; exit code 1 when one failed.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import http.client
import json
import random
import socket
import sys
import threading
import time

from gateway import ANSWER_SECONDS_MAX, KEYS, Gateway, Place

SHOWN_SECONDS_MAX = 30
AT_ONCE = 16
KINDS = ("input", "cache_read", "cache_write", "output", "reasoning")
# The demo writes a word each 40 ms or so: short answers keep the run short.
TEXT = "Say one word."
CHAT_MODELS = ("gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-pro")


class Splitter:
    """A way to a port on which bytes go on in pieces of any size."""

    def __init__(self, to_port: int, seed: int) -> None:
        self._to_port = to_port
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection(("127.0.0.1", self._to_port))
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._copy, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._copy, args=(far, near, True), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, splits: bool) -> None:
        try:
            while data := source.recv(65536):
                while data:
                    length = self._random.choice((1, 2, 7, 40, 200, 5000)) if splits else len(data)
                    target.sendall(data[:length])
                    data = data[length:]
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, target):
                end.close()


def requests(count: int, picks: random.Random) -> list[tuple[str, dict]]:
    """Paths and bodies of all kinds that the demo answers."""
    made = []
    for _ in range(count):
        model, is_stream = picks.choice(CHAT_MODELS), picks.random() < 0.6
        kind = picks.choice(("chat", "messages", "responses", "embeddings"))
        if kind == "embeddings":
            made.append(("/v1/embeddings", {"model": "text-embedding-3-small", "input": TEXT * picks.randint(1, 9)}))
        elif kind == "responses":
            made.append(("/v1/responses", {"model": model, "input": TEXT, "stream": is_stream}))
        else:
            body = {"model": model, "messages": [{"role": "user", "content": TEXT}], "stream": is_stream}
            if kind == "messages":
                body["max_tokens"] = 100
            elif is_stream and picks.random() < 0.8:
                body["stream_options"] = {"include_usage": True}
            made.append(("/v1/chat/completions" if kind == "chat" else "/v1/messages", body))
    return made


def ask(port: int, method: str, path: str, body: dict | None = None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS_MAX)
    try:
        fields = {"content-type": "application/json", "x-api-key": KEYS["alice"]}
        connection.request(method, path, None if body is None else json.dumps(body).encode(), fields)
        response = connection.getresponse()
        text = response.read()
        assert response.status == 200, f"{path}: status {response.status}: {text[:300]!r}"
        return text
    finally:
        connection.close()


def counted(gateway: Gateway) -> tuple[collections.Counter, float, int]:
    """The tokens by model and kind, the cost that was reported, and the answers without usage."""
    tokens: collections.Counter = collections.Counter()
    cost, without = 0.0, 0
    for (name, labels), value in gateway.metrics().items():
        named = dict(labels)
        if name == "flow_uring_tokens_total":
            tokens[named["model"], named["kind"]] += int(value)
        elif name == "flow_uring_cost_usd_total" and named["source"] == "reported":
            cost += value
        elif name == "flow_uring_answers_without_usage_total":
            without = int(value)
    return tokens, cost, without


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9), help="default: another one each time")
    arguments = parser.parse_args()
    print(f"again with: tests/counting/demo.py --answers {arguments.answers} --seed {arguments.seed}", flush=True)
    place = Place()
    demo = Gateway(place, "http://127.0.0.1:9", "--log-level", "ERROR", command="demo")
    splitter = Splitter(demo.port, arguments.seed + 1)
    gateway = Gateway(place, f"http://127.0.0.1:{splitter.port}", "--usage-db", "off", "--log-level", "ERROR")
    faults = []
    try:
        made = requests(arguments.answers, random.Random(arguments.seed))
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda one: ask(gateway.port, "POST", *one), made))
        served = json.loads(ask(demo.port, "GET", "/__served"))
        true = collections.Counter({(model, kind): sums[kind] for model, sums in served.items() for kind in KINDS})
        true_cost = sum(sums["reported_cost_usd"] for sums in served.values())
        true_without = sum(sums["answers_without_usage"] for sums in served.values())
        until = time.monotonic() + SHOWN_SECONDS_MAX
        while (told := counted(gateway))[0] != +true and time.monotonic() < until:
            time.sleep(0.1)
        tokens, cost, without = told
        for name in sorted(set(tokens) | set(+true)):
            if tokens[name] != true[name]:
                faults.append(f"{name}: {tokens[name]} counted, {true[name]} served")
        if abs(cost - true_cost) > 1e-9:
            faults.append(f"cost: {cost} counted, {true_cost} served")
        if without != true_without:
            faults.append(f"answers without usage: {without} counted, {true_without} served")
        if sum(sums["answers"] for sums in served.values()) != len(made) or not +true:
            faults.append(f"not all of {len(made)} answers are in {served}")
    finally:
        codes = (gateway.stop(), demo.stop())
        place.clean()
    if codes != (0, 0):
        faults.append(f"exit codes {codes}")
    for fault in faults:
        print(f"FAIL  {fault}")
    if not faults:
        print(f"ok    {len(made)} answers, {sum(true.values())} tokens, {true_without} answers without usage, {true_cost:.6f} USD")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
