// One picture after the other, by keyboard. The next ones are loaded ahead, so that a key shows
// the next picture at once; the decision travels through the outbox meanwhile.

import { Outbox, showState } from "./outbox.js";
import { helpIsOpen, isTyping } from "./shell.js";

const PAGE = 60;
const AHEAD = 4;
const SHOWN_DECISIONS = 12;
const MARKS = { pending: "…", saved: "✓", refused: "!" };

const element = (id) => document.getElementById(id);
const label = element("desk").dataset.label;

let queue = []; // pictures of this session, in the order in which they are shown
let at = 0;
let left = 0;
let decided = 0;
let next = ""; // where the queue's next page starts; null when there is none
let loading = null;
let trouble = "";
const made = []; // decisions of this session, oldest first, for undo
const chips = new Map(); // decision id -> its state mark

const outbox = new Outbox({
  changed: (state) => showState(element("saving"), state),
  saved: (id) => mark(id, "saved"),
  refused: (id, reason) => mark(id, "refused", reason),
});

const source = (picture, size) => `/pictures/${picture.sha256}/${size}.jpg`;

function preload(picture) {
  for (const size of ["thumbnail", "display"]) {
    const image = new Image();
    image.src = source(picture, size);
  }
}

/** Read the queue's next page; several calls at once share one request. */
function load() {
  if (next === null) return Promise.resolve();
  loading ??= (async () => {
    try {
      const after = next ? `&after=${next}` : "";
      const answer = await fetch(`/api/queue?label=${encodeURIComponent(label)}&limit=${PAGE}${after}`);
      const body = await answer.json();
      if (!answer.ok) throw new Error(body.detail);
      const known = new Set(queue.map((each) => each.sha256));
      // What this browser has decided but not sent yet is still undecided for the studio.
      queue.push(
        ...body.pictures.filter(
          (each) => !known.has(each.sha256) && outbox.waiting(each.sha256, label) === undefined,
        ),
      );
      if (left === 0) left = body.total;
      next = body.next;
      trouble = "";
    } catch (error) {
      trouble = error instanceof TypeError ? "The studio does not answer." : error.message;
      setTimeout(() => load().then(show), 2000);
    } finally {
      loading = null;
    }
  })();
  return loading;
}

function show() {
  const picture = queue[at];
  const [small, large] = [element("small"), element("large")];
  const waiting = Math.max(left, 0).toLocaleString("en");
  element("left").textContent = element("waiting").textContent = waiting;
  element("decided").textContent = decided.toLocaleString("en");
  small.hidden = large.hidden = true;
  element("verdict").hidden = true;
  element("blank").textContent = picture ? "" : blankWords();
  element("open").hidden = !picture;
  element("no-open").hidden = Boolean(picture);
  element("score").textContent = picture?.score?.toFixed(2) ?? "–";
  element("text").textContent = picture?.title || "–";
  element("page").textContent = picture ? host(picture.page_url) : "–";
  if (!picture) return;
  element("open").href = `/images/${picture.sha256}`;
  // The thumbnail is there at once; the large one covers it when it has come.
  small.src = source(picture, "thumbnail");
  small.alt = picture.title || "the picture to decide";
  small.hidden = false;
  large.src = source(picture, "display");
  if (large.complete) large.hidden = false;
  if (picture.answer) showVerdict(picture.answer);
  for (const each of queue.slice(at + 1, at + 1 + AHEAD)) preload(each);
  if (queue.length - at < PAGE / 2) load();
}

element("large").addEventListener("load", () => (element("large").hidden = !queue[at]));

function blankWords() {
  if (trouble) return trouble;
  if (loading) return "Loading …";
  const skipped = queue.filter((each) => !each.answer).length;
  if (skipped > 0) return `End of the queue. You skipped ${skipped}: reload the page to see them again.`;
  return `Nothing waits for a decision about ${label}.`;
}

function host(address) {
  return URL.canParse(address) && new URL(address).host ? new URL(address).host : address || "–";
}

function showVerdict(answer) {
  const verdict = element("verdict");
  verdict.textContent = answer;
  verdict.className = `verdict ${answer}`;
  verdict.hidden = false;
}

function decide(answer) {
  const picture = queue[at];
  if (!picture) return;
  const id = outbox.add({ sha256: picture.sha256, label, answer });
  made.push({ id, at, before: picture.answer ?? null });
  if (!picture.answer) {
    decided += 1;
    left -= 1;
  }
  picture.answer = answer;
  addChip(id, picture, answer);
  move(1);
}

/** Take the last decision back: a decision of its own, because none is ever overwritten. */
function undo() {
  const last = made.pop();
  if (!last) return;
  const picture = queue[last.at];
  outbox.add({ sha256: picture.sha256, label, answer: last.before ?? "retracted" });
  picture.answer = last.before ?? undefined;
  if (!picture.answer) {
    decided -= 1;
    left += 1;
  }
  chips.get(last.id)?.closest("li").remove();
  chips.delete(last.id);
  at = last.at;
  show();
}

function move(step) {
  const to = at + step;
  if (to < 0 || to > queue.length) return;
  at = to;
  show();
  if (at === queue.length) load().then(show);
}

function addChip(id, picture, answer) {
  const item = document.createElement("li");
  item.className = answer;
  item.title = answer;
  const image = document.createElement("img");
  image.src = source(picture, "thumbnail");
  image.alt = answer;
  image.width = image.height = 256;
  const state = document.createElement("span");
  state.className = "state";
  state.dataset.sha256 = picture.sha256;
  item.append(image, state);
  element("recent").prepend(item);
  while (element("recent").children.length > SHOWN_DECISIONS) element("recent").lastChild.remove();
  chips.set(id, state);
  mark(id, "pending");
}

function mark(id, state, reason = "") {
  const chip = chips.get(id);
  if (!chip) return;
  chip.textContent = MARKS[state];
  chip.dataset.state = state;
  chip.title = reason || state;
}

const ACTIONS = {
  yes: () => decide("yes"),
  no: () => decide("no"),
  unsure: () => decide("unsure"),
  skip: () => move(1),
  back: () => move(-1),
  undo,
};
const KEYS = { y: "yes", n: "no", u: "unsure", ArrowRight: "skip", " ": "skip", ArrowLeft: "back", z: "undo" };

document.addEventListener("keydown", (event) => {
  if (isTyping(event) || helpIsOpen() || event.repeat) return;
  if (event.key === " " && event.target.closest("button, a")) return; // it presses that button
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  ACTIONS[action]();
});

for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => ACTIONS[button.dataset.do]());
}

load().then(show);
