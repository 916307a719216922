// The streams that are open, and the exchanges that have ended last, with how.

import { byId, KeyedRows, make, makeButton, makeCells, setAttribute, setHidden, setText } from "./elements.js";
import { count, milliseconds, named, seconds, t, timeOfDay, UNKNOWN, usd } from "./language.js";

const ROWS_MAX = 100;

export class Streams {
  constructor() {
    const classNames = ["number", "name", "name", "name wide", "name wide path", "number"];
    this.rows = new KeyedRows(byId("streams").tBodies[0], () => makeCells(classNames), updateStream);
  }

  show(state) {
    const streams = state.streams.slice(0, ROWS_MAX);
    const values = { shown: streams.length, count: count(state.streams_count) };
    setText(byId("streams-hint"), t(streams.length < state.streams_count ? "streams_some" : "streams_hint", values));
    this.rows.show(streams, (stream) => stream.id);
    setHidden(byId("streams"), streams.length === 0);
    setHidden(byId("streams-empty"), streams.length > 0);
  }
}

function updateStream({ cells }, stream) {
  setText(cells[0], seconds(stream.age));
  setText(cells[1], stream.model ?? UNKNOWN);
  setText(cells[2], stream.key ?? UNKNOWN);
  setText(cells[3], stream.credential ?? UNKNOWN);
  setText(cells[4], stream.path);
  setText(cells[5], count(stream.tokens_so_far));
}

/** Tells whether an exchange ended otherwise than its client wanted. */
const isFailed = ({ end, status }) => end !== "ok" || status === null || status >= 400;

export class Exchanges {
  constructor(snippet) {
    const table = byId("exchanges");
    this.head = table.tHead.rows[0];
    this.rows = new KeyedRows(table.tBodies[0], () => this.makeRow(), (row, exchange) => this.update(row, exchange));
    this.open = null;
    this.exchanges = [];
    for (const id of ["filter", "only-failed"]) byId(id).addEventListener("input", () => this.showRows());
    this.snippet = make("code");
    this.invitation = make("span");
    byId("exchanges-empty").append(this.invitation, this.snippet);
    this.snippetText = snippet;
  }

  show({ exchanges }) {
    this.exchanges = exchanges.slice(0, ROWS_MAX);
    this.showRows();
  }

  showRows() {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const isOnlyFailed = byId("only-failed").checked;
    const failed = this.exchanges.filter(isFailed);
    const among = isOnlyFailed ? failed : this.exchanges;
    const found = words.length === 0 ? among : among.filter((exchange) => matches(exchange, words));
    // The open one has its details below it, as a row of their own.
    const items = found.flatMap((exchange) =>
      exchange.id === this.open ? [exchange, { id: `${exchange.id} details`, details: exchange }] : [exchange]);
    this.rows.show(items, (item) => item.id);
    const values = { shown: found.length, count: this.exchanges.length, failed: failed.length };
    setText(byId("exchanges-hint"), this.exchanges.length ? t("exchanges_hint", values) : "");
    setHidden(byId("exchanges"), found.length === 0);
    setHidden(byId("exchanges-empty"), found.length > 0);
    setText(this.invitation, t(this.exchanges.length ? "no_match" : "no_exchanges"));
    setText(this.snippet, this.exchanges.length ? "" : this.snippetText());
  }

  makeRow() {
    const row = makeCells(["time", "status", "name request", "name wide", "name wide", "name wider", "number wider", "number",
      "number wide", "number wide"]);
    row.method = make("span", "method");
    row.path = make("span");
    row.button = makeButton("details", "", () => this.toggle(row.id));
    row.button.append(row.method, row.path);
    row.model = make("span", "below narrow");
    row.ending = make("span", "below ending");
    row.cells[2].append(row.button, row.model, row.ending);
    row.details = make("td", "details", null, make("dl", "facts"));
    row.isDetails = false;
    return row;
  }

  toggle(id) {
    this.open = this.open === id ? null : id;
    this.showRows();
  }

  update(row, item) {
    const exchange = item.details ?? item;
    const isDetails = item.details !== undefined;
    row.id = exchange.id;
    setAttribute(row.element, "class", isDetails ? "open" : null);
    if (isDetails !== row.isDetails) {
      row.isDetails = isDetails;
      row.element.replaceChildren(...(isDetails ? [row.details] : row.cells));
    }
    if (isDetails) {
      // A narrow screen has fewer columns; more than there are would make room for the others.
      row.details.colSpan = [...this.head.cells].filter((cell) => cell.offsetParent !== null).length || 1;
      return describe(row.details.firstChild, exchange);
    }
    const [time, status, , model, credential, key, firstByte, duration, tokens, cost] = row.cells;
    setAttribute(row.element, "data-failed", isFailed(exchange) ? "" : null);
    setText(time, timeOfDay(exchange.at));
    setText(status, exchange.status === null ? UNKNOWN : String(exchange.status));
    setText(row.method, `${exchange.method} `);
    setText(row.path, exchange.path);
    setAttribute(row.button, "aria-expanded", String(exchange.id === this.open));
    setText(row.model, exchange.model ?? "");
    setText(row.ending, isFailed(exchange) ? howItFailed(exchange) : "");
    setText(model, exchange.model ?? UNKNOWN);
    setText(credential, exchange.credential ?? UNKNOWN);
    setText(key, exchange.key ?? UNKNOWN);
    setText(firstByte, milliseconds(exchange.ttfb_ms));
    setText(duration, milliseconds(exchange.duration_ms));
    setText(tokens, tokensOf(exchange));
    setText(cost, costOf(exchange));
  }
}

/** Says how an exchange failed: by its end, and by the error that the gateway made. */
function howItFailed({ end, code, attempts }) {
  const parts = end === "ok" ? [] : [named("end_", end)];
  if (code && code !== end) parts.push(code);
  if (attempts > 1) parts.push(t("of_attempts", { attempts }));
  return parts.join(" · ");
}

const tokensOf = ({ tokens_in: input, tokens_out: output }) =>
  input == null && output == null ? UNKNOWN : `${count(input)} · ${count(output)}`;

const costOf = ({ cost_usd: cost, cost_is_reported: isReported }) =>
  cost == null ? UNKNOWN : (isReported ? "" : "~") + usd(cost);

/** Tells whether each word is in one of the things that the exchange is known by; `5xx` is any such status. */
function matches(exchange, words) {
  const { status } = exchange;
  const family = status === null ? "" : `${Math.floor(status / 100)}xx`;
  const text = [status, family, exchange.method, exchange.path, exchange.model, exchange.key, exchange.credential,
    exchange.end, exchange.code, exchange.id, exchange.request_id].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

/** Lists all of an exchange that the table may have no room for. */
function describe(list, exchange) {
  const facts = [
    ["ending", named("end_", exchange.end)],
    ["code", exchange.code],
    ["model", exchange.model],
    ["credential", exchange.credential],
    ["key", exchange.key],
    ["attempts", count(exchange.attempts)],
    ["first_byte", milliseconds(exchange.ttfb_ms)],
    ["tokens_in_out", tokensOf(exchange)],
    ["usd", costOf(exchange)],
    ["request_id", exchange.request_id],
    ["log_id", exchange.id],
  ];
  while (list.children.length < facts.length) list.append(make("div", "", null, make("dt"), make("dd")));
  facts.forEach(([name, value], at) => {
    const [term, text] = list.children[at].children;
    setText(term, t(name));
    setText(text, value ?? UNKNOWN);
  });
}
