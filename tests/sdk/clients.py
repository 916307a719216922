#!/usr/bin/env python3
"""One Python client of the matrix: asks each model that it reads, a line each, through its gateway, and writes what its
user saw as a line of JSON. See `matrix`, and clients.mjs for the same in JavaScript.

    clients.py CLIENT BASE_URL
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

# What no answer here takes, even on a busy machine.
TIMEOUT_SECONDS = 60.0
KEY = "any-key-will-do"
PROMPT = "Good morning"
MESSAGES = [{"role": "user", "content": PROMPT}]

# Asks a model, and gives each piece of text with the reason why the answer ended, once that is known.
Ask = Callable[[str], Iterator[tuple[str, str | None]]]


def openai_client(base_url: str):
    import openai

    return openai.OpenAI(base_url=f"{base_url}/v1", api_key=KEY, max_retries=0, timeout=TIMEOUT_SECONDS)


def openai_chat(base_url: str) -> Ask:
    client = openai_client(base_url)

    def ask(model: str):
        for chunk in client.chat.completions.create(model=model, messages=MESSAGES, stream=True):
            for choice in chunk.choices:
                yield choice.delta.content or "", choice.finish_reason

    return ask


def openai_responses(base_url: str) -> Ask:
    client = openai_client(base_url)

    def ask(model: str):
        for event in client.responses.create(model=model, input=PROMPT, stream=True):
            if event.type == "response.output_text.delta":
                yield event.delta, None
            elif event.type == "response.completed":
                yield "", event.response.status

    return ask


def openai_responses_stream(base_url: str) -> Ask:
    client = openai_client(base_url)

    def ask(model: str):
        with client.responses.stream(model=model, input=PROMPT) as stream:
            for event in stream:
                if event.type == "response.output_text.delta":
                    yield event.delta, None
            yield "", stream.get_final_response().status

    return ask


def messages(client) -> Ask:
    def ask(model: str):
        for event in client.messages.create(model=model, max_tokens=99, messages=MESSAGES, stream=True):
            if event.type == "content_block_delta":
                yield event.delta.text, None
            elif event.type == "message_delta":
                yield "", event.delta.stop_reason

    return ask


def anthropic_messages(base_url: str) -> Ask:
    import anthropic

    return messages(anthropic.Anthropic(base_url=base_url, api_key=KEY, max_retries=0, timeout=TIMEOUT_SECONDS))


def anthropic_stream(base_url: str) -> Ask:
    import anthropic

    client = anthropic.Anthropic(base_url=base_url, api_key=KEY, max_retries=0, timeout=TIMEOUT_SECONDS)

    def ask(model: str):
        with client.messages.stream(model=model, max_tokens=99, messages=MESSAGES) as stream:
            for text in stream.text_stream:
                yield text, None
            yield "", stream.get_final_message().stop_reason

    return ask


def anthropic_vertex(base_url: str) -> Ask:
    import anthropic

    client = anthropic.AnthropicVertex(
        base_url=f"{base_url}/vertex_ai/v1",
        region="us-east5",
        project_id="project",
        access_token=KEY,
        max_retries=0,
        timeout=TIMEOUT_SECONDS,
    )
    return messages(client)


def google_genai(base_url: str) -> Ask:
    from google import genai

    options = genai.types.HttpOptions(base_url=base_url, timeout=int(TIMEOUT_SECONDS * 1000))
    client = genai.Client(api_key=KEY, http_options=options)

    def ask(model: str):
        for chunk in client.models.generate_content_stream(model=model, contents=PROMPT):
            for candidate in chunk.candidates or []:
                parts = candidate.content.parts if candidate.content else []
                text = "".join(part.text or "" for part in parts or [])
                yield text, candidate.finish_reason and candidate.finish_reason.name

    return ask


def google_genai_passed_through(base_url: str) -> Ask:
    return google_genai(f"{base_url}/gemini")


def langchain_chat(base_url: str, **settings) -> Ask:
    import langchain_openai

    def ask(model: str):
        chat = langchain_openai.ChatOpenAI(
            model=model, base_url=f"{base_url}/v1", api_key=KEY, max_retries=0, timeout=TIMEOUT_SECONDS, **settings
        )
        for chunk in chat.stream(PROMPT):
            yield chunk.text, chunk.response_metadata.get("finish_reason") or chunk.response_metadata.get("status")

    return ask


def langchain_responses(base_url: str) -> Ask:
    return langchain_chat(base_url, use_responses_api=True)


def seen(ask: Ask, model: str) -> dict:
    text, finish, error = "", None, None
    try:
        for piece, reason in ask(model):
            text += piece
            finish = reason or finish
    except Exception as raised:
        classes = [f"{cls.__module__.split('.')[0]}.{cls.__name__}" for cls in type(raised).__mro__]
        error = {"classes": classes, "message": str(raised)[:2000]}
    return {"text": text, "finish": finish, "error": error}


def main() -> None:
    name, base_url = sys.argv[1:]
    ask = globals()[name](base_url)
    for line in sys.stdin:
        print(json.dumps(seen(ask, line.strip())), flush=True)


if __name__ == "__main__":
    main()
