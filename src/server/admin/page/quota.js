// The quotas of the upstream's users: a bar for each, with whose credentials share it and when it runs out.

import { byId, KeyedRows, make, setAttribute, setHidden, setText } from "./elements.js";
import { compact, dayOf, t, usd } from "./language.js";
import { Meter } from "./meter.js";

const USERS_MAX = 60;
const KINDS = ["budget", "requests"];

export class Quota {
  constructor() {
    this.rows = new KeyedRows(byId("quotas"), makeUser, update);
  }

  show({ quota }) {
    const isOn = quota != null;
    setHidden(byId("quota"), !isOn);
    if (!isOn) return;
    const { users, failing } = quota;
    const blocked = users.filter((user) => user.is_blocked);
    const shown = [...blocked, ...users.filter((user) => !user.is_blocked)].slice(0, USERS_MAX);
    const hints = [t(users.length === 0 ? "quota_none" : "quota_hint", { count: users.length, blocked: blocked.length })];
    if (failing > 0) hints.push(t("quota_failing", { failing }));
    setText(byId("quota-hint"), hints.join("; "));
    this.rows.show(shown, ({ name }) => name);
    setHidden(byId("quotas"), shown.length === 0);
    setHidden(byId("quotas-rest"), users.length === shown.length);
    setText(byId("quotas-rest"), t("cards_more", { count: users.length - shown.length }));
  }
}

function makeUser() {
  const row = { name: make("h3"), state: make("span", "state"), credentials: make("p", "note"), kinds: new Map() };
  for (const kind of KINDS) row.kinds.set(kind, new Meter());
  const meters = [...row.kinds.values()].map(({ element }) => element);
  row.element = make("li", "card", null,
    make("div", "head", null, make("span", "dot"), row.name, row.state), row.credentials, ...meters);
  return row;
}

function update(row, user) {
  setAttribute(row.element, "data-state", user.is_blocked ? "resting" : "up");
  setText(row.name, user.name);
  setAttribute(row.name, "title", user.name);
  setText(row.state, t(user.is_blocked ? "quota_blocked" : "quota_open"));
  setText(row.credentials, t("quota_of", { credentials: user.credentials.join(", ") }));
  setAttribute(row.credentials, "title", user.credentials.join(", "));
  for (const [kind, meter] of row.kinds) showQuota(meter, kind, user[kind]);
}

function showQuota(meter, kind, quota) {
  setHidden(meter.element, quota == null);
  if (quota == null) return;
  const { used, limit, renewal, runs_out: runsOut, is_blocked: isBlocked } = quota;
  const amount = kind === "budget" ? usd : compact;
  const part = used == null || limit == null ? null : used / limit;
  const notes = [];
  if (isBlocked) notes.push(t("quota_blocked"));
  if (part >= 1) notes.push(t("quota_used_up"));
  else if (runsOut != null) notes.push(t("quota_runs_out", { day: dayOf(runsOut) }));
  if (renewal != null) notes.push(t("quota_renewal", { day: dayOf(renewal) }));
  meter.show({
    label: t(`quota_${kind}`),
    amount: limit == null ? t("quota_no_limit", { used: amount(used) })
      : t("quota_amount", { used: amount(used), limit: amount(limit) }),
    part,
    state: isBlocked ? "out" : runsOut != null ? "low" : null,
    note: notes.join(" · "),
  });
}
