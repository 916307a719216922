"""A whole turn in each of the streaming dialects, event by event, as the servers that users reach through LiteLLM write
it: with its field order, its spaces and its line ends."""

from __future__ import annotations

import json

# The answer, with letters of several bytes and with escapes, both of which can be cut too.
WORDS = ("one ", "zwei ", 'três "😀"\n', "four")
WHOLE_TEXT = "".join(WORDS)


def turn_of(path: str) -> list[bytes]:
    """The events of the API at `path`."""
    path = path.split("?")[0]
    if path.endswith("/chat/completions"):
        return chat_turn()
    if path.endswith("/responses"):
        return responses_turn()
    if path.endswith(("/messages", ":streamRawPredict")):
        return messages_turn()
    if path.endswith(":streamGenerateContent"):
        # What Google itself sends, which a pass-through relays, ends its lines by CRLF.
        return gemini_turn("\r\n" if "/gemini/" in path else "\n")
    raise ValueError(f"no streaming API at {path}")


def chat_turn() -> list[bytes]:
    def chunk(delta: dict, **members) -> dict:
        choice = {"index": 0, "delta": delta}
        if "finish_reason" in members:
            choice = {"finish_reason": members.pop("finish_reason"), **choice}
        return {
            "id": "chatcmpl-1",
            "created": 1,
            "model": "m",
            "object": "chat.completion.chunk",
            "choices": [choice],
            **members,
        }

    usage = {"completion_tokens": 4, "prompt_tokens": 1, "total_tokens": 5}
    chunks = [
        chunk({"content": "", "role": "assistant"}),
        *(chunk({"content": word}) for word in WORDS),
        chunk({}, finish_reason="stop"),
        chunk({}, usage=usage),
    ]
    return [f"data: {compact(chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"]


def responses_turn() -> list[bytes]:
    def part(text: str) -> dict:
        return {"type": "output_text", "text": text, "annotations": []}

    def message(status: str, content: list[dict]) -> dict:
        return {"type": "message", "id": "msg_1", "status": status, "role": "assistant", "content": content}

    def response(status: str, **members) -> dict:
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": "m",
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "output": [],
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            **members,
        }

    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    whole = message("completed", [part(WHOLE_TEXT)])
    usage = {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 5,
    }
    events = [
        {"type": "response.created", "response": response("in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": message("in_progress", [])},
        {"type": "response.content_part.added", **place, "part": part("")},
        *({"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in WORDS),
        {"type": "response.output_text.done", **place, "text": WHOLE_TEXT, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part(WHOLE_TEXT)},
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
        {"type": "response.completed", "response": response("completed", output=[whole], usage=usage)},
    ]
    return [named({**event, "sequence_number": number}, compact) for number, event in enumerate(events)]


def messages_turn() -> list[bytes]:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    events = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in WORDS),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]
    return [named(event, json.dumps) for event in events]


def gemini_turn(line_end: str) -> list[bytes]:
    def chunk(text: str, **members) -> dict:
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, **members, "index": 0}
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 4, "totalTokenCount": 5}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r1"}

    chunks = [*(chunk(word) for word in WORDS[:-1]), chunk(WORDS[-1], finishReason="STOP")]
    return [f"data: {compact(chunk)}{line_end}{line_end}".encode() for chunk in chunks]


def named(event: dict, written) -> bytes:
    return f"event: {event['type']}\ndata: {written(event)}\n\n".encode()


def compact(value: dict) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
