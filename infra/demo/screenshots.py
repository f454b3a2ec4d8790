"""Take the README's pictures of the studio, as `cratedig demo` leaves it.

    python -m infra.demo.screenshots http://127.0.0.1:PORT

PORT is the studio's, which the demo prints. All that is seen on the pictures is drawn by the demo.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from infra.chromium import find_chromium

PAGES = {
    "overview": "/",
    "images": "/images",
    "label": "/label/grid",
    "evaluate": "/model",
}
"""File names, and the paths of the studio that they show."""

WIDTH, HEIGHT = 1280, 860
MAX_BYTES = 300_000


def take(address: str, folder: Path) -> None:
    """Write a JPEG of each page into `folder`, each below `MAX_BYTES`.

    Raises FileNotFoundError without a browser, and Playwright's own errors when a page does not come.
    """
    browser = find_chromium()
    if browser is None:
        raise FileNotFoundError("no Chromium that runs")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = started.new_page(
            viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", locale="en-GB"
        )
        for name, path in PAGES.items():
            page.goto(address.rstrip("/") + path, wait_until="networkidle")
            _await_pictures(page)
            png = page.screenshot(animations="disabled")
            (folder / f"{name}.jpg").write_bytes(_small(png))
        started.close()


def _await_pictures(page: Page) -> None:
    page.wait_for_function(
        "() => [...document.images].every((image) => image.complete || image.loading === 'lazy')"
    )


def _small(png: bytes) -> bytes:
    """Return the picture as the best JPEG that is small enough; letters keep their full colour."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in range(90, 30, -5):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True, progressive=True)
        if buffer.tell() < MAX_BYTES:
            return buffer.getvalue()
    raise ValueError(f"a page does not fit into {MAX_BYTES} bytes at any quality")


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("studio", help="the studio's address")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    take(arguments.studio, arguments.folder)


if __name__ == "__main__":
    main()
