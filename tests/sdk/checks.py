"""What the official SDKs must be able to do through the gateway. A check fails by an exception of any kind."""

from __future__ import annotations

import asyncio
import collections
import functools
import inspect
import json
import os
import re
import subprocess
import time

import anthropic
import openai

from route import Route

CHAT_MODEL = "gpt-4o-mini"
CLAUDE_MODEL = "claude-sonnet-4"
BAD_MODEL = "no-such-model"
PROMPT = [{"role": "user", "content": "Good morning"}]
CREDENTIALS = ("alice-demo", "bob-demo", "carol-demo")

LARGE_BYTES = 5_000_000
LARGE_PROMPT = [{"role": "user", "content": "x" * LARGE_BYTES}]
CONCURRENT_COUNT = 50

# Tokens come every 40 ms. Events closer together than this count as one arrival.
DISTINCT_SECONDS = 0.005
DISTINCT_ARRIVALS_MIN = 5
ROUNDS_MAX = 5

# What nothing takes here, even on a busy machine.
CURL_SECONDS_MAX = "120"


class HeldBack(AssertionError):
    """The events of a stream came at once, or nearly so."""


class Arrivals:
    """When the events of a stream came, so that a stream that was held back and came at once is told apart."""

    def __init__(self) -> None:
        self.distinct = 0
        self.last = float("-inf")

    def note(self) -> None:
        now = time.monotonic()
        if now - self.last >= DISTINCT_SECONDS:
            self.distinct += 1
        self.last = now

    def expect_paced(self) -> str:
        if self.distinct < DISTINCT_ARRIVALS_MIN:
            raise HeldBack(f"only {self.distinct} distinct arrival times, in each of {ROUNDS_MAX} rounds")
        return f"{self.distinct} arrivals"


def paced(check):
    """Repeats a check whose stream came at once. So does one whose reader a busy machine holds up, now and then; one that
    the gateway holds back does every time."""

    @functools.wraps(check)
    async def repeated(route: Route) -> str:
        for left in reversed(range(ROUNDS_MAX)):
            try:
                result = check(route)
                return await result if inspect.isawaitable(result) else result
            except HeldBack:
                if left == 0:
                    raise

    return repeated


def credential_in(text: str) -> str:
    found = [name for name in CREDENTIALS if name in text]
    assert len(found) == 1, f"no credential, or several, in {text!r}"
    return found[0]


def expect_answer(text: str | None) -> str:
    assert text and "Good morning" in text, f"the prompt is not echoed in {text!r}"
    return credential_in(text)


def expect_large(text: str | None) -> str:
    received = re.search(r"request of (\d+) bytes", text or "")
    assert received and int(received.group(1)) > LARGE_BYTES, f"the body did not arrive whole: {text!r}"
    return f"{received.group(1)} bytes"


# OpenAI, sync


def openai_models(route: Route) -> str:
    ids = [model.id for model in route.openai().models.list()]
    assert CHAT_MODEL in ids and CLAUDE_MODEL in ids, ids
    return f"{len(ids)} models"


def openai_chat(route: Route) -> str:
    answer = route.openai().chat.completions.create(model=CHAT_MODEL, messages=PROMPT)
    assert answer.choices[0].finish_reason == "stop" and answer.usage.total_tokens > 0, answer
    return expect_answer(answer.choices[0].message.content)


@paced
def openai_chat_stream(route: Route) -> str:
    arrivals, text, finish, usage = Arrivals(), "", None, None
    options = {"include_usage": True}
    stream = route.openai().chat.completions.create(
        model=CHAT_MODEL, messages=PROMPT, stream=True, stream_options=options
    )
    for chunk in stream:
        arrivals.note()
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    expect_answer(text)
    assert finish == "stop" and usage.completion_tokens > 0, (finish, usage)
    return arrivals.expect_paced()


def openai_responses(route: Route) -> str:
    answer = route.openai().responses.create(model=CHAT_MODEL, input="Good morning")
    assert answer.status == "completed" and answer.usage.total_tokens > 0, answer
    return expect_answer(answer.output_text)


