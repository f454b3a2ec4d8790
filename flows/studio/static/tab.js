// This tab's own name, by which pages of a queue are leased to it.
//
// It lies in the tab's storage between two pages, and nowhere else: who duplicates a tab copies its
// storage, and the copy is to find no name there and take one of its own.

const key = "cratedig.tab";

/** The name. */
export const tab = sessionStorage.getItem(key) ?? newName();

function newName() {
  const random = crypto.getRandomValues(new Uint32Array(2));
  return `tab-${random[0].toString(36)}${random[1].toString(36)}`;
}

sessionStorage.removeItem(key);
addEventListener("pagehide", () => sessionStorage.setItem(key, tab));
addEventListener("pageshow", () => sessionStorage.removeItem(key)); // also where "back" has brought the page again
