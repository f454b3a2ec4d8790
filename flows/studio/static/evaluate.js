// One version at any threshold: everything follows the slider without asking the studio, and a
// wrong label is corrected where it is seen.

import { button, make, post, ask } from "./drawing.js";
import { calibrationChart, curveChart, scoreChart } from "./charts.js";
import { confusion, count, measured, precisionOf, recallOf } from "./measures.js";
import { Outbox, showState } from "./outbox.js";
import { helpIsOpen, isTyping } from "./shell.js";

const SHOWN = 24;
const BORDERLINE = 12;
const MATRIX_LABELS = 12;
const STEP = 0.01;

const element = (id) => document.getElementById(id);
const root = element("evaluate");
const { version, production } = root?.dataset ?? {};
const two = (value) => (value === null ? "–" : value.toFixed(2));

let data = null;
let label = "";
let thresholds = {};
let charts = {};
const made = []; // corrections of this page, oldest first, for undo
let drawing = 0;

const outbox = root && new Outbox({
  changed: (state) => showState(element("saving"), state),
  refused: () => location.reload(), // what the studio holds is what stands
});

async function load() {
  try {
    data = await ask(`/api/models/${version}/evaluation`);
  } catch (error) {
    element("loading").textContent = error.message;
    setTimeout(load, 2000);
    return;
  }
  element("loading").hidden = true;
  element("judged").hidden = false;
  for (const each of data.labels) data.answers[each] = [...data.answers[each]];
  thresholds = { ...data.thresholds };
  for (const each of data.labels) {
    element("labels").append(button(each, () => choose(each), { role: "tab", "data-label": each }));
  }
  const asked = new URLSearchParams(location.search).get("label");
  choose(data.labels.includes(asked) ? asked : data.labels[0]);
}

function choose(wanted) {
  label = wanted;
  for (const tab of element("labels").children) tab.setAttribute("aria-selected", String(tab.dataset.label === label));
  redraw();
}

/** Draw what depends on answers, then what depends on the threshold too. */
function redraw() {
  const [scores, answers] = [data.scores[label], data.answers[label]];
  charts = { scores: scoreChart(scores, answers), curve: curveChart(scores, answers) };
  element("scores").replaceChildren(charts.scores.svg);
  element("curve").replaceChildren(charts.curve.svg);
  element("calibration").replaceChildren(calibrationChart(scores, answers, data.groups));
  move();
}

/** Redraw on the next frame, however often the slider moves until then. */
function soon() {
  if (drawing === 0) drawing = requestAnimationFrame(move);
}

function move() {
  drawing = 0;
  const threshold = thresholds[label];
  const [scores, answers] = [data.scores[label], data.answers[label]];
  const found = count(scores, answers, threshold);
  const { precision, recall, f1 } = measured(scores, answers, data.groups, threshold);
  charts.scores.at(threshold);
  charts.curve.at(precisionOf(found), recallOf(found));
  const slider = element("threshold");
  slider.value = threshold;
  slider.setAttribute("aria-valuetext", `${two(threshold)}: precision ${two(precisionOf(found))}, recall ${two(recallOf(found))}`);
  element("value").textContent = threshold.toFixed(3);
  showMeasure("precision", precision);
  showMeasure("recall", recall);
  showMeasure("f1", f1);
  for (const [name, number] of Object.entries(found)) element(name).textContent = number.toLocaleString("en");
  showGalleries(threshold, scores, answers);
  showConfusion();
  const changed = data.labels.filter((each) => thresholds[each] !== data.thresholds[each]);
  element("use").disabled = element("reset").disabled = changed.length === 0;
  element("moved").textContent = changed.length === 0 ? "" : `Moved: ${changed.map((each) => `${each} ${two(data.thresholds[each])} → ${two(thresholds[each])}`).join(", ")}.`;
}

function showMeasure(name, measure) {
  const shown = element(name);
  shown.querySelector(".value").textContent = measure ? two(measure.value) : "–";
  shown.querySelector(".interval").textContent = measure ? `${two(measure.low)}–${two(measure.high)}` : "no such picture";
}

