// The live page of the gateway: asks it for its state, and shows that by the sections of the page.
//
// Invariant: what the page shows is one state, drawn whole; nothing is drawn while it is hidden or paused.

import { ask, Connection, History, messageOf } from "./connection.js";
import { Cost } from "./cost.js";
import { Credentials } from "./credentials.js";
import { byId, KeyedRows, make, setAttribute, setHidden, setText } from "./elements.js";
import { Keys } from "./keys.js";
import { keep, kept, seconds, switchLanguage, t, translateDocument } from "./language.js";
import { forgetColours, Now } from "./now.js";
import { Quota } from "./quota.js";
import { Snippets } from "./snippets.js";
import { Exchanges, Streams } from "./work.js";

const KEPT_THEME = "flow-uring.theme";
const KEPT_LOG_IN = "flow-uring.is-logged-in";
const THEMES = ["auto", "light", "dark"];
const NOTICE_MS = 8000;

class Page {
  constructor() {
    const say = (text) => this.say(text);
    this.now = new Now(byId("tiles"));
    this.snippets = new Snippets();
    this.sections = [new Cost(say, () => this.draw(false)), new Keys(), new Credentials(say), new Quota(), new Streams(),
      new Exchanges(() => this.snippets.first())];
    this.about = new KeyedRows(byId("about"), makeFact, ({ term, value }, fact) => {
      setText(term, t(fact.name));
      setText(value, fact.value);
    });
    this.state = null;
    this.isPaused = false;
    this.status = () => ["waiting", t("connecting")];
    this.connection = new Connection({
      state: (state) => this.begin(state),
      event: (state) => this.take(state),
      live: () => this.tell(() => ["live", t("live")]),
      lost: (wait, hasAnswered) => this.tell(() => [
        hasAnswered && this.state ? "slow" : "lost",
        t(hasAnswered ? "slow" : "lost", { seconds: Math.ceil(wait) }),
      ]),
      refused: (status, message) => this.askToLogIn(status, message),
    });
  }

  start() {
    this.theme = THEMES.includes(kept(KEPT_THEME)) ? kept(KEPT_THEME) : "auto";
    this.applyTheme();
    this.listen();
    this.translate();
    if (document.hidden) return;
    this.connection.open();
  }

  listen() {
    byId("theme").addEventListener("click", () => {
      this.theme = THEMES[(THEMES.indexOf(this.theme) + 1) % THEMES.length];
      keep(KEPT_THEME, this.theme === "auto" ? null : this.theme);
      this.applyTheme();
      this.translate();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.applyTheme());
    byId("language").addEventListener("click", () => {
      switchLanguage();
      this.translate();
    });
    byId("pause").addEventListener("click", () => {
      this.isPaused = !this.isPaused;
      byId("pause").setAttribute("aria-pressed", String(this.isPaused));
      this.tell(this.status);
      if (!this.isPaused) this.draw(true);
    });
    byId("log-in").addEventListener("submit", (event) => {
      event.preventDefault();
      this.logIn();
    });
    byId("log-out").addEventListener("click", () => this.logOut());
  }

  /** Takes the whole state, and shows the page. */
  begin(state) {
    this.history = new History(state.history);
    this.state = state;
    setHidden(byId("log-in"), true);
    setHidden(byId("main"), false);
    setHidden(byId("log-out"), kept(KEPT_LOG_IN) === null);
    this.draw(true);
    setAttribute(byId("main"), "aria-busy", null);
  }

  /** Takes what an event brings. */
  take(state) {
    const isChanged = this.history.add(state.history);
    this.state = state;
    this.isHistoryOld ||= isChanged;
    this.draw(this.isHistoryOld);
  }

  draw(isHistoryChanged) {
    if (this.state === null || this.isPaused || document.hidden) return;
    this.isHistoryOld = false;
    // The first of all, since others show the base URL.
    this.snippets.show(this.state);
    this.now.show(this.state, this.history, isHistoryChanged);
    for (const section of this.sections) section.show(this.state);
    this.showAbout();
  }

  showAbout() {
    const { state } = this;
    const { count, answering } = state.shards;
    setText(byId("version"), state.version);
    this.about.show([
      { name: "listens", value: state.base_url },
      { name: "upstream", value: state.upstream },
      { name: "up_for", value: seconds(state.now - state.started) },
      { name: "shards", value: t("shards_of", { answering, count }) },
    ], (fact) => fact.name);
    const alarms = [];
    if (state.stage !== "serving") alarms.push(t("stage", { stage: state.stage }));
    if (answering < count) alarms.push(t("shards_hang", { hanging: count - answering, count }));
    this.alarm = alarms.join(" ");
    this.showNotice();
  }

  /** Says something for a while. */
  say(text) {
    this.said = text;
    clearTimeout(this.saidTimer);
    this.saidTimer = setTimeout(() => this.say(""), NOTICE_MS);
    this.showNotice();
  }

  showNotice() {
    const text = [this.alarm, this.said].filter(Boolean).join(" ");
    setHidden(byId("notice"), text === "");
    setText(byId("notice"), text);
    setAttribute(byId("notice"), "data-alarm", this.alarm ? "" : null);
  }

  /** Shows how the connection is; `status` makes its name and text, in the language of then. */
  tell(status) {
    this.status = status;
    const [name, text] = status();
    const isPaused = this.isPaused && name === "live";
    setAttribute(byId("connection"), "data-state", isPaused ? "paused" : name);
    setText(byId("connection-text"), isPaused ? t("paused") : text);
    setAttribute(byId("main"), "data-old", name === "lost" && this.state ? "" : null);
  }

  translate() {
    translateDocument();
    setText(byId("theme"), t(`theme_${this.theme}`));
    setText(byId("language"), t("language"));
    setAttribute(byId("language"), "aria-label", t("language_label"));
    this.tell(this.status);
    this.draw(true);
  }

  applyTheme() {
    setAttribute(document.documentElement, "data-theme", this.theme === "auto" ? null : this.theme);
    forgetColours();
    this.now.recolour();
  }

  askToLogIn(status, message) {
    this.state = null;
    this.tell(() => ["out", t("out")]);
    // What a 403 says is for who started the gateway: which flag is missing.
    setText(byId("log-in-reason"), status === 403 ? message : t("log_in_reason"));
    setHidden(byId("main"), true);
    setHidden(byId("log-out"), true);
    setHidden(byId("log-in"), false);
    byId("token").focus();
  }

  async logIn() {
    const error = byId("log-in-error");
    setText(error, "");
    try {
      const body = JSON.stringify({ token: byId("token").value });
      const response = await ask("/login", { method: "POST", headers: { "content-type": "application/json" }, body });
      if (response.ok) {
        byId("token").value = "";
        keep(KEPT_LOG_IN, "yes");
        this.connection.open();
      } else {
        setText(error, response.status === 401 ? t("log_in_failed") : await messageOf(response));
      }
    } catch (failure) {
      setText(error, failure.message);
    }
  }

  async logOut() {
    keep(KEPT_LOG_IN, null);
    await ask("/logout", { method: "POST" }).catch(() => {});
    this.connection.open();
  }
}

function makeFact() {
  const term = make("dt");
  const value = make("dd");
  return { term, value, element: make("div", "", null, term, value) };
}

new Page().start();
