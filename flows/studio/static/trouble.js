// The page of a store that does not answer: ask again until it does, then show the page.

const EVERY_MS = 500;
const said = document.getElementById("said");

async function ask() {
  try {
    const answer = await fetch("/api/health", { cache: "no-store" });
    if (answer.ok) {
      location.reload();
      return;
    }
    if ("progress" in said.dataset) {
      const { detail } = await answer.json();
      said.textContent = `${detail[0].toUpperCase()}${detail.slice(1)}.`;
    }
  } catch {
    // The studio itself is gone for the moment; it is asked again like the store.
  }
  setTimeout(ask, EVERY_MS);
}

setTimeout(ask, EVERY_MS);
