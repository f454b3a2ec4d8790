"""A keystroke model of a reviewer (Card, Moran and Newell 1980), and how a page's answers are timed.

What a tool takes is measured, what a person takes is assumed, for all tools alike.
"""

from __future__ import annotations

from playwright.sync_api import Page

KEY_S = 0.2
"""K: a key pressed by a good typist."""
SEE_ONE_S = 0.5
"""M, one by one: to see what the picture shows, and to choose among two keys."""
SEE_TILE_S = 0.15
"""M, in the grid: to see that a thumbnail is what its neighbours are; an exception takes both."""

QUICK_S = 0.016
"""What a key is taken to need of which the browser says nothing: it tells in steps of 8 ms, from 16 on."""

_WATCH = """
() => {
  window.keyed = [];
  window.painted = 0;
  window.timed = [];
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.key === "Control") return;  // what sends, and asks a server
    window.keyed.push(event.timeStamp);
    requestAnimationFrame(() => setTimeout(() => { window.painted += 1; }));
  }, true);
  const note = (entries) => {
    for (const each of entries) if (each.name === "keydown") window.timed.push([each.startTime, each.duration]);
  };
  // Event Timing (w3.org/TR/event-timing): from the key to the frame that shows what it did.
  const observer = new PerformanceObserver((list) => note(list.getEntries()));
  observer.observe({ type: "event", durationThreshold: 16 });
  window.noteTheRest = () => note(observer.takeRecords());
}
"""

_READ = """
() => {
  window.noteTheRest();
  return window.keyed.map((began) => {
    const found = window.timed.find(([start]) => Math.abs(start - began) < 1);
    return found ? found[1] : null;
  });
}
"""


def watch_paints(page: Page) -> None:
    """Note from now on how long each key without Ctrl takes until the frame that shows what it did."""
    page.evaluate(_WATCH)


def seconds_to_paint(page: Page) -> list[float]:
    """Return what `watch_paints` has noted, in seconds, when the last key's frame is there."""
    page.wait_for_function("() => window.painted === window.keyed.length")
    return [QUICK_S if each is None else each / 1000 for each in page.evaluate(_READ)]