@paced
def openai_responses_stream(route: Route) -> str:
    arrivals, kinds, numbers = Arrivals(), [], []
    with route.openai().responses.stream(model=CHAT_MODEL, input="Good morning") as stream:
        for event in stream:
            arrivals.note()
            kinds.append(event.type)
            numbers.append(event.sequence_number)
        final = stream.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
    assert numbers == list(range(len(numbers))), numbers
    expect_answer(final.output_text)
    return arrivals.expect_paced()


def openai_embeddings(route: Route) -> str:
    answer = route.openai().embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert [item.index for item in answer.data] == [0, 1] and answer.data[0].embedding, answer
    return f"{len(answer.data)} vectors"


def openai_large_bodies(route: Route) -> str:
    client = route.openai()
    answer = client.chat.completions.create(model=CHAT_MODEL, messages=LARGE_PROMPT)
    expect_large(answer.choices[0].message.content)
    return expect_large(client.responses.create(model=CHAT_MODEL, input="x" * LARGE_BYTES).output_text)


def openai_errors(route: Route) -> str:
    client = route.openai()
    for ask in (
        lambda: client.chat.completions.create(model=BAD_MODEL, messages=PROMPT),
        lambda: client.chat.completions.create(model=BAD_MODEL, messages=PROMPT, stream=True),
        lambda: client.responses.create(model=BAD_MODEL, input="Good morning"),
    ):
        try:
            ask()
        except openai.BadRequestError as error:
            assert BAD_MODEL in error.message and error.code == "400", error
        else:
            raise AssertionError("a bad model was accepted")
    try:
        client.models.retrieve("nothing")
    except openai.NotFoundError:
        return "BadRequestError, NotFoundError"
    raise AssertionError("an unknown path was accepted")


# Anthropic, sync


def anthropic_messages(route: Route) -> str:
    answer = route.anthropic().messages.create(model=CLAUDE_MODEL, max_tokens=99, messages=PROMPT)
    assert answer.stop_reason == "end_turn" and answer.usage.output_tokens > 0, answer
    return expect_answer(answer.content[0].text)


@paced
def anthropic_messages_stream(route: Route) -> str:
    arrivals, kinds = Arrivals(), []
    client = route.anthropic()
    for event in client.messages.create(model=CLAUDE_MODEL, max_tokens=99, messages=PROMPT, stream=True):
        arrivals.note()
        kinds.append(event.type)
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop", kinds
    with client.messages.stream(model=CLAUDE_MODEL, max_tokens=99, messages=PROMPT) as stream:
        expect_answer("".join(stream.text_stream))
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn", final
    return arrivals.expect_paced()


def anthropic_count_tokens(route: Route) -> str:
    count = route.anthropic().messages.count_tokens(model=CLAUDE_MODEL, messages=PROMPT).input_tokens
    assert count > 0, count
    return f"{count} tokens"


def anthropic_large_bodies(route: Route) -> str:
    answer = route.anthropic().messages.create(model=CLAUDE_MODEL, max_tokens=99, messages=LARGE_PROMPT)
    return expect_large(answer.content[0].text)


def anthropic_errors(route: Route) -> str:
    try:
        route.anthropic().messages.create(model=BAD_MODEL, max_tokens=99, messages=PROMPT)
    except anthropic.BadRequestError as error:
        assert BAD_MODEL in error.message, error
        return "BadRequestError"
    raise AssertionError("a bad model was accepted")


# Both, async


async def openai_async(route: Route) -> str:
    async with route.openai_async() as client:
        assert CHAT_MODEL in [model.id async for model in client.models.list()]
        answer = await client.chat.completions.create(model=CHAT_MODEL, messages=PROMPT)
        expect_answer(answer.choices[0].message.content)
        expect_answer((await client.responses.create(model=CHAT_MODEL, input="Good morning")).output_text)
        answer = await client.chat.completions.create(model=CHAT_MODEL, messages=LARGE_PROMPT)
        return expect_large(answer.choices[0].message.content)


