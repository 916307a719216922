"""Makes up answers of all the APIs that tell what they have used, and says what must be counted of each.

An answer is made of a random generator alone, so the same seed makes the same ones. What is counted follows the usage
of each dialect: Anthropic's `input_tokens` leaves out what came from the cache, Gemini's `candidatesTokenCount` what
was thought; the parts of an event are told again and again, and the last value counts.
"""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass, field
from decimal import Decimal

KINDS = ("input", "cache_read", "cache_write", "output", "reasoning")

# In dollars a token, as LiteLLM's file says it. Only answers that tell their usage and no cost have these models.
PRICES = {
    "priced-small": {"input_cost_per_token": 1e-06, "output_cost_per_token": 4e-06},
    "priced-cached": {
        "input_cost_per_token": 3e-06,
        "output_cost_per_token": 1.5e-05,
        "cache_read_input_token_cost": 3e-07,
        "cache_creation_input_token_cost": 3.75e-06,
    },
}
# Nobody knows what these cost, unless the answer says it.
UNPRICED = ("told-a", "told/b:c", 'told "d"\\e')

# Text that a reader of usage must not take for it.
LURES = ('"usage":{"prompt_tokens":999999}', 'a\ndata: {"usage":{}}\n\n', '\\"usage\\":{', "ünïcödé ☃ 🦀", "}" * 9)


@dataclass
class Answer:
    path: str
    model: str
    headers: list[tuple[str, str]]
    body: bytes
    counts: dict[str, int] = field(default_factory=dict)
    # What the answer says that it cost, and what it costs by the prices.
    reported: Decimal | None = None
    estimated: Decimal | None = None
    is_stream: bool = False
    is_coded: bool = False
    # How many bytes of the body are sent before the connection is closed.
    cut_at: int | None = None
    # How many bytes of the body are sent before the client leaves.
    left_at: int | None = None

    @property
    def is_told(self) -> bool:
        """If its usage is to be counted: of the others only their number is."""
        return bool(self.counts)

    @property
    def label(self) -> str:
        way = (
            "coded"
            if self.is_coded
            else "cut" if self.cut_at is not None else "left" if self.left_at is not None else "whole"
        )
        return f"{self.path} of {self.model}, {'streamed' if self.is_stream else 'at once'}, {way}"


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


