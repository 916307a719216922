"""What web pages can do with a gateway: nothing, unless their origin is allowed. Drives a real Chromium, headless.

Two pages of different origins try whatever a page can try: `fetch` with and without CORS, a form, an image. What reaches
the upstream and what the page may read is compared with what should. A name that leads here by DNS rebinding is tried
too. Needs Python alone, and Debian's `chromium`, or another that CHROMIUM names; FLOW_URING_BIN names the gateway.
"""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "sdk"))

from gateway import Gateway  # noqa: E402

BASE_PATH = "/flow-llm-proxy"
# What a page takes at most, even on a busy machine.
BROWSER_SECONDS_MAX = 240

# Beside headless operation: nothing that a fresh profile would ask of the network.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--mute-audio",
]

# Each attempt asks for a path of its own, by which the upstream tells it apart.
PAGE = """<!doctype html><title>page</title><body><script>
const gateway = GATEWAY;
const outcome = {};
async function attempt(name, run) {
  try { outcome[name] = await run(); } catch (error) { outcome[name] = "failed: " + error.name; }
}
const path = name => gateway + "/v1/" + name;
const loaded = (element, start) => new Promise(resolve => {
  element.onload = () => resolve("loaded");
  element.onerror = () => resolve("error");
  // Long enough for a busy machine: something comes in any case.
  setTimeout(() => resolve("neither"), 60000);
  start();
});
(async () => {
  await attempt("fetch-json", async () => {
    const headers = {"content-type": "application/json", "authorization": "Bearer any", "x-stainless-os": "page"};
    const response = await fetch(path("fetch-json"), {method: "POST", headers, body: "{}"});
    return response.status + " " + await response.text() + " " + response.headers.get("x-upstream");
  });
  await attempt("fetch-get", async () => (await fetch(path("fetch-get"))).status);
  await attempt("fetch-no-cors", async () =>
    (await fetch(path("fetch-no-cors"), {method: "POST", mode: "no-cors", body: "{}"})).type);
  await attempt("refusal", async () => (await fetch(gateway + "/v1/../x%2e%2e/%2e%2e%2fy")).status);
  await attempt("form", () => {
    const frame = document.createElement("iframe");
    frame.name = "answer";
    const form = document.createElement("form");
    Object.assign(form, {method: "post", action: path("form"), enctype: "text/plain", target: "answer"});
    document.body.append(frame, form);
    return loaded(frame, () => form.submit());
  });
  await attempt("image", () => {
    const image = new Image();
    return loaded(image, () => { image.src = path("image"); });
  });
  await fetch("/outcome", {method: "POST", body: JSON.stringify(outcome)});
})();
</script>"""


class Server:
    """A server on a free port of 127.0.0.1 whose handler finds it as `self.server`."""

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, body: bytes, content_type: str, **fields: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class UpstreamHandler(Quiet):
    """Notes every request, and lets every page read its answer: it is the gateway that must not."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append(self.path.removeprefix(BASE_PATH + "/v1/"))
        self.answer(b'{"ok":true}', "application/json", Access_Control_Allow_Origin="*", X_Upstream="yes")

    do_POST = do_GET


class PageHandler(Quiet):
    def do_GET(self) -> None:
        if self.path != "/":
            return self.answer(b"", "text/plain")
        self.answer(PAGE.replace("GATEWAY", json.dumps(self.server.gateway)).encode(), "text/html")

    def do_POST(self) -> None:
        outcome = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b"", "text/plain")
        self.server.outcomes.put(json.loads(outcome))


class Browser:
    """One Chromium with a profile of its own, for one address."""

    def __init__(self, program: str, url: str, *flags: str) -> None:
        self.profile = tempfile.TemporaryDirectory(prefix="flow-uring-browser-", ignore_cleanup_errors=True)
        command = [program, *FLAGS, f"--user-data-dir={self.profile.name}", *flags, url]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.profile.cleanup()


def visit(program: str, page: Server) -> dict[str, object]:
    """Opens the page and returns what it says became of its attempts."""
    page.server.outcomes = queue.Queue()
    with Browser(program, f"http://127.0.0.1:{page.port}/", "--remote-debugging-port=0"):
        return page.server.outcomes.get(timeout=BROWSER_SECONDS_MAX)


def text_of(program: str, url: str, *flags: str) -> str:
    with Browser(program, url, "--dump-dom", *flags) as browser:
        return browser.process.communicate(timeout=BROWSER_SECONDS_MAX)[0]


def main() -> int:
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        print("Chromium is missing: apt install chromium", file=sys.stderr)
        return 1
    binary = os.environ.get("FLOW_URING_BIN") or str(HERE.parent.parent / "target/release/flow-uring")
    failures: list[str] = []

    def check(what: str, found: object, expected: object) -> None:
        print(f"{'ok' if found == expected else 'FAILED'}  {what}: {found}")
        if found != expected:
            failures.append(what)

    upstream, allowed, other = Server(UpstreamHandler), Server(PageHandler), Server(PageHandler)
    upstream.server.seen = []
    url = f"http://127.0.0.1:{upstream.port}{BASE_PATH}"
    gateway = Gateway(binary, "--upstream", url, "--allow-origin", f"http://127.0.0.1:{allowed.port}")
    base_url = gateway.start()
    allowed.server.gateway = other.server.gateway = base_url
    try:
        outcome = visit(program, other)
        check("a page of another origin reaches the upstream with", upstream.server.seen, [])
        for name in ("fetch-json", "fetch-get"):
            check(f"its {name} is", outcome[name], "failed: TypeError")
        check("its fetch-no-cors is", outcome["fetch-no-cors"], "opaque")
        check("its image is", outcome["image"], "error")

        outcome = visit(program, allowed)
        seen = sorted(upstream.server.seen)
        check("a page of the allowed origin reaches it with", seen, ["fetch-get", "fetch-json", "fetch-no-cors", "form"])
        check("its fetch-json is", outcome["fetch-json"], '200 {"ok":true} yes')
        check("its fetch-get is", outcome["fetch-get"], 200)
        check("it may read the gateway's own errors:", outcome["refusal"], 400)

        upstream.server.seen.clear()
        port = base_url.rsplit(":", 1)[1]
        rebound = text_of(program, f"http://evil.test:{port}/v1/rebound", "--host-resolver-rules=MAP evil.test 127.0.0.1")
        check("a name that leads here by rebinding is refused", "--allow-host" in rebound, True)
        check("and reaches the upstream with", upstream.server.seen, [])
        typed = text_of(program, f"{base_url}/")
        check("the address itself, typed by a person, is answered", "flow-uring" in typed, True)
    finally:
        code = gateway.stop()
        for server in (upstream, allowed, other):
            server.stop()
    check("the gateway's exit code is", code, 0)
    if failures:
        print("".join(gateway.output), file=sys.stderr)
    print(f"{len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
