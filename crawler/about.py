"""What is said about a picture, beside its alternative text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a page, a feed, a table of addresses or the file itself says about a picture.

    Claims as they were found, white space collapsed; nothing here was checked against the picture.
    """

    title: str = ""
    caption: str = ""
    anchor: str = ""
    """The text of the link that leads to it."""
    width: int | None = None
    """Declared, in pixels."""
    height: int | None = None
    license: str = ""
    """The address of a licence, or its name."""
    creator: str = ""
    credit: str = ""
    """The line that is to be shown with it; a copyright notice if there is no other."""
    acquire_license: str = ""
    """The page on which a licence may be had."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Further columns of a table of addresses, by name."""

    def or_else(self, other: About) -> About:
        """Return this with what it leaves unsaid taken from `other`; sizes come as a pair."""
        if other == NOTHING_SAID:
            return self
        said = {
            each.name: getattr(self, each.name) or getattr(other, each.name)
            for each in dataclasses.fields(self)
        }
        if self.width or self.height:
            said |= {"width": self.width, "height": self.height}
        return About(**said)

    def to_json(self) -> str:
        """Return what is said as one line of JSON, without what is not: `{}` for nothing."""
        said = {name: value for name, value in dataclasses.asdict(self).items() if value}
        return json.dumps(said, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> About:
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))


NOTHING_SAID = About()
