#!/usr/bin/env python3
"""Drives `flow-uring demo` with the official OpenAI and Anthropic SDKs, in reverse and in forward mode; then a second
gateway, in front of an upstream that fails.

    python3 -m venv target/sdk-venv && target/sdk-venv/bin/pip install -r tests/sdk/requirements.txt
    cargo build --release && target/sdk-venv/bin/python tests/sdk/run.py

It starts the binary that FLOW_URING_BIN names (default: target/release/flow-uring) on free ports and ends only these
processes; with --base-url it uses a running demo instead of the first. One line a check; exit code 1 when one failed.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import os
import sys
import time
import traceback

import checks
import faults
from gateway import Gateway
from route import Route, routes
from scripted_upstream import ScriptedUpstream

DEFAULT_BINARY = os.path.join(os.path.dirname(__file__), "..", "..", "target", "release", "flow-uring")

# Parts of all secrets in use here, and how every JWT begins: neither may be in what the gateway prints.
NEVER_PRINTED = ("made-up-secret", "eyJ")


class Tally:
    passed = 0
    failed = 0

    def run(self, label: str, check, *arguments) -> None:
        started = time.monotonic()
        try:
            result = check(*arguments)
            detail = asyncio.run(result) if inspect.isawaitable(result) else result
        except Exception as error:
            self.failed += 1
            print(f"FAIL  {label}: {type(error).__name__}: {str(error)[:2000]}", flush=True)
            if not isinstance(error, AssertionError):
                traceback.print_exc()
        else:
            self.passed += 1
            print(f"ok    {label} ({detail}; {time.monotonic() - started:.2f} s)", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", help="a running demo's base URL, e.g. http://127.0.0.1:8899; default: start one")
    parser.add_argument("--upstream-url", default="https://flow.ciandt.com/flow-llm-proxy", help="the upstream's URL")
    arguments = parser.parse_args()

    binary = os.environ.get("FLOW_URING_BIN") or DEFAULT_BINARY
    tally = Tally()
    run_demo(tally, binary, arguments)
    run_faults(tally, binary)
    print(f"{tally.passed} passed, {tally.failed} failed", flush=True)
    return 1 if tally.failed else 0


def run_demo(tally: Tally, binary: str, arguments: argparse.Namespace) -> None:
    gateway = None
    base_url = arguments.base_url
    if base_url is None:
        gateway = Gateway(binary, "demo")
        base_url = gateway.start()
    print(f"gateway {base_url}, upstream {arguments.upstream_url}", flush=True)
    failed_before = tally.failed
    try:
        for route in routes(base_url.rstrip("/"), arguments.upstream_url):
            for check in checks.of(route):
                tally.run(f"{route.name}: {check.__name__.replace('_', ' ')}", check, route)
    finally:
        if gateway:
            end(tally, gateway, failed_before)


def run_faults(tally: Tally, binary: str) -> None:
    upstream = ScriptedUpstream()
    upstream_url = upstream.start()
    gateway = Gateway(binary, "--upstream", upstream_url, "--body-max", faults.BODY_MAX_MIB)
    base_url = gateway.start()
    print(f"gateway {base_url}, upstream {upstream_url}", flush=True)
    failed_before = tally.failed
    try:
        for check in faults.Faults(Route("faults", base_url, None), upstream).checks():
            tally.run(f"faults: {check.__name__.replace('_', ' ')}", check)
    finally:
        end(tally, gateway, failed_before)
        upstream.stop()


def end(tally: Tally, gateway: Gateway, failed_before: int) -> None:
    tally.run("gateway: ends with exit code 0 when asked to", ends_well, gateway)
    tally.run("gateway: printed no secret and no token", printed_no_secret, gateway)
    if tally.failed > failed_before:
        print("--- what the gateway printed last ---", *gateway.output[-40:], sep="\n", flush=True)


def ends_well(gateway: Gateway) -> str:
    code = gateway.stop()
    assert code == 0, f"exit code {code}"
    return "SIGTERM"


def printed_no_secret(gateway: Gateway) -> str:
    for line in gateway.output:
        assert not any(part in line for part in NEVER_PRINTED), line
    return f"{len(gateway.output)} lines"


if __name__ == "__main__":
    sys.exit(main())