function showGalleries(threshold, scores, answers) {
  const rows = [...scores.keys()];
  const apart = (n) => Math.abs(scores[n] - threshold);
  const widest = (a, b) => apart(b) - apart(a) || a - b;
  gallery("false-positives", rows.filter((n) => answers[n] === "n" && scores[n] >= threshold).sort(widest), SHOWN);
  gallery("false-negatives", rows.filter((n) => answers[n] === "y" && scores[n] < threshold).sort(widest), SHOWN);
  gallery("borderline", rows.sort((a, b) => apart(a) - apart(b) || a - b).slice(0, BORDERLINE), BORDERLINE);
}

/** Show pictures in a gallery; tiles that are there stay, so that focus and pictures do. */
function gallery(id, rows, most) {
  const shown = element(id);
  shown.querySelector(".total").textContent = rows.length.toLocaleString("en");
  const strip = shown.querySelector(".strip");
  const there = new Map([...strip.children].map((tile) => [tile.dataset.key, tile]));
  const tiles = rows.slice(0, most).map((n) => {
    const key = `${label} ${data.sha256s[n]}`;
    const tile = there.get(key) ?? newTile(n, key);
    tile.querySelector(".score-of").textContent = two(data.scores[label][n]);
    for (const each of tile.querySelectorAll("button")) each.setAttribute("aria-pressed", String(each.dataset.answer[0] === data.answers[label][n]));
    return tile;
  });
  const focused = strip.contains(document.activeElement) ? [...strip.children].indexOf(document.activeElement.closest(".judged-tile")) : -1;
  if (tiles.length !== strip.children.length || tiles.some((tile, at) => strip.children[at] !== tile)) {
    strip.replaceChildren(...tiles);
    // The picture that was corrected is gone from here: the next one takes its place.
    if (focused !== -1) (tiles[Math.min(focused, tiles.length - 1)] ?? shown).focus({ preventScroll: true });
  }
  shown.querySelector(".none").hidden = rows.length > 0;
  const more = shown.querySelector(".more");
  more.hidden = rows.length <= most;
  more.textContent = `and ${(rows.length - most).toLocaleString("en")} more, nearer to the threshold`;
}

function newTile(n, key) {
  const sha256 = data.sha256s[n];
  const short = sha256.slice(0, 8);
  const tile = make("div", { class: "tile judged-tile", tabindex: "0", role: "group", "aria-label": `picture ${short}`, "data-key": key, "data-sha256": sha256 });
  tile.append(
    make("a", { href: `/images/${sha256}`, tabindex: "-1" },
      make("img", { src: `/pictures/${sha256}/thumbnail.jpg`, width: 256, height: 256, alt: `picture ${short}`, loading: "lazy" })),
    make("div", { class: "caption" }, make("span", { class: "score-of" }),
      make("span", { class: "answers-of" }, ...["yes", "no", "unsure"].map((answer) =>
        button(answer[0], () => correct(sha256, answer), { class: answer, "data-answer": answer, "aria-pressed": "false", "aria-label": `${label}: ${answer}`, tabindex: "-1" })))),
  );
  return tile;
}

function correct(sha256, answer, about = label) {
  const row = data.sha256s.indexOf(sha256);
  const before = data.answers[about][row];
  if (before === answer[0]) return;
  made.push({ sha256, about, before });
  enter(sha256, about, answer);
}

function enter(sha256, about, answer) {
  outbox.add({ sha256, label: about, answer });
  data.answers[about][data.sha256s.indexOf(sha256)] = answer === "retracted" ? "-" : answer[0];
  element("corrected").textContent = made.length === 0 ? "" : `${made.length} corrected here; z takes the last one back.`;
  redraw();
}

