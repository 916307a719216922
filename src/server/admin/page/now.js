// What happens now: four figures, each over its chart of 15 minutes.

import { make, setText, setAttribute } from "./elements.js";
import { compact, count, milliseconds, rate, t, timeOfDay, UNKNOWN } from "./language.js";

const CHART_HEIGHT = 84;
/** Half a label of a time is wider than this to the left of its moment. */
const ZERO_PIXELS = 16;
const toMilliseconds = (value) => (value == null ? null : value * 1000);

/** The tiles; `series` are names in the history, `lines` the classes whose colour their lines have. */
const TILES = [
  {
    name: "requests_per_second",
    series: ["requests"],
    lines: ["accent"],
    value: (value, step) => (value == null ? null : value / step),
    format: rate,
    figures: (now) => [[null, rate(now.requests_per_second)]],
    note: (state) => t("all_requests", { requests: count(state.totals.requests) }),
  },
  {
    name: "time_to_first_byte",
    series: ["ttfb_p50", "ttfb_p95"],
    lines: ["accent", "quiet"],
    value: toMilliseconds,
    format: milliseconds,
    axis: (value) => (value === 0 ? "0" : value < 1000 ? `${value} ms` : `${value / 1000} s`),
    figures: (now) => [
      ["p50", milliseconds(toMilliseconds(now.time_to_first_byte_p50))],
      ["p95", milliseconds(toMilliseconds(now.time_to_first_byte_p95))],
    ],
    note: () => t("of_answers"),
  },
  {
    name: "open_streams",
    series: ["open_streams"],
    lines: ["accent"],
    value: (value) => value,
    format: count,
    axis: compact,
    // There is no half a stream.
    increments: [1, 2, 5].flatMap((digit) => Array.from({ length: 7 }, (_, power) => digit * 10 ** power)).sort((a, b) => a - b),
    figures: (now) => [[null, count(now.open_streams)]],
    note: ({ now_figures: now }) =>
      t("open_exchanges", { exchanges: count(now.open_exchanges), tokens: compact(now.output_tokens_per_second) }),
  },
  {
    name: "errors_per_second",
    series: ["errors"],
    lines: ["bad"],
    value: (value, step) => (value == null ? null : value / step),
    format: rate,
    figures: (now) => [[null, rate(now.errors_per_second)]],
    note: ({ totals: { errors } }) =>
      t("all_errors", { client: count(errors["4xx"]), server: count(errors["5xx"]), none: count(errors.none) }),
  },
];

export class Now {
  constructor(parent) {
    this.tiles = TILES.map((tile) => new Tile(tile));
    parent.append(...this.tiles.map((tile) => tile.element));
  }

  /** Shows the figures, and the charts if the history has changed. */
  show(state, history, isChanged) {
    for (const tile of this.tiles) tile.show(state);
    if (isChanged) {
      const times = history.times();
      for (const tile of this.tiles) tile.draw(times, history);
    }
  }

  /** Draws the charts in the colours of the page, which have changed. */
  recolour() {
    for (const tile of this.tiles) tile.recolour();
  }
}

class Tile {
  constructor(tile) {
    this.tile = tile;
    this.title = make("h3");
    this.figures = make("p", "figures");
    this.values = tile.figures({}).map(([label], at) => {
      const value = make("strong", label ? tile.lines[at] : "");
      const figure = make("span", "figure");
      if (label) figure.append(make("span", `mark ${tile.lines[at]}`), make("small", "", label));
      figure.append(value);
      this.figures.append(figure);
      return value;
    });
    this.note = make("p", "note");
    this.readout = make("p", "readout");
    this.canvas = make("div", "chart");
    this.canvas.setAttribute("role", "img");
    this.element = make("article", `tile ${tile.name}`, null, this.title, this.figures, this.note, this.canvas, this.readout);
  }

