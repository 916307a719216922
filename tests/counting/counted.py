#!/usr/bin/env python3
"""Has a gateway pass answers of all kinds, whose usage is known here, and looks at all places where it tells how much
was used: the metrics, the log, the file, `flow-uring usage`. All must be right to the token.

    cargo build --release && python3 tests/counting/counted.py [--answers N] [--seed N] [--at-once N]

It starts the binary that FLOW_URING_BIN names (default: target/release/flow-uring) on free ports, and ends only that.
The answers come from the seed, which is printed. One line a check; exit code 1 when one failed.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import random
import sys
import time
from dataclasses import dataclass
from decimal import Decimal

import store
from answers import PRICES, Answer, Maker
from gateway import CREDENTIALS, KEYS, Gateway, Place, ask
from upstream import Upstream

# How long the metrics may take to show what has ended.
SHOWN_SECONDS_MAX = 30
# What is printed of a check that failed.
DIFFERENCES_MAX = 8
# The sum of many floats.
COST_TOLERANCE = Decimal("1e-9")

Sums = dict[tuple[str, ...], Decimal]


@dataclass
class Asked:
    identity: str
    key: str
    answer: Answer


class Checks:
    failed = 0

    def compare(self, label: str, told: Sums, true: Sums, tolerance: Decimal = Decimal(0)) -> None:
        """Zeros need not be told."""
        names = sorted({name for sums in (told, true) for name, value in sums.items() if value})
        wrong = [name for name in names if abs(told.get(name, 0) - true.get(name, 0)) > tolerance]
        self.line(
            label,
            [f"{name}: {told.get(name, 0)} told, {true.get(name, 0)} true" for name in wrong],
            f"{len(names)} sums",
        )

    def line(self, label: str, faults: list[str], detail: str) -> None:
        if not faults:
            print(f"ok    {label} ({detail})", flush=True)
            return
        self.failed += 1
        print(f"FAIL  {label}: {len(faults)} wrong", flush=True)
        for fault in faults[:DIFFERENCES_MAX]:
            print(f"        {fault}", flush=True)


class Truth:
    """The true sums, of what the upstream has served and who has asked for it."""

    def __init__(self, asked: list[Asked], upstream: Upstream) -> None:
        self.tokens: Sums = collections.Counter()
        self.key_tokens: Sums = collections.Counter()
        self.costs: Sums = collections.Counter()
        self.rows: Sums = collections.Counter()
        self.without_usage = 0
        for one in asked:
            answer, credential = one.answer, CREDENTIALS[upstream.credential_of[one.identity]]
            row = (one.key, credential, answer.model)
            self.rows[(*row, "requests")] += 1
            if not answer.is_told:
                self.without_usage += 1
                self.rows[(*row, "without_usage")] += 1
            for kind, count in answer.counts.items():
                self.tokens[credential, answer.model, kind] += count
                self.key_tokens[one.key, kind] += count
                self.rows[(*row, kind)] += count
            for source, cost in (("reported", answer.reported), ("estimated", answer.estimated)):
                if cost is not None:
                    self.costs[credential, answer.model, source] += cost
                    self.rows[(*row, f"{source}_cost")] += cost * store.UNITS_PER_DOLLAR


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9), help="default: another one each time")
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--only", help="a part of the labels of the answers to ask for, such as `messages` or `left`")
    parser.add_argument("flags", nargs="*", help="flags of the gateway, after `--`, such as `-- --pump never`")
    arguments = parser.parse_args()
    print(f"again with: tests/counting/counted.py --answers {arguments.answers} --seed {arguments.seed}", flush=True)

    maker, picks = Maker(arguments.seed), random.Random(arguments.seed + 1)
    asked = [Asked(f"count-{number}", picks.choice(list(KEYS)), maker.answer()) for number in range(arguments.answers)]
    asked = [one for one in asked if not arguments.only or arguments.only in one.answer.label]
    upstream = Upstream(arguments.seed + 2)
    upstream.answers = {one.identity: one.answer for one in asked}
    place = Place(PRICES)
    gateway = Gateway(place, upstream.start(), "--log-format", "json", *arguments.flags)
    checks = Checks()
    try:
        began = time.monotonic()
        checks.line(
            "answers come as they were sent",
            ask_all(gateway, asked, arguments.at_once),
            f"{len(asked)} answers in {time.monotonic() - began:.1f} s",
        )
        checks.line("the upstream was asked as is right", upstream.faults, "no fault")
        truth = Truth([one for one in asked if one.identity in upstream.credential_of], upstream)
        look_at_metrics(checks, gateway, truth)
    finally:
        code = gateway.stop()
        upstream.stop()
    checks.line("the gateway ends with exit code 0", [] if code == 0 else [f"exit code {code}"], "SIGTERM")
    look_at_log(checks, gateway, asked, upstream)
    look_at_file(checks, place, truth)
    look_at_command(checks, place, truth)
    if checks.failed:
        other = [line for line in gateway.output if '"message":"exchange"' not in line]
        print("--- what the gateway printed beside its exchanges ---\n" + "".join(other[-40:]), flush=True)
    place.clean()
    return 1 if checks.failed else 0


def ask_all(gateway: Gateway, asked: list[Asked], at_once: int) -> list[str]:
    def one(it: Asked) -> str | None:
        try:
            body = ask(gateway.port, it.identity, it.key, it.answer)
        except Exception as error:
            return f"{it.identity}, {it.answer.label}: {error!r}"
        is_whole = it.answer.cut_at is None and it.answer.left_at is None
        return f"{it.identity}, {it.answer.label}: another body" if is_whole and body != it.answer.body else None

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return [fault for fault in pool.map(one, asked) if fault]


def look_at_metrics(checks: Checks, gateway: Gateway, truth: Truth) -> None:
    def read() -> tuple[Sums, Sums, Sums, Decimal]:
        metrics = gateway.metrics()

        def of(name: str, *labels: str) -> Sums:
            found = (
                (dict(pairs), value)
                for (metric, pairs), value in metrics.items()
                if metric == f"flow_uring_{name}_total"
            )
            return {tuple(pairs[label] for label in labels): Decimal(repr(value)) for pairs, value in found}

        without = sum(of("answers_without_usage").values(), Decimal(0))
        return (
            of("tokens", "credential", "model", "kind"),
            of("key_tokens", "key", "kind"),
            of("cost_usd", "credential", "model", "source"),
            without,
        )

    until = time.monotonic() + SHOWN_SECONDS_MAX
    # An answer ends here before it is counted there, above all for whom has left.
    while read()[3] < truth.without_usage and time.monotonic() < until:
        time.sleep(0.1)
    tokens, key_tokens, costs, without = read()
    checks.compare("metrics: tokens by credential, model and kind", tokens, truth.tokens)
    checks.compare("metrics: tokens by key and kind", key_tokens, truth.key_tokens)
    checks.compare("metrics: cost by credential, model and source", costs, truth.costs, COST_TOLERANCE)
    checks.compare("metrics: answers without usage", {("all",): without}, {("all",): Decimal(truth.without_usage)})


# The fields of a line of the log, and what they tell.
LOGGED = (
    ("tokens_in", "input"),
    ("tokens_out", "output"),
    ("tokens_cached", "cache_read"),
    ("tokens_reasoning", "reasoning"),
)


def look_at_log(checks: Checks, gateway: Gateway, asked: list[Asked], upstream: Upstream) -> None:
    """Each answer has a line, which names the request as the client did."""
    lines = {}
    for line in gateway.exchanges():
        identity = (
            next((value for value in line.values() if value in upstream.answers), None) if upstream.answers else None
        )
        lines[identity] = line
    faults = []
    for one in asked:
        line, answer = lines.get(one.identity), one.answer
        if line is None:
            faults.append(f"{one.identity}, {answer.label}: no line has its x-request-id")
            continue
        # What is not known may be left out; zeros too.
        true = {field: answer.counts.get(kind, 0) for field, kind in LOGGED}
        told = {field: int(line.get(field) or 0) for field, _ in LOGGED}
        if answer.is_told and told != true:
            faults.append(f"{one.identity}, {answer.label}: {told} told, {true} true")
        if line.get("key") != one.key or (answer.is_told and line.get("model") != answer.model):
            faults.append(f"{one.identity}, {answer.label}: key {line.get('key')!r}, model {line.get('model')!r}")
        cost = str(line.get("cost_usd") or 0)
        true_cost = answer.reported if answer.reported is not None else answer.estimated or Decimal(0)
        if answer.is_told and abs(Decimal(cost.lstrip("~")) - true_cost) > Decimal("1e-12"):
            faults.append(f"{one.identity}, {answer.label}: cost {cost} told, {true_cost} true")
        if answer.is_told and true_cost and cost.startswith("~") != (answer.reported is None):
            faults.append(f"{one.identity}, {answer.label}: cost {cost}: `~` stands for an estimate")
    checks.line("log: a line tells the usage of each answer", faults, f"{len(lines)} lines")


def look_at_file(checks: Checks, place: Place, truth: Truth) -> None:
    try:
        rows = store.read(place.usage_db, ("key", "credential", "model"))
    except Exception as error:
        checks.line("file: can be read", [repr(error)], "")
        return
    told = {(*row, name): Decimal(value) for row, sums in rows.items() for name, value in sums.items()}
    checks.compare("file: sums by key, credential and model", told, truth.rows)


def look_at_command(checks: Checks, place: Place, truth: Truth) -> None:
    by = ("key", "credential", "model")
    try:
        told = store.printed(place.usage("--by", ",".join(by), "--json"), by)
    except Exception as error:
        checks.line("`flow-uring usage --json`", [f"{error!r} {getattr(error, 'stderr', '')}"], "")
        return
    total: Sums = collections.Counter()
    for name, value in truth.rows.items():
        total["total", name[-1]] += value
    checks.compare("`flow-uring usage --json`: the same sums, and their total", told, truth.rows | total)


if __name__ == "__main__":
    sys.exit(main())
