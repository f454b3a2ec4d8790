"""Our side of `tests.bench.crawl`: fetch pictures and store them as img2dataset does.

    python -m tests.bench.crawling.ours fetch|candidates LIST FOLDER

LIST is a file of addresses; tars and a Parquet file of metadata for each go to FOLDER. `fetch` keeps
what comes; `candidates` is the whole line: decoded in processes of their own, hashed, with a
thumbnail. Everything is on: robots.txt, consent, the address guard, the gates of each host.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from crawler.candidates import candidates
from crawler.decode import Candidate
from crawler.fetch import Fetched, fetch
from crawler.pages import ImageLink
from crawler.settings import CrawlPolicy
from flows.shards import MAX_SHARD_IMAGES, Member, write_tar

# No delay between requests, as img2dataset has none; the gates are passed through all the same.
POLICY = CrawlPolicy(contact="bench@example.org", delay_s=0)


def links(path: Path) -> Iterator[ImageLink]:
    """Yield a link for each line."""
    with path.open() as lines:
        for line in lines:
            yield ImageLink(url=line.strip(), page_url="", found_by="list")


async def collect(what: str, path: Path, folder: Path) -> int:
    """Store what the addresses in `path` give; return the number of pictures."""
    fetching = fetch if what == "fetch" else candidates
    outcomes = fetching(links(path), policy=POLICY, allow_private=True)
    held: list[Fetched | Candidate] = []
    stored = 0
    async with aclosing(cast("AsyncGenerator[object, None]", outcomes)) as kept:
        async for outcome in kept:
            if not isinstance(outcome, Fetched | Candidate):
                raise SystemExit(f"a picture was not kept: {outcome}")
            held.append(outcome)
            if len(held) == MAX_SHARD_IMAGES:
                stored += _store(held, folder / f"{stored:08}")
                held = []
    return stored + _store(held, folder / f"{stored:08}")


def _store(held: list[Fetched | Candidate], path: Path) -> int:
    rows = [_row(each) for each in held]
    members = [
        Member(
            sha256=fetched.sha256,
            format="jpeg",
            data=fetched.data,
            metadata={
                "url": fetched.link.url,
                "page_url": fetched.link.page_url,
                "alt": fetched.link.alt,
                "about": json.loads(fetched.link.about.to_json()),
                "content_type": fetched.content_type,
                "consent": json.loads(fetched.consent.to_json()),
            },
        )
        for fetched in map(_fetched, held)
    ]
    with path.with_suffix(".tar").open("wb") as file:
        write_tar(file, members)
    pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))
    return len(rows)


def _row(kept: Fetched | Candidate) -> dict[str, object]:
    fetched = _fetched(kept)
    row: dict[str, object] = {
        "sha256": fetched.sha256,
        "url": fetched.link.url,
        "final_url": fetched.final_url,
        "content_type": fetched.content_type,
        "etag": fetched.etag,
        "last_modified": fetched.last_modified,
        "fetched_at": fetched.fetched_at,
        "consent": fetched.consent.to_json(),
    }
    if isinstance(kept, Candidate):
        seen = kept.fingerprint
        row |= {
            "format": kept.format,
            "width": seen.width,
            "height": seen.height,
            "phash": seen.phash.to_bytes(8, "big"),
            "dhash": seen.dhash.to_bytes(8, "big"),
            "pixel_sha256": seen.pixel_sha256,
            "tiny": seen.tiny,
            "thumbnail": kept.thumbnail,
        }
    return row


def _fetched(kept: Fetched | Candidate) -> Fetched:
    return kept.fetched if isinstance(kept, Candidate) else kept


if __name__ == "__main__":
    count = asyncio.run(collect(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
    sys.stdout.write(f"{count}\n")
