"""What LiteLLM asks in place of OpenAI, Anthropic and Google: it tells made-up usage in their own forms."""

from __future__ import annotations

import http.server
import json
import random
import threading

# The path of each dialect, in the order to look for them.
MESSAGES, CHAT, RESPONSES, EMBEDDINGS = "/messages", "/chat/completions", "/responses", "/embeddings"
TEXT = "made-up words"


class Provider:
    def __init__(self, seed: int) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.random = random.Random(seed)

    def start(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_stream = bool(request.get("stream")) or "stream" in self.path
        pick = self.server.random
        numbers = {name: pick.randint(0, 5000) for name in ("plain", "read", "write", "said", "thought")}
        make = next((make for part, make in MAKERS.items() if part in self.path), google)
        whole, events = make(request.get("model", ""), numbers)
        if is_stream:
            names = (f"event: {event['type']}\n" if "type" in event else "" for event in events)
            body = "".join(f"{name}data: {json.dumps(event)}\n\n" for name, event in zip(names, events))
            body += "data: [DONE]\n\n" * (make is chat)
        else:
            body = json.dumps(whole)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if is_stream else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_) -> None:
        """Says nothing."""


def chat(model: str, of: dict[str, int]) -> tuple[dict, list[dict]]:
    prompted, completed = of["plain"] + of["read"], of["said"] + of["thought"]
    usage = {"prompt_tokens": prompted, "completion_tokens": completed, "total_tokens": prompted + completed}
    usage |= {
        "prompt_tokens_details": {"cached_tokens": of["read"]},
        "completion_tokens_details": {"reasoning_tokens": of["thought"]},
    }
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": model, "usage": None}
    message = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
    begun = {"index": 0, "delta": {"role": "assistant", "content": TEXT}, "finish_reason": None}
    ended = {"index": 0, "delta": {}, "finish_reason": "stop"}
    events = [{**head, "choices": [begun]}, {**head, "choices": [ended]}, {**head, "choices": [], "usage": usage}]
    return {**head, "object": "chat.completion", "choices": [message], "usage": usage}, events


def responses(model: str, of: dict[str, int]) -> tuple[dict, list[dict]]:
    taken, given = of["plain"] + of["read"], of["said"] + of["thought"]
    usage = {"input_tokens": taken, "output_tokens": given, "total_tokens": taken + given}
    usage |= {
        "input_tokens_details": {"cached_tokens": of["read"]},
        "output_tokens_details": {"reasoning_tokens": of["thought"]},
    }
    part = {"type": "output_text", "text": TEXT, "annotations": []}
    output = [{"type": "message", "id": "m-1", "status": "completed", "role": "assistant", "content": [part]}]
    whole = {
        "id": "r-1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": model,
        "output": output,
    }
    whole |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": usage}
    delta = {
        "type": "response.output_text.delta",
        "item_id": "m-1",
        "output_index": 0,
        "content_index": 0,
        "delta": TEXT,
    }
    created = {"type": "response.created", "response": {**whole, "status": "in_progress", "output": [], "usage": None}}
    events = [created, delta, {"type": "response.completed", "response": whole}]
    return whole, [{**event, "sequence_number": number} for number, event in enumerate(events)]


def messages(model: str, of: dict[str, int]) -> tuple[dict, list[dict]]:
    usage = {
        "input_tokens": of["plain"],
        "cache_creation_input_tokens": of["write"],
        "cache_read_input_tokens": of["read"],
    }
    usage["output_tokens"] = of["said"]
    whole = {
        "id": "m-1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": TEXT}],
    }
    whole |= {"stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    return whole, [
        {"type": "message_start", "message": begun},
        block,
        delta,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": of["said"]}},
        {"type": "message_stop"},
    ]


def google(_: str, of: dict[str, int]) -> tuple[dict, list[dict]]:
    usage = {"promptTokenCount": of["plain"] + of["read"], "cachedContentTokenCount": of["read"]}
    usage |= {"candidatesTokenCount": of["said"], "thoughtsTokenCount": of["thought"]}
    usage["totalTokenCount"] = usage["promptTokenCount"] + of["said"] + of["thought"]
    candidate = {"content": {"parts": [{"text": TEXT}], "role": "model"}, "finishReason": "STOP", "index": 0}
    whole = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-pro"}
    return whole, [whole]


def embeddings(model: str, of: dict[str, int]) -> tuple[dict, list[dict]]:
    usage = {"prompt_tokens": of["plain"], "total_tokens": of["plain"]}
    vector = {"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}
    return {"object": "list", "data": [vector], "model": model, "usage": usage}, []


MAKERS = {MESSAGES: messages, CHAT: chat, RESPONSES: responses, EMBEDDINGS: embeddings}
