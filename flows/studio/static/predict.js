// Pictures of one's own: dropped, pasted, chosen or fetched; scored at once, added only when asked.

import { ask, button, draw, make, post } from "./drawing.js";
import { helpIsOpen, isTyping } from "./shell.js";

const element = (id) => document.getElementById(id);
const results = element("results");
const most = results ? Number(results.dataset.most) : 0;
const labels = results ? JSON.parse(results.dataset.labels) : [];

function show(id, words) {
  element(id).textContent = words;
  element(id).hidden = !words;
}

async function send(files, addresses) {
  const count = files.length + addresses.length;
  if (count === 0) return;
  show("trouble", "");
  if (count > most) {
    show("trouble", `${most} pictures at once, not ${count}.`);
    return;
  }
  const body = new FormData();
  for (const file of files) body.append("pictures", file, file.name || "pasted");
  for (const address of addresses) body.append("urls", address);
  show("busy", count === 1 ? "Looking at 1 picture …" : `Looking at ${count} pictures …`);
  try {
    const found = await ask("/api/predict?thumbnails=true", { method: "POST", body });
    results.prepend(...found.pictures.map(card));
    results.firstElementChild?.focus({ preventScroll: true });
  } catch (error) {
    show("trouble", error.message);
  }
  show("busy", "");
}

/** Paint a base64 JPEG on a canvas: the policy lets no picture be shown that is not the studio's. */
async function paint(canvas, base64) {
  const bytes = Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
}

function card(picture) {
  const made = element("verdict").content.firstElementChild.cloneNode(true);
  made.querySelector("h2").textContent = picture.name;
  made.setAttribute("aria-label", picture.name);
  if (picture.reason) {
    made.classList.add("refused");
    made.dataset.reason = picture.reason;
    made.querySelector(".said").append(
      make("p", { class: "no" }, `${picture.reason.replaceAll("_", " ")}: ${picture.detail}`),
    );
    return made;
  }
  made.dataset.sha256 = picture.sha256;
  const canvas = made.querySelector("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", picture.name);
  paint(canvas, picture.thumbnail);
  made.querySelector("figcaption").textContent = `${picture.width}×${picture.height} ${picture.format}`;
  const scores = made.querySelector(".scores");
  for (const each of picture.labels) scores.append(scoreLine(made, picture, each));
  const strip = made.querySelector(".strip");
  for (const near of picture.near) strip.append(nearTile(near));
  if (picture.near.length === 0) strip.replaceWith(make("p", { class: "quiet small" }, "None are left in the dataset."));
  made.querySelector(".wrong").append(
    picture.in_dataset
      ? make("p", { class: "small" }, "Already in the dataset: ", make("a", { href: `/images/${picture.sha256}` }, "look at it"), ".")
      : button("Add to the dataset …", () => offer(made, picture)),
  );
  return made;
}

