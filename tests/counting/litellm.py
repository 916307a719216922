#!/usr/bin/env python3
"""Has a gateway pass the answers of a real LiteLLM proxy, and compares what it has counted with the usage in each answer
and with what LiteLLM says that it cost. By hand: LiteLLM and all it needs take a minute to install.

    python3 -m venv /tmp/litellm && /tmp/litellm/bin/pip install 'litellm[proxy]==1.108.7'
    cargo build --release && LITELLM=/tmp/litellm/bin/litellm python3 tests/counting/litellm.py [--requests N] [--seed N]

LiteLLM asks providers that are made up here (provider.py), or mocks them itself. It starts LiteLLM and the binary that
FLOW_URING_BIN names (default: target/release/flow-uring) on free ports, and ends only these.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import http.client
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from decimal import Decimal

from counted import Checks, COST_TOLERANCE
from gateway import ANSWER_SECONDS_MAX, KEYS, Gateway, Place, free_port
from provider import Provider

LITELLM = os.environ.get("LITELLM", "/tmp/litellm/bin/litellm")
LITELLM_START_SECONDS_MAX = 120
SHOWN_SECONDS_MAX = 20

# In dollars a token.
PRICES = {
    "input_cost_per_token": 2e-06,
    "output_cost_per_token": 8e-06,
    "cache_read_input_token_cost": 5e-07,
    "cache_creation_input_token_cost": 2.5e-06,
}

ASKED = "Say something to me, please"
CHAT = {"messages": [{"role": "user", "content": ASKED}]}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": ASKED}]}]}


def config(provider: str) -> dict:
    def model(name: str, of: str, prices: dict = PRICES, **more: object) -> dict:
        return {"model_name": name, "litellm_params": {"model": of, "api_key": "none", **more}, "model_info": prices}

    return {
        "model_list": [
            model("an-openai", "openai/gpt-4o", api_base=f"{provider}/v1"),
            model("a-claude", "anthropic/claude-sonnet-4-5-20250929", api_base=provider),
            model("a-gemini", "gemini/gemini-2.5-pro", api_base=provider),
            model("embeds", "openai/text-embedding-3-small", api_base=f"{provider}/v1"),
            model("unpriced", "openai/nobody-knows-it", {}, api_base=f"{provider}/v1"),
            model("mocked", "openai/gpt-4o", mock_response="Words that no model has said."),
        ]
    }


def requests() -> list[tuple[str, str, dict]]:
    """All that is asked: the path, the model, the body."""
    found = []
    for model in ("an-openai", "a-claude", "a-gemini", "mocked"):
        streams = ({}, {"stream": True, "stream_options": {"include_usage": True}})
        found += [("/v1/chat/completions", model, {**CHAT, **stream}) for stream in streams]
        for stream in ({}, {"stream": True}):
            found.append(("/v1/messages", model, {**CHAT, "max_tokens": 99, **stream}))
            # Its own mocks of these fail.
            if model != "mocked" or not stream:
                found.append(("/v1/responses", model, {"input": ASKED, **stream}))
    found += [
        (
            "/v1/completions",
            "mocked",
            {
                "prompt": ASKED,
                "stream": is_stream,
                **({"stream_options": {"include_usage": True}} if is_stream else {}),
            },
        )
        for is_stream in (False, True)
    ]
    # This tells no usage; what it costs is estimated by its length where there are prices.
    found.append(("/v1/chat/completions", "unpriced", {**CHAT, "stream": True}))
    found.append(("/v1/embeddings", "embeds", {"input": ASKED}))
    found += [
        (f"/v1beta/models/a-gemini:{what}", "a-gemini", GEMINI)
        for what in ("generateContent", "streamGenerateContent?alt=sse")
    ]
    return found


class Told:
    """What answers say of themselves, read as a client would."""

    def __init__(self) -> None:
        self.tokens: dict[tuple[str, ...], Decimal] = collections.Counter()
        self.costs: dict[tuple[str, ...], Decimal] = collections.Counter()
        self.without_usage = 0

    def add(self, model: str, path: str, headers, body: bytes) -> None:
        events = [body.decode()]
        if headers["content-type"].startswith("text/event-stream"):
            events = [line.removeprefix("data: ") for line in body.decode().splitlines() if line.startswith("data: {")]
        usage: dict = {}
        for event in (json.loads(event, parse_float=Decimal) for event in events):
            for inner in (event, event.get("response") or {}, event.get("message") or {}):
                usage |= {
                    name: value
                    for name, value in (inner.get("usage") or inner.get("usageMetadata") or {}).items()
                    if value is not None
                }
        counts = counts_of(path, usage)
        if not counts:
            self.without_usage += 1
            return
        for kind, count in counts.items():
            self.tokens[model, kind] += count
        cost = headers["x-litellm-response-cost"] or usage.get("cost")
        if cost is not None:
            self.costs[model, "reported"] += Decimal(cost)
        else:
            price = {name: Decimal(repr(value)) for name, value in PRICES.items()}
            plain = counts["input"] - counts["cache_read"] - counts["cache_write"]
            self.costs[model, "estimated"] += (
                plain * price["input_cost_per_token"]
                + counts["output"] * price["output_cost_per_token"]
                + counts["cache_read"] * price["cache_read_input_token_cost"]
                + counts["cache_write"] * price["cache_creation_input_token_cost"]
            )


def counts_of(path: str, usage: dict) -> dict[str, int]:
    def of(*names: str) -> int:
        value: object = usage
        for name in names:
            value = (value or {}).get(name)
        return value or 0

    if not usage:
        return {}
    if path.startswith("/v1/messages"):
        read, write = of("cache_read_input_tokens"), of("cache_creation_input_tokens")
        return {
            "input": of("input_tokens") + read + write,
            "cache_read": read,
            "cache_write": write,
            "output": of("output_tokens"),
            "reasoning": 0,
        }
    if path.startswith("/v1/responses"):
        read, write = of("input_tokens_details", "cached_tokens"), of("input_tokens_details", "cache_write_tokens")
        return {
            "input": of("input_tokens"),
            "cache_read": read,
            "cache_write": write,
            "output": of("output_tokens"),
            "reasoning": of("output_tokens_details", "reasoning_tokens"),
        }
    if path.startswith("/v1beta/"):
        thought = of("thoughtsTokenCount")
        return {
            "input": of("promptTokenCount"),
            "cache_read": of("cachedContentTokenCount"),
            "cache_write": 0,
            "output": of("candidatesTokenCount") + thought,
            "reasoning": thought,
        }
    read, write = of("prompt_tokens_details", "cached_tokens"), of("prompt_tokens_details", "cache_creation_tokens")
    return {
        "input": of("prompt_tokens"),
        "cache_read": read,
        "cache_write": write,
        "output": of("completion_tokens"),
        "reasoning": of("completion_tokens_details", "reasoning_tokens"),
    }


def start_litellm(place: Place, provider: str) -> tuple[subprocess.Popen, str]:
    # What YAML says, JSON says too.
    place.write("litellm.json", config(provider))
    port = free_port()
    # Its prices are those that it came with; it needs no key, since only this program can reach it.
    environment = os.environ | {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    with open(os.path.join(place.path, "litellm.log"), "w", encoding="utf-8") as log:
        command = [
            LITELLM,
            "--config",
            "litellm.json",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--telemetry",
            "False",
        ]
        process = subprocess.Popen(
            command, cwd=place.path, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + LITELLM_START_SECONDS_MAX
    while True:
        try:
            urllib.request.urlopen(f"{url}/health/liveliness", timeout=5).read()
            return process, url
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                with open(os.path.join(place.path, "litellm.log"), encoding="utf-8") as log:
                    raise RuntimeError(f"LiteLLM does not start:\n{log.read()[-3000:]}") from None
            time.sleep(0.3)


def ask(gateway: Gateway, path: str, model: str, body: dict) -> tuple[object, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=ANSWER_SECONDS_MAX)
    try:
        fields = {"content-type": "application/json", "authorization": f"Bearer {KEYS['alice']}"}
        connection.request("POST", path, json.dumps({"model": model, **body}), fields)
        response = connection.getresponse()
        content = response.read()
        assert response.status == 200, f"{path} of {model}: status {response.status}: {content[:300]!r}"
        return response.headers, content
    finally:
        connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9), help="default: another one each time")
    arguments = parser.parse_args()
    print(f"again with: --seed {arguments.seed}", flush=True)
    provider, place, checks, told = Provider(arguments.seed), Place(), Checks(), Told()
    litellm, url = start_litellm(place, provider.start())
    # It asks LiteLLM for prices.
    gateway = Gateway(place, url, "--log-format", "json")
    try:
        wait_for_prices(gateway)
        before = read(gateway)
        kinds = requests()
        asked = [kinds[number % len(kinds)] for number in range(arguments.requests)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda it: ask(gateway, *it), asked))
        for (path, model, _), (headers, body) in zip(asked, answers):
            told.add(model, path, headers, body)
        print(f"{len(answers)} answers of {len(kinds)} kinds, {told.without_usage} without usage", flush=True)
        look(checks, gateway, told, before)
    finally:
        gateway.stop()
        litellm.terminate()
        litellm.wait()
        provider.stop()
    if checks.failed:
        print("--- what the gateway printed last ---\n" + "".join(gateway.output[-20:]), flush=True)
    place.clean()
    return 1 if checks.failed else 0


def read(gateway: Gateway) -> tuple[collections.Counter, collections.Counter, Decimal]:
    """The sums of tokens and of costs by model, and the number of answers without usage."""
    sums = collections.defaultdict(collections.Counter)
    for (name, pairs), value in gateway.metrics().items():
        labels = dict(pairs)
        sums[name][labels.get("model"), labels.get("kind") or labels.get("source")] += Decimal(repr(value))
    without = sum(sums["flow_uring_answers_without_usage_total"].values())
    return sums["flow_uring_tokens_total"], sums["flow_uring_cost_usd_total"], without


def wait_for_prices(gateway: Gateway) -> None:
    """Asks for what tells no cost of itself until there is one, since the prices are asked for beside the requests."""
    until = time.monotonic() + SHOWN_SECONDS_MAX
    while time.monotonic() < until:
        ask(gateway, "/v1/messages", "a-claude", {**CHAT, "max_tokens": 99, "stream": True})
        time.sleep(0.5)
        if ("a-claude", "estimated") in read(gateway)[1]:
            return


def look(checks: Checks, gateway: Gateway, told: Told, before: tuple) -> None:
    until = time.monotonic() + SHOWN_SECONDS_MAX
    while sum((read(gateway)[0] - before[0]).values()) < sum(told.tokens.values()) and time.monotonic() < until:
        time.sleep(0.2)
    tokens, costs, without = read(gateway)
    checks.compare("tokens by model and kind", tokens - before[0], told.tokens)
    checks.compare("cost by model and source", costs - before[1], told.costs, COST_TOLERANCE)
    checks.compare("answers without usage", {("all",): without - before[2]}, {("all",): Decimal(told.without_usage)})


if __name__ == "__main__":
    sys.exit(main())
