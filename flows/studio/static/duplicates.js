// Duplicate groups: take one out, or make one group of several. Each word is durable before the page
// shows it, and the page is then read anew, because a group may have another kept picture by then.

import { post } from "./post.js";
import { columnsOf, helpIsOpen, isTyping } from "./shell.js";

const element = (id) => document.getElementById(id);
const tiles = [...document.querySelectorAll(".member .tile")];
const marks = [...document.querySelectorAll("[data-mark]")];
let busy = false;

function say(state, words) {
  element("saving").dataset.state = state;
  element("saving").querySelector(".words").textContent = words;
}

async function tell(path, body) {
  if (busy) return;
  busy = true;
  say("sending", "Saving …");
  try {
    await post(path, body);
    location.reload();
  } catch (error) {
    busy = false;
    say("failing", `${error.message} Then reload the page: it shows what stands.`);
  }
}

const idOf = (inside) => inside.closest(".member").dataset.sha256;
const marked = () => marks.filter((each) => each.checked).map(idOf);
const split = (inside) => tell("/api/duplicates/split", { sha256: idOf(inside) });

function merge() {
  if (marked().length >= 2) tell("/api/duplicates/merge", { sha256s: marked() });
}

function tally() {
  const count = marked().length;
  element("marked").textContent = count === 0 ? "None marked" : `${count} marked`;
  element("merge").disabled = count < 2;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.do === "split") split(button);
  else if (button?.dataset.pair) tell("/api/duplicates/merge", { sha256s: button.dataset.pair.split(" ") });
  else if (button?.id === "merge") merge();
});
document.addEventListener("change", tally);

document.addEventListener("keydown", (event) => {
  if (isTyping(event) || helpIsOpen() || event.repeat) return;
  const at = tiles.findIndex((tile) => tile.closest(".member").contains(document.activeElement));
  const columns = columnsOf(tiles);
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  if (step !== undefined && tiles.length > 0) {
    const to = at === -1 ? 0 : at + step;
    event.preventDefault();
    tiles[to]?.focus();
  } else if (event.key === "x" && at !== -1) {
    split(tiles[at]);
  } else if (event.key === " " && at !== -1 && event.target.closest(".tile")) {
    event.preventDefault();
    marks[at].click();
  } else if (event.key === "j") {
    merge();
  }
});

tally();
