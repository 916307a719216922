"""What users of the official SDKs see when the upstream fails, and when the gateway refuses an upload."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import anthropic
import openai

from route import Route
from scripted_upstream import ERROR_FIELDS, WHOLE_EVENTS, ScriptedUpstream, error_body, events_of

# Nothing here waits for anything: what takes longer hangs, even on a busy machine.
SECONDS_MAX = 120.0

# With --body-max 1, twenty times what is allowed, and more than sockets and the lingering close take together.
UPLOAD_BYTES = 20_000_000
BODY_MAX_MIB = "1"


@dataclass(frozen=True)
class Dialect:
    """One streaming API of one SDK. `ask` takes a sync client, and gives a stream, or an async one, and awaits it."""

    name: str
    path: str
    module: object
    ask: Callable
    # How many of the upstream's events the SDK keeps to itself.
    hidden_events: int = 0

    def client(self, route: Route, is_async: bool):
        make = f"{self.module.__name__}_async" if is_async else self.module.__name__
        return getattr(route, make)()


CHAT = Dialect(
    "chat",
    "/v1/chat/completions",
    openai,
    lambda client, model, text: client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], stream=True
    ),
    hidden_events=1,
)
RESPONSES = Dialect(
    "responses",
    "/v1/responses",
    openai,
    lambda client, model, text: client.responses.create(model=model, input=text, stream=True),
)
MESSAGES = Dialect(
    "messages",
    "/v1/messages",
    anthropic,
    lambda client, model, text: client.messages.create(
        model=model, max_tokens=99, messages=[{"role": "user", "content": text}], stream=True
    ),
)
DIALECTS = (CHAT, RESPONSES, MESSAGES)


@dataclass(frozen=True)
class Seen:
    """What one request came to: the events that were yielded, and the SDK's own error, if it raised one."""

    label: str
    dialect: Dialect
    events: list
    error: Exception | None


def ask_all(route: Route, model: str, text: str = "Good morning") -> list[Seen]:
    """Asks in every dialect, with the sync and with the async client. Any error but the SDK's own is let through."""
    seen = []
    for dialect in DIALECTS:
        for is_async in (False, True):
            label = f"{dialect.name}, {'async' if is_async else 'sync'}"
            events: list = []
            ask = ask_async if is_async else ask_sync
            started = time.monotonic()
            try:
                result = ask(dialect, route, model, text, events)
                if inspect.isawaitable(result):
                    asyncio.run(result)
                error = None
            except dialect.module.APIError as raised:
                error = raised
            except Exception as raised:
                raise AssertionError(f"{label}: {type(raised).__name__} is not the SDK's: {raised}") from raised
            seconds = time.monotonic() - started
            assert seconds < SECONDS_MAX, f"{label}: took {seconds:.1f} s"
            seen.append(Seen(label, dialect, events, error))
    return seen


def ask_sync(dialect: Dialect, route: Route, model: str, text: str, events: list) -> None:
    with dialect.client(route, is_async=False) as client:
        for event in dialect.ask(client, model, text):
            events.append(event)


async def ask_async(dialect: Dialect, route: Route, model: str, text: str, events: list) -> None:
    async with dialect.client(route, is_async=True) as client:
        async for event in await dialect.ask(client, model, text):
            events.append(event)


def expect_broken(route: Route, model: str, events_count: int = WHOLE_EVENTS) -> str:
    """The events before the cut were yielded, and then the SDK's own error came, with the gateway's words."""
    kinds = set()
    for seen in ask_all(route, model):
        assert len(seen.events) == events_count, f"{seen.label}: {len(seen.events)} events"
        assert seen.error is not None, f"{seen.label}: a broken stream ended as if it were whole"
        assert "upstream closed the connection" in str(seen.error), f"{seen.label}: {seen.error}"
        if seen.dialect is MESSAGES:
            assert isinstance(seen.error, anthropic.APIStatusError), f"{seen.label}: {seen.error!r}"
            assert seen.error.body["error"]["type"] == "api_error", f"{seen.label}: {seen.error.body}"
        else:
            assert seen.error.code == "upstream_disconnected", f"{seen.label}: {seen.error.code}"
        kinds.add(f"{seen.dialect.module.__name__}.{type(seen.error).__name__}")
    return ", ".join(sorted(kinds))


def expect_whole(route: Route, model: str) -> str:
    for seen in ask_all(route, model):
        assert seen.error is None, f"{seen.label}: {seen.error!r}"
        expected = len(events_of(seen.dialect.path)) - seen.dialect.hidden_events
        assert len(seen.events) == expected, f"{seen.label}: {len(seen.events)} events of {expected}"
    return f"{len(DIALECTS) * 2} streams"


def expect_too_large(answer: str, status: str) -> None:
    assert status == "413", f"{status}: {answer}"
    assert json.loads(answer)["error"]["code"] == "body_too_large", answer


