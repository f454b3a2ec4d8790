// Pictures that look alike, a cluster at a time: one key answers for all of them, but for the odd
// ones, which are pulled out first and stay undecided.

import { Outbox, showState } from "./outbox.js";
import { Queue } from "./queue.js";
import { Sheet, label } from "./sheet.js";
import { sentence } from "./shell.js";

const element = (id) => document.getElementById(id);
const undoKey = `cratedig.clusters.${document.body.dataset.project}.${label}`;

let page = { clusters: [], held: 0, holders: [] }; // as the studio gave it
let clusters = [];
let shown = 0; // which cluster
let left = 0;

const outbox = new Outbox({ changed: (state) => showState(element("saving"), state) });
const queue = new Queue({ path: "/api/clusters", label });

async function load() {
  say("Putting near pictures together …");
  try {
    await outbox.settled();
    page = await queue.page("");
    clusters = page.clusters;
    left = page.waiting;
    shown = 0;
    show();
  } catch (error) {
    say(sentence(error.message));
    setTimeout(load, 2000);
  }
}

function show() {
  const pictures = clusters[shown] ?? [];
  sheet.show(pictures, (tile) => tile.setAttribute("aria-pressed", "false"));
  sheet.ahead(clusters[shown + 1] ?? []);
  queue.unwatch();
  say("");
  if (pictures.length === 0) sayEnd();
  tally();
}

function sayEnd() {
  element("blank").hidden = false;
  if (left > 0) {
    say(endWords());
    return;
  }
  queue.sayEmpty(element("blank"), page, load);
  queue.watch(page, ({ sha256 }) => outbox.waiting(sha256, label) === undefined, load);
}

function endWords() {
  if (clusters.length === 0) return "No picture has been embedded yet: run cratedig label.";
  return "These were the largest clusters. Reload the page for those of what is left.";
}

function say(words) {
  element("blank").textContent = words;
  element("blank").hidden = words === "";
}

function tally() {
  element("waiting").textContent = left.toLocaleString("en");
  element("size").textContent = members().length;
  element("place").textContent = sheet.tiles.length > 0 ? `${shown + 1} of ${clusters.length}` : "–";
  for (const name of ["yes", "no", "unsure"]) element(name).disabled = members().length === 0;
  element("next").disabled = sheet.tiles.length === 0;
  element("undo").disabled = lastCluster() === null;
}

const members = () => sheet.tiles.filter((tile) => tile.getAttribute("aria-pressed") === "false");

/** Pull the picture out of the cluster, or put it back. */
function pull(tile) {
  tile.setAttribute("aria-pressed", String(tile.getAttribute("aria-pressed") === "false"));
  tally();
}

function decide(answer) {
  const ids = members().map((tile) => tile.dataset.sha256);
  if (ids.length === 0) return;
  for (const sha256 of ids) outbox.add({ sha256, label, answer });
  // Kept through a reload: a mistake about a cluster is one many times over.
  sessionStorage.setItem(undoKey, JSON.stringify({ ids, pictures: clusters[shown] }));
  left -= ids.length;
  step(1);
}

function lastCluster() {
  return JSON.parse(sessionStorage.getItem(undoKey));
}

/** Take the answers to the last cluster back, and show it again. */
function undo() {
  const last = lastCluster();
  if (last === null) return;
  for (const sha256 of last.ids) outbox.add({ sha256, label, answer: "retracted" });
  sessionStorage.removeItem(undoKey);
  left += last.ids.length;
  const before = clusters.findIndex((each) => each[0].sha256 === last.pictures[0].sha256);
  if (before === -1) clusters.splice(shown, 0, last.pictures);
  else shown = before;
  show();
}

function step(by) {
  const to = shown + by;
  if (to < 0 || to > clusters.length) return;
  shown = to;
  show();
}

const ACTIONS = {
  yes: () => decide("yes"),
  no: () => decide("no"),
  unsure: () => decide("unsure"),
  pull: () => sheet.tiles[sheet.at] && pull(sheet.tiles[sheet.at]),
  next: () => step(1),
  back: () => step(-1),
  undo,
};
const KEYS = { y: "yes", n: "no", u: "unsure", " ": "pull", x: "pull", j: "next", k: "back", z: "undo" };

const sheet = new Sheet({ actions: ACTIONS, keys: KEYS, pressed: pull });

load();
