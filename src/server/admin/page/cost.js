// What the answers cost: three sums, and seven days by model, key or credential.

import { ask, messageOf } from "./connection.js";
import { byId, Choice, KeyedRows, make, makeCells, setAttribute, setHidden, setShare, setText } from "./elements.js";
import { compact, count, sumOfCost, t, UNKNOWN, usd } from "./language.js";

const SPANS = ["today", "days_7", "days_30"];
const SPLITS = ["model", "key", "credential"];
const ROWS_FIRST = 8;
const DAYS = 30;
const DAY_MS = 86_400_000;
/** The file of totals is written once a minute, and a day's bar grows slowly. */
const DAYS_AGE_MS_MAX = 300_000;

export class Cost {
  /** `redraw` draws the page, where it may be drawn: some of it comes later than the state. */
  constructor(say, redraw) {
    this.sums = SPANS.map((name) => new Sum(name));
    this.days = new Days(redraw);
    byId("sums").append(...this.sums.map((sum) => sum.element), this.days.element);
    this.choice = new Choice(byId("cost-by"), SPLITS, "group", () => this.showRows());
    this.rows = new KeyedRows(byId("costs").tBodies[0], makeRow, (row, item) => this.update(row, item));
    this.isWhole = false;
    byId("costs-more").addEventListener("click", () => {
      this.isWhole = !this.isWhole;
      this.showRows();
    });
    byId("csv").addEventListener("click", () => download(say));
  }

  show(state) {
    this.usageBy = state.usage_by;
    // Without a file of totals all spans are the same: since the start.
    const hasDays = state.usage.is_counted && state.usage.has_file;
    for (const sum of this.sums) sum.show(state.cost[sum.name], hasDays);
    setAttribute(byId("sums"), "data-single", hasDays ? null : "");
    this.days.show(state, hasDays);
    setHidden(byId("csv"), !hasDays);
    const hint = !state.usage.is_counted ? "cost_off" : hasDays ? "cost_hint" : "cost_since_start";
    setText(byId("cost-hint"), t(hint));
    this.choice.label((split) => t(`by_${split}`));
    this.showRows();
  }

  showRows() {
    const split = this.choice.chosen;
    const items = this.usageBy[split];
    this.most = Math.max(0, ...items.map(weightOf));
    this.unnamed = t(`none_${split}`);
    this.rows.show(this.isWhole ? items : items.slice(0, ROWS_FIRST), (item) => `${split} ${item.name}`);
    setText(byId("costs-name"), t(split));
    setHidden(byId("costs"), items.length === 0);
    setHidden(byId("costs-empty"), items.length > 0);
    setText(byId("costs-empty"), t("no_cost"));
    setHidden(byId("costs-more"), items.length <= ROWS_FIRST);
    setAttribute(byId("costs-more"), "aria-expanded", String(this.isWhole));
    setText(byId("costs-more"), this.isWhole ? t("show_fewer") : t("show_all", { count: items.length }));
  }

  update({ cells, bar }, item) {
    const [name, requests, input, cached, output, cost] = cells;
    setText(name, item.name || this.unnamed);
    setText(requests, count(item.requests));
    setText(input, compact(item.input_tokens));
    setText(cached, compact(item.cache_read_tokens));
    setText(output, compact(item.output_tokens));
    setText(cost, sumOfCost(item));
    setShare(bar, weightOf(item) / this.most);
  }
}

/** What the bars compare: cost, but tokens where no price is known. */
const weightOf = (item) => sumOf(item) || (item.input_tokens + item.output_tokens) * 1e-12;

function makeRow() {
  const row = makeCells(["name", "number", "number wide", "number wide", "number wide", "number strong", "wide bar-cell"]);
  row.bar = make("span", "share");
  row.cells[6].append(row.bar);
  return row;
}

class Sum {
  constructor(name) {
    this.name = name;
    this.title = make("h3");
    this.total = make("strong");
    this.note = make("p", "note");
    this.facts = ["sum_requests", "sum_tokens", "sum_cached", "sum_without"].map((fact) => {
      const term = make("dt");
      const value = make("dd");
      return { fact, term, value, element: make("div", "", null, term, value) };
    });
    this.element = make("article", "sum", null, this.title, make("p", "figures", null, this.total), this.note,
      make("dl", "facts", null, ...this.facts.map((fact) => fact.element)));
  }

