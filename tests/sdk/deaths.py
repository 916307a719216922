"""Where an upstream dies in a streamed turn, and what must come of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from breaking_upstream import SILENT_AFTER, TLS_KINDS
from turns import WHOLE_TEXT, turn_of

# The columns of the table.
BEFORE, BETWEEN, WITHIN, AFTER = "before the first event", "between events", "within an event", "after the last"
# Nothing dies: a gateway fills the silence of an upstream, and no client may stumble over that.
SILENT = "silent for a while"
COLUMNS = (BEFORE, BETWEEN, WITHIN, AFTER, SILENT)


@dataclass(frozen=True)
class Death:
    """One scenario: the model that is asked for, and what must come of it."""

    model: str
    column: str
    # Of the answer's text, what came in whole events.
    text: str
    # The clients may take the answer for a whole one, or must.
    may_be_whole: bool
    must_be_whole: bool


def deaths_of(path: str, kinds: tuple[str, ...]) -> list[Death]:
    """At every border and within each event of the turn at `path`, in the ways of `kinds`."""
    turn = turn_of(path)
    deaths = []
    if kinds != TLS_KINDS:
        deaths = [Death(model, SILENT, WHOLE_TEXT, True, True) for model in SILENT_AFTER]
        deaths.append(Death("closed", BEFORE, "", False, False))
    deaths += [Death(f"{late}{kind}-0", BEFORE, "", False, False) for late in ("", "late-") for kind in kinds]
    begin = 0
    for index, event in enumerate(turn):
        is_last = index == len(turn) - 1
        came = text_of(turn[:index])
        for number, cut in enumerate(cuts_within(event)):
            kind = kinds[(index + number) % len(kinds)]
            deaths.append(Death(f"{kind}-{begin + cut}", WITHIN, came, is_last, False))
        begin += len(event)
        column = AFTER if is_last else BETWEEN
        came = text_of(turn[: index + 1])
        deaths += [Death(f"{kind}-{begin}", column, came, is_last, is_last) for kind in kinds]
    return deaths + [Death("whole", AFTER, WHOLE_TEXT, True, True)]


def cuts_within(event: bytes) -> list[int]:
    """Where an event is cut: in the names of its fields, before and in its JSON, and before each byte of its line ends."""
    data = event.index(b"data:")
    end = len(event.rstrip(b"\r\n"))
    cuts = {2, data, data + 2, data + 5, data + 6, data + 7, data + 8, data + 9, end - 1}
    cuts |= set(range(end, len(event)))
    cuts |= {(data * share + end * (8 - share)) // 8 for share in range(1, 8)}
    # In names and strings, in a letter of several bytes, and in escapes, one of which may be half a letter.
    cuts |= {found.start() + 1 for found in re.finditer(rb'[:,{\[] ?"|\xf0|\\', event)}
    cuts |= {found.end() for found in re.finditer(rb"\\u(d8..)?", event)}
    return sorted(cut for cut in cuts if 0 < cut < len(event))


def text_of(events: list[bytes]) -> str:
    """The pieces of the answer in some events."""
    text = ""
    for event in events:
        _, _, data = event.partition(b"data:")
        found = re.search(rb'"(?:content|delta|text)": ?("(?:[^"\\]|\\.)*")', data)
        piece = json.loads(found.group(1)) if found else ""
        # An event that repeats the whole answer says nothing new.
        text += piece if piece != WHOLE_TEXT else ""
    return text
