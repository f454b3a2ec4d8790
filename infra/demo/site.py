"""A small shop to crawl, built from given pictures, with what real sites have, and what is in it.

`build_site` writes a folder that `python -m infra.demo.site --folder DIR --port N` serves:

    www/                 the pages, the pictures, robots.txt
    www/headers.json     response headers beyond the usual, by path; not served itself
    truth.json           what a crawl has to find:
        pictures    path, labels, part (shop | arrivals), duplicate_of (a path, or null) and
                    how (same bytes | resized | re-encoded, or null): each ends in the catalogue
        rejects     path, reason (a value of the crawler's Reason): each ends among the rejected
        variants    path, of: smaller versions that a crawler which wants the full size leaves alone
        unseen      paths that only a forbidden page mentions: nobody may ask for them
        pages       how many pages of the shop may be crawled; arrivals_pages, of the arrivals
        built_from  a digest of everything that the folder was made from

The shop starts at `/`, the arrivals at `/arrivals/`; no link leads from one to the other.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from infra.demo.pictures import DemoPicture
from infra.demo.server import serve
from infra.demo.shop import TEMPLATES, Shop

__all__ = ["DemoPicture", "build_site"]

_TRUTH = "truth.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def build_site(
    folder: Path, *, shop: Sequence[DemoPicture], arrivals: Sequence[DemoPicture], seed: int
) -> None:
    """Write the site of `shop` and `arrivals` to `folder`; the same input gives the same bytes.

    Built aside and renamed: a kill leaves no half a site. If the folder already holds the site of
    this very input, nothing is done; a site of another input is replaced. Raises ValueError for
    a name that is not usable or not unique, and for too few pictures (12 in the shop, 1 arrival).
    """
    _check(shop, arrivals)
    built_from = _digest(shop, arrivals, seed)
    if _built_from(folder) == built_from:
        return
    aside = folder.with_name(f".{folder.name}.building")
    replaced = folder.with_name(f".{folder.name}.replaced")
    for leftover in (aside, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True)
    truth = Shop(aside / "www", seed=seed).build(shop, arrivals)
    text = json.dumps({**truth, "built_from": built_from}, indent=1)
    (aside / _TRUTH).write_text(text, encoding="utf-8")
    if folder.exists():
        folder.rename(replaced)
    aside.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def _check(shop: Sequence[DemoPicture], arrivals: Sequence[DemoPicture]) -> None:
    names = [picture.name for picture in (*shop, *arrivals)]
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"picture name {name!r} is not usable: take letters, digits, - and _")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"picture names must be unique; given twice: {', '.join(twice)}")
    if len(shop) < 12 or not arrivals:
        raise ValueError(
            f"a site needs at least 12 pictures in the shop and 1 that arrives, "
            f"not {len(shop)} and {len(arrivals)}"
        )


def _digest(shop: Sequence[DemoPicture], arrivals: Sequence[DemoPicture], seed: int) -> str:
    """Return 16 hex digits of all that decides what is built, this code and its templates too."""
    digest = hashlib.sha256(str(seed).encode())
    code = [Path(__file__).with_name(name) for name in ("site.py", "shop.py", "pictures.py")]
    for source in (*code, *sorted(TEMPLATES.iterdir())):
        digest.update(source.name.encode() + hashlib.sha256(source.read_bytes()).digest())
    for part in (shop, arrivals):
        for picture in part:
            digest.update(json.dumps([picture.name, picture.labels]).encode())
            digest.update(hashlib.sha256(picture.jpeg).digest())
        digest.update(b"end of part")
    return digest.hexdigest()[:16]


def _built_from(folder: Path) -> str | None:
    truth = folder / _TRUTH
    if not truth.exists():
        return None
    built_from: str = json.loads(truth.read_text(encoding="utf-8"))["built_from"]
    return built_from


def main() -> None:
    """Serve a site that `build_site` wrote, on 127.0.0.1 alone, until stopped."""
    parser = argparse.ArgumentParser(prog="python -m infra.demo.site", description=main.__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="what build_site wrote")
    parser.add_argument("--port", type=int, required=True, help="0 takes any free port")
    arguments = parser.parse_args()
    if _built_from(arguments.folder) is None:
        parser.error(f"{arguments.folder} holds no site: build one with build_site")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    serve(arguments.folder / "www", arguments.port)


if __name__ == "__main__":
    main()