@paced
async def openai_async_streams(route: Route) -> str:
    chat, responses, text = Arrivals(), Arrivals(), ""
    async with route.openai_async() as client:
        async for chunk in await client.chat.completions.create(model=CHAT_MODEL, messages=PROMPT, stream=True):
            chat.note()
            text += chunk.choices[0].delta.content or ""
        expect_answer(text)
        async with client.responses.stream(model=CHAT_MODEL, input="Good morning") as stream:
            async for _ in stream:
                responses.note()
            expect_answer((await stream.get_final_response()).output_text)
    chat.expect_paced()
    return responses.expect_paced()


@paced
async def anthropic_async(route: Route) -> str:
    async with route.anthropic_async() as client:
        answer = await client.messages.create(model=CLAUDE_MODEL, max_tokens=99, messages=PROMPT)
        expect_answer(answer.content[0].text)
        answer = await client.messages.create(model=CLAUDE_MODEL, max_tokens=99, messages=LARGE_PROMPT)
        expect_large(answer.content[0].text)
        arrivals = Arrivals()
        async with client.messages.stream(model=CLAUDE_MODEL, max_tokens=99, messages=PROMPT) as stream:
            async for _ in stream:
                arrivals.note()
            expect_answer((await stream.get_final_message()).content[0].text)
        return arrivals.expect_paced()


async def concurrent_streams(route: Route) -> str:
    """Fifty streams at once, shared evenly by the credentials."""

    async def one(client: openai.AsyncOpenAI) -> str:
        text = ""
        async for chunk in await client.chat.completions.create(model=CHAT_MODEL, messages=PROMPT, stream=True):
            text += chunk.choices[0].delta.content or ""
        return expect_answer(text)

    started = time.monotonic()
    async with route.openai_async() as client:
        used = await asyncio.gather(*(one(client) for _ in range(CONCURRENT_COUNT)))
    shares = collections.Counter(used)
    assert set(shares) == set(CREDENTIALS), shares
    assert max(shares.values()) - min(shares.values()) <= 1, f"uneven shares: {shares}"
    return f"{CONCURRENT_COUNT} streams in {time.monotonic() - started:.1f} s"


# The gateway itself


def round_robin(route: Route) -> str:
    """Successive requests take the credentials in turn, in one fixed order."""
    client = route.openai().with_options(default_headers={"Connection": "close"})
    used = []
    for _ in range(3 * len(CREDENTIALS)):
        answer = client.chat.completions.create(model=CHAT_MODEL, messages=PROMPT)
        used.append(expect_answer(answer.choices[0].message.content))
    first = CREDENTIALS.index(used[0])
    expected = [CREDENTIALS[(first + turn) % len(CREDENTIALS)] for turn in range(len(used))]
    assert used == expected, f"not in turn: {used}"
    return ", ".join(name.removesuffix("-demo") for name in used[:4]) + ", ..."


def other_hosts_are_refused(route: Route) -> str:
    """As a forward proxy the gateway serves its upstream alone."""
    answer = route.http().get("http://another-host.example/v1/models")
    assert answer.status_code == 403, answer.status_code
    assert answer.headers["x-flow-uring-error"] == "not_an_open_proxy", answer.headers
    assert "NO_PROXY" in answer.json()["error"]["message"], answer.text
    return "403 not_an_open_proxy"


def curl_through_the_proxy(route: Route) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    command = ["curl", "-sS", "--fail-with-body", "-m", CURL_SECONDS_MAX, "-x", route.proxy, f"{route.root}/v1/models"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr + done.stdout
    return f"{len(json.loads(done.stdout)['data'])} models"


OPENAI = [
    openai_models,
    openai_chat,
    openai_chat_stream,
    openai_responses,
    openai_responses_stream,
    openai_embeddings,
    openai_large_bodies,
    openai_errors,
    openai_async,
    openai_async_streams,
    concurrent_streams,
    round_robin,
]
ANTHROPIC = [
    anthropic_messages,
    anthropic_messages_stream,
    anthropic_count_tokens,
    anthropic_large_bodies,
    anthropic_errors,
    anthropic_async,
]
FORWARD = [curl_through_the_proxy, other_hosts_are_refused]


def of(route: Route) -> list:
    """The checks that make sense on a route."""
    checks = list(OPENAI)
    if not route.uses_legacy_httpx:
        checks += ANTHROPIC
        checks += FORWARD if route.proxy else []
    return checks
