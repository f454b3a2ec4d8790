"""The table of addresses that a source names: a file, or an object in the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from crawler.pages import ImageLink
from crawler.rejections import Rejected
from crawler.settings import CrawlPolicy, require_contact
from crawler.sources import Source
from crawler.url_table import UrlTable
from flows.locations import bucket_at, is_object, name_of, source_name
from flows.scratch import Scratch
from flows.workspace import Workspace

_NO_CONTACT = CrawlPolicy()


class Listing:
    """The rows of a source's table; none when the source has no table.

    Raises TableUnreadable, or NotFound for an object that is not there.
    """

    def __init__(self, workspace: Workspace, source: Source, scratch: Scratch) -> None:
        self._source = source
        self._anonymous = not workspace.project.contact
        self._table: UrlTable | None = None
        if source.table:
            self._table = UrlTable(
                _as_file(workspace, source.table, scratch),
                name_of(source.table),
                url_column=source.url_column,
            )

    def links(self) -> Iterator[ImageLink] | None:
        """Return the links, None without a table.

        SourceInvalid is raised at one that leads to other people if they cannot reach us.
        """
        return None if self._table is None else self._read(self._table)

    def _read(self, table: UrlTable) -> Iterator[ImageLink]:
        for address in self._source.start:
            yield ImageLink(url=address, page_url="", found_by="url list")
        hosts: set[str] = set()
        for link in table.links():
            if self._anonymous and (host := urlsplit(link.url).netloc) not in hosts:
                hosts.add(host)
                require_contact(Source(name=self._source.name, start=(link.url,)), _NO_CONTACT)
            yield link

    def rejected(self) -> Iterator[Rejected]:
        """Yield the rows that hold no address."""
        return iter(()) if self._table is None else self._table.rejected()


def table_source(
    location: str, *, name: str | None, url_column: str, allow_private: bool
) -> Source:
    """Return the source that a table is which project.toml does not name."""
    if not is_object(location):
        location = str(Path(location).expanduser().absolute())
    return Source(
        name=name or source_name(location, "table-"),
        kind="urls",
        table=location,
        url_column=url_column,
        allow_private=allow_private,
    )


def _as_file(workspace: Workspace, table: str, scratch: Scratch) -> Path:
    if not is_object(table):
        return workspace.root / Path(table).expanduser()
    if not scratch.download.exists():
        store, key = bucket_at(workspace, table)
        arriving = scratch.download.with_suffix(".arriving")
        with arriving.open("wb") as file:
            store.download(key, file)
        arriving.rename(scratch.download)
    return scratch.download
