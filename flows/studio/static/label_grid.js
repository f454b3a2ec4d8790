// Many pictures at once, the highest score first: everything above here is yes, everything below
// here is no, then the exceptions, then the whole page is saved. Nothing is sent before that.

import { Outbox, showState } from "./outbox.js";
import { Queue } from "./queue.js";
import { givenAs, saidWords, standingBefore } from "./reviewer.js";
import { Sheet, label, order } from "./sheet.js";
import { sentence } from "./shell.js";
import { setAnswer } from "./tiles.js";

const PAGE = 120;
const ANSWERS = ["yes", "no", "unsure"];

const element = (id) => document.getElementById(id);
const undoKey = `cratedig.grid.${document.body.dataset.project}.${label}`;

let page = { pictures: [], next: null, held: 0, holders: [] }; // what is shown, as the studio gave it
let ahead = null; // {from, page}: what comes next, on its way already
let left = 0;
let busy = false;

const outbox = new Outbox({ changed: (state) => showState(element("saving"), state) });
const queue = new Queue({ label, order, limit: PAGE });

/** Show the queue's page that starts after `from`. */
async function load(from) {
  busy = true;
  try {
    const asked = ahead?.from === from ? ahead.page : queue.page(from);
    ahead = null;
    const found = await asked;
    if (from === "") left = found.total;
    show(found);
    lookAhead();
  } catch (error) {
    say(sentence(error.message));
    setTimeout(() => load(from), 2000);
  } finally {
    busy = false;
  }
}

/** Ask for the next page while this one, which is all there, is looked at. */
async function lookAhead() {
  const shown = page;
  await sheet.loaded();
  if (page !== shown || busy || page.next === null || ahead !== null) return;
  const coming = { from: page.next, page: queue.page(page.next) };
  ahead = coming;
  coming.page.then(
    ({ pictures }) => ahead === coming && sheet.ahead(pictures),
    () => ahead === coming && (ahead = null), // it is asked for again when it is to be shown
  );
}

function show(found) {
  const pictures = found.pictures.filter(isNew);
  page = { ...found, pictures };
  draw();
  if (pictures.length === 0) {
    element("blank").hidden = false;
    queue.sayEmpty(element("blank"), page, () => load(""));
    queue.watch(page, isNew, () => load(""));
  }
  tally();
}

// What this browser has decided but not sent yet is still undecided for the studio.
const isNew = ({ sha256 }) => outbox.waiting(sha256, label) === undefined;

function draw() {
  queue.unwatch();
  say("");
  sheet.show(page.pictures, (tile, picture) => {
    tile.dataset.given = givenAs(picture, order);
    tile.dataset.before = standingBefore(picture) ?? "";
    if (picture.said?.length > 0) tile.title = saidWords(picture.said);
  });
}

function say(words) {
  element("blank").textContent = words;
  element("blank").hidden = words === "";
}

function flip(tile) {
  setAnswer(tile, tile.dataset.answer === "yes" ? "no" : "yes");
  tally();
}

function answerRun(from, to, answer) {
  for (const tile of sheet.tiles.slice(from, to)) setAnswer(tile, answer);
  tally();
}

function tally() {
  const counts = new Map([...ANSWERS, ""].map((answer) => [answer, 0]));
  for (const { dataset } of sheet.tiles) counts.set(dataset.answer, counts.get(dataset.answer) + 1);
  for (const [answer, count] of counts) write(answer || "none", String(count));
  write("waiting", left.toLocaleString("en"));
  for (const name of ["above", "below"]) element(name).disabled = sheet.tiles.length === 0;
  element("commit").disabled = counts.get("") === sheet.tiles.length;
  element("undo").disabled = !sessionStorage.getItem(undoKey);
}

/** Put words into an element, if they are others: also the same ones would be laid out anew. */
function write(id, words) {
  if (element(id).textContent !== words) element(id).textContent = words;
}

/** Hand the page's answers in, and show the next page; what has no answer stays in the queue. */
async function commit() {
  const decided = sheet.tiles.filter((tile) => tile.dataset.answer !== "");
  if (busy || decided.length === 0) return;
  busy = true;
  const answers = decided.map(({ dataset }) => [dataset.sha256, dataset.answer, dataset.given, dataset.before]);
  for (const [sha256, answer, given] of answers) outbox.add({ sha256, label, answer, given });
  left -= plain(answers);
  // Kept through a reload: a page that was saved by mistake is a mistake many times over.
  sessionStorage.setItem(undoKey, JSON.stringify({ page, answers }));
  if (page.next === null) {
    sheet.show([], () => undefined);
    tally();
    say("Saving …");
    await outbox.settled(); // what was left out before comes round again, and nothing else
  }
  await load(page.next ?? "");
}

/** Return how many of these answers take a picture out of the queue. */
const plain = (answers) => answers.filter(([, , given]) => given === "plain").length;

/** Take the last page's answers back, and show its pictures with them again, to be mended. */
function undo() {
  const last = JSON.parse(sessionStorage.getItem(undoKey));
  if (busy || last === null) return;
  for (const [sha256, , given, before] of last.answers) {
    outbox.add({ sha256, label, answer: before || "retracted", given });
  }
  sessionStorage.removeItem(undoKey);
  left += plain(last.answers);
  if (last.page.next !== null) ahead = { from: last.page.next, page: Promise.resolve(page) };
  page = last.page;
  draw();
  const answers = new Map(last.answers);
  for (const tile of sheet.tiles) setAnswer(tile, answers.get(tile.dataset.sha256) ?? "");
  tally();
}

const ACTIONS = {
  above: () => answerRun(0, sheet.at + 1, "yes"),
  below: () => answerRun(sheet.at, sheet.tiles.length, "no"),
  yes: () => answerRun(sheet.at, sheet.at + 1, "yes"),
  no: () => answerRun(sheet.at, sheet.at + 1, "no"),
  unsure: () => answerRun(sheet.at, sheet.at + 1, "unsure"),
  none: () => answerRun(sheet.at, sheet.at + 1, ""),
  flip: () => sheet.tiles[sheet.at] && flip(sheet.tiles[sheet.at]),
  commit,
  undo,
};
const KEYS = { a: "above", b: "below", y: "yes", n: "no", u: "unsure", x: "none", " ": "flip", Enter: "commit", z: "undo" };

const sheet = new Sheet({ actions: ACTIONS, keys: KEYS, pressed: flip });

load("");
