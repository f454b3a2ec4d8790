// One picture after the other, by keyboard. The next ones are loaded ahead, so that a key shows
// the next picture at once; the decision travels through the outbox meanwhile.

import { Outbox, showState } from "./outbox.js";
import { Queue } from "./queue.js";
import { givenAs, saidWords, standingBefore } from "./reviewer.js";
import { helpIsOpen, isTyping, sentence } from "./shell.js";

const PAGE = 60;
const AHEAD = 4;
const KEPT = 200; // decisions that can be taken back
const SHOWN_DECISIONS = 12;
const MARKS = { pending: "…", saved: "✓", refused: "!" };

const element = (id) => document.getElementById(id);
const { label, order } = element("desk").dataset;
const madeKey = `cratedig.made.${document.body.dataset.project}.${label}`;

const pages = new Queue({ label, order, limit: PAGE });
let queue = []; // pictures of this session, in the order in which they are shown
let at = 0;
let left = 0;
let decided = 0;
let next = ""; // where the queue's next page starts; null when there is none
let last = { held: 0, holders: [] }; // the page that came last
let loading = null;
let trouble = "";
const made = JSON.parse(sessionStorage.getItem(madeKey)) ?? []; // decisions, oldest first, for undo
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
      const body = await pages.page(next);
      queue.push(...body.pictures.filter(isNew));
      if (left === 0) left = body.total;
      next = body.next;
      last = body;
      trouble = "";
    } catch (error) {
      trouble = sentence(error.message);
      setTimeout(() => load().then(show), 2000);
    } finally {
      loading = null;
    }
  })();
  return loading;
}

// What this browser has decided but not sent yet is still undecided for the studio.
const isNew = ({ sha256 }) =>
  queue.every((each) => each.sha256 !== sha256) && outbox.waiting(sha256, label) === undefined;

function show() {
  const picture = queue[at];
  const [small, large] = [element("small"), element("large")];
  const waiting = Math.max(left, 0).toLocaleString("en");
  element("left").textContent = element("waiting").textContent = waiting;
  element("decided").textContent = decided.toLocaleString("en");
  small.hidden = large.hidden = true;
  element("verdict").hidden = element("said").hidden = true;
  element("blank").textContent = picture ? "" : blankWords();
  pages.unwatch();
  if (!picture && !trouble && !loading) {
    if (last.held > 0 || queue.every((each) => each.answer)) {
      pages.sayEmpty(element("blank"), last, fromTheStart);
    }
    pages.watch(last, isNew, fromTheStart);
  }
  element("open").hidden = !picture;
  element("no-open").hidden = Boolean(picture);
  for (const button of document.querySelectorAll("[data-do]")) button.disabled = !picture;
  document.querySelector("[data-do=undo]").disabled = made.length === 0;
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
  if (picture.said?.length > 0) {
    element("said").textContent = saidWords(picture.said);
    element("said").hidden = false;
  }
  for (const each of queue.slice(at + 1, at + 1 + AHEAD)) preload(each);
  if (queue.length - at < PAGE / 2) load();
}

element("large").addEventListener("load", () => (element("large").hidden = !queue[at]));

function blankWords() {
  if (trouble) return trouble;
  if (loading) return "Loading …";
  const skipped = queue.filter((each) => !each.answer).length;
  return `End of the queue. You skipped ${skipped}: reload the page to see them again.`;
}

/** Ask for what has come to the queue, or was given back, since its end was reached. */
function fromTheStart() {
  next = "";
  left = 0;
  load().then(show);
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
  const given = givenAs(picture, order);
  const id = outbox.add({ sha256: picture.sha256, label, answer, given });
  made.push({ id, picture: { ...picture }, before: picture.answer ?? null, given });
  keep();
  if (!picture.answer && given === "plain") {
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
  keep();
  const { sha256 } = last.picture;
  const before = last.before ?? standingBefore(last.picture);
  outbox.add({ sha256, label, answer: before ?? "retracted", given: last.given });
  at = queue.findIndex((each) => each.sha256 === sha256);
  if (at === -1) {
    // It was decided before the page was loaded again: it is shown first.
    queue.unshift({ ...last.picture });
    at = 0;
  }
  queue[at].answer = last.before ?? undefined;
  if (!queue[at].answer && last.given === "plain") {
    decided = Math.max(decided - 1, 0);
    left += 1;
  }
  chips.get(last.id)?.closest("li").remove();
  chips.delete(last.id);
  show();
}

/** Remember what was decided, so that it can be taken back after a reload, too. */
function keep() {
  sessionStorage.setItem(madeKey, JSON.stringify(made.slice(-KEPT)));
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
