// One button; how the run goes is asked for as long as one is going on.

import { ask, make, post } from "./drawing.js";
import { helpIsOpen, isTyping, sentence } from "./shell.js";

const EVERY_MS = 1000;
const STATES = {
  waiting: ["waits for a worker", "unsure"],
  running: ["running", "unsure"],
  done: ["done", "yes"],
  failed: ["failed", "no"],
};

const element = (id) => document.getElementById(id);
const enough = Boolean(element("start").dataset.enough);
let going = null; // the id of the run that goes on
let timer = 0;

function show(id, words) {
  element(id).textContent = words;
  element(id).hidden = !words;
}

async function look() {
  clearTimeout(timer);
  try {
    const found = await ask("/api/train/runs");
    show("note", found.note ? sentence(found.note) : found.where === "prefect" ? "Runs on the Prefect server." : "Runs on this machine; the studio may be closed meanwhile.");
    showRuns(found.runs);
    const current = found.runs.find((each) => each.state === "running" || each.state === "waiting");
    if (going && current?.id !== going && found.runs.some((each) => each.id === going)) {
      going = null;
      location.reload(); // versions and advice have changed
      return;
    }
    going = current?.id ?? going;
    showProgress(current);
  } catch (error) {
    show("trouble", error.message);
  }
  if (going) timer = setTimeout(look, EVERY_MS);
}

function showProgress(run) {
  element("progress").hidden = !run;
  element("go").disabled = Boolean(run) || !enough;
  if (!run) return;
  const share = run.total ? run.done / run.total : 0;
  element("bar").setAttribute("width", 100 * share);
  element("step").textContent =
    run.state === "waiting" ? "Waiting for a worker …" : `${run.step || "Starting"}${run.total ? `: ${Math.round(100 * share)} %` : " …"}`;
}

function showRuns(runs) {
  element("no-runs").hidden = runs.length > 0;
  element("runs").replaceChildren(...runs.map((run) => {
    const [words, colour] = STATES[run.state];
    const line = make("li", { "data-run": run.id, "data-state": run.state },
      make("span", { class: `state ${colour}` }, words), " ",
      make("span", { class: "quiet small" }, new Date(run.started_at).toLocaleString()));
    if (run.said) line.append(make("p", { class: "small said-of" }, run.said));
    const links = make("p", { class: "small" });
    if (run.version) links.append(make("a", { href: `/model?version=${run.version}` }, "evaluate it"), " ");
    if (run.address) links.append(make("a", { href: run.address, rel: "noreferrer" }, "look at it in Prefect"));
    if (links.childNodes.length > 0) line.append(links);
    return line;
  }));
}

async function start() {
  if (element("go").disabled) return;
  element("go").disabled = true;
  show("trouble", "");
  try {
    const field = element("mail-to");
    if (field && !field.reportValidity()) {
      element("go").disabled = false;
      return;
    }
    going = (await post("/api/train", { mail_to: field?.value ?? "" })).id;
  } catch (error) {
    show("trouble", error.message);
    element("go").disabled = false;
  }
  look();
}

async function advise() {
  let found;
  try {
    found = await ask("/api/train/readiness");
  } catch (error) {
    element("advice").replaceChildren(make("p", { class: "no" }, error.message));
    return;
  }
  const lines = [
    ...found.refused.map((said) => make("li", { class: "no" }, `Would be refused: ${said}.`)),
    ...found.warnings.map((said) => make("li", {}, `${said[0].toUpperCase()}${said.slice(1)}.`)),
    ...found.labels.filter((each) => each.forecast).map(({ forecast }) =>
      make("li", {}, `About ${forecast.more} more of ${forecast.label} would bring recall from ${forecast.now.toFixed(2)} to about ${forecast.then.value.toFixed(2)} [${forecast.then.low.toFixed(2)}, ${forecast.then.high.toFixed(2)}].`)),
  ];
  element("advice").replaceChildren(
    make("p", {}, `${found.pictures} pictures with decisions; ${found.duplicates} duplicates are left out.`),
    lines.length > 0 ? make("ul", { class: "advice" }, ...lines) : make("p", { class: "yes" }, "Nothing speaks against training."),
  );
}

element("train").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "x" && !isTyping(event) && !helpIsOpen()) start();
});
look();
if (enough) advise();
