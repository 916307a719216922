// A bar that shows how much of a limit is used, with its amounts before it and a note below.

import { make, setAttribute, setHidden, setShare, setText } from "./elements.js";
import { percent } from "./language.js";

/** From this part on a bar is in the colour of a warning. */
const NEARLY = 0.9;

export class Meter {
  constructor() {
    this.label = make("span", "label");
    this.amount = make("span");
    this.part = make("span", "number");
    this.bar = make("span", "share");
    this.note = make("span", "note");
    this.track = make("div", "track", null, this.bar);
    const amounts = make("div", "amounts", null, this.label, this.amount, this.part);
    this.element = make("div", "meter", null, amounts, this.track, this.note);
  }

  /** Shows a part of 1, or with `null` no bar; `state` is `out` or `low`, or follows from the part. */
  show({ label, amount, part, state, note }) {
    setText(this.label, label);
    setText(this.amount, amount);
    setText(this.part, part == null ? "" : percent(part));
    setHidden(this.track, part == null);
    setShare(this.bar, part);
    setAttribute(this.element, "data-state", part >= 1 ? "out" : state ?? (part >= NEARLY ? "low" : null));
    setText(this.note, note);
    setHidden(this.note, note === "");
  }
}
