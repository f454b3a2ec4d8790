// Decide about one picture, label by label.

import { Outbox, showState } from "./outbox.js";

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
