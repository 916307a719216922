// Elements of the page: made with text that is only ever text, and changed only where something else is to be shown.
//
// Names come from clients of the gateway, so nothing here, or in any other module, sets HTML.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** Makes an element; `parts` are its class, its text, and what it holds. */
export function make(tag, className = "", text = null, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== null) element.textContent = text;
  element.append(...children);
  return element;
}

/** Makes a button that submits nothing. */
export function makeButton(className, text, onClick) {
  const button = make("button", className, text);
  button.type = "button";
  button.addEventListener("click", onClick);
  return button;
}

/** What elements were last told to show: reading it back from the document would cost more than not to ask. */
const shown = new WeakMap();

/** Shows a text, if another one is shown. */
export function setText(element, text) {
  if (shown.get(element) === text) return;
  shown.set(element, text);
  element.textContent = text;
}

/** Sets an attribute, or removes it for `null`, if it differs. */
export function setAttribute(element, name, value) {
  if (value === null) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== value) {
    element.setAttribute(name, value);
  }
}

/** Hides or shows an element. */
export function setHidden(element, isHidden) {
  if (element.hidden !== isHidden) element.hidden = isHidden;
}

/** The length of a bar, from 0 to 1: scaled, so that nothing is laid out anew. */
export function setShare(bar, share) {
  const scale = `scaleX(${Math.max(0, Math.min(1, share || 0)).toFixed(3)})`;
  if (bar.style.transform !== scale) bar.style.transform = scale;
}

/**
 * A list whose rows keep their elements for as long as what they show is there, by its key.
 *
 * A row is an object with `element`, made by `makeRow()`. Those that nobody needs any more are used again for new items,
 * so a busy list makes no elements.
 */
export class KeyedRows {
  constructor(parent, makeRow, update) {
    this.parent = parent;
    this.makeRow = makeRow;
    this.update = update;
    this.rows = new Map();
    this.unused = [];
  }

  /** Shows these items in this order. */
  show(items, keyOf) {
    const keys = new Set(items.map(keyOf));
    for (const [key, row] of this.rows) {
      if (keys.has(key)) continue;
      this.rows.delete(key);
      row.element.remove();
      this.unused.push(row);
    }
    let next = this.parent.firstChild;
    for (const item of items) {
      const row = this.row(keyOf(item));
      this.update(row, item);
      // Those that are gone are out already, so the rows that stay are in the way of no other.
      if (row.element === next) next = next.nextSibling;
      else this.parent.insertBefore(row.element, next);
    }
  }

  row(key) {
    let row = this.rows.get(key);
    if (row === undefined) {
      row = this.unused.pop() ?? this.makeRow();
      this.rows.set(key, row);
    }
    return row;
  }
}

/** Makes a row of a table with one cell for each class name; the texts are set by `update`. */
export function makeCells(classNames) {
  const cells = classNames.map((className) => make("td", className));
  return { element: make("tr", "", null, ...cells), cells };
}

/** Buttons of which one is chosen; `choose` is called with its value. */
export class Choice {
  constructor(parent, values, role, choose) {
    this.attribute = role === "tab" ? "aria-selected" : "aria-pressed";
    this.chosen = values[0];
    this.buttons = new Map();
    for (const value of values) {
      const button = makeButton("", "", () => this.select(value, choose));
      if (role === "tab") {
        button.setAttribute("role", "tab");
        button.setAttribute("aria-controls", "snippet");
        button.id = `client-${value}`;
      }
      this.buttons.set(value, button);
    }
    parent.append(...this.buttons.values());
    // Within the group the arrow keys lead on, as in any list of tabs.
    parent.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const at = values.indexOf(this.chosen);
      this.select(values[(at + step + values.length) % values.length], choose);
      this.buttons.get(this.chosen).focus();
    });
    this.isTabs = role === "tab";
    this.mark();
  }

  select(value, choose) {
    this.chosen = value;
    this.mark();
    choose(value);
  }

  mark() {
    for (const [value, button] of this.buttons) {
      const isChosen = value === this.chosen;
      button.setAttribute(this.attribute, String(isChosen));
      if (this.isTabs) button.tabIndex = isChosen ? 0 : -1;
    }
  }

  /** Names the buttons in the language of the page. */
  label(textOf) {
    for (const [value, button] of this.buttons) setText(button, textOf(value));
  }
}
