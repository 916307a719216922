// What to paste into a client so that it uses this gateway.

import { byId, Choice, setText } from "./elements.js";
import { t } from "./language.js";

/** The text for each client, of the base URL and the key; as in docs/clients.md. */
const CLIENTS = {
  curl: (url, key, needsKey) => {
    const header = needsKey ? ` \\\n  -H "Authorization: Bearer ${key}"` : "";
    return `curl ${url}/v1/models${header}`;
  },
  "Claude Code": (url, key) => `ANTHROPIC_BASE_URL=${url} ANTHROPIC_AUTH_TOKEN=${key} claude`,
  Codex: (url, key, needsKey) => {
    const lines = [
      "# ~/.codex/config.toml",
      'model_provider = "flow"',
      "",
      "[model_providers.flow]",
      'name = "Flow"',
      `base_url = "${url}/v1"`,
      'wire_api = "responses"',
    ];
    if (needsKey) lines.push(`env_key = "FLOW_URING_KEY"   # export FLOW_URING_KEY=${key}`);
    return lines.join("\n");
  },
  "OpenAI SDK": (url, key) => `export OPENAI_BASE_URL=${url}/v1\nexport OPENAI_API_KEY=${key}`,
  "Anthropic SDK": (url, key) => `export ANTHROPIC_BASE_URL=${url}\nexport ANTHROPIC_API_KEY=${key}`,
};

const COPIED_MS = 1500;

export class Snippets {
  constructor() {
    this.choice = new Choice(byId("clients"), Object.keys(CLIENTS), "tab", () => this.showText());
    byId("copy").addEventListener("click", () => this.copy());
  }

  show(state) {
    this.url = baseUrl(state);
    this.needsKey = state.needs_key;
    this.choice.label((client) => client);
    setText(byId("connect-hint"), t(this.needsKey ? "connect_key" : "connect_hint"));
    this.showText();
  }

  /** The request to begin with. */
  first() {
    return this.textOf("curl");
  }

  textOf(client) {
    return CLIENTS[client](this.url, this.needsKey ? "YOUR-KEY" : "any", this.needsKey);
  }

  showText() {
    setText(byId("snippet-text"), this.textOf(this.choice.chosen));
    byId("snippet").setAttribute("aria-labelledby", `client-${this.choice.chosen}`);
  }

  async copy() {
    const button = byId("copy");
    try {
      await navigator.clipboard.writeText(this.textOf(this.choice.chosen));
      setText(button, t("copied"));
      setTimeout(() => setText(button, t("copy")), COPIED_MS);
    } catch {
      // Without TLS, on another address than loopback, a page may not write there: the text is marked, to be copied by hand.
      getSelection().selectAllChildren(byId("snippet-text"));
    }
  }
}

/**
 * The address under which this reader's machine finds the gateway: one that listens on all addresses calls itself by that of
 * loopback, which is another machine for who opened the page from elsewhere.
 */
function baseUrl({ base_url: url, listen }) {
  const isForAll = listen.startsWith("0.0.0.0:") || listen.startsWith("[::]:");
  if (!isForAll || ["127.0.0.1", "[::1]", "localhost"].includes(location.hostname)) return url;
  const reachable = new URL(url);
  reachable.hostname = location.hostname;
  return reachable.origin;
}