/** Take the last correction back: a decision of its own, because none is ever overwritten. */
function undo() {
  const last = made.pop();
  if (!last) return;
  enter(last.sha256, last.about, { y: "yes", n: "no", u: "unsure", "-": "retracted" }[last.before]);
}

function showConfusion() {
  const rows = confusion(data.labels, data.scores, data.answers, thresholds);
  const share = ({ hits, of }) => (of === 0 ? "–" : two(hits / of));
  if (data.labels.length <= MATRIX_LABELS) {
    element("confusion").replaceChildren(make("table", { class: "matrix" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "shows"), ...data.labels.map((each) => make("th", { scope: "col", class: "number" }, each)))),
      make("tbody", {}, ...rows.map(({ shown, found }) => make("tr", {}, make("th", { scope: "row" }, shown),
        ...found.map((each) => make("td", { class: each.label === shown ? "number own" : "number" }, share(each), make("span", { class: "quiet small" }, ` of ${each.of}`))))))));
    return;
  }
  const pairs = rows.flatMap(({ shown, found }) => found.filter((each) => each.label !== shown && each.hits > 0).map((each) => ({ shown, ...each })));
  pairs.sort((a, b) => b.hits - a.hits);
  element("confusion").replaceChildren(make("ol", {}, ...pairs.slice(0, MATRIX_LABELS).map((each) =>
    make("li", {}, `${each.label} is found on ${each.hits} of ${each.of} pictures of ${each.shown} that do not show it`))));
}

/** Ask in a dialog first: what is in production is everybody's. */
function confirmed(words) {
  const dialog = element("sure");
  element("sure-words").textContent = words;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function change(words, address, body) {
  if (!(await confirmed(words))) return;
  element("done").textContent = "One moment …";
  try {
    await outbox.settled();
    const now = await post(address, body);
    location.assign(`/model?version=${now.version}`);
  } catch (error) {
    element("done").textContent = error.message;
  }
}

function step(by) {
  thresholds[label] = Math.min(1, Math.max(0.001, Math.round((thresholds[label] + by) * 1000) / 1000));
  soon();
}

if (root) {
  load();
  const instead_of = production || null;
  element("threshold").addEventListener("input", (event) => {
    thresholds[label] = Number(event.target.value);
    soon();
  });
  element("reset").addEventListener("click", () => {
    thresholds = { ...data.thresholds };
    soon();
  });
  element("use").addEventListener("click", () => {
    const moved = Object.fromEntries(Object.entries(thresholds).filter(([each, value]) => value !== data.thresholds[each]));
    change("A version with these thresholds is made from this one, and put into production.", `/api/models/${version}/thresholds`, { thresholds: moved, instead_of });
  });
  element("promote")?.addEventListener("click", () => change(`Version ${version} is put into production.`, `/api/models/${version}/promote`, { instead_of }));
  element("roll-back")?.addEventListener("click", () => change("The version before this one is put back into production.", "/api/models/roll-back", {}));
  element("version").addEventListener("change", (event) => event.target.form.submit());
  document.addEventListener("keydown", (event) => {
    if (helpIsOpen() || element("sure").open || data === null) return;
    const slider = event.target === element("threshold");
    if (isTyping(event) && !slider) return;
    const tile = document.activeElement.closest?.(".judged-tile");
    const answer = { y: "yes", n: "no", u: "unsure" }[event.key];
    if (tile && answer) correct(tile.dataset.sha256, answer);
    else if (event.key === "z") undo();
    else if (event.key === "-" || event.key === "ArrowLeft" && !slider && !tile) step(-STEP);
    else if (event.key === "+" || event.key === "ArrowRight" && !slider && !tile) step(STEP);
    else if (event.key === "[" || event.key === "]") {
      const at = data.labels.indexOf(label) + (event.key === "]" ? 1 : -1);
      choose(data.labels.at(at % data.labels.length));
    } else if (tile && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      const next = event.key === "ArrowRight" ? tile.nextElementSibling : tile.previousElementSibling;
      next?.focus();
    } else return;
    event.preventDefault();
  });
}
