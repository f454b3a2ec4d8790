// What every page has: the help sheet on `?`, and `g` followed by a page's first letter.

import "./tab.js"; // on every page: one that left the name in the storage could be duplicated with it

const PAGES = new Map([...document.querySelectorAll(".top nav a")].map((link) => [link.dataset.key, link.href]));
const help = document.getElementById("help");

/** Say whether a key press is meant for a field and not for the page. */
export function isTyping(event) {
  return (
    event.ctrlKey || event.metaKey || event.altKey ||
    event.target.closest("input, select, textarea, [contenteditable]") !== null
  );
}

/** Say whether the help sheet is open, in which case keys are its own. */
export function helpIsOpen() {
  return help.open;
}

/** Return how many of `tiles` stand in the first row. */
export function columnsOf(tiles) {
  const top = tiles[0]?.offsetTop;
  const next = tiles.findIndex((tile) => tile.offsetTop !== top);
  return next === -1 ? tiles.length : next;
}

/** Return the studio's words as a sentence, without the marks that commands stand between. */
export function sentence(said) {
  const words = said.replaceAll("`", "");
  return words.slice(0, 1).toUpperCase() + words.slice(1) + (words === "" || words.endsWith(".") ? "" : ".");
}

let going = false;

document.addEventListener("keydown", (event) => {
  if (isTyping(event)) return;
  if (event.key === "?") {
    event.preventDefault();
    if (help.open) help.close();
    else help.showModal();
    return;
  }
  if (help.open) return;
  if (going && PAGES.has(event.key)) location.assign(PAGES.get(event.key));
  going = event.key === "g";
});

// What scrolls sideways must be reached by the keys that scroll it, also where nothing in it can be pressed.
const scrolling = new ResizeObserver((entries) => {
  for (const { target } of entries) target.tabIndex = target.scrollWidth > target.clientWidth ? 0 : -1;
});
for (const each of document.querySelectorAll(".scrolls")) scrolling.observe(each);

// On a narrow screen the bar of pages scrolls: begin where this one is.
document.querySelector('.top nav [aria-current]')?.scrollIntoView({ inline: "center", block: "nearest" });

document.getElementById("open-help").addEventListener("click", () => help.showModal());
document.getElementById("close-help").addEventListener("click", () => help.close());