function scoreLine(made, picture, { label, score, threshold, answer }) {
  const bar = draw(
    "svg",
    { viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("rect", { class: "track", width: 100, height: 8, y: 2 }),
    draw("rect", { class: answer ? "is-yes" : "is-no", width: 100 * score, height: 8, y: 2 }),
    draw("rect", { class: "cut", x: Math.min(100 * threshold, 99), width: 1, height: 12 }),
  );
  const where = button("Where?", () => heat(made, picture, label, where), {
    "aria-pressed": "false",
    "aria-label": `Where does the score of ${label} come from?`,
  });
  return make(
    "div",
    { class: "score", role: "listitem", "data-label": label, "data-answer": answer ? "yes" : "no" },
    make("span", {}, label),
    bar,
    make("span", { class: "value" },
      make("strong", { class: answer ? "yes" : "quiet" }, score.toFixed(2)),
      make("span", { class: "quiet small" }, ` of ${threshold.toFixed(2)}`)),
    where,
  );
}

function nearTile({ sha256, cosine, answers }) {
  const said = labels.filter((label) => label in answers);
  const yes = said.filter((label) => answers[label]);
  return make(
    "a",
    { class: "tile", href: `/images/${sha256}` },
    make("img", { src: `/pictures/${sha256}/thumbnail.jpg`, width: 256, height: 256, alt: `training picture ${sha256.slice(0, 8)}`, loading: "lazy" }),
    make("span", { class: "caption" },
      make("span", {}, `cosine ${cosine.toFixed(2)}`),
      make("span", { class: yes.length ? "yes" : "no" }, yes.length ? yes.join(", ") : `no ${said.join(", no ")}`)),
  );
}

/** Show where a score comes from, over what the encoder saw; a second press shows the picture. */
async function heat(made, picture, label, pressed) {
  const canvas = made.querySelector("canvas");
  const how = made.querySelector(".how");
  const was = pressed.getAttribute("aria-pressed") === "true";
  for (const each of made.querySelectorAll(".score button")) each.setAttribute("aria-pressed", "false");
  if (was) {
    how.hidden = true;
    await paint(canvas, picture.thumbnail);
    return;
  }
  pressed.setAttribute("aria-pressed", "true");
  how.hidden = false;
  how.textContent = "Covering one part after the other …";
  try {
    const found = await post("/api/predict/heat", { sha256: picture.sha256, label });
    await paint(canvas, found.seen);
    overlay(canvas, found.grid);
    const least = Math.max(...found.grid.flat());
    how.textContent =
      `By occlusion: parts of what the encoder sees were covered in turn; where it is red, the score of ${label} falls without it ` +
      `(by ${Math.max(least, 0).toFixed(2)} in log odds at most), where it is blue, it rises. What is shown twice is not found this way.`;
    how.dataset.done = label;
  } catch (error) {
    pressed.setAttribute("aria-pressed", "false");
    how.textContent = error.message;
  }
}

function overlay(canvas, grid) {
  const pen = canvas.getContext("2d");
  const most = Math.max(...grid.flat().map(Math.abs), 1e-6);
  const [width, height] = [canvas.width / grid[0].length, canvas.height / grid.length];
  grid.forEach((row, y) =>
    row.forEach((fall, x) => {
      const strength = 0.65 * (Math.abs(fall) / most);
      pen.fillStyle = fall > 0 ? `rgb(220 40 20 / ${strength})` : `rgb(30 90 220 / ${strength})`;
      pen.fillRect(x * width, y * height, width, height);
    }),
  );
}

/** Ask for the right labels, beginning with what the model said, and add the picture with them. */
function offer(made, picture) {
  const answers = Object.fromEntries(picture.labels.map((each) => [each.label, each.answer ? "yes" : "no"]));
  const form = make("fieldset", {}, make("legend", {}, "What is right?"));
  for (const { label } of picture.labels) {
    const choices = ["yes", "no", "unsure"].map((answer) =>
      button(answer, () => {
        answers[label] = answer;
        for (const each of choices) each.setAttribute("aria-pressed", String(each.textContent === answer));
      }, { class: answer, "aria-pressed": String(answers[label] === answer) }),
    );
    form.append(make("div", { class: "ask", role: "group", "aria-label": label }, make("span", { class: "label" }, label), ...choices));
  }
  const said = make("p", { class: "small", role: "status" });
  const add = button("Add with these answers", async () => {
    add.disabled = true;
    said.textContent = "Adding …";
    try {
      const added = await post("/api/predict/add", { sha256: picture.sha256, answers });
      const duplicate = added.kept_as !== added.sha256;
      form.replaceWith(
        make("p", { class: "small yes", role: "status", "data-added": added.sha256 },
          duplicate ? "Added, as a duplicate of " : "Added. ",
          make("a", { href: `/images/${added.kept_as}` }, duplicate ? "a picture that was there" : "Look at it"), "."),
      );
    } catch (error) {
      said.textContent = error.message;
      add.disabled = false;
    }
  }, { class: "strong" });
  form.append(make("div", { class: "row-end" }, said, add));
  made.querySelector(".wrong").replaceChildren(form);
  form.querySelector("button").focus();
}

function addressesIn(text) {
  return text.split(/\s+/).filter((each) => /^https?:\/\//i.test(each));
}

if (results) {
  const drop = element("drop");
  element("files").addEventListener("change", async (event) => {
    await send([...event.target.files], []);
    event.target.value = "";
  });
  element("addresses").addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = addressesIn(element("urls").value);
    if (wanted.length === 0) show("trouble", "Give one address at least, beginning with http:// or https://.");
    else send([], wanted);
  });
  for (const name of ["dragenter", "dragover"]) {
    addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) drop.classList.remove("over");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const files = [...event.dataTransfer.files];
    send(files, files.length ? [] : addressesIn(event.dataTransfer.getData("text")));
  });
  addEventListener("paste", (event) => {
    if (isTyping(event)) return;
    const files = [...event.clipboardData.files];
    send(files, files.length ? [] : addressesIn(event.clipboardData.getData("text")));
  });
  addEventListener("keydown", (event) => {
    if (isTyping(event) || helpIsOpen()) return;
    if (event.key === "f") element("files").click();
    if (event.key === "c") results.replaceChildren();
  });
}
