"""The studio's pages by address, for what is read elsewhere: in Prefect's pages and in e-mails."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from urllib.parse import quote, urlencode


@dataclasses.dataclass(frozen=True, slots=True)
class StudioPage:
    """A page: what a link to it says, and its path."""

    said: str
    path: str


OVERVIEW = StudioPage("Overview", "/")
IMAGES = StudioPage("Images, newest first", "/images?order=newest")
BY_SCORE = StudioPage("Images by score", "/images?order=highest")
REJECTED = StudioPage("Rejected links", "/rejected")
DUPLICATES = StudioPage("Duplicates", "/duplicates")
SOURCES = StudioPage("Sources", "/sources")
LABELS = StudioPage("Labels and prompts", "/label/labels")
QUEUE = StudioPage("What to decide next", "/label?order=teaching")
DRIFTED = StudioPage("What is unlike training", "/label?order=drift")
SUSPECTS = StudioPage("Answers that look wrong", "/label?order=suspects")
TRAIN = StudioPage("Train", "/train")
PRODUCTION = StudioPage("The model in production", "/model")
PREDICT = StudioPage("Try the model", "/predict")

OF_FLOW: Mapping[str, tuple[StudioPage, ...]] = {
    "collect": (SOURCES, IMAGES, DUPLICATES, REJECTED),
    "collect-shards": (SOURCES, IMAGES, DUPLICATES, REJECTED),
    "prelabel": (QUEUE, BY_SCORE, LABELS),
    "train": (TRAIN, PRODUCTION, SUSPECTS),
    "train-when-decided": (TRAIN, PRODUCTION, SUSPECTS),
    "predict": (QUEUE, IMAGES, PRODUCTION),
    "label-archive": (PRODUCTION, PREDICT),
    "maintain": (OVERVIEW, SOURCES),
    "sweep": (OVERVIEW,),
}
"""Where a person goes on from a run, by the name of its flow."""


def source_page(name: str) -> StudioPage:
    """Return the place of a source on the page of the sources."""
    return StudioPage(f"Source {name}", f"/sources#source-{quote(name, safe='')}")


def pictures_of(source: str) -> StudioPage:
    """Return the pictures that a source gave, newest first."""
    query = urlencode({"source": source, "order": "newest"})
    return StudioPage(f"Pictures of {source}", f"/images?{query}")


def evaluation(version: str) -> StudioPage:
    """Return how good a version of the model is."""
    return StudioPage(f"Evaluation of {version}", f"/model?{urlencode({'version': version})}")


def with_links(text: str, studio_url: str | None, *pages: StudioPage) -> str:
    """Return Markdown: `text`, then links to those pages where the studio's address is known."""
    if studio_url is None:
        return text
    links = (f"[{page.said}]({studio_url}{page.path})" for page in pages)
    return f"{text}\n\nIn the studio: {', '.join(links)}".lstrip()
