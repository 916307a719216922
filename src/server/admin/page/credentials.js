// The credentials, as cards: first those that rest, with why and for how long, and a button that wakes them.

import { ask, messageOf } from "./connection.js";
import { byId, KeyedRows, make, makeButton, setAttribute, setHidden, setShare, setText } from "./elements.js";
import { compact, percent, seconds, t } from "./language.js";

const CARDS_MAX = 100;
const CARDS_FIRST = 24;
const RESTS_MAX = 3;

export class Credentials {
  constructor(say) {
    this.say = say;
    const cards = (id) => new KeyedRows(byId(id), () => this.makeCard(), (card, item) => update(card, item, this.most));
    this.low = cards("cards-low");
    this.up = cards("cards");
    this.isWhole = false;
    byId("cards-more").addEventListener("click", () => {
      this.isWhole = !this.isWhole;
      this.showCards();
    });
  }

  show({ credentials }) {
    this.credentials = credentials;
    this.showCards();
  }

  showCards() {
    const { credentials } = this;
    const of = (state) => credentials.filter((credential) => credential.state === state);
    const [up, resting, limited] = ["up", "resting", "limited"].map(of);
    const values = { count: credentials.length, up: up.length, resting: resting.length, limited: limited.length };
    setText(byId("credentials-hint"), t(up.length === credentials.length ? "credentials_hint" : "credentials_rest", values));

    // Of the largest, so that it shows who gets more than others, however many they are.
    this.most = Math.max(0, ...credentials.map(({ share }) => share));
    const others = credentials.filter(({ state }) => !(state in { up: 0, resting: 0, limited: 0 }));
    const low = [...resting, ...limited, ...others].slice(0, CARDS_MAX);
    const upMax = Math.min(up.length, CARDS_MAX - low.length);
    const upFirst = Math.min(upMax, CARDS_FIRST);
    const shown = up.slice(0, this.isWhole ? upMax : upFirst);
    this.low.show(low, nameOf);
    this.up.show(shown, nameOf);
    setHidden(byId("cards-low"), low.length === 0);

    const more = byId("cards-more");
    setHidden(more, upMax <= upFirst);
    setAttribute(more, "aria-expanded", String(this.isWhole));
    setText(more, this.isWhole ? t("show_fewer") : t("show_more", { count: upMax - upFirst }));
    const hidden = credentials.length - low.length - upMax;
    setHidden(byId("cards-rest"), hidden === 0 || !this.isWhole);
    setText(byId("cards-rest"), t("cards_more", { count: hidden }));
  }

  makeCard() {
    const card = {
      name: make("h3"),
      state: make("span", "state"),
      bar: make("span", "share"),
      share: make("span", "number"),
      counts: make("span", "note"),
      rests: make("ul", "rests"),
    };
    card.wake = makeButton("wake", "", () => this.wake(card));
    card.element = make("li", "card", null,
      make("div", "head", null, make("span", "dot"), card.name, card.state, card.wake),
      card.rests,
      make("div", "use", null, card.counts, make("div", "track", null, card.bar), card.share));
    return card;
  }

  async wake(card) {
    const { name } = card.credential;
    card.wake.disabled = true;
    try {
      const response = await ask(`/api/credentials/${encodeURIComponent(name)}/wake`, { method: "POST" });
      if (!response.ok) throw new Error(await messageOf(response));
      const { woken } = await response.json();
      this.say(t(woken ? "woken" : "not_woken", { name }));
    } catch (error) {
      this.say(t("wake_failed", { name, reason: error.message }));
    } finally {
      card.wake.disabled = false;
    }
  }
}

const nameOf = ({ name }) => name;

function update(card, credential, most) {
  card.credential = credential;
  const { name, state, share, weight, requests, errors } = credential;
  setAttribute(card.element, "data-state", state);
  setText(card.name, name);
  setAttribute(card.name, "title", name);
  const standing = t(`state_${state}`);
  setText(card.state, weight === 1 ? standing : `${t("weight", { weight })} · ${standing}`);
  setShare(card.bar, share / most);
  setText(card.share, percent(share));
  const counts = errors > 0 ? "counts" : "counts_short";
  setText(card.counts, t(counts, { requests: compact(requests), errors: compact(errors) }));
  const rests = credential.rests?.length ? credential.rests : credential.rest ? [credential.rest] : [];
  showRests(card.rests, rests);
  setHidden(card.wake, rests.length === 0);
  setText(card.wake, t("wake"));
  setAttribute(card.wake, "aria-label", t("wake_label", { name }));
}

/** Lists the rests, each as what rests, why, and for how long. */
function showRests(list, rests) {
  const lines = rests.slice(0, RESTS_MAX).map(({ scope, what, reason, ends_in: endsIn }) =>
    [t(`rest_${scope}`, { what: what ?? "" }), reason, t("rest_ends", { duration: seconds(endsIn) })]);
  if (rests.length > RESTS_MAX) lines.push([t("rests_more", { count: rests.length - RESTS_MAX }), "", ""]);
  setHidden(list, lines.length === 0);
  while (list.children.length > lines.length) list.lastChild.remove();
  while (list.children.length < lines.length) {
    list.append(make("li", "", null, make("b"), make("span", "reason"), make("span", "ends")));
  }
  lines.forEach((parts, line) => parts.forEach((part, at) => setText(list.children[line].children[at], part)));
}
