// The way to the gateway: the whole state once, then an event a second, and again after a while when that breaks off.
//
// Invariant: at most one stream of events and one wait are open. A page that nobody sees has none of them: the gateway
// serves few pages at a time, and the whole state is asked for anyway when it is looked at again.

/** A lost connection is tried again after this, and after up to twice that each time. */
const WAIT_MS_FIRST = 1000;
const WAIT_MS_MAX = 15000;
/** Events come once a second. */
const SILENCE_MS_MAX = 6000;
const ANSWER_MS_MAX = 10000;

/** Asks the gateway; an answer that does not come in time is an error. */
export const ask = (path, options = {}) =>
  fetch(path, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS_MAX), ...options });

/** The message of an error of the gateway, or of its status alone. */
export async function messageOf(response) {
  const text = await response.text().catch(() => "");
  try {
    return JSON.parse(text).error.message;
  } catch {
    return text.slice(0, 300) || `HTTP ${response.status}`;
  }
}

export class Connection {
  /**
   * `on` is told of `state(state)`, `event(state)`, `live()`, `lost(seconds, hasAnswered)` with the time until the next
   * attempt, and `refused(status, message)` where somebody has to log in first.
   */
  constructor(on) {
    this.on = on;
    this.wait = WAIT_MS_FIRST;
    this.events = null;
    this.timer = 0;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.close();
      else this.open();
    });
  }

  /** Begins anew with the whole state. */
  async open() {
    this.close();
    const attempt = this.attempt;
    let response;
    let state;
    try {
      response = await ask("/api/state");
      if (response.ok) state = await response.json();
    } catch {
      if (attempt === this.attempt) this.lose(false);
      return;
    }
    const message = response.ok ? "" : await messageOf(response);
    // The page was hidden, or something else has begun anew meanwhile.
    if (attempt !== this.attempt) return;
    if (response.ok) {
      this.on.state(state);
      this.follow();
    } else if (response.status === 401 || response.status === 403) {
      this.on.refused(response.status, message);
    } else {
      this.lose(false);
    }
  }

  /** Ends what is open; nothing is tried again. */
  close() {
    this.attempt = (this.attempt ?? 0) + 1;
    this.events?.close();
    this.events = null;
    clearTimeout(this.timer);
  }

  follow() {
    this.events = new EventSource("/api/events");
    this.events.onmessage = (message) => {
      const state = JSON.parse(message.data);
      this.wait = WAIT_MS_FIRST;
      this.expect();
      this.on.live();
      this.on.event(state);
    };
    this.events.onerror = () => this.lose(true);
    this.expect();
  }

  /** Takes a stream without events for a lost one: a machine that slept, or a proxy between, closes nothing. */
  expect() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.lose(true), SILENCE_MS_MAX);
  }

  /** Tries again after a while; many pages that lost the same gateway do not come back at the same moment. */
  lose(hasAnswered) {
    this.close();
    if (document.hidden) return;
    const wait = this.wait * (0.75 + Math.random() / 2);
    this.wait = Math.min(this.wait * 2, WAIT_MS_MAX);
    this.timer = setTimeout(() => this.open(), wait);
    this.on.lost(wait / 1000, hasAnswered);
  }
}

/** The 15 minutes of history, of which the first answer has all, and each event the last step. */
export class History {
  constructor(history) {
    this.step = history.step;
    this.end = history.end;
    this.series = Object.fromEntries(Object.entries(history).filter(([, values]) => Array.isArray(values)));
    this.count = Math.max(0, ...Object.values(this.series).map((values) => values.length));
  }

  /** Takes in the last step, which may be the one that is there already; tells whether anything is another. */
  add(history) {
    const steps = Math.round((history.end - this.end) / this.step);
    if (steps < 0) return false;
    this.end = history.end;
    let isChanged = steps > 0;
    for (const [name, values] of Object.entries(this.series)) {
      const value = history[name]?.at(-1) ?? null;
      // Steps of which nothing came are unknown.
      for (let step = 0; step < Math.min(steps, this.count); step += 1) {
        values.push(null);
        values.shift();
      }
      isChanged ||= values.at(-1) !== value;
      if (values.length) values[values.length - 1] = value;
    }
    return isChanged;
  }

  /** The moments of the steps, oldest first, in Unix seconds. */
  times() {
    return Array.from({ length: this.count }, (_, at) => this.end - (this.count - 1 - at) * this.step);
  }
}
