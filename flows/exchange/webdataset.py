"""WebDataset: tar shards of pictures with their labels, `shard-000000.tar` and on.

A sample is `<sha256>.jpg`, `<sha256>.json` and, where exactly one label is a yes, `<sha256>.cls` with
its place in classes.txt (github.com/webdataset/webdataset). The JSON carries what our own shards do
(address, page, licence, consent), so that `cratedig import` takes the pictures with all of it; and

    "labels": ["vinyl"]     every yes, for those who train on it
    "cratedig": {"sha256": ..., "decisions": [...], "prelabels": {...}, "predictions": {...}}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from crawler.archive import Member as ArchiveMember
from crawler.archive import SkippedMember, TakenBefore
from crawler.webdataset import LABELS_KEY, sample_key
from flows.exchange.dataset import Dataset
from flows.exchange.json_stream import Entry
from flows.exchange.pictures import Picture
from flows.exchange.sayings import names_of, read_sayings, sayings
from flows.review import Answered
from flows.rows import Answer
from flows.shards import MAX_SHARD_BYTES, MAX_SHARD_IMAGES, Member, write_tar

CLASSES = "classes.txt"


def write(folder: Path, pictures: Iterable[tuple[Picture, bytes]], dataset: Dataset) -> None:
    """Write shards of at most a thousand pictures, or 64 MiB: one is held in memory."""
    (folder / CLASSES).write_text("".join(f"{label}\n" for label in dataset.labels))
    held: list[Member] = []
    held_bytes = shards = 0

    def end() -> None:
        with (folder / f"shard-{shards:06}.tar").open("wb") as file:
            write_tar(file, held)

    for picture, data in pictures:
        if held and (len(held) == MAX_SHARD_IMAGES or held_bytes + len(data) > MAX_SHARD_BYTES):
            end()
            held.clear()
            shards, held_bytes = shards + 1, 0
        held.append(_member(picture, data, dataset.labels))
        held_bytes += len(data)
    if held:
        end()


def _member(picture: Picture, data: bytes, labels: Sequence[str]) -> Member:
    positive = [label for label, answer in picture.answers.items() if answer == "yes"]
    return Member(
        sha256=picture.sha256,
        format=picture.format,
        data=data,
        metadata={
            "url": picture.found.url,
            "page_url": picture.found.page_url,
            "alt": picture.found.alt,
            "about": picture.about,
            "consent": json.loads(picture.consent),
            "labels": positive,
            LABELS_KEY: {
                "sha256": picture.sha256,
                "decisions": sayings(picture),
                "prelabels": dict(picture.prelabels),
                "predictions": {
                    label: {"score": score, "answer": answer}
                    for label, (score, answer) in picture.predictions.items()
                },
            },
        },
        beside={"cls": b"%d" % labels.index(positive[0])} if len(positive) == 1 else {},
    )


def read(
    members: Iterable[ArchiveMember], name: str, labels: Sequence[str], *, complete: bool = False
) -> Iterator[Answered]:
    """Yield what the JSON beside the pictures of an archive of that name says.

    In our own shards that is the decisions; in others `labels`, or `label`, names what is a yes. With
    `complete` the labels that are not named are a no.
    """
    picture: tuple[str, str] | None = None
    waiting: tuple[str, Entry] | None = None
    for member in members:
        if isinstance(member, SkippedMember | TakenBefore):
            continue
        path, data = member
        key, ending = sample_key(path)
        if ending == ".json":
            waiting = (key, Entry(name, path, None, _parsed(name, path, data)))
        elif ending not in (".txt", ".cls"):
            picture = (key, path)
        if waiting is not None and (picture or ("",))[0] == waiting[0]:
            entry, waiting = waiting[1], None
            address = f"archive:{name}/{picture[1]}" if picture else ""
            yield from _said(entry, address, labels, complete)


def _parsed(name: str, path: str, data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Entry(name, path, None, None).wrong(f"not JSON: {error}") from None


def _said(entry: Entry, address: str, labels: Sequence[str], complete: bool) -> Iterator[Answered]:
    value = entry.object()
    ours = value.get(LABELS_KEY)
    if isinstance(ours, dict):
        images = names_of(entry, ours, ())
        yield from read_sayings(entry, ours.get("decisions") or [], images)
        return
    given = value.get("labels", value.get("label"))
    if given is None:
        return
    named = [str(each) for each in given] if isinstance(given, list) else [str(given)]
    answers: dict[str, Answer] = dict.fromkeys(labels, "no") if complete else {}
    for label, answer in (answers | dict.fromkeys(named, "yes")).items():
        yield Answered(image=address, label=label, answer=answer)
