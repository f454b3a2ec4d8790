// A picture in a sheet of many: a button with its thumbnail, its score and its answer.

/** Return the address of a picture's thumbnail. */
export const thumbnailOf = ({ sha256 }) => `/pictures/${sha256}/thumbnail.jpg`;

/** Return the tile of a picture, without an answer, and without its thumbnail, which is loaded in turn. */
export function tileOf(picture) {
  const tile = document.createElement("button");
  tile.type = "button";
  tile.className = "tile";
  tile.tabIndex = -1;
  tile.dataset.sha256 = picture.sha256;
  tile.dataset.score = picture.score ?? "";
  const image = document.createElement("img");
  image.alt = picture.title || `picture ${picture.sha256.slice(0, 8)}`;
  image.width = image.height = 256;
  image.decoding = "async";
  const caption = document.createElement("span");
  caption.className = "caption";
  const score = document.createElement("span");
  score.textContent = picture.score?.toFixed(2) ?? `${picture.width}×${picture.height}`;
  const answer = document.createElement("span");
  answer.className = "answer";
  caption.append(score, answer);
  tile.append(image, caption);
  setAnswer(tile, "");
  return tile;
}

/** Show `answer` on the tile: "yes", "no", "unsure", or "" for none. */
export function setAnswer(tile, answer) {
  if (tile.dataset.answer === answer) return; // a tile that is touched is painted anew
  tile.dataset.answer = answer;
  const shown = tile.querySelector(".answer");
  shown.className = `answer ${answer}`;
  shown.textContent = answer;
}