class Maker:
    """Makes one answer after the other."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def answer(self) -> Answer:
        pick = self.random
        make = pick.choice(
            (self.chat, self.chat, self.completions, self.embeddings, self.responses, self.messages, self.gemini)
        )
        is_stream = make != self.embeddings and pick.random() < 0.6
        fate = pick.choices(("whole", "silent", "coded", "cut", "left"), (80, 6, 5, 5, 4))[0]
        if fate in ("cut", "left"):
            is_stream = make != self.embeddings
        is_told = fate == "whole"
        has_cost = is_told and pick.random() < 0.4
        model = pick.choice(UNPRICED) if has_cost or not is_told else pick.choice((*UNPRICED, *PRICES))
        counts = self.counts()
        cost = float(f"{pick.randint(1, 10**6)}e-9") if has_cost else None
        # A stream tells its cost in its usage, since its head is sent before.
        answer = make(model, counts, is_stream, fate != "silent", cost if is_stream else None)
        answer.is_stream = is_stream
        if has_cost and not is_stream:
            answer.headers.append(("x-litellm-response-cost", repr(cost)))
        # There are fields with names that begin the same, on all of LiteLLM's answers.
        answer.headers += [
            ("x-litellm-response-cost-original", "0.0"),
            ("x-litellm-model-group", model.encode().decode("latin-1")),
        ]
        self.meets(answer, fate)
        if is_told:
            # Only what its dialect can tell has been counted.
            answer.counts = {kind: answer.counts.get(kind, 0) for kind in KINDS}
            # Gemini's and Anthropic's have no room for a cost.
            if has_cost and (not is_stream or b'"cost"' in answer.body):
                answer.reported = Decimal(repr(cost))
            if answer.reported is None and model in PRICES:
                answer.estimated = cost_of(model, answer.counts)
        else:
            answer.counts = {}
        return answer

    def meets(self, answer: Answer, fate: str) -> None:
        pick = self.random
        if fate == "coded":
            answer.is_coded = True
            answer.body = gzip.compress(answer.body, mtime=0)
            answer.headers.append(("content-encoding", "gzip"))
        elif fate in ("cut", "left"):
            # Never in its last event, which in some dialects is all that tells.
            end = answer.body.rindex(b"data: {") if answer.is_stream else len(answer.body)
            at = pick.randrange(1, min(end, len(answer.body) // 2))
            if fate == "left" and answer.is_stream:
                answer.left_at = at
            else:
                answer.cut_at = at

    def counts(self) -> dict[str, int]:
        pick = self.random
        most = pick.choice((5, 300, 200_000))
        counts = dict.fromkeys(KINDS, 0)
        counts["input"], counts["output"] = pick.randint(3, most + 3), pick.randint(1, most)
        if pick.random() < 0.5:
            counts["cache_read"] = pick.randint(0, counts["input"])
        if pick.random() < 0.3:
            counts["cache_write"] = pick.randint(0, counts["input"] - counts["cache_read"])
        if pick.random() < 0.4:
            counts["reasoning"] = pick.randint(0, counts["output"])
        return counts

    def words(self) -> list[str]:
        pick = self.random
        words = [pick.choice(("so", "many", "words", " and", "\t", '"', *LURES)) for _ in range(pick.randint(2, 40))]
        if pick.random() < 0.03:
            # Longer than any piece that is kept.
            words.append("x" * pick.randint(60_000, 150_000))
        return words

    # The dialects. Each returns an answer whose counts are those that it tells.

    def openai_usage(self, counts: dict[str, int], cost: float | None) -> tuple[dict, dict[str, int]]:
        pick = self.random
        usage: dict = {"prompt_tokens": counts["input"], "completion_tokens": counts["output"]}
        usage["total_tokens"] = counts["input"] + counts["output"]
        told = {"input": counts["input"], "output": counts["output"]}
        if pick.random() < 0.6:
            usage["prompt_tokens_details"] = {"audio_tokens": 0, "cached_tokens": counts["cache_read"]}
            told["cache_read"] = counts["cache_read"]
            if pick.random() < 0.4:
                # As LiteLLM says it of Claude. The names are Anthropic's, but what was prompted holds them all.
                usage["prompt_tokens_details"] |= {"cache_creation_tokens": counts["cache_write"]}
                usage["cache_creation_input_tokens"] = counts["cache_write"]
                usage["cache_read_input_tokens"] = counts["cache_read"]
                told["cache_write"] = counts["cache_write"]
        elif pick.random() < 0.5:
            usage["prompt_tokens_details"] = None
        if pick.random() < 0.6:
            usage["completion_tokens_details"] = {
                "reasoning_tokens": counts["reasoning"],
                "accepted_prediction_tokens": None,
            }
            told["reasoning"] = counts["reasoning"]
        if cost is not None:
            usage["cost"] = cost
        items = list(usage.items())
        pick.shuffle(items)
        return dict(items), told

    def chat(self, model, counts, is_stream, is_told, cost, name="chat.completion", path="/v1/chat/completions"):
        pick = self.random
        usage, told = self.openai_usage(counts, cost)
        head = {"id": "c-1", "object": name, "created": 1, "model": model}
        is_chat = path.endswith("chat/completions")
        if not is_stream:
            choice = {"index": 0, "finish_reason": "stop"}
            text = "".join(self.words())
            choice |= {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
            whole = {**head, "choices": [choice]}
            if is_told:
                whole["usage"] = usage
            if pick.random() < 0.5:
                whole["service_tier"] = "default"
            return self.whole(path, model, whole, told)
        # With `include_usage` OpenAI's chunks all have a usage, which is null but for the last; LiteLLM's have none.
        null = {"usage": None} if is_told and pick.random() < 0.5 else {}
        if is_chat:
            chunk = {**head, "object": "chat.completion.chunk"}
            events = [{**chunk, "choices": [{"index": 0, "delta": {"content": word}}], **null} for word in self.words()]
            events.append({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], **null})
        else:
            chunk = head
            events = [{**chunk, "choices": [{"index": 0, "text": word}], **null} for word in self.words()]
        if is_told:
            choices = pick.choice(([], [{"index": 0, "delta": {}}] if is_chat else [{"index": 0}]))
            events.append({**chunk, "choices": choices, "usage": usage})
        return self.stream(path, model, [(None, event) for event in events], told, end="[DONE]")

    def completions(self, model, counts, is_stream, is_told, cost):
        return self.chat(model, counts, is_stream, is_told, cost, "text_completion", "/v1/completions")

    def embeddings(self, model, counts, is_stream, is_told, cost):
        vector = [self.random.random() for _ in range(self.random.choice((3, 200)))]
        whole = {"object": "list", "model": model, "data": [{"object": "embedding", "index": 0, "embedding": vector}]}
        if is_told:
            whole["usage"] = {"prompt_tokens": counts["input"], "total_tokens": counts["input"]}
        return self.whole("/v1/embeddings", model, whole, {"input": counts["input"]})

    def responses(self, model, counts, is_stream, is_told, cost):
        pick = self.random
        usage: dict = {"input_tokens": counts["input"], "output_tokens": counts["output"]}
        told = {"input": counts["input"], "output": counts["output"]}
        if pick.random() < 0.7:
            usage["input_tokens_details"] = {"cached_tokens": counts["cache_read"], "text_tokens": None}
            usage["output_tokens_details"] = {"reasoning_tokens": counts["reasoning"]}
            told |= {"cache_read": counts["cache_read"], "reasoning": counts["reasoning"]}
        usage |= {"total_tokens": counts["input"] + counts["output"], "cost": cost}
        words = self.words()
        output = [
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "".join(words)}]}
        ]
        status = pick.choice(("completed", "incomplete"))
        whole = {"id": "r-1", "object": "response", "model": model, "status": status, "output": output, "usage": None}
        if is_told:
            whole["usage"] = usage
        whole["store"] = True
        if not is_stream:
            return self.whole("/v1/responses", model, whole, told)
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        events = [("response.created", {"type": "response.created", "response": begun})]
        events += [
            ("response.output_text.delta", {"type": "response.output_text.delta", "delta": word}) for word in words
        ]
        events.append((f"response.{status}", {"type": f"response.{status}", "response": whole}))
        return self.stream("/v1/responses", model, events, told)

    def messages(self, model, counts, is_stream, is_told, cost):
        pick = self.random
        cached = {"cache_read_input_tokens": counts["cache_read"], "cache_creation_input_tokens": counts["cache_write"]}
        usage = {"input_tokens": counts["input"] - counts["cache_read"] - counts["cache_write"], **cached}
        told = {kind: counts[kind] for kind in ("input", "cache_read", "cache_write", "output")}
        words = self.words()
        whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn"}
        if not is_stream:
            whole["content"] = [{"type": "text", "text": "".join(words)}]
            if is_told:
                whole["usage"] = {**usage, "output_tokens": counts["output"]}
            return self.whole("/v1/messages", model, whole, told)
        # The beginning says how much went in, and a first guess of what comes out; the end says the last of it, at
        # times of all fields again. Of a model that is not Anthropic's LiteLLM knows nothing at the beginning.
        begun = {**whole, "content": [], "stop_reason": None}
        is_late = pick.random() < 0.3
        if is_told:
            begun["usage"] = {**(dict.fromkeys(usage, 0) if is_late else usage), "output_tokens": pick.randint(0, 3)}
        events = [("message_start", {"type": "message_start", "message": begun})]
        events.append(
            (
                "content_block_start",
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            )
        )
        delta = {"type": "content_block_delta", "index": 0}
        events += [("content_block_delta", {**delta, "delta": {"type": "text_delta", "text": word}}) for word in words]
        events.insert(pick.randrange(1, len(events)), ("ping", {"type": "ping"}))
        ended: dict = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
        if is_told:
            last = usage if is_late or pick.random() < 0.5 else {}
            for part in range(pick.randint(0, 2)):
                early = {**ended, "usage": {**last, "output_tokens": counts["output"] // (part + 2)}}
                events.append(("message_delta", early))
            events.append(("message_delta", {**ended, "usage": {**last, "output_tokens": counts["output"]}}))
        events.append(("message_stop", {"type": "message_stop"}))
        return self.stream("/v1/messages", model, events, told)

    def gemini(self, model, counts, is_stream, is_told, cost):
        pick = self.random
        # The model is in the path, where not every letter can stand.
        path = f"/v1beta/models/{percent(model)}:{'streamGenerateContent?alt=sse' if is_stream else 'generateContent'}"
        told = {"input": counts["input"], "output": counts["output"]}
        usage = {"promptTokenCount": counts["input"], "candidatesTokenCount": counts["output"]}
        if pick.random() < 0.6:
            usage |= {"cachedContentTokenCount": counts["cache_read"], "thoughtsTokenCount": counts["reasoning"]}
            usage["candidatesTokenCount"] = counts["output"] - counts["reasoning"]
            told |= {"cache_read": counts["cache_read"], "reasoning": counts["reasoning"]}
        usage["totalTokenCount"] = counts["input"] + counts["output"]
        words = self.words()

        def part(text, **more):
            return {
                "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}],
                **more,
                "modelVersion": model,
            }

        if not is_stream:
            return self.whole(path, model, part("".join(words), **({"usageMetadata": usage} if is_told else {})), told)
        events = []
        for word in words:
            # It tells how much it is so far, at times.
            so_far = {"usageMetadata": {"promptTokenCount": counts["input"], "totalTokenCount": counts["input"]}}
            events.append((None, part(word, **(so_far if is_told and pick.random() < 0.5 else {}))))
        events.append((None, part("", **({"usageMetadata": usage} if is_told else {}))))
        return self.stream(path, model, events, told)

    # Their bytes.

    def whole(self, path: str, model: str, value: dict, told: dict[str, int]) -> Answer:
        indent = self.random.choice((None, 2))
        body = json.dumps(value, indent=indent, ensure_ascii=self.random.random() < 0.5) if indent else compact(value)
        return Answer(path, model, [("content-type", "application/json")], body.encode(), told)

    def stream(self, path, model, events, told, end: str | None = None) -> Answer:
        pick = self.random
        line_end = pick.choice(("\n", "\n", "\r\n"))
        lines = []
        for name, event in events:
            if name:
                lines.append(f"event: {name}{line_end}")
            text = json.dumps(event, ensure_ascii=False) if pick.random() < 0.5 else compact(event)
            lines.append(f"data: {text}{line_end * 2}")
            if pick.random() < 0.05:
                lines.append(f": a comment, no usage{line_end * 2}")
        if end:
            lines.append(f"data: {end}{line_end * 2}")
        headers = [("content-type", pick.choice(("text/event-stream", "text/event-stream; charset=utf-8")))]
        return Answer(path, model, headers, "".join(lines).encode(), told)


def percent(text: str) -> str:
    return "".join(
        letter if letter.isalnum() or letter in "-._~" else "".join(f"%{byte:02X}" for byte in letter.encode())
        for letter in text
    )


def cost_of(model: str, counts: dict[str, int]) -> Decimal:
    """What the prices make of it: what was read from the cache, or written to it, has a price of its own, or not."""
    price = {name: Decimal(repr(value)) for name, value in PRICES[model].items()}
    ordinary = price["input_cost_per_token"]
    plain = counts["input"] - counts["cache_read"] - counts["cache_write"]
    return (
        plain * ordinary
        + counts["cache_read"] * price.get("cache_read_input_token_cost", ordinary)
        + counts["cache_write"] * price.get("cache_creation_input_token_cost", ordinary)
        + counts["output"] * price["output_cost_per_token"]
    )
