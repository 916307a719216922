#!/usr/bin/env python3
"""A stand-in for the admin listener that serves the live page's files with made-up figures.

    python3 tests/page/mock.py --credentials 200 --streams 2000        http://127.0.0.1:8900/

Its figures follow from the time alone. `POST /mock/KEY/VALUE` changes how it behaves: `token` asks for a log-in, `drop`
ends the open streams of events, `down` answers 503 and ends them, `busy` refuses streams of events, `empty` has no request
yet, `stage` and `hanging` are the stage and the shards that do not answer, `model` is the name of one,
`quota` empty asks nobody for quotas, `keys` empty has no key with limits. It prints its address when it listens.
"""

from __future__ import annotations

import argparse
import http.server
import json
import math
import pathlib
import threading
import time
import urllib.parse

ASSETS = pathlib.Path(__file__).resolve().parent.parent.parent / "src/server/admin/page"
CONTENT_TYPES = {".css": "text/css", ".js": "text/javascript", ".html": "text/html; charset=utf-8"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
STEP = 5
STEPS = 180
ROWS_MAX = 100
MODELS = ["claude-sonnet-4-5", "gpt-5", "claude-haiku-4-5", "gpt-4o", "gemini-2.5-pro", "text-embedding-3-large"]
KEYS = ["ci-runner", "ana", "joao", "notebooks", None]
PATHS = ["/v1/messages", "/v1/chat/completions", "/v1/responses", "/v1/embeddings"]
# How one in so many exchanges ends: end, status, code.
FAILURES = [
    ("client_disconnected", 200, None), ("ok", 429, None), ("timeout", 504, "upstream_timeout"),
    ("refused", 401, "key_missing"), ("upstream_closed", 200, "upstream_closed"), ("upstream_unreachable", None, None),
]


class World:
    """What the gateway would know."""

    def __init__(self, credentials: int, streams: int) -> None:
        self.started = time.time() - 93784
        self.names = [f"team-{at + 1:03}" for at in range(credentials)] if credentials > 6 else [
            "alice", "bob", "carol", "dave", "erin", "frank"][:credentials]
        self.streams_count = streams
        self.lock = threading.Lock()
        # Until when each credential rests, for which model, and why.
        self.rests: dict[str, list[tuple[str, str | None, str, float]]] = {}
        for at, name in enumerate(self.names):
            if at % 17 == 1:
                self.rest(name, "model", MODELS[at % 4], "429 rate_limit_error", 240 + at * 7)
            if at % 41 == 2:
                self.rest(name, "all", None, "401 refused, another was accepted", 900 + at)
        self.settings = {"keys": "yes", "quota": "yes", "token": "", "empty": "", "stage": "serving", "hanging": "0", "down": "", "busy": "", "drop": ""}

    def rest(self, name: str, scope: str, what: str | None, reason: str, duration: float) -> None:
        self.rests.setdefault(name, []).append((scope, what, reason, time.time() + duration))

    def wake(self, name: str) -> bool | None:
        if name not in self.names:
            return None
        return bool(self.rests.pop(name, []))

    def state(self, is_event: bool) -> dict[str, object]:
        now = time.time()
        is_empty = bool(self.settings["empty"])
        streams = [] if is_empty else self.streams(now)
        exchanges = [] if is_empty else self.exchanges(now)
        shards = 2
        return {
            "version": "0.1.0", "started": self.started, "now": now, "listen": "127.0.0.1:8899",
            "base_url": "http://127.0.0.1:8899", "is_tls": False, "upstream": "https://flow.ciandt.com/flow-llm-proxy",
            "driver": "io_uring", "stage": self.settings["stage"],
            "shards": {"count": shards, "answering": shards - int(self.settings["hanging"] or 0)},
            "usage": {"is_counted": True, "has_file": not is_empty}, "needs_key": False,
            "now_figures": figures(now, 0 if is_empty else self.streams_count, is_empty),
            "totals": {"requests": 0 if is_empty else int((now - self.started) * 3.1),
                       "errors": {"4xx": 0 if is_empty else 212, "5xx": 0 if is_empty else 17, "none": 0 if is_empty else 5}},
            "history": history(now, 1 if is_event else STEPS, 0 if is_empty else self.streams_count, is_empty),
            "cost": {name: cost(0 if is_empty else scale + now % 86400 / 40000) for name, scale in
                     (("today", 1.0), ("days_7", 9.0), ("days_30", 41.0))},
            "usage_by": {
                "model": [] if is_empty else [{"name": name, **cost(4 / (at + 1))} for at, name in enumerate(MODELS)],
                "key": [] if is_empty else [{"name": name or "", **cost(5 / (at + 1))} for at, name in enumerate(KEYS)],
                "credential": [] if is_empty else [{"name": name, **cost(4 / (at + 1))} for at, name in
                                                   enumerate(self.names[:50])],
            },
            "credentials": self.credentials(now, is_empty), "quota": self.quota(now), "keys": self.keys(now),
            "streams": streams, "streams_count": 0 if is_empty else self.streams_count, "exchanges": exchanges,
        }

    def credentials(self, now: float, is_empty: bool) -> list[dict[str, object]]:
        found = []
        for at, name in enumerate(self.names):
            rests = [
                {"scope": scope, "what": what, "reason": reason, "ends_in": round(until - now, 1)}
                for scope, what, reason, until in self.rests.get(name, []) if until > now
            ]
            rests.sort(key=lambda rest: rest["scope"] != "all")
            state = "up" if not rests else "resting" if rests[0]["scope"] == "all" else "limited"
            share = (1 + math.sin(at * 1.7) * 0.4) / len(self.names)
            found.append({
                "name": name, "weight": 2 if at % 9 == 4 else 1, "state": state, "rest": rests[0] if rests else None,
                "rests": rests, "requests": 0 if is_empty else int((now - self.started) * 3 * share),
                "errors": 0 if is_empty else at % 5, "share": 0 if is_empty else share,
            })
        return found

    def keys(self, now: float) -> dict[str, object]:
        if not self.settings["keys"]:
            return {"count": 0, "listed": []}

        def limit(name: str, used: float, of: float, refused: int = 0) -> dict[str, object]:
            return {"limit": name, "used": used, "of": of, "refused": refused}

        listed = [
            {"name": "ci-runner", "waiting": 7, "limits": [limit("parallel", 5, 5, 12), limit("usd_per_month", 81.2, 500)]},
            {"name": "notebooks", "waiting": 0, "limits": [limit("tokens_per_day", 2_100_000, 2_000_000, 31)]},
        ]
        for at, name in enumerate(name for name in KEYS[1:3]):
            listed.append({"name": name, "waiting": 0, "limits": [
                limit("requests_per_minute", 12 + at, 60), limit("tokens_per_minute", 91_000 * (1 - at / 2), 100_000),
                limit("usd_per_day", 3.2 / (at + 1), 25)]})
        listed += [{"name": f"student-{at:04}", "waiting": 0, "limits": [limit("tokens_per_day", 0, 50_000)]}
                   for at in range(96)]
        return {"count": 10_000, "listed": listed}

    def quota(self, now: float) -> dict[str, object] | None:
        if not self.settings["quota"]:
            return None

        def amount(used: float, limit: float | None, is_blocked: bool, runs_out: float | None) -> dict[str, object]:
            return {"used": used, "limit": limit, "is_blocked": is_blocked, "renewal": int(now + 11 * 86400),
                    "runs_out": runs_out and int(now + runs_out * 86400), "told": int(now - now % 300)}

        users = []
        for at, name in enumerate(self.names[1:]):
            share = 0.31 + 0.19 * (at % 4)
            is_blocked = at == 2
            users.append({
                "name": f"user-{at + 1:03}", "credentials": self.names[:2] if at == 0 else [name], "is_blocked": is_blocked,
                "budget": amount(250.0 if is_blocked else 250 * share, 250.0, is_blocked, 6.5 if at == 1 else None),
                "requests": None if at == 3 else amount(1834 + now % 600, 5000.0 if at % 2 else None, False, None),
            })
        return {"users": users, "failing": 1 if len(users) > 3 else 0}

    def streams(self, now: float) -> list[dict[str, object]]:
        shown = min(ROWS_MAX, self.streams_count)
        found = []
        for at in range(shown):
            # Each lives between 20 s and 80 s, and another one takes its place.
            life = 20 + at * 37 % 60
            generation, age = divmod(now + at * 11, life)
            found.append({
                "id": f"{at % 2}-{int(generation * 1000 + at):x}", "age": round(age, 1), "model": MODELS[at % 5],
                "key": KEYS[at % 5], "credential": self.names[at % len(self.names)], "path": PATHS[at % 3],
                "tokens_so_far": int(age * (18 + at % 50)),
            })
        return sorted(found, key=lambda stream: -stream["age"])

    def exchanges(self, now: float) -> list[dict[str, object]]:
        newest = int(now * 3)
        return [self.exchange(number) for number in range(newest, newest - ROWS_MAX, -1)]

    def exchange(self, number: int) -> dict[str, object]:
        end, status, code = FAILURES[number // 9 % len(FAILURES)] if number % 9 == 0 else ("ok", 200, None)
        is_answered = status == 200
        return {
            "id": f"{number % 2}-{number % 1000000:x}", "request_id": f"req-{number % 10**9:09}", "at": number / 3,
            "method": "POST", "path": PATHS[number % 4], "status": status, "end": end, "code": code,
            "credential": self.names[number % len(self.names)] if code != "key_missing" else None, "key": KEYS[number % 5],
            "model": MODELS[number % 6], "attempts": 2 if number % 13 == 0 else 1,
            "ttfb_ms": 90.0 + number * 71 % 1900 if status else None, "duration_ms": 400.0 + number * 137 % 14000,
            "tokens_in": 100 + number * 53 % 24000 if is_answered else None,
            "tokens_out": 20 + number * 31 % 1800 if is_answered else None,
            "cost_usd": (number % 97 + 1) / 3000 if is_answered else None, "cost_is_reported": number % 4 != 0,
        }


def wave(moment: float) -> float:
    """Some traffic of between 0 and 1, which is the same whenever it is asked for the same moment."""
    return 0.5 + 0.22 * math.sin(moment / 97) + 0.16 * math.sin(moment / 23) + 0.12 * math.sin(moment * 1.3)


def figures(now: float, streams: int, is_empty: bool) -> dict[str, object]:
    if is_empty:
        return {"requests_per_second": 0, "time_to_first_byte_p50": None, "time_to_first_byte_p95": None,
                "open_streams": 0, "open_exchanges": 0, "errors_per_second": 0, "output_tokens_per_second": 0}
    return {
        "requests_per_second": 6 * wave(now), "time_to_first_byte_p50": 0.3 + 0.2 * wave(now),
        "time_to_first_byte_p95": 1 + 1.6 * wave(now * 1.1), "open_streams": streams, "open_exchanges": streams + 1,
        "errors_per_second": 0.4 if wave(now / 3) > 0.8 else 0, "output_tokens_per_second": 900 * wave(now),
    }


def history(now: float, steps: int, streams: int, is_empty: bool) -> dict[str, object]:
    end = int(now // STEP * STEP)
    moments = [end - STEP * (steps - 1 - at) for at in range(steps)]
    # The first steps are from before its start.
    waves = [None if is_empty or (steps > 1 and at < 20) else wave(moment) for at, moment in enumerate(moments)]

    def each(of):
        return [None if value is None else of(value, moment) for value, moment in zip(waves, moments)]

    return {
        "step": STEP, "end": end,
        "requests": each(lambda value, _: int(value * 30)),
        "errors": each(lambda value, moment: int(value * 4) if moment // STEP % 13 == 0 else 0),
        "ttfb_p50": each(lambda value, _: 0.3 + 0.2 * value),
        "ttfb_p95": each(lambda value, moment: 1 + 1.6 * wave(moment * 1.1)),
        "open_streams": each(lambda value, _: int(streams * value * 2)),
        "tokens_out": each(lambda value, _: int(4500 * value)), "cost_usd": each(lambda value, _: value / 20),
    }


def cost(scale: float) -> dict[str, object]:
    return {
        "requests": int(scale * 4100), "input_tokens": int(scale * 19_400_000), "output_tokens": int(scale * 1_210_000),
        "cache_read_tokens": int(scale * 11_800_000), "reported_usd": scale * 31.4, "estimated_usd": scale * 4.2,
        "without_usage": int(scale * 31),
    }


def usage_by_day(now: float) -> dict[str, object]:
    """As `flow-uring usage --since 30d --by day --json`; the weekends are quiet."""
    days = [time.gmtime(now - 86400 * before) for before in range(29, -1, -1)]
    rows = [{"day": time.strftime("%Y-%m-%d", day), "reported_cost_usd": (4 if day.tm_wday > 4 else 50) + day.tm_mday * 7 % 23,
             "input_tokens": 1, "output_tokens": 1, "estimated_cost_usd": day.tm_mday * 3 % 11} for day in days]
    return {"since": rows[0]["day"], "by": ["day"], "rows": rows}


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        world, path = self.server.world, urllib.parse.urlsplit(self.path).path
        if path == "/":
            return self.send_asset(ASSETS / "index.html")
        if path.startswith("/assets/"):
            name = pathlib.PurePath(path).name
            found = [file for file in (ASSETS / name, ASSETS / "vendor" / name) if file.is_file()]
            return self.send_asset(found[0]) if found else self.answer(404, b"no such asset")
        if world.settings["down"]:
            return self.fail(503, "The gateway is down.")
        if world.settings["token"] and f"session={world.settings['token']}" not in self.headers.get("Cookie", ""):
            return self.fail(401, "Log in first.")
        if path == "/api/state":
            return self.send_json(world.state(is_event=False))
        if path == "/api/events":
            return self.fail(503, "Too many streams of events.") if world.settings["busy"] else self.send_events()
        if path == "/api/usage" and "csv" not in self.headers.get("Accept", ""):
            return self.send_json(usage_by_day(time.time()))
        if path == "/api/usage":
            return self.answer(200, b"day,model,requests\n2026-11-30,gpt-5,3\n", "text/csv")
        self.fail(404, "There is nothing here.")

    def do_POST(self) -> None:
        world = self.server.world
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = [urllib.parse.unquote(part) for part in self.path.split("/")[1:]]
        if parts[0] == "mock":
            world.settings[parts[1]] = parts[2]
            if parts[1] == "model":
                MODELS[1] = parts[2]
                world.rest("frank", "model", parts[2], "429", 60)
            return self.send_json(world.settings)
        if parts[0] == "login":
            token = json.loads(body)["token"]
            if token != world.settings["token"]:
                return self.fail(401, "That is not the token.")
            return self.send_json({}, Set_Cookie=f"session={token}; HttpOnly; SameSite=Strict; Path=/")
        if parts[0] == "logout":
            return self.send_json({}, Set_Cookie="session=; Max-Age=0; HttpOnly; SameSite=Strict; Path=/")
        if parts[:2] == ["api", "credentials"] and parts[3:] == ["wake"]:
            woken = world.wake(parts[2])
            return self.fail(404, "There is no such credential.") if woken is None else self.send_json({"woken": woken})
        if parts[:2] == ["api", "rest"]:
            world.rest(parts[2], "all", None, "401", 600)
            return self.send_json({})
        self.fail(404, "There is nothing here.")

    def send_events(self) -> None:
        world = self.server.world
        world.settings["drop"] = ""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            while not world.settings["drop"] and not world.settings["down"]:
                state = world.state(is_event=True)
                self.wfile.write(f"id: {state['history']['end']}\ndata: {json.dumps(state)}\n\n".encode())
                self.wfile.flush()
                time.sleep(1)
        except OSError:
            pass

    def send_asset(self, file: pathlib.Path) -> None:
        self.answer(200, file.read_bytes(), CONTENT_TYPES[file.suffix])

    def send_json(self, value: object, **fields: str) -> None:
        self.answer(200, json.dumps(value).encode(), "application/json", **fields)

    def fail(self, status: int, message: str) -> None:
        error = {"error": {"message": message, "type": "flow_uring_error", "code": "made_up"}}
        self.answer(status, json.dumps(error).encode(), "application/json")

    def answer(self, status: int, body: bytes, content_type: str = "text/plain", **fields: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8900, help="0 is any that is free")
    parser.add_argument("--credentials", type=int, default=6)
    parser.add_argument("--streams", type=int, default=14)
    parser.add_argument("--empty", action="store_true", help="no request yet")
    arguments = parser.parse_args()
    server = Server(("127.0.0.1", arguments.port), Handler)
    server.world = World(arguments.credentials, arguments.streams)
    server.world.settings["empty"] = "yes" if arguments.empty else ""
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
