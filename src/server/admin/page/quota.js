// The quotas of the upstream's users: a bar for each, with whose credentials share it and when it runs out.

import { byId, KeyedRows, make, setAttribute, setHidden, setShare, setText } from "./elements.js";
import { compact, dayOf, percent, t, usd } from "./language.js";

const USERS_MAX = 60;
const KINDS = ["budget", "requests"];
/** From this part on a bar is in the colour of a warning. */
const NEARLY = 0.9;

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
  for (const kind of KINDS) {
    const line = { label: make("span", "label"), amount: make("span"), share: make("span", "number"), bar: make("span", "share"),
      note: make("span", "note") };
    line.track = make("div", "track", null, line.bar);
    line.element = make("div", "quota", null, make("div", "amounts", null, line.label, line.amount, line.share), line.track,
      line.note);
    row.kinds.set(kind, line);
  }
  const lines = [...row.kinds.values()].map(({ element }) => element);
  row.element = make("li", "card", null,
    make("div", "head", null, make("span", "dot"), row.name, row.state), row.credentials, ...lines);
  return row;
}

function update(row, user) {
  setAttribute(row.element, "data-state", user.is_blocked ? "resting" : "up");
  setText(row.name, user.name);
  setAttribute(row.name, "title", user.name);
  setText(row.state, t(user.is_blocked ? "quota_blocked" : "quota_open"));
  setText(row.credentials, t("quota_of", { credentials: user.credentials.join(", ") }));
  setAttribute(row.credentials, "title", user.credentials.join(", "));
  for (const [kind, line] of row.kinds) showQuota(line, kind, user[kind]);
}

function showQuota(line, kind, quota) {
  setHidden(line.element, quota == null);
  if (quota == null) return;
  const { used, limit, renewal, runs_out: runsOut, is_blocked: isBlocked } = quota;
  const amount = kind === "budget" ? usd : compact;
  const share = used == null || limit == null ? null : used / limit;
  setText(line.label, t(`quota_${kind}`));
  setText(line.amount, limit == null ? t("quota_no_limit", { used: amount(used) })
    : t("quota_amount", { used: amount(used), limit: amount(limit) }));
  setText(line.share, share == null ? "" : percent(share));
  setHidden(line.track, share == null);
  setShare(line.bar, share);
  const isLow = isBlocked || runsOut != null || share >= NEARLY;
  setAttribute(line.element, "data-state", isBlocked || share >= 1 ? "out" : isLow ? "low" : null);
  const notes = [];
  if (isBlocked) notes.push(t("quota_blocked"));
  if (share >= 1) notes.push(t("quota_used_up"));
  else if (runsOut != null) notes.push(t("quota_runs_out", { day: dayOf(runsOut) }));
  if (renewal != null) notes.push(t("quota_renewal", { day: dayOf(renewal) }));
  setText(line.note, notes.join(" · "));
}