  show(state) {
    setText(this.title, t(this.tile.name));
    this.tile.figures(state.now_figures).forEach(([, text], at) => {
      setText(this.values[at], text);
      setAttribute(this.values[at], "data-unknown", text === UNKNOWN ? "" : null);
    });
    setText(this.note, this.tile.note(state));
    setAttribute(this.element, "data-alarm", this.tile.lines[0] === "bad" && state.now_figures.errors_per_second > 0 ? "" : null);
  }

  draw(times, history) {
    const values = this.tile.series.map((name) =>
      (history.series[name] ?? []).map((value) => this.tile.value(value, history.step)));
    this.data = [times, ...values];
    this.describe(values);
    if (this.chart) this.chart.setData(this.data);
    else this.chart = this.makeChart();
  }

  /** Says in words what the chart shows. */
  describe(values) {
    const known = values.flat().filter((value) => value != null);
    setAttribute(this.canvas, "data-empty", known.length === 0 ? t("nothing_yet") : null);
    const { format, name } = this.tile;
    const last = values.map((series) => format(series.at(-1))).join(", ");
    const text = known.length === 0
      ? t("chart_empty", { name: t(name) })
      : t("chart", { name: t(name), now: last, least: format(Math.min(...known)), most: format(Math.max(...known)) });
    setAttribute(this.canvas, "aria-label", text);
  }

  makeChart() {
    const chart = new uPlot(this.options(), this.data, this.canvas);
    new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (width > 0 && width !== chart.width) chart.setSize({ width, height: CHART_HEIGHT });
    }).observe(this.canvas);
    return chart;
  }

  options() {
    const { series, lines, axis: onAxis = rate } = this.tile;
    const grid = { stroke: () => colour("line"), width: 1 };
    const axis = { stroke: () => colour("muted"), font: "10px system-ui, sans-serif", ticks: { show: false }, grid };
    return {
      width: Math.max(100, this.canvas.clientWidth),
      height: CHART_HEIGHT,
      padding: [6, 14, 0, 0],
      legend: { show: false },
      // Of a chart this small one wants a value, not a part of it.
      cursor: { drag: { x: false, y: false }, y: false, points: { size: 5 } },
      scales: { y: { range: (_, least, most) => [0, most > 0 ? most * 1.1 : 1] } },
      axes: [
        { ...axis, size: 18, space: 70, gap: 2, grid: { show: false }, values: labelTimes },
        { ...axis, size: 46, space: 26, incrs: this.tile.increments, gap: 4, values: (_, values) => values.map(onAxis) },
      ],
      series: [{}, ...series.map((name, at) => ({
        label: name,
        width: 1.5,
        stroke: () => colour(lines[at]),
        fill: at === 0 ? () => faint(colour(lines[at])) : undefined,
        points: { show: false },
      }))],
      hooks: { setCursor: [(chart) => this.read(chart.cursor.idx)] },
    };
  }

  /** Says the values under the pointer. */
  read(at) {
    if (at == null || this.data[0][at] === undefined) return setText(this.readout, "");
    const values = this.data.slice(1).map((series) => (series[at] == null ? UNKNOWN : this.tile.format(series[at])));
    setText(this.readout, `${timeOfDay(this.data[0][at])}  ${values.join(" · ")}`);
  }

  recolour() {
    this.chart?.redraw(false);
  }
}

/** The labels of moments, less one that would run into the zero of the other axis. */
const labelTimes = (chart, moments) =>
  moments.map((moment) => (chart.valToPos(moment, "x") < ZERO_PIXELS ? "" : timeOfDay(moment).slice(0, 5)));

/** The colours of the present theme, as a canvas takes them. */
const colours = new Map();
const probe = make("span", "unseen");

/** Forgets the colours of the theme before. */
export const forgetColours = () => colours.clear();

function colour(name) {
  let value = colours.get(name);
  if (value === undefined) {
    if (!probe.isConnected) document.body.append(probe);
    probe.style.color = `var(--${name})`;
    value = getComputedStyle(probe).color;
    colours.set(name, value);
  }
  return value;
}

/** The same colour, for the area under a line. */
const faint = (value) => value.replace(/^rgb\((.*)\)$/, "rgba($1, 0.10)");
