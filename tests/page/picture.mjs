// The picture of the live page for the README; scripts/picture says how it is called.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

import { HERE, launch, start, startMock, stopAll } from "./browser.mjs";

const BYTES_MAX = 200 * 1024;
/** Enough for a curve in a chart of 15 minutes. */
const SENDING_MS = 300_000;
const PAUSE_MS = 150;

const words = process.argv.slice(2);
const isMock = words[0] === "--mock";
const target = words.at(-1);

/** Starts a demo of its own in a directory of its own; returns the addresses of the gateway and of its page. */
async function startDemo(directory) {
  const binary = process.env.FLOW_URING_BIN ?? path.join(HERE, "../../target/release/flow-uring");
  const environment = Object.entries(process.env).filter(([name]) => !name.startsWith("FLOW_PROXY_"));
  const env = { ...Object.fromEntries(environment), XDG_STATE_HOME: directory, XDG_RUNTIME_DIR: directory };
  const banner = /admin\s+(http:\S+)[\s\S]*ANTHROPIC_BASE_URL=(\S+)/;
  const options = { cwd: directory, env };
  const { found } = await start(binary, ["demo", "--port", "0", "--admin", "127.0.0.1:0"], banner, options);
  return { admin: found[1], gateway: found[2] };
}

/** Sends requests of several kinds, some of which fail. */
async function sendSome(gateway) {
  const until = performance.now() + SENDING_MS;
  const send = (route, body) =>
    fetch(gateway + route, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) })
      .then((response) => response.text())
      .catch(() => {});
  const models = ["claude-sonnet-4-5", "gpt-5", "claude-haiku-4-5", "gpt-4o"];
  const open = [];
  for (let sent = 0; performance.now() < until; sent += 1) {
    const model = models[(sent * 7) % 4];
    const messages = [{ role: "user", content: "Tell me something about lighthouses, in a few sentences." }];
    const isChat = model.startsWith("gpt");
    const route = sent % 23 === 22 ? "/v1/nothing" : isChat ? "/v1/chat/completions" : "/v1/messages";
    open.push(send(route, { model, messages, max_tokens: 300, stream: sent % 3 !== 0 }));
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * (1 + (sent % 5))));
  }
  // The last ones are still open when the picture is taken.
  return open;
}

const directory = mkdtempSync(path.join(os.tmpdir(), "flow-uring-picture-"));
const browser = await launch();
try {
  const demo = isMock ? null : await startDemo(directory);
  const page = await browser.newPage({ viewport: { width: 1280, height: 860 }, colorScheme: "light" });
  await page.goto(demo?.admin ?? (await startMock()));
  await page.locator('#connection[data-state="live"]').waitFor();
  // The demo sends its own requests too while its page is open.
  if (demo !== null) await sendSome(demo.gateway);
  const png = await page.screenshot();
  assert.ok(png.length <= BYTES_MAX, `${png.length} bytes are too many`);
  writeFileSync(target, png);
  console.log(`${target}: ${statSync(target).size} bytes`);
} finally {
  await browser.close();
  stopAll();
  rmSync(directory, { recursive: true, force: true });
}
