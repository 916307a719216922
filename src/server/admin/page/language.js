// The reader's language: texts, and numbers, times and amounts as they are written in it.

import { setText } from "./elements.js";
import { TEXTS } from "./texts.js";

const KEPT = "flow-uring.language";
/** Shown for what is not known. */
export const UNKNOWN = "–";

let language;
let whole;
let clock;
let day;
use(kept(KEPT) ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"));

/** A setting of this page, or `null`; a browser may refuse to keep any. */
export function kept(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Keeps a setting of this page, or with `null` removes it. */
export function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    // It lives until the page is closed.
  }
}

function use(name) {
  language = name in TEXTS ? name : "en";
  const locale = { en: "en", zh: "zh-CN" }[language];
  document.documentElement.lang = locale;
  whole = new Intl.NumberFormat(locale, { maximumFractionDigits: 0 });
  day = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
  clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
}

/** Goes on to the other language, and remembers that. */
export function switchLanguage() {
  use(language === "en" ? "zh" : "en");
  keep(KEPT, language);
}

/** The text of this name; a name that a newer gateway has made stands for itself. */
export function t(name, values = {}) {
  return (TEXTS[language][name] ?? name).replace(/\{(\w+)\}/g, (_, value) => values[value]);
}

/** The text of this name, or what the gateway calls a thing that has none. */
export const named = (prefix, name) => TEXTS[language][prefix + name] ?? name;

/** Puts the texts into the elements of the document that ask for one. */
export function translateDocument() {
  for (const element of document.querySelectorAll("[data-text]")) setText(element, t(element.dataset.text));
  for (const element of document.querySelectorAll("[data-label]")) element.ariaLabel = t(element.dataset.label);
  for (const element of document.querySelectorAll("[data-placeholder]")) {
    element.placeholder = t(element.dataset.placeholder);
  }
}

/** A count in full. */
export const count = (value) => (value == null ? UNKNOWN : whole.format(value));

/** A count of up to four characters and a unit: 950, 12.3k, 4.56M. */
export function compact(value) {
  if (value == null) return UNKNOWN;
  if (value < 10_000) return whole.format(value);
  for (const [unit, size] of [["B", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (value >= size) return (value / size).toPrecision(3).replace(/e\+?\d+$/, "") + unit;
  }
  return UNKNOWN;
}

/** A rate with as many digits as one can read. */
export function rate(value) {
  if (value == null) return UNKNOWN;
  if (value === 0) return "0";
  if (value < 10) return value.toFixed(value < 0.1 ? 2 : 1);
  return whole.format(value);
}

/** A part of all. */
export const percent = (value) => (value == null ? UNKNOWN : `${(value * 100).toFixed(value < 0.0995 ? 1 : 0)}%`);

/** US dollars: cents, and for small amounts more. */
export function usd(value) {
  if (value == null) return UNKNOWN;
  if (value === 0) return "$0";
  if (value < 0.00005) return "<$0.0001";
  if (value < 1) return `$${value.toFixed(4)}`;
  return value < 1000 ? `$${value.toFixed(2)}` : `$${whole.format(value)}`;
}

/** The cost of many exchanges: marked where any part of it is an estimate, unknown where tokens have no price. */
export function sumOfCost(cost) {
  if (cost.reported_usd + cost.estimated_usd === 0 && cost.input_tokens + cost.output_tokens > 0) return UNKNOWN;
  const mark = cost.estimated_usd > 0 ? "~" : "";
  return mark + usd(cost.reported_usd + cost.estimated_usd);
}

/** A time that something took. */
export function milliseconds(value) {
  if (value == null) return UNKNOWN;
  if (value < 10) return `${value.toFixed(1)} ms`;
  if (value < 1000) return `${value.toFixed(0)} ms`;
  if (value < 60_000) return `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`;
  return seconds(value / 1000);
}

/** A time that goes on: 12s, 3m 05s, 2h 07m, 4d 03h. */
export function seconds(value) {
  if (value == null) return UNKNOWN;
  const all = Math.max(0, Math.floor(value));
  const pair = (large, small, names) => `${large}${names[0]} ${String(small).padStart(2, "0")}${names[1]}`;
  if (all < 60) return `${all}s`;
  if (all < 3600) return pair(Math.floor(all / 60), all % 60, "ms");
  if (all < 86_400) return pair(Math.floor(all / 3600), Math.floor(all / 60) % 60, "hm");
  return pair(Math.floor(all / 86_400), Math.floor(all / 3600) % 24, "dh");
}

/** The time of day of a moment. */
export const timeOfDay = (moment) => clock.format(moment * 1000);

/** The day of a moment, in UTC as those of the costs. */
export const dayOf = (moment) => day.format(moment * 1000);
