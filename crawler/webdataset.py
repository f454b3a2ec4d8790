"""What lies beside a picture in an archive, taken as what it says about the picture.

WebDataset (github.com/webdataset/webdataset) keeps a sample in members that follow one another and
share their name up to its first dot: `000123.jpg`, `000123.json`, `000123.txt`, `000123.cls`. The JSON
is metadata, the text the caption, and the class means something to those who know the classes alone.
Folders, zips and buckets of pictures with such files beside them read the same, as they come in the
order of names.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass

from crawler.archive import Member, SkippedMember, TakenBefore
from crawler.consent import UNSAID, Consent
from crawler.descriptions import Description, describe, text_of
from crawler.pages import About

_BESIDE = (".json", ".txt", ".cls")
LABELS_KEY = "cratedig"
"""The field of a sample's JSON in which our own exports keep what was decided."""

_MOST_HELD = 8
_MOST_HELD_BYTES = 32 * 2**20
"""A sample of more pictures than this is handed out before its end, without what comes after them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A member, and what the files beside it say."""

    name: str
    data: bytes
    said: Description = dataclasses.field(default_factory=Description)
    consent: Consent = UNSAID
    """What one of our own shards recorded."""


@dataclass(slots=True)
class _Sample:
    """Members that share a name."""

    key: str
    pictures: list[tuple[str, bytes]] = dataclasses.field(default_factory=list)
    beside: dict[str, tuple[str, bytes]] = dataclasses.field(default_factory=dict)
    """By ending."""
    has_picture: bool = False
    """Whether anything is there that they can be beside."""

    @property
    def is_full(self) -> bool:
        held = sum(len(data) for _, data in self.pictures)
        return len(self.pictures) >= _MOST_HELD or held > _MOST_HELD_BYTES

    def release(self) -> Iterator[Described]:
        """Yield the pictures that are held, with what lies beside them."""
        said, consent = self._said()
        for name, data in self.pictures:
            yield Described(name=name, data=data, said=said, consent=consent)
        self.pictures.clear()

    def end(self) -> Iterator[Described]:
        """Yield what has not been handed out: of a sample without a picture, all of it."""
        yield from self.release()
        if not self.has_picture:
            for name, data in self.beside.values():
                yield Described(name=name, data=data)

    def _said(self) -> tuple[Description, Consent]:
        fields = _object(self.beside.get(".json", ("", b""))[1])
        consent = _recorded_consent(fields.pop("consent", None))
        if fields.pop(LABELS_KEY, None) is not None:
            # Our own: they are decisions (`flows.exchange.webdataset`), not what a page says.
            fields.pop("labels", None)
        about = fields.pop("about", None)
        said = describe(fields)
        if isinstance(about, dict):
            said = _with_about(said, about)
        if caption := text_of(self.beside.get(".txt", ("", b""))[1].decode(errors="replace")):
            said = dataclasses.replace(said, about=dataclasses.replace(said.about, caption=caption))
        return said, consent


def described(
    members: Iterator[Member],
) -> Iterator[Described | SkippedMember]:
    """Yield every member but those that lie beside a picture and describe it; memory holds one sample."""
    sample = _Sample("")
    for member in members:
        if isinstance(member, SkippedMember):
            yield member
            continue
        name, data = (member.name, b"") if isinstance(member, TakenBefore) else member
        key, ending = sample_key(name)
        if key != sample.key:
            yield from sample.end()
            sample = _Sample(key)
        if ending in _BESIDE and not isinstance(member, TakenBefore):
            sample.beside[ending] = (name, data)
            continue
        sample.has_picture = True
        if not isinstance(member, TakenBefore):
            sample.pictures.append((name, data))
            if sample.is_full:
                yield from sample.release()
    yield from sample.end()


def sample_key(name: str) -> tuple[str, str]:
    """Return a member's folder and name up to its first dot, and what follows the last."""
    folder, slash, base = name.rpartition("/")
    stem, _, _ = base.partition(".")
    _, dot, ending = base.rpartition(".")
    return f"{folder}{slash}{stem}", f"{dot}{ending}".lower()


def _object(data: bytes) -> dict[str, object]:
    try:
        value = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _recorded_consent(value: object) -> Consent:
    if not isinstance(value, dict):
        return UNSAID
    try:
        consent = Consent.from_json(json.dumps(value))
        _ = consent.reason  # a KeyError for kinds of signals that are not ours
    except (KeyError, TypeError):
        return UNSAID  # somebody else's field of that name
    return consent


def _with_about(said: Description, about: dict[str, object]) -> Description:
    """Add what one of our own shards says under `about`."""
    try:
        ours = About.from_json(json.dumps(about))
    except TypeError:
        return said  # somebody else's field of that name
    columns = {**said.about.columns, **ours.columns}
    return dataclasses.replace(said, about=dataclasses.replace(ours, columns=columns))
