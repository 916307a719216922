// The keys with limits: a bar for each limit, with what was refused for it.

import { byId, KeyedRows, make, setAttribute, setHidden, setText } from "./elements.js";
import { compact, t, usd } from "./language.js";
import { Meter } from "./meter.js";

const KEYS_FIRST = 6;

export class Keys {
  constructor() {
    this.rows = new KeyedRows(byId("keys-cards"), makeKey, update);
    this.isWhole = false;
    byId("keys-more").addEventListener("click", () => {
      this.isWhole = !this.isWhole;
      this.show(this.state);
    });
  }

  show(state) {
    this.state = state;
    const { count, listed } = state.keys;
    setHidden(byId("keys"), count === 0);
    if (count === 0) return;
    setText(byId("keys-hint"), t("keys_hint", { count }));
    this.rows.show(this.isWhole ? listed : listed.slice(0, KEYS_FIRST), ({ name }) => name);
    const more = byId("keys-more");
    setHidden(more, listed.length <= KEYS_FIRST);
    setAttribute(more, "aria-expanded", String(this.isWhole));
    setText(more, this.isWhole ? t("show_fewer") : t("show_more", { count: listed.length - KEYS_FIRST }));
    setHidden(byId("keys-rest"), count === listed.length || !this.isWhole);
    setText(byId("keys-rest"), t("cards_more", { count: count - listed.length }));
  }
}

function makeKey() {
  const row = { name: make("h3"), state: make("span", "state"), meters: make("div"), shown: [] };
  row.element = make("li", "card", null, make("div", "head", null, make("span", "dot"), row.name, row.state), row.meters);
  return row;
}

function update(row, { name, waiting, limits }) {
  const isOut = limits.some(({ used, of }) => used >= of);
  setAttribute(row.element, "data-state", isOut ? "limited" : "up");
  setText(row.name, name);
  setAttribute(row.name, "title", name);
  setText(row.state, waiting > 0 ? t("keys_waiting", { waiting }) : t(isOut ? "keys_reached" : "keys_within"));
  while (row.shown.length > limits.length) row.shown.pop().element.remove();
  while (row.shown.length < limits.length) {
    const meter = new Meter();
    row.shown.push(meter);
    row.meters.append(meter.element);
  }
  limits.forEach(({ limit, used, of, refused }, at) => {
    const amount = limit.startsWith("usd") ? usd : compact;
    row.shown[at].show({
      label: t(`limit_${limit}`),
      amount: t("quota_amount", { used: amount(used), limit: amount(of) }),
      part: used / of,
      note: refused > 0 ? t("keys_refused", { refused: compact(refused) }) : "",
    });
  });
}