class Faults:
    """The checks, over a gateway that was started with `--body-max 1` in front of `upstream`."""

    def __init__(self, route: Route, upstream: ScriptedUpstream) -> None:
        self.route = route
        self.upstream = upstream

    def checks(self) -> list:
        return [
            self.whole_stream,
            self.stream_cut_between_events,
            self.stream_cut_in_field_name,
            self.stream_cut_before_data,
            self.stream_cut_before_blank_line,
            self.stream_cut_in_data,
            self.stream_cut_in_chunk,
            self.stream_cut_after_its_last_event,
            self.upstream_closes_before_any_byte,
            self.upstream_errors_come_unchanged,
            self.large_upload_with_curl,
            self.large_upload_with_sdks,
        ]

    def whole_stream(self) -> str:
        return expect_whole(self.route, "whole")

    def stream_cut_between_events(self) -> str:
        return expect_broken(self.route, "cut-between-events")

    def stream_cut_in_field_name(self) -> str:
        return expect_broken(self.route, "cut-in-field-name")

    def stream_cut_before_data(self) -> str:
        return expect_broken(self.route, "cut-before-data")

    def stream_cut_before_blank_line(self) -> str:
        """The event has all of its data: it is yielded too."""
        return expect_broken(self.route, "cut-before-blank-line", WHOLE_EVENTS + 1)

    def stream_cut_in_data(self) -> str:
        return expect_broken(self.route, "cut-in-data")

    def stream_cut_in_chunk(self) -> str:
        return expect_broken(self.route, "cut-in-chunk")

    def stream_cut_after_its_last_event(self) -> str:
        """The turn is complete, only the framing is not."""
        return expect_whole(self.route, "cut-after-end")

    def upstream_closes_before_any_byte(self) -> str:
        for seen in ask_all(self.route, "closed"):
            assert isinstance(seen.error, seen.dialect.module.APIStatusError), f"{seen.label}: {seen.error!r}"
            assert seen.error.status_code == 502, f"{seen.label}: {seen.error.status_code}"
            code = seen.error.response.headers.get("X-Flow-Uring-Error")
            assert code == "upstream_closed", f"{seen.label}: {code}"
        return "502 upstream_closed"

    def upstream_errors_come_unchanged(self) -> str:
        classes = {
            400: "BadRequestError",
            401: "AuthenticationError",
            429: "RateLimitError",
            500: "InternalServerError",
        }
        for status, name in classes.items():
            for seen in ask_all(self.route, f"status-{status}"):
                label = f"{seen.label}, {status}"
                expected = getattr(seen.dialect.module, name)
                assert type(seen.error) is expected, f"{label}: {seen.error!r}"
                answer = seen.error.response
                assert answer.status_code == status, f"{label}: {answer.status_code}"
                assert answer.content == error_body(status), f"{label}: {answer.content!r}"
                fields = {name: answer.headers.get(name) for name in ERROR_FIELDS}
                assert fields == ERROR_FIELDS, f"{label}: {fields}"
                assert "x-flow-uring-error" not in answer.headers, f"{label}: {answer.headers}"
        return ", ".join(classes.values())

    def large_upload_with_curl(self) -> str:
        """Waiting for 100 Continue, not waiting, and without saying how long the body is."""
        seen = self.upstream.requests_count
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with tempfile.NamedTemporaryFile() as body:
            body.write(b" " * UPLOAD_BYTES)
            body.flush()
            command = ["curl", "-sS", "-m", str(SECONDS_MAX), "-w", "\n%{http_code}", "--data-binary", f"@{body.name}"]
            command += [f"{self.route.root}/v1/chat/completions", "-H", "Content-Type: application/json"]
            for fields in ([], ["-H", "Expect:"], ["-H", "Expect:", "-H", "Transfer-Encoding: chunked"]):
                done = subprocess.run(
                    command + fields, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL
                )
                assert done.returncode == 0, f"{fields}: {done.stderr}{done.stdout}"
                expect_too_large(*done.stdout.rsplit("\n", 1))
                if "Transfer-Encoding: chunked" not in fields:
                    assert self.upstream.requests_count == seen, f"{fields}: it went upstream"
        return "413 three times"

    def large_upload_with_sdks(self) -> str:
        before = self.upstream.requests_count
        for seen in ask_all(self.route, "whole", "x" * UPLOAD_BYTES):
            assert isinstance(seen.error, seen.dialect.module.APIStatusError), f"{seen.label}: {seen.error!r}"
            assert seen.error.status_code == 413, f"{seen.label}: {seen.error!r}"
            code = seen.error.response.headers.get("X-Flow-Uring-Error")
            assert code == "body_too_large", f"{seen.label}: {code}"
            if seen.dialect is MESSAGES:
                assert isinstance(seen.error, anthropic.RequestTooLargeError), f"{seen.label}: {seen.error!r}"
        assert self.upstream.requests_count == before, "it went upstream"
        return "413 body_too_large"
