"""The account of a soak: what clients, gateway and upstream say of each request, held against each other."""

from __future__ import annotations

import collections

from ledger import Attempted, Ledger, Seen
from running import OUTPUTS, Gateway

LEFT = (
    "client_disconnected", "ok", "upstream_closed", "timeout", "refused", "upstream_unreachable", "upstream_invalid",
    "shutdown",
)  # fmt: skip
# By the end that a client saw, the ends that the gateway's line may have.
FITTING = {
    "told": ("upstream_closed", "timeout", "shutdown", "upstream_invalid"),
    "cut": ("upstream_closed", "timeout", "shutdown", "upstream_invalid"),
    "silent": ("shutdown",),
    # Whatever comes to an end at that moment, may.
    "left": LEFT,
    "left_abruptly": LEFT,
    "refused": (),
}
# Errors of the gateway after which the last attempt has not reached the upstream.
UNREACHED = (
    "upstream_resolve_failed", "upstream_connect_failed", "upstream_tls_failed", "upstream_certificate_refused",
    "upstream_connect_timeout", "out_of_descriptors",
)  # fmt: skip
REASONS = (
    "unreachable", "upstream_closed", "write_stalled", "unavailable", "refused", "rate_limited", "quota_used_up",
    "not_found",
)  # fmt: skip
UNCONNECTED = ("cannot connect to the upstream", "connecting to the upstream took too long")
# A head that did not come to its end has no id.
UNREAD = "head_timeout"


