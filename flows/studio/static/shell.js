// What every page has: the help sheet on `?`, and `g` followed by a page's first letter.

const PAGES = { o: "/", i: "/images", r: "/rejected", l: "/label", m: "/model" };
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
  const next = tiles.findIndex((tile) => tile.offsetTop !== tiles[0].offsetTop);
  return next === -1 ? tiles.length : next;
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
  if (going && event.key in PAGES) location.assign(PAGES[event.key]);
  going = event.key === "g";
});

document.getElementById("open-help").addEventListener("click", () => help.showModal());
document.getElementById("close-help").addEventListener("click", () => help.close());
