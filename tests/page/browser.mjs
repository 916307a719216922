// What the checks of the live page and its picture have in common: the programs that they start, and the browser.
//
// Invariant: what was started here is ended by `stopAll`, and nothing else is.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const HERE = path.dirname(fileURLToPath(import.meta.url));
const NODE_DIRECTORY = process.env.PAGE_NODE_DIRECTORY ?? path.join(HERE, "../../target/page-node");
/** What no program takes to begin, even on a busy machine. */
const START_MS_MAX = 60_000;

export const packages = createRequire(path.join(NODE_DIRECTORY, "package.json"));

const started = [];

/** Starts a program; returns what `pattern` finds in what it prints, and the process. */
export function start(program, words, pattern, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"], ...options });
    started.push(child);
    let printed = "";
    const fail = (why) => reject(new Error(`${program} ${words.join(" ")}: ${why}\n${printed}`));
    const patience = setTimeout(() => fail("it said nothing in time"), START_MS_MAX);
    const read = (bytes) => {
      // Read on, so that it never waits for this side; but kept only until it is known.
      if (printed === null) return;
      printed += bytes;
      const found = pattern.exec(printed);
      if (found === null) return;
      printed = null;
      clearTimeout(patience);
      resolve({ found, child });
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("error", (error) => fail(error.message));
    child.on("exit", (code) => printed === null || fail(`it ended with ${code}`));
  });
}

/** Starts the stand-in for the gateway; returns its address. */
export async function startMock(...words) {
  const { found } = await start("python3", [path.join(HERE, "mock.py"), "--port", "0", ...words], /http:\S+/);
  return found[0];
}

export function stopAll() {
  for (const child of started) child.kill("SIGTERM");
}

/** Starts Debian's Chromium, or the one that CHROMIUM names. */
export function launch() {
  const { chromium } = packages("playwright-core");
  const executablePath = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
  if (executablePath === undefined) throw new Error("Chromium is missing: apt install chromium");
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"] });
}
