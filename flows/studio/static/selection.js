// Which pictures of a wall are selected, by mouse, touch and keyboard.
//
// Click selects one; with Ctrl (or a finger) it adds or removes one; with Shift all from the last
// one on. Dragging draws a lasso; with Shift or Ctrl it adds to what is selected.

import { helpIsOpen, isTyping } from "./shell.js";

const MOST = 5000;
const DRAG_PX = 6;
const EDGE_PX = 48;

export class Selection extends EventTarget {
  #wall;
  #holder;
  #chosen = new Map(); // sha256 to the answer that stood when it was chosen
  #preview = new Set(); // positions in the lasso
  #from = 0; // where a run starts
  at = null; // the position that keys speak about

  /** Events: "change"; "open" (detail: a position). */
  constructor(wall, holder) {
    super();
    this.#wall = wall;
    this.#holder = holder;
    holder.addEventListener("pointerdown", (event) => this.#press(event));
    holder.addEventListener("dblclick", (event) => this.#open(positionOf(event)));
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  get size() {
    return this.#chosen.size;
  }

  /** The chosen pictures as `[sha256, answer]`. */
  get entries() {
    return [...this.#chosen];
  }

  has(row, position) {
    return this.#preview.has(position) || (row !== undefined && this.#chosen.has(row.sha256));
  }

  clear() {
    this.#chosen.clear();
    this.#changed();
  }

  /** Note the answers that stand now. */
  answered(answers) {
    for (const [sha256, answer] of answers) if (this.#chosen.has(sha256)) this.#chosen.set(sha256, answer);
  }

  async #choose(from, to, { keep }) {
    const [first, last] = [Math.min(from, to), Math.min(Math.max(from, to), Math.min(from, to) + MOST - 1)];
    const rows = await this.#wall.run(first, last);
    if (!keep) this.#chosen.clear();
    for (const { sha256, answer } of rows) this.#chosen.set(sha256, answer);
    this.#changed();
  }

  #toggle(position) {
    const row = this.#wall.row(position);
    if (!row) return;
    if (!this.#chosen.delete(row.sha256)) this.#chosen.set(row.sha256, row.answer);
    [this.#from, this.at] = [position, position];
    this.#changed();
  }

  #only(position) {
    [this.#from, this.at] = [position, position];
    this.#choose(position, position, { keep: false });
  }

  #extend(position) {
    this.at = position;
    this.#choose(this.#from, position, { keep: false });
  }

  #move(position) {
    [this.#from, this.at] = [position, position];
    this.#changed();
  }

  #open(position) {
    if (position !== null) this.dispatchEvent(new CustomEvent("open", { detail: position }));
  }

  #changed() {
    this.dispatchEvent(new CustomEvent("change"));
  }

  #press(event) {
    if (event.button !== 0) return;
    const pressed = positionOf(event);
    const touch = event.pointerType === "touch";
    const keep = event.shiftKey || event.ctrlKey || event.metaKey;
    const start = this.#place(event);
    let lasso = null;
    let last = event;
    const move = (moved) => {
      last = moved;
      const place = this.#place(moved);
      if (touch) return; // a finger that moves scrolls
      if (!lasso && Math.hypot(place.x - start.x, place.y - start.y) < DRAG_PX) return;
      lasso ??= this.#startLasso();
      this.#drawLasso(lasso, start, place);
    };
    const scrolled = () => lasso && this.#drawLasso(lasso, start, this.#place(last));
    const end = async (ended) => {
      for (const [name, listener] of listeners) removeEventListener(name, listener);
      if (!lasso) {
        if (ended.type === "pointerup" && pressed !== null) this.#click(pressed, event, touch);
        else if (ended.type === "pointerup") this.clear();
        return;
      }
      lasso.remove();
      await this.#takeLasso(keep && ended.type === "pointerup");
    };
    const listeners = [["pointermove", move], ["pointerup", end], ["pointercancel", end], ["scroll", scrolled]];
    for (const [name, listener] of listeners) addEventListener(name, listener);
    this.#holder.focus({ preventScroll: true });
    if (!touch) event.preventDefault(); // neither text selection nor dragging of pictures
  }

  #click(position, event, touch) {
    if (event.shiftKey) this.#extend(position);
    else if (touch || event.ctrlKey || event.metaKey) this.#toggle(position);
    else this.#only(position);
  }

  #place(event) {
    const box = this.#holder.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top, clientY: event.clientY };
  }

  #startLasso() {
    const lasso = document.createElement("div");
    lasso.className = "lasso";
    this.#holder.append(lasso);
    return lasso;
  }

  #drawLasso(lasso, start, place) {
    const box = {
      left: Math.min(start.x, place.x),
      right: Math.max(start.x, place.x),
      top: Math.min(start.y, place.y),
      bottom: Math.max(start.y, place.y),
    };
    lasso.style.transform = `translate(${box.left}px, ${box.top}px)`;
    lasso.style.width = `${box.right - box.left}px`;
    lasso.style.height = `${box.bottom - box.top}px`;
    this.#preview = new Set(this.#wall.touching(box).slice(0, MOST));
    if (place.clientY > innerHeight - EDGE_PX) scrollBy(0, EDGE_PX / 2);
    else if (place.clientY < EDGE_PX) scrollBy(0, -EDGE_PX / 2);
    this.#changed();
  }

  async #takeLasso(keep) {
    const positions = [...this.#preview].sort((a, b) => a - b);
    if (!keep) this.#chosen.clear();
    // Row by row: a lasso is a rectangle, not one run.
    for (const [from, to] of runsOf(positions)) await this.#choose(from, to, { keep: true });
    this.#preview.clear();
    if (positions.length > 0) [this.#from, this.at] = [positions[0], positions.at(-1)];
    this.#changed();
  }

  #key(event) {
    if (isTyping(event) || helpIsOpen() || !this.#wall.total) return;
    if (event.target.closest("a, button") && [" ", "Enter"].includes(event.key)) return; // it presses that
    const step = this.#step(event.key);
    if (step !== null) {
      event.preventDefault();
      this.#go(step, event.shiftKey);
    } else if (event.key === " ") {
      event.preventDefault();
      if (this.at !== null) this.#toggle(this.at);
    } else if (event.key === "Enter") {
      this.#open(this.at);
    } else if (event.key === "Escape") {
      this.clear();
    } else if (event.key === "a") {
      const seen = this.#wall.inView();
      if (seen.length > 0) this.#choose(seen[0], seen.at(-1), { keep: true });
    }
  }

  /** How far a key leads: a number of tiles, an end of the list, or null. */
  #step(key) {
    const columns = this.#wall.columns;
    return { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -Infinity, End: Infinity }[key] ?? null;
  }

  #go(step, extends_) {
    const last = this.#wall.total - 1;
    const starting = this.at === null;
    const to = starting && Number.isFinite(step) ? (this.#wall.inView()[0] ?? 0) : (this.at ?? 0) + step;
    if (Number.isFinite(step) && (to < 0 || to > last)) return;
    const position = Math.min(last, Math.max(0, to));
    this.#wall.reveal(position);
    if (extends_ && !starting) this.#extend(position);
    else this.#move(position);
  }
}

function positionOf(event) {
  const tile = event.target.closest(".tile");
  return tile ? Number(tile.dataset.position) : null;
}

/** Runs of positions that follow each other, as [first, last]. */
function runsOf(positions) {
  const runs = [];
  for (const at of positions) {
    if (runs.length > 0 && runs.at(-1)[1] === at - 1) runs.at(-1)[1] = at;
    else runs.push([at, at]);
  }
  return runs;
}
