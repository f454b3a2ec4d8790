// Decide about one picture, label by label; and what is like it, and what the model says, which take
// longer to find out than the page should wait.

import { Outbox, showState } from "./outbox.js";
import { post } from "./post.js";

const groups = [...document.querySelectorAll(".answers")];

function press(group, answer) {
  for (const button of group.children) {
    button.setAttribute("aria-pressed", String(button.dataset.answer === answer));
  }
}

const outbox = new Outbox({
  changed: (state) => showState(document.getElementById("saving"), state),
  refused: () => location.reload(), // what the studio holds is what stands
});

for (const group of groups) {
  const { sha256, label } = group.dataset;
  const waiting = outbox.waiting(sha256, label);
  if (waiting) press(group, waiting);
  group.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    // Pressing the answer that stands takes it back.
    const answer = button.getAttribute("aria-pressed") === "true" ? "retracted" : button.dataset.answer;
    outbox.add({ sha256, label, answer });
    press(group, answer);
  });
}

const near = document.getElementById("neighbours");
const nearSaid = document.getElementById("near-said");

async function ask(what) {
  const answer = await fetch(`/api/images/${near.dataset.sha256}/${what}`);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body;
}

async function showNeighbours() {
  try {
    const { pictures } = await ask("neighbours");
    document.getElementById("near").replaceChildren(...pictures.map(tileOf));
    nearSaid.textContent = pictures.length > 0 ? "The number is the cosine of the two embeddings." : "There are none: nothing else is embedded.";
  } catch (error) {
    nearSaid.textContent = `They cannot be found: ${error.message}`;
  }
}

function tileOf({ sha256, title, nearness }) {
  const tile = document.createElement("a");
  tile.className = "tile";
  tile.href = `/images/${sha256}`;
  const image = document.createElement("img");
  image.src = `/pictures/${sha256}/thumbnail.jpg`;
  image.alt = title || `picture ${sha256.slice(0, 8)}`;
  image.width = image.height = 256;
  image.decoding = "async";
  const caption = document.createElement("span");
  caption.className = "caption";
  caption.textContent = nearness.toFixed(2);
  tile.append(image, caption);
  return tile;
}

async function showPredictions() {
  const cells = [...document.querySelectorAll("[data-prediction]")];
  let found = new Map();
  let none = "none";
  try {
    const { version, labels } = await ask("predictions");
    found = new Map(labels.map((each) => [each.label, each]));
    if (version) document.getElementById("predicted").title = `model ${version}`;
    else none = "no model";
  } catch (error) {
    none = "not now";
    document.getElementById("predicted").title = error.message;
  }
  for (const cell of cells) {
    const said = found.get(cell.dataset.prediction);
    cell.textContent = said ? `${said.score.toFixed(2)} ${said.answer}` : none;
    if (said?.fitted) cell.title = "The model was fitted on this picture: no measure of it.";
  }
}

document.getElementById("split")?.addEventListener("click", async (event) => {
  const said = document.getElementById("split-said");
  event.target.disabled = true;
  said.textContent = "Saving …";
  try {
    await post("/api/duplicates/split", { sha256: near.dataset.sha256 });
    location.reload();
  } catch (error) {
    said.textContent = error.message;
    event.target.disabled = false;
  }
});

// Back to where the grid was left, with its filter, when that is where one came from.
document.getElementById("back").addEventListener("click", (event) => {
  const from = window.navigation?.entries?.().at(window.navigation.currentEntry.index - 1)?.url;
  if (!from || window.navigation.currentEntry.index === 0 || new URL(from).pathname !== "/images") return;
  event.preventDefault();
  history.back();
});

showNeighbours();
showPredictions();
