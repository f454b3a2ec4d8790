// Arrow keys over the tiles of a grid; Enter opens, because a tile is a link.

import { columnsOf, helpIsOpen, isTyping } from "./shell.js";

const tiles = [...document.querySelectorAll(".grid .tile")];

document.addEventListener("keydown", (event) => {
  if (isTyping(event) || helpIsOpen() || tiles.length === 0) return;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columnsOf(tiles), ArrowUp: -columnsOf(tiles) }[event.key];
  if (step === undefined) return;
  const at = tiles.indexOf(document.activeElement);
  const to = at === -1 ? 0 : at + step;
  if (to < 0 || to >= tiles.length) return;
  event.preventDefault();
  tiles[to].focus();
});