  show(cost, hasDays) {
    setHidden(this.element, !hasDays && this.name !== SPANS[0]);
    setText(this.title, t(hasDays ? this.name : "since_start"));
    setText(this.total, sumOfCost(cost));
    const parts = [t("reported", { reported: usd(cost.reported_usd) })];
    if (cost.estimated_usd > 0) parts.push(t("estimated", { estimated: `~${usd(cost.estimated_usd)}` }));
    setText(this.note, sumOfCost(cost) === UNKNOWN ? t("no_price") : parts.join(" · "));
    setAttribute(this.total, "data-unknown", sumOfCost(cost) === UNKNOWN ? "" : null);
    const values = [
      count(cost.requests),
      `${compact(cost.input_tokens)} · ${compact(cost.output_tokens)}`,
      compact(cost.cache_read_tokens),
      count(cost.without_usage),
    ];
    this.facts.forEach(({ fact, term, value }, at) => {
      setText(term, t(fact));
      setText(value, values[at]);
    });
  }
}

/** The cost of each of the last days, as bars. */
class Days {
  constructor(redraw) {
    this.redraw = redraw;
    this.title = make("h3");
    this.readout = make("p", "note");
    this.bars = Array.from({ length: DAYS }, () => make("span", "day", null, make("span")));
    this.chart = make("div", "days", null, ...this.bars);
    this.chart.setAttribute("role", "img");
    this.element = make("article", "sum", null, this.title, this.readout, this.chart);
    this.bars.forEach((bar, at) => bar.addEventListener("pointerenter", () => this.read(at)));
    this.chart.addEventListener("pointerleave", () => this.read(DAYS - 1));
    this.asked = -Infinity;
    this.costs = null;
  }

  show(state, hasDays) {
    setHidden(this.element, !hasDays);
    if (!hasDays) return;
    setText(this.title, t("by_day"));
    if (performance.now() - this.asked > DAYS_AGE_MS_MAX) {
      this.asked = performance.now();
      this.load(state.now * 1000);
    }
    this.draw();
  }

  async load(now) {
    // Without an answer the bars stay as they are; what is wrong shows elsewhere.
    const response = await ask(`/api/usage?since=${DAYS}d&by=day`, { headers: { accept: "application/json" } }).catch(() => null);
    if (!response?.ok) return;
    const { rows } = await response.json();
    const byDay = new Map(rows.map((row) => [row.day, row]));
    this.costs = this.bars.map((_, at) => {
      const day = new Date(now - (DAYS - 1 - at) * DAY_MS).toISOString().slice(0, 10);
      const row = byDay.get(day) ?? { reported_cost_usd: 0, estimated_cost_usd: 0, input_tokens: 0, output_tokens: 0 };
      return { ...row, day, reported_usd: row.reported_cost_usd, estimated_usd: row.estimated_cost_usd };
    });
    this.redraw();
  }

  draw() {
    setHidden(this.chart, this.costs === null);
    if (this.costs === null) return;
    const most = Math.max(...this.costs.map(sumOf));
    const texts = this.costs.map((cost) => t("days_hint", { day: cost.day, cost: sumOfCost(cost) }));
    this.bars.forEach((bar, at) => {
      const height = `${(most > 0 ? (sumOf(this.costs[at]) / most) * 100 : 0).toFixed(1)}%`;
      if (bar.firstChild.style.height !== height) bar.firstChild.style.height = height;
    });
    setAttribute(this.chart, "aria-label", t("days_label", { days: texts.join(", ") }));
    if (!this.chart.matches(":hover")) this.read(DAYS - 1);
  }

  /** Says what one day cost. */
  read(at) {
    const cost = this.costs?.[at];
    if (cost) setText(this.readout, t("days_hint", { day: cost.day, cost: sumOfCost(cost) }));
  }
}

const sumOf = (cost) => cost.reported_usd + cost.estimated_usd;

/** Saves the totals of 30 days as a file: a link alone could not ask for CSV. */
async function download(say) {
  try {
    const response = await ask("/api/usage?since=30d&by=day,model,key,credential", { headers: { accept: "text/csv" } });
    if (!response.ok) throw new Error(await messageOf(response));
    const link = make("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = "flow-uring-usage.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  } catch (error) {
    say(t("csv_failed", { reason: error.message }));
  }
}
