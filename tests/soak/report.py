"""What a soak prints: a line of progress now and then, and a table at its end."""

from __future__ import annotations

import asyncio
import collections
import faulthandler
from collections.abc import Iterable

# With the first ones the cause is mostly clear.
SHOWN_MAX = 30
# On any machine a line of progress comes in that time.
STUCK_SECONDS = 120


async def progress(soak, seconds: float) -> None:
    while True:
        # Ends a soak that is stuck itself, and says where.
        faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
        await asyncio.sleep(seconds)
        ledger, gateway = soak.ledger, soak.lives.current
        ends = collections.Counter(one.end for one in ledger.seen.values())
        shown = ", ".join(f"{name} {count}" for name, count in sorted(ends.items()))
        print(
            f"{ledger.now():7.1f} s  {len(ledger.seen)} requests: {shown}; faults {sum(ledger.faults.values())}; "
            f"gateway {gateway.number}: {gateway.anonymous_kib()} KiB; wrong {len(ledger.wrong)}",
            flush=True,
        )


def table(soak, seconds: float) -> None:
    ledger = soak.ledger
    print()
    rows("clients saw", (f"{one.end} {one.code or one.status or ''}" for one in ledger.seen.values()))
    lines = [line for gateway in soak.lives.all for line in gateway.exchanges]
    rows("the gateways' lines", (f"{line['end']} {line.get('code', line.get('status', ''))}" for line in lines))
    attempts = [one for many in ledger.attempts.values() for one in many]
    rows(
        "the upstream saw", (f"{one.plan} {one.status or ''}{'' if one.is_whole else ' not whole'}" for one in attempts)
    )
    rows("faults", (kind for kind, count in ledger.faults.items() for _ in range(count)))
    print(f"connections that the upstream ended before it had read a request on them: {ledger.blind_drops}")
    print(f"questions of the gateways' own: {ledger.own_questions}")
    print(f"lines lost, on an output that could not be written: {[gateway.losses() for gateway in soak.lives.all]}")
    for rest in soak.rests:
        print(f"at rest after {rest}")
    for wrong in ledger.wrong[:SHOWN_MAX]:
        print(f"WRONG {wrong}")
    more = f", the first {SHOWN_MAX} are shown" if len(ledger.wrong) > SHOWN_MAX else ""
    print(f"{len(ledger.wrong)} wrong{more}; {seconds:.0f} s; again with: --seed {soak.seed}", flush=True)


def rows(title: str, names: Iterable[str]) -> None:
    counts = collections.Counter(name.strip() for name in names)
    print(f"{title}: {sum(counts.values())}")
    for name, count in sorted(counts.items()):
        print(f"  {count:7d}  {name}")
