// Run a source now, or let its schedule rest.

import { post } from "./post.js";

async function press(button) {
  const section = button.closest("[data-source]");
  const outcome = section.querySelector(".outcome");
  button.disabled = true;
  outcome.hidden = false;
  outcome.classList.remove("no");
  outcome.textContent = "Asking Prefect …";
  const path = `/api/sources/${section.dataset.source}/${button.dataset.do}`;
  try {
    const body = button.dataset.do === "pause" ? { paused: button.dataset.paused === "true" } : {};
    const { said, run_url: address } = await post(path, body);
    outcome.textContent = `${said} `;
    if (address) outcome.append(link(address));
    if (button.dataset.do === "pause") location.reload();
  } catch (error) {
    outcome.classList.add("no");
    outcome.textContent = error.message;
  }
  button.disabled = false;
}

function link(address) {
  const made = document.createElement("a");
  made.href = address;
  made.rel = "noreferrer";
  made.textContent = "See it in Prefect ↗";
  return made;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button) press(button);
});
