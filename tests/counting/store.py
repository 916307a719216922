"""Reads the file that gateways keep their usage in, and what `flow-uring usage` prints of it."""

from __future__ import annotations

import json
import sqlite3
import urllib.parse
from decimal import Decimal

from answers import KINDS

# A column of costs counts these.
UNITS_PER_DOLLAR = Decimal(10**12)
SUMS = ("requests", "without_usage", *KINDS, "reported_cost", "estimated_cost")


def read(path: str, by: tuple[str, ...] = ()) -> dict[tuple[str, ...], dict[str, int]]:
    """The sums by these columns. Fails if the file is damaged."""
    # As any reader would: it takes part in the locks, and in what a killed gateway has left to be put right.
    connection = sqlite3.connect(f"file:{urllib.parse.quote(path)}?mode=rw", timeout=30, uri=True)
    try:
        faults = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        assert faults == ["ok"], f"PRAGMA integrity_check: {faults[:5]}"
        columns = ", ".join(by) or "''"
        sums = ", ".join(f"coalesce(sum({name}), 0)" for name in SUMS)
        rows = connection.execute(f"SELECT {columns}, {sums} FROM usage GROUP BY {columns}").fetchall()
    finally:
        connection.close()
    width = max(1, len(by))
    return {tuple(row[:width]): dict(zip(SUMS, row[width:])) for row in rows}


def total(path: str) -> dict[str, int]:
    rows = read(path)
    return next(iter(rows.values()), dict.fromkeys(SUMS, 0))


# What the sums are called by `flow-uring usage`, which tells costs in dollars.
PRINTED = {
    "requests": "requests",
    "without_usage": "answers_without_usage",
    **{kind: f"{kind}_tokens" for kind in KINDS},
    "reported_cost": "reported_cost_usd",
    "estimated_cost": "estimated_cost_usd",
}


def printed(text: str, by: tuple[str, ...]) -> dict[tuple[str, ...], Decimal]:
    """The sums that `flow-uring usage --json` prints, as `read` has them, and those of all under the name `total`."""
    whole = json.loads(text, parse_float=Decimal)
    rows = {tuple(row[name] for name in by): row for row in whole["rows"]} | {("total",): whole["total"]}
    return {(*names, name): amount(name, row) for names, row in rows.items() for name in SUMS}


def amount(name: str, row: dict) -> Decimal:
    return Decimal(row[PRINTED[name]]) * (UNITS_PER_DOLLAR if name.endswith("_cost") else 1)
