#!/usr/bin/env python3
"""Plays conversations of coding agents with the demo, whose three credentials have a prompt cache each, without affinity
and with it, and prints which share of the input came from a cache.

    cargo build --release && python3 tests/counting/affinity.py [--agents N] [--turns N] [--seed N]

Half of the agents are Claude Code's (/v1/messages, x-claude-code-session-id), half Codex's (/v1/responses, session_id),
with the header fields that these send; each turn sends all that came before, as they do. It starts the binary that
FLOW_URING_BIN names (default: target/release/flow-uring) on free ports, and ends only that. Exit code 1 when affinity
does not raise the share, or moves a session.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import http.client
import json
import random
import sys
import uuid

from gateway import ANSWER_SECONDS_MAX, Gateway, Place

# Words of a system prompt with the tools, the same for all sessions of an agent, and of what a turn adds: a tool's
# result, mostly.
SYSTEM_WORDS = 3000
TURN_WORDS = (100, 1500)


@dataclasses.dataclass
class Told:
    """What the answers to one agent told."""

    input: int = 0
    cached: int = 0
    # Of the turns after the first, in which a cache can help.
    later_input: int = 0
    later_cached: int = 0
    credentials: list[str] = dataclasses.field(default_factory=list)

    def add(self, turn: int, tokens: int, cached: int, credential: str) -> None:
        self.input += tokens
        self.cached += cached
        if turn > 0:
            self.later_input += tokens
            self.later_cached += cached
        self.credentials.append(credential)


def words(picks: random.Random, count: int) -> str:
    return " ".join(f"{picks.choice('abcdefgh')}{picks.randrange(10**6)}" for _ in range(count))


def claude_code(session: str, system: str, said: list[tuple[str, str]]) -> tuple[str, dict, dict]:
    fields = {
        "user-agent": "claude-cli/2.1.0 (external, cli)",
        "x-app": "cli",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
        "x-claude-code-session-id": session,
    }
    system_blocks = [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}]
    messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said]
    body = {"model": "claude-sonnet-4-5-20250929", "max_tokens": 32000, "system": system_blocks, "messages": messages}
    return "/v1/messages?beta=true", fields, body


def codex(session: str, system: str, said: list[tuple[str, str]]) -> tuple[str, dict, dict]:
    fields = {
        "user-agent": "codex_cli_rs/0.63.0 (Debian 12.0.0; x86_64) xterm",
        "originator": "codex_cli_rs",
        "conversation_id": session,
        "session_id": session,
    }
    kinds = {"user": "input_text", "assistant": "output_text"}
    items = [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": system}]}]
    items += [
        {"type": "message", "role": role, "content": [{"type": kinds[role], "text": text}]} for role, text in said
    ]
    return "/v1/responses", fields, {"model": "gpt-5-codex", "store": False, "prompt_cache_key": session, "input": items}


def usage(path: str, answer: dict) -> tuple[int, int, str]:
    """The input, what of it came from the cache, and the text."""
    told = answer["usage"]
    if path.startswith("/v1/messages"):
        cached = told["cache_read_input_tokens"]
        return told["input_tokens"] + cached + told["cache_creation_input_tokens"], cached, answer["content"][0]["text"]
    return (
        told["input_tokens"],
        told["input_tokens_details"]["cached_tokens"],
        answer["output"][0]["content"][0]["text"],
    )


def converse(port: int, ask, system: str, turns: int, seed: int) -> Told:
    picks, told, said = random.Random(seed), Told(), []
    session = str(uuid.UUID(int=picks.getrandbits(128), version=4))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS_MAX)
    try:
        for turn in range(turns):
            said.append(("user", words(picks, picks.randint(*TURN_WORDS))))
            path, fields, body = ask(session, system, said)
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"} | fields)
            response = connection.getresponse()
            text = response.read()
            assert response.status == 200, f"{path}: status {response.status}: {text[:300]!r}"
            tokens, cached, reply = usage(path, json.loads(text))
            told.add(turn, tokens, cached, response.getheader("x-demo-credential"))
            said.append(("assistant", reply))
    finally:
        connection.close()
    return told


def play(affinity: str, agents: int, turns: int, seed: int) -> dict[str, list[Told]]:
    place = Place()
    demo = Gateway(place, "http://127.0.0.1:9", "--log-level", "ERROR", "--affinity", affinity, command="demo")
    try:
        picks = random.Random(seed)
        kinds = {"Claude Code": claude_code, "Codex": codex}
        systems = {name: words(picks, SYSTEM_WORDS) for name in kinds}
        with concurrent.futures.ThreadPoolExecutor(agents) as pool:
            begun = {
                name: [
                    pool.submit(converse, demo.port, ask, systems[name], turns, picks.getrandbits(64))
                    for _ in range(agents // 2)
                ]
                for name, ask in kinds.items()
            }
            return {name: [agent.result() for agent in of_kind] for name, of_kind in begun.items()}
    finally:
        code = demo.stop()
        place.clean()
        assert code == 0, f"exit code {code}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=24)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9), help="default: another one each time")
    arguments = parser.parse_args()
    again = f"--agents {arguments.agents} --turns {arguments.turns} --seed {arguments.seed}"
    print(f"again with: tests/counting/affinity.py {again}", flush=True)
    shares: dict[tuple[str, str], float] = {}
    moved = 0
    for affinity in ("none", "session"):
        for name, agents in play(affinity, arguments.agents, arguments.turns, arguments.seed).items():
            share = sum(told.cached for told in agents) / sum(told.input for told in agents)
            later = sum(told.later_cached for told in agents) / sum(told.later_input for told in agents)
            used = sum(len(set(told.credentials)) for told in agents) / len(agents)
            shares[affinity, name] = later
            moved += sum(len(set(told.credentials)) - 1 for told in agents) if affinity == "session" else 0
            print(
                f"--affinity {affinity:8}{name:12} {share:6.1%} of the input from a cache, {later:6.1%} after the first"
                f" turn; {used:.1f} credentials a session",
                flush=True,
            )
    faults = [f"{moved} sessions have moved"] if moved else []
    names = {name for _, name in shares}
    faults += [f"{name}: no gain" for name in sorted(names) if shares["session", name] <= shares["none", name]]
    for fault in faults:
        print(f"FAIL  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
