"""Requests and answers in the dialects of the APIs behind the gateway. Every answer names its request and its attempt
all the way through, so that a byte of another one is seen."""

from __future__ import annotations

import json

import turns

BASE_PATH = "/flow-llm-proxy"
DIALECTS = ("chat", "messages", "responses", "gemini")
# The first delta of a turn holds this word; the turn has so many deltas.
FIRST_WORD, WORDS_COUNT = turns.WORDS[0].encode(), len(turns.WORDS)
OBJECTS_COUNT = 50


def path_of(dialect: str, model: str, is_streamed: bool) -> str:
    if dialect == "gemini":
        return f"/v1beta/models/{model}:{'streamGenerateContent?alt=sse' if is_streamed else 'generateContent'}"
    return {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}[dialect]


def request_of(dialect: str, model: str, is_streamed: bool, text: str) -> bytes:
    if dialect == "gemini":
        return json.dumps({"contents": [{"role": "user", "parts": [{"text": text}]}]}).encode()
    request: dict = {"model": model, "stream": is_streamed}
    if dialect == "responses":
        request["input"] = text
    else:
        request |= {"max_tokens": 10, "messages": [{"role": "user", "content": text}]}
    return json.dumps(request).encode()


def stream_of(path: str, tag: str, count: int) -> list[bytes]:
    """A whole turn, event by event, with `count` deltas."""
    events = turns.turn_of(path)
    first = next(place for place, event in enumerate(events) if FIRST_WORD in event)
    # Google's last delta ends the turn.
    rest = events[first + WORDS_COUNT :] or events[-1:]
    deltas = [events[first].replace(FIRST_WORD, f"{tag}.{number} ".encode()) for number in range(count)]
    return events[:first] + deltas + rest


def whole_of(dialect: str, tag: str, size: int) -> bytes:
    """A whole answer with `size` bytes of text."""
    text = (f"{tag} " * (size // (len(tag) + 1) + 1))[:size]
    if dialect == "gemini":
        part = {"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP", "index": 0}
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 4, "totalTokenCount": 5}
        answer: dict = {"candidates": [part], "usageMetadata": usage}
    elif dialect == "messages":
        content = [{"type": "text", "text": text}]
        answer = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content}
        answer["usage"] = {"input_tokens": 1, "output_tokens": 4}
    elif dialect == "responses":
        content = [{"type": "output_text", "text": text, "annotations": []}]
        message = {"type": "message", "id": "msg_1", "role": "assistant", "content": content}
        # The gateway keeps who made an object: few, so that its memory comes to an end of that.
        answer = {
            "id": f"resp_{size % OBJECTS_COUNT}",
            "object": "response",
            "status": "completed",
            "output": [message],
        }
        answer["usage"] = {"input_tokens": 1, "output_tokens": 4, "total_tokens": 5}
    else:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        answer["usage"] = {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}
    return json.dumps(answer).encode()


def error_of(kind: str, message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "code": kind}}).encode()


def dialect_of(path: str) -> str:
    """The dialect that the API at `path` speaks."""
    path = path.split("?")[0]
    return next((name for name in ("messages", "responses", "chat") if f"/{name}" in path), "gemini")
