#!/usr/bin/env python3
"""Clients of WebSockets that nobody here wrote, through the gateway to the demo: run by hand.

    tests/sdk/sockets.py --node /path/with/node_modules [--codex /path/to/codex]

Python: `websockets` and the OpenAI SDK's Realtime, of the interpreter that runs this. Node: `ws` and the OpenAI SDK's
Realtime (`wss://` alone, so the gateway speaks TLS for it). Codex, told to use WebSocket. curl. The binary is that of
FLOW_URING_BIN, else target/debug/flow-uring. Each client has to get a whole answer, and the gateway's line has to say
`status=101` with its tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import openai
import websockets

from gateway import Gateway

BINARY = os.environ.get("FLOW_URING_BIN", "target/debug/flow-uring")
ANSWER = "Hello from the demo upstream!"
LIMIT_SECONDS = 60

NODE_WS = """
import WebSocket from 'ws';
const ws = new WebSocket(process.argv[2] + '/responses', 'realtime');
let text = '';
ws.on('open', () => ws.send(JSON.stringify({ type: 'response.create', model: 'gpt-4o-mini', input: 'hi' })));
ws.on('message', (message) => {
  const event = JSON.parse(message);
  if (event.type === 'response.output_text.delta') text += event.delta;
  if (event.type === 'response.completed') ws.ping();
});
ws.on('pong', () => ws.close(1000, 'bye'));
ws.on('close', (code) => { console.log(text, code, ws.protocol); process.exit(code === 1000 ? 0 : 1); });
"""

NODE_OPENAI = """
import OpenAI from 'openai';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';
const client = new OpenAI({ baseURL: process.argv[2], apiKey: 'any' });
const realtime = new OpenAIRealtimeWS({ model: 'gpt-4o-mini' }, client);
let text = '';
realtime.on('error', (error) => { console.error(error.message); process.exit(1); });
realtime.on('response.output_text.delta', (event) => { text += event.delta; });
realtime.on('response.done', (event) => { console.log(text, event.response.usage.total_tokens); realtime.close(); });
realtime.socket.on('open', () => {
  const content = [{ type: 'input_text', text: 'Say hello!' }];
  realtime.send({ type: 'session.update', session: { type: 'realtime', output_modalities: ['text'] } });
  realtime.send({ type: 'conversation.item.create', item: { type: 'message', role: 'user', content } });
  realtime.send({ type: 'response.create' });
});
"""

CODEX = """
model = "gpt-5"
model_provider = "flow"

[model_providers.flow]
name = "Flow"
base_url = "{url}"
wire_api = "responses"
supports_websockets = true
"""


async def python_websockets(root: str) -> str:
    async with websockets.connect(f"{root.replace('http', 'ws', 1)}/v1/responses") as socket:
        texts = []
        for number in range(3):
            request = {"type": "response.create", "model": "gpt-5", "input": f"hello {number}"}
            await socket.send(json.dumps(request))
            text = ""
            while True:
                event = json.loads(await socket.recv())
                text += event.get("delta", "") if event["type"] == "response.output_text.delta" else ""
                if event["type"] in ("response.completed", "error"):
                    break
            texts.append(text)
        await (await socket.ping())
    assert len(texts) == 3
    return texts[-1]


def python_openai(root: str) -> str:
    text = ""
    with openai.OpenAI(base_url=f"{root}/v1", api_key="any").realtime.connect(model="gpt-4o-mini") as connection:
        connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        content = [{"type": "input_text", "text": "Say hello!"}]
        connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        connection.response.create()
        for event in connection:
            text += event.delta if event.type == "response.output_text.delta" else ""
            if event.type in ("response.done", "error"):
                break
    return text


def node(script: str, url: str, modules: str, certificate: str | None = None) -> str:
    environment = dict(os.environ)
    if certificate:
        environment["NODE_EXTRA_CA_CERTS"] = certificate
    # Where it stands decides which modules it finds.
    with tempfile.NamedTemporaryFile("w", suffix=".mjs", dir=modules) as file:
        file.write(script)
        file.flush()
        return run(["node", file.name, url], environment)


def codex(program: str, root: str) -> str:
    with tempfile.TemporaryDirectory() as home:
        with open(os.path.join(home, "config.toml"), "w", encoding="utf-8") as config:
            config.write(CODEX.format(url=f"{root}/v1"))
        return run([program, "exec", "--skip-git-repo-check", "hi"], {**os.environ, "CODEX_HOME": home})


def curl(root: str) -> str:
    upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    fields = [*upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    command = ["curl", "-sSi", "--http1.1", "--max-time", "1", f"{root}/v1/realtime?model=gpt-4o-mini"]
    command += [part for field in fields for part in ("-H", field)]
    output = subprocess.run(command, capture_output=True, timeout=LIMIT_SECONDS).stdout.decode("utf-8", "replace")
    assert "101 Switching Protocols" in output and "session.created" in output, output
    return ANSWER


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def socket_url(root: str) -> str:
    return f"{root}/v1".replace("http", "ws", 1)


def certified(directory: str) -> tuple[str, str]:
    certificate, key = (os.path.join(directory, name) for name in ("cert.pem", "key.pem"))
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return certificate, key


def check(name: str, gateway: Gateway, ask) -> bool:
    seen = len(gateway.output)
    try:
        answer = ask()
        assert ANSWER in answer, answer
    except Exception as error:  # a client of any kind
        print(f"FAILED {name}: {type(error).__name__}: {error}")
        return False
    deadline = time.monotonic() + LIMIT_SECONDS
    line = None
    while line is None and time.monotonic() < deadline:
        time.sleep(0.05)
        line = next((line for line in gateway.output[seen:] if "status=101" in line), None)
    if line is None:
        print(f"FAILED {name}: no line with status=101: {gateway.output[seen:]}")
        return False
    facts = re.findall(r"\b(?:path|bytes_in|bytes_out|end|model|tokens_in|tokens_out)=\S+", line)
    print(f"ok {name}: {' '.join(facts)}")
    return True


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--node", required=True, help="directory whose node_modules has ws and openai")
    parser.add_argument("--codex", help="the program")
    arguments = parser.parse_args()
    version = run(["node", "--version"], dict(os.environ)).strip()
    print(f"websockets {websockets.__version__}, openai {openai.__version__}, node {version}")
    results = []
    with tempfile.TemporaryDirectory() as directory:
        certificate, key = certified(directory)
        plain = Gateway(BINARY, "demo")
        secured = Gateway(BINARY, "--tls-cert", certificate, "--tls-key", key, "demo")
        root = plain.start()
        tls = secured.start().replace("http://127.0.0.1", "https://localhost")
        try:
            results += [
                check("Python websockets", plain, lambda: asyncio.run(python_websockets(root))),
                check("Python openai, Realtime", plain, lambda: python_openai(root)),
                check("Node ws", plain, lambda: node(NODE_WS, socket_url(root), arguments.node)),
                check("Node ws, TLS", secured, lambda: node(NODE_WS, socket_url(tls), arguments.node, certificate)),
                check(
                    "Node openai, Realtime, TLS",
                    secured,
                    lambda: node(NODE_OPENAI, f"{tls}/v1", arguments.node, certificate),
                ),
                check("curl", plain, lambda: curl(root)),
            ]
            if arguments.codex:
                results.append(check("Codex", plain, lambda: codex(arguments.codex, root)))
        finally:
            plain.stop()
            secured.stop()
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