class Account:
    def __init__(self, ledger: Ledger, gateways: list[Gateway]) -> None:
        self._ledger, self._gateways = ledger, gateways
        self.lines: dict[str, list[dict]] = collections.defaultdict(list)
        self.retries: dict[tuple[int, str], list[str]] = collections.defaultdict(list)
        self.stale: collections.Counter[tuple[int, str]] = collections.Counter()
        # Requests that met the gateway's closing of their idle connection on their way.
        self.crossed = 0
        # Attempts that the upstream has not seen, those that are told to have had no connection, and the connections
        # that could not be opened.
        self.unseen = self.unreached = self.unconnected = 0
        for gateway in gateways:
            for entry in gateway.exchanges:
                self.lines[entry["request_id"]].append({**entry, "gateway": gateway.number})
            for entry in gateway.events:
                self._note(gateway, entry)

    def _note(self, gateway: Gateway, entry: dict) -> None:
        if entry["message"] == "another attempt":
            self.retries[gateway.number, entry["id"]].append(entry["reason"])
        elif entry["message"] == "the upstream had closed a pooled connection":
            self.stale[gateway.number, entry["id"]] += 1
        elif entry["message"] in UNCONNECTED:
            self.unconnected += 1
        elif "panicked" in entry["message"]:
            self._wrong(gateway, f"{entry}")

    def check(self) -> None:
        for seen in self._ledger.seen.values():
            self._request(seen)
        unread = sum(one.code == UNREAD and not one.has_whole_head for one in self._ledger.seen.values())
        unknown = [line for name, lines in self.lines.items() if name not in self._ledger.seen for line in lines]
        if any(line.get("code") != UNREAD for line in unknown):
            self._ledger.tell(f"lines without a client: {[line for line in unknown if line.get('code') != UNREAD][:5]}")
        if len(unknown) < unread:
            self._ledger.tell(f"{unread} clients were told {UNREAD}, {len(unknown)} lines say so")
        if self.crossed > len(self._ledger.windows):
            self._ledger.tell(f"{self.crossed} requests met no answer on connections that had been idle")
        most = self._ledger.blind_drops + max(0, self.unconnected - self.unreached)
        if self.unseen > most:
            self._ledger.tell(
                f"the upstream missed {self.unseen} attempts: it ended {self._ledger.blind_drops} connections unread, "
                f"and {self.unconnected - self.unreached} more could not be opened than the retries tell"
            )
        for name in self._ledger.attempts:
            if name not in self.lines and self._ledger.seen[name].end not in ("left", "left_abruptly"):
                self._ledger.tell(f"{name}: the upstream was asked, and no line tells it")
        for gateway in self._gateways:
            self._process(gateway)

    def _request(self, seen: Seen) -> None:
        lines = self.lines.get(seen.identity, [])
        attempts = self._ledger.attempts.get(seen.identity, [])
        if len(lines) > 1:
            return self._odd(seen, lines, attempts, "several lines")
        if not lines:
            if not self._may_be_unknown(seen, attempts):
                self._odd(seen, lines, attempts, "no line")
            return
        line = lines[0]
        if not self._fits(seen, line, attempts):
            self._odd(seen, lines, attempts, "its line tells of another end")
        is_answered = seen.end == "whole" and seen.code is None and seen.status != 101 and line["attempts"] > 0
        if is_answered and line["bytes_out"] != seen.body_bytes:
            self._odd(seen, lines, attempts, f"{seen.body_bytes} bytes came")
        if any(not one.is_request_true for one in attempts):
            self._odd(seen, lines, attempts, "the upstream got another body than was sent")
        self._attempts(seen, line, attempts)

    def _may_be_unknown(self, seen: Seen, attempts: list[Attempted]) -> bool:
        """Tells whether the gateway cannot have known of the request, or may have ended before it did."""
        if not seen.has_whole_head:
            return True
        if attempts:
            return False
        was = self._ledger.was
        if seen.end == "refused":
            return was(("stop",), seen.began, seen.ended)
        if seen.end == "silent":
            # A connection that the gateway closed at that moment, since it was idle; the client may send it again.
            self.crossed += seen.is_reused
            closing = ("take_over", "stop", "starved", "crowd") if seen.is_reused else ("stop",)
            return was(closing, seen.began, seen.ended)
        if seen.end == "left_abruptly":
            # A reset takes with it what was not read yet.
            return seen.ended - seen.began < 1 or was(("frozen", "starved", "stop"), seen.began, seen.ended)
        return seen.end == "left" and was(("frozen", "starved", "stop"), seen.began, seen.ended)

    def _fits(self, seen: Seen, line: dict, attempts: list[Attempted]) -> bool:
        end = line["end"]
        if end == "internal" and line.get("code") != "out_of_descriptors":
            return False
        if seen.end == "told" and end != "shutdown":
            # What the upstream has sent to its end the gateway has no reason to break.
            answered = answering(seen, attempts)
            return end in FITTING["told"] and answered is not None and (answered.is_torn or not answered.is_whole)
        if seen.end != "whole":
            return end in FITTING[seen.end]
        if seen.status != line.get("status") or seen.code != line.get("code"):
            return False
        return seen.code is not None or end == "ok" or (seen.status == 101 and end != "refused")

    def _attempts(self, seen: Seen, line: dict, attempts: list[Attempted]) -> None:
        """Held against each other are the attempts of the line and those that the upstream saw."""
        name = line["gateway"], line["id"]
        reasons = self.retries[name]
        unreached = reasons.count("unreachable") + (line.get("code") in UNREACHED)
        closed = reasons.count("upstream_closed") + (line["end"] == "upstream_closed")
        # One that a client leaves, or a stop cuts off, may not have got so far.
        given_up = line["end"] in ("client_disconnected", "shutdown", "timeout")
        # The refusal of an attempt was passed on after a later one had come to nothing, and no line says how.
        answered = answering(seen, attempts)
        is_refusal = answered is not None and (answered.status >= 400 or answered.plan == "error_event")
        fell_back = bool(reasons) and is_refusal
        most = line["attempts"] - unreached + self.stale[name]
        if not most - closed - self.stale[name] - given_up - fell_back <= len(attempts) <= most:
            self._odd(seen, [line], attempts, f"{len(attempts)} attempts came, {most} were to, retries {reasons}")
        self.unreached += unreached
        if not given_up:
            # A pooled connection that was closed before the request came is no loss; those are counted by the gateway.
            self.unseen += max(0, most - self.stale[name] - len(attempts))

    def _process(self, gateway: Gateway) -> None:
        """What one process said at its end, against its lines."""
        for bit, output in enumerate(OUTPUTS):
            lost = gateway.lost(output)
            if gateway.missing(bit) != lost:
                self._wrong(
                    gateway, f"{gateway.missing(bit)} lines are missing on {output}, and {lost} are said to be lost"
                )
        if any("panicked" in words for words in gateway.words):
            self._wrong(gateway, f"a panic: {''.join(gateway.words)[-2000:]}")
        totals = next((entry for entry in gateway.events if entry["message"] == "in all"), None)
        if totals is None:
            return self._wrong(gateway, "no line with its totals")
        reasons = [reason for (number, _), many in self.retries.items() if number == gateway.number for reason in many]
        told = {
            "attempts": sum(line["attempts"] for line in gateway.exchanges),
            "stale": sum(count for (number, _), count in self.stale.items() if number == gateway.number),
            **{reason: reasons.count(reason) for reason in REASONS},
        }
        for name, count in told.items():
            if totals[name] != count:
                self._wrong(gateway, f"its totals have {name}={totals[name]}, its lines {count}")

    def _wrong(self, gateway: Gateway, what: str) -> None:
        self._ledger.tell(f"gateway {gateway.number}: {what}")

    def metrics(self, gateway: Gateway) -> None:
        """Holds the page of a gateway at rest against its lines."""
        page, lines = gateway.last_metrics, gateway.exchanges
        told: dict[tuple[str, str], int] = collections.Counter()
        for line in lines:
            told["flow_uring_exchanges_ended_total", f'end="{line["end"]}"'] += 1
            # An upgrade has succeeded too.
            status = f"{max(2, line['status'] // 100)}xx" if "status" in line else "none"
            told["flow_uring_requests_total", f'class="{status}",credential="{line.get("credential", "")}"'] += 1
            if "code" in line:
                told["flow_uring_errors_total", f'code="{line["code"]}"'] += 1
            if line["attempts"]:
                told["flow_uring_attempts_total", ""] += line["attempts"]
                told["flow_uring_request_body_bytes_total", ""] += line["bytes_in"]
                told["flow_uring_response_body_bytes_total", ""] += line["bytes_out"]
        counted = {name for name, _ in told}
        for name in {*told, *(name for name in page if name[0] in counted)}:
            if page.get(name, 0) != told[name]:
                self._wrong(gateway, f"{name} is {page.get(name, 0):.0f}, its lines say {told[name]}")
        if page.get(("flow_uring_long_turns_total", ""), 0):
            self._wrong(gateway, f"{page['flow_uring_long_turns_total', '']:.0f} turns did more than a turn may")
        if page["flow_uring_exchanges_in_flight", ""]:
            self._wrong(gateway, "requests in flight, and nobody asks")

    def _odd(self, seen: Seen, lines: list[dict], attempts: list[Attempted], what: str) -> None:
        meanwhile = [one for one in self._ledger.windows if one[1] - 2 < seen.ended and seen.began < one[2] + 2]
        shown = [line | {"retries": self.retries.get((line["gateway"], line["id"]))} for line in lines]
        tries = [f"{one.number}: {one.plan} {one.status} at {one.began:.2f} whole={one.is_whole}" for one in attempts]
        story = {"client": seen, "gateway": shown, "upstream": tries, "windows": meanwhile}
        told = "".join(f"\n    {side:8} {text}" for side, text in story.items())
        self._ledger.tell(f"{seen.identity}: {what}{told}")


def answering(seen: Seen, attempts: list[Attempted]) -> Attempted | None:
    """The attempt whose answer the client got."""
    return next((one for one in attempts if one.number == seen.attempt), None)
