// The Images page: a wall over the whole dataset, a selection on it, and what is done with that.

import { watchDrops } from "./drop.js";
import { Outbox, showState } from "./outbox.js";
import { Selection } from "./selection.js";
import { post } from "./post.js";
import { helpIsOpen, isTyping } from "./shell.js";
import { Wall } from "./wall.js";

const element = (id) => document.getElementById(id);
const holder = element("wall");
const { label } = holder.dataset;
const MOST_MERGED = 50;
const undoKey = `cratedig.images.${document.body.dataset.project}.${label}`;

const wall = new Wall({ holder, query: new URLSearchParams(holder.dataset.query), describe });
const selection = new Selection(wall, holder);
const outbox = new Outbox({
  changed: (state) => showState(element("saving"), state),
  refused: () => location.reload(), // what the studio holds is what stands
});
const changed = new Map(); // sha256 to the answer that was given here since the rows came

function answerOf(row) {
  const given = changed.get(row.sha256) ?? outbox.waiting(row.sha256, label) ?? row.answer ?? "";
  return given === "retracted" ? "" : given;
}

/** Make a tile show its row. */
function describe(tile, row, position) {
  const chosen = selection.has(row, position);
  tile.setAttribute("aria-selected", String(chosen));
  tile.classList.toggle("at", selection.at === position);
  if (selection.at === position) holder.setAttribute("aria-activedescendant", tile.id);
  if (!row) return;
  const answer = answerOf(row);
  const state = `${row.sha256} ${answer}`;
  if (tile.dataset.state === state) return;
  tile.dataset.state = state;
  tile.dataset.sha256 = row.sha256;
  const name = row.title || `picture ${row.sha256.slice(0, 8)}`;
  tile.firstChild.alt = name;
  tile.title = `${name}, ${row.width}×${row.height}`;
  const number = row.nearness ?? row.score;
  const left = piece(number === null ? `${row.width}×${row.height}` : number.toFixed(2), "");
  const copies = row.copies > 0 ? [piece(`+${row.copies}`, "copies")] : [];
  const right = row.duplicate_how ? piece(row.duplicate_how, "") : piece(answer, answer);
  tile.lastChild.replaceChildren(left, ...copies, right);
}

function piece(words, kind) {
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = words;
  return span;
}

function showSelection() {
  const count = selection.size;
  element("chosen").textContent = count === 0 ? "None selected" : `${count.toLocaleString("en")} selected`;
  for (const button of document.querySelectorAll("[data-needs=some]")) button.disabled = count === 0;
  for (const button of document.querySelectorAll("[data-needs=one]")) button.disabled = count !== 1;
  for (const button of document.querySelectorAll("[data-needs=several]")) button.disabled = count < 2 || count > MOST_MERGED;
  element("undo").disabled = sessionStorage.getItem(undoKey) === null;
  holder.removeAttribute("aria-activedescendant");
  wall.paint();
}

/** Give everything that is selected one answer; what stood before is kept for undo, also after a reload. */
function decide(answer) {
  const before = selection.entries.map(([sha256, stood]) => [sha256, changed.get(sha256) ?? stood ?? "retracted"]);
  if (before.length === 0) return;
  sessionStorage.setItem(undoKey, JSON.stringify(before));
  give(before.map(([sha256]) => [sha256, answer]));
}

function undo() {
  const before = JSON.parse(sessionStorage.getItem(undoKey));
  if (before === null) return;
  sessionStorage.removeItem(undoKey);
  give(before);
}

function give(answers) {
  for (const [sha256, answer] of answers) {
    changed.set(sha256, answer);
    outbox.add({ sha256, label, answer });
  }
  selection.answered(answers);
  showSelection();
}

function open(sha256) {
  if (sha256) location.assign(`/images/${sha256}`);
}

/** Search by a picture, its id as the studio knows it, within the same filter. */
function searchBy(like) {
  const asked = new URLSearchParams(holder.dataset.query);
  for (const name of ["words", "group", "order"]) asked.delete(name);
  asked.set("like", like);
  location.assign(`/images?${asked}`);
}

async function merge() {
  if (selection.size < 2 || selection.size > MOST_MERGED) return;
  try {
    await post("/api/duplicates/merge", { sha256s: selection.entries.map(([sha256]) => sha256) });
    location.assign(`/images?group=${selection.entries[0][0]}&label=${encodeURIComponent(label)}`);
  } catch (error) {
    trouble(`${error.message} Then reload the page: it shows what stands.`);
  }
}

function trouble(words) {
  element("trouble").textContent = words;
  element("trouble").hidden = !words;
}

const ACTIONS = {
  yes: () => decide("yes"),
  no: () => decide("no"),
  unsure: () => decide("unsure"),
  undo,
  clear: () => selection.clear(),
  open: () => open(selection.entries[0]?.[0]),
  like: () => selection.size === 1 && searchBy(selection.entries[0][0]),
  merge,
  find: () => element("words").select(),
};
const KEYS = { y: "yes", n: "no", u: "unsure", z: "undo", f: "like", j: "merge", "/": "find" };

document.addEventListener("keydown", (event) => {
  if (isTyping(event) || helpIsOpen() || event.repeat || !(event.key in KEYS)) return;
  event.preventDefault();
  ACTIONS[KEYS[event.key]]();
});
for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => ACTIONS[button.dataset.do]());
}
selection.addEventListener("change", showSelection);
selection.addEventListener("open", ({ detail }) => open(wall.row(detail)?.sha256));
wall.addEventListener("rows", () => {
  const { total } = wall;
  element("total").textContent = `${total.toLocaleString("en")} ${total === 1 ? "picture" : "pictures"}`;
  element("none").hidden = total > 0;
  element("loading").hidden = true;
});
wall.addEventListener("trouble", ({ detail }) => {
  trouble(detail && `${detail} Asking again.`);
  if (detail) element("loading").hidden = true;
});
showSelection();
watchDrops({ field: element("file"), dropped: searchBy, trouble });
