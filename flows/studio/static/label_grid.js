// Many pictures at once, the highest score first: everything above here is yes, everything below
// here is no, then the exceptions, then the whole page is saved. Nothing is sent before that.

import { Outbox, showState } from "./outbox.js";
import { columnsOf, helpIsOpen, isTyping } from "./shell.js";

const PAGE = 120;
const ANSWERS = ["yes", "no", "unsure"];

const element = (id) => document.getElementById(id);
const sheet = element("sheet");
const label = sheet.dataset.label;
const undoKey = `cratedig.grid.${document.body.dataset.project}.${label}`;

let tiles = []; // buttons; their answer is in data-answer, "" for none
let at = 0; // the tile that keys speak about
let start = ""; // after which picture this page starts; "" for the first
let next = ""; // where the queue's next page starts; null when there is none
let busy = false;

const outbox = new Outbox({ changed: (state) => showState(element("saving"), state) });

/** Show the queue's page that starts after `from`. */
async function load(from) {
  busy = true;
  const after = from ? `&after=${from}` : "";
  const address = `/api/queue?label=${encodeURIComponent(label)}&order=highest&limit=${PAGE}${after}`;
  try {
    const answer = await fetch(address);
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail);
    // What this browser has decided but not sent yet is still undecided for the studio.
    show(body.pictures.filter((each) => outbox.waiting(each.sha256, label) === undefined));
    [start, next] = [from, body.next];
    element("waiting").textContent = body.total.toLocaleString("en");
  } catch (error) {
    const said = error instanceof TypeError ? "The studio does not answer." : error.message;
    say(said);
    setTimeout(() => load(from), 2000);
  } finally {
    busy = false;
  }
}

function show(pictures) {
  tiles = pictures.map(tileOf);
  sheet.replaceChildren(...tiles);
  say(tiles.length > 0 ? "" : `Nothing waits for a decision about ${label} here.`);
  tally();
  scrollTo(0, 0);
  if (tiles.length > 0) focus(0);
}

function say(words) {
  element("blank").textContent = words;
  element("blank").hidden = words === "";
}

function tileOf(picture, index) {
  const tile = document.createElement("button");
  tile.type = "button";
  tile.className = "tile";
  tile.tabIndex = -1;
  tile.dataset.sha256 = picture.sha256;
  tile.dataset.score = picture.score ?? "";
  const image = document.createElement("img");
  image.src = `/pictures/${picture.sha256}/thumbnail.jpg`;
  image.alt = picture.title || `picture ${picture.sha256.slice(0, 8)}`;
  image.width = image.height = 256;
  image.decoding = "async";
  const caption = document.createElement("span");
  caption.className = "caption";
  const score = document.createElement("span");
  score.textContent = picture.score?.toFixed(2) ?? `${picture.width}×${picture.height}`;
  const answer = document.createElement("span");
  answer.className = "answer";
  caption.append(score, answer);
  tile.append(image, caption);
  tile.addEventListener("click", () => {
    focus(index);
    flip(tile);
  });
  tile.addEventListener("focus", () => mark(index));
  setAnswer(tile, "");
  return tile;
}

function setAnswer(tile, answer) {
  tile.dataset.answer = answer;
  const shown = tile.querySelector(".answer");
  shown.className = `answer ${answer}`;
  shown.textContent = answer;
}

function mark(index) {
  tiles[at]?.setAttribute("tabindex", "-1");
  at = index;
  tiles[at].tabIndex = 0;
}

function focus(index) {
  mark(index);
  tiles[at].focus();
}

function flip(tile) {
  setAnswer(tile, tile.dataset.answer === "yes" ? "no" : "yes");
  tally();
}

function answerRun(from, to, answer) {
  for (const tile of tiles.slice(from, to)) setAnswer(tile, answer);
  tally();
}

function tally() {
  for (const answer of [...ANSWERS, ""]) {
    const count = tiles.filter((tile) => tile.dataset.answer === answer).length;
    element(answer || "none").textContent = count;
  }
  element("commit").disabled = tiles.every((tile) => tile.dataset.answer === "");
  element("undo").disabled = lastPage() === null;
}

/** Hand the page's answers in, and show the next page; what has no answer stays in the queue. */
async function commit() {
  const decided = tiles.filter((tile) => tile.dataset.answer !== "");
  if (busy || decided.length === 0) return;
  busy = true;
  const answers = decided.map((tile) => [tile.dataset.sha256, tile.dataset.answer]);
  for (const [sha256, answer] of answers) outbox.add({ sha256, label, answer });
  // Kept through a reload: a page that was saved by mistake is a mistake many times over.
  sessionStorage.setItem(undoKey, JSON.stringify({ start, answers }));
  if (next === null) {
    show([]);
    say("Saving …");
    await outbox.settled(); // what was left out before comes round again, and nothing else
  }
  await load(next ?? "");
}

function lastPage() {
  return JSON.parse(sessionStorage.getItem(undoKey));
}

/** Take the last page's answers back, and show its pictures with them again, to be mended. */
async function undo() {
  const last = lastPage();
  if (busy || last === null) return;
  busy = true;
  for (const [sha256] of last.answers) outbox.add({ sha256, label, answer: "retracted" });
  sessionStorage.removeItem(undoKey);
  await outbox.settled();
  await load(last.start);
  const answers = new Map(last.answers);
  for (const tile of tiles) setAnswer(tile, answers.get(tile.dataset.sha256) ?? "");
  tally();
}

const ACTIONS = {
  above: () => answerRun(0, at + 1, "yes"),
  below: () => answerRun(at, tiles.length, "no"),
  yes: () => answerRun(at, at + 1, "yes"),
  no: () => answerRun(at, at + 1, "no"),
  unsure: () => answerRun(at, at + 1, "unsure"),
  none: () => answerRun(at, at + 1, ""),
  flip: () => tiles[at] && flip(tiles[at]),
  commit,
  undo,
};
const KEYS = { a: "above", b: "below", y: "yes", n: "no", u: "unsure", x: "none", " ": "flip", Enter: "commit", z: "undo" };
const STEPS = { ArrowRight: () => 1, ArrowLeft: () => -1, ArrowDown: () => columnsOf(tiles), ArrowUp: () => -columnsOf(tiles) };

document.addEventListener("keydown", (event) => {
  if (isTyping(event) || helpIsOpen()) return;
  if (event.target.closest("a, button:not(.tile)") && [" ", "Enter"].includes(event.key)) return; // it presses that
  if (event.key in STEPS) {
    const to = at + STEPS[event.key]();
    event.preventDefault();
    if (to >= 0 && to < tiles.length) focus(to);
  } else if (event.key in KEYS && !event.repeat) {
    event.preventDefault();
    ACTIONS[KEYS[event.key]]();
  }
});

for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => ACTIONS[button.dataset.do]());
}

load("");
