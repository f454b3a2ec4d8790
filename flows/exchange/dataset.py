"""What a format's writer has to know of the dataset as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from flows.exchange.folder import PICTURES
from flows.exchange.pictures import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The project's labels in their order, the model in production, and where pictures will be."""

    project: str
    labels: tuple[str, ...]
    version: str | None
    pictures_at: str | None = None
    """The address under which the other tool finds them; None for the folder beside the file."""

    def address(self, picture: Picture) -> str:
        """Return where the other tool finds the picture."""
        base = PICTURES if self.pictures_at is None else self.pictures_at
        # A base such as "/data/local-files/?d=crate" takes a name as a path does.
        return f"{base.rstrip('/')}/{picture.name}"
