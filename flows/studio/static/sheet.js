// Pictures side by side that keys move over: what the grid and the clusters have in common.

import { columnsOf, helpIsOpen, isTyping } from "./shell.js";
import { Thumbnails } from "./thumbnails.js";
import { thumbnailOf, tileOf } from "./tiles.js";

const place = document.getElementById("sheet");
const { label, order } = place.dataset;

export { label, order };

export class Sheet {
  tiles = []; // buttons
  at = 0; // the tile that keys speak about
  #thumbnails = new Thumbnails();
  #ahead = []; // images of pictures that are not shown yet

  /**
   * `actions` by name, which `keys` and the buttons with `data-do` do; `pressed(tile)` is called
   * after a click on a tile.
   */
  constructor({ actions, keys, pressed }) {
    place.addEventListener("click", ({ target }) => {
      const tile = target.closest(".tile");
      if (!tile) return;
      this.focus(this.tiles.indexOf(tile));
      pressed(tile);
    });
    place.addEventListener("focusin", ({ target }) => this.#mark(this.tiles.indexOf(target)));
    document.addEventListener("keydown", (event) => {
      if (isTyping(event) || helpIsOpen()) return;
      if (event.target.closest("a, button:not(.tile)") && [" ", "Enter"].includes(event.key)) return; // it presses that
      const to = this.#target(event.key);
      if (to !== undefined) {
        event.preventDefault();
        if (to >= 0 && to < this.tiles.length) this.focus(to);
      } else if (event.key in keys && !event.repeat) {
        event.preventDefault();
        actions[keys[event.key]]();
      }
    });
    for (const button of document.querySelectorAll("[data-do]")) {
      button.addEventListener("click", () => actions[button.dataset.do]());
    }
  }

  /** Show these, each tile as `dress(tile, picture)` has made it, and be at the first. */
  show(pictures, dress) {
    this.tiles = pictures.map((picture) => {
      const tile = tileOf(picture);
      dress(tile, picture);
      return tile;
    });
    place.replaceChildren(...this.tiles);
    this.#ahead = [];
    this.#load();
    this.at = 0;
    scrollTo(0, 0);
    if (this.tiles.length > 0) this.focus(0);
  }

  /** Load the thumbnails of what will be shown next, after those that are shown. */
  ahead(pictures) {
    this.#ahead = pictures.map((picture) => ({ image: new Image(), address: thumbnailOf(picture), later: true }));
    this.#load();
  }

  /** Wait until all thumbnails are there. */
  loaded() {
    return this.#thumbnails.drained();
  }

  focus(index) {
    this.#mark(index);
    this.tiles[index].focus();
  }

  #load() {
    const shown = this.tiles.map((tile) => ({ image: tile.querySelector("img"), address: thumbnailOf(tile.dataset) }));
    this.#thumbnails.want([...shown, ...this.#ahead]);
  }

  #mark(index) {
    this.tiles[this.at]?.setAttribute("tabindex", "-1");
    this.at = index;
    this.tiles[index].tabIndex = 0;
  }

  /** Return where a key leads to, or undefined. */
  #target(key) {
    const { at, tiles } = this;
    switch (key) {
      case "ArrowRight": return at + 1;
      case "ArrowLeft": return at - 1;
      case "ArrowDown": return at + columnsOf(tiles);
      case "ArrowUp": return at - columnsOf(tiles);
      case "Home": return 0;
      case "End": return tiles.length - 1;
    }
  }
}
