"""Pictures for the browser: thumbnails as they are stored, originals only ever re-encoded."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi import Path as PathParam
from starlette.responses import Response

from flows.errors import Corrupt, NotFound
from flows.studio.reader import Reader

Sha256 = Annotated[str, PathParam(pattern=r"^[0-9a-f]{64}$")]

DISPLAY_SIDE = 1600
"""Longest side in pixels of the picture that is looked at; the original has its own address."""

CACHE_BYTES = 48 * 2**20
"""Some 4,000 thumbnails; a browser keeps for itself what it was given."""

IMMUTABLE = "private, max-age=31536000, immutable"

_JPEG_START = b"\xff\xd8\xff"

Size = Literal["thumbnail", "display", "original"]


class PictureShelf:
    """JPEGs by id, the recently used ones kept in memory up to `CACHE_BYTES`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._kept: OrderedDict[tuple[str, Size], bytes] = OrderedDict()
        self._kept_bytes = 0
        self._coming: dict[str, Future[None]] = {}
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="thumbnails")
        self._lock = threading.Lock()
        # A decoded original may take 400 MB: one at a time.
        self._decoding = threading.Lock()

    def thumbnail(self, sha256: str) -> bytes:
        """Return the stored thumbnail, a JPEG of 256 px at most."""
        return self._get(sha256, "thumbnail", lambda: self._read_thumbnails([sha256])[sha256])

    def display(self, sha256: str) -> bytes:
        """Return the original as a JPEG of `DISPLAY_SIDE` px at most."""
        return self._get(sha256, "display", lambda: self._reencode(sha256, DISPLAY_SIDE, 88))

    def original(self, sha256: str) -> bytes:
        """Return the original in its full size, as a JPEG without its metadata."""
        return self._reencode(sha256, None, 92)

    def preload_thumbnails(self, sha256s: Iterable[str]) -> None:
        """Start reading the thumbnails of a whole page at once: a browser asks one by one.

        Those who ask for one of them meanwhile wait for it; what goes wrong they are told.
        """
        with self._lock:
            missing = [
                each
                for each in sha256s
                if (each, "thumbnail") not in self._kept and each not in self._coming
            ]
            if missing:
                coming = self._readers.submit(self._preload, missing)
                self._coming.update(dict.fromkeys(missing, coming))

    def _preload(self, sha256s: Sequence[str]) -> None:
        try:
            for sha256, data in self._read_thumbnails(sha256s).items():
                self._keep((sha256, "thumbnail"), data)
        finally:
            with self._lock:
                for sha256 in sha256s:
                    self._coming.pop(sha256, None)

    def _get(self, sha256: str, size: Size, read: Callable[[], bytes]) -> bytes:
        with self._lock:
            coming = self._coming.get(sha256) if size == "thumbnail" else None
        if coming is not None:
            wait([coming])
        with self._lock:
            if (sha256, size) in self._kept:
                self._kept.move_to_end((sha256, size))
                return self._kept[sha256, size]
        data = read()
        self._keep((sha256, size), data)
        return data

    def _keep(self, key: tuple[str, Size], data: bytes) -> None:
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = data
            self._kept_bytes += len(data)
            while self._kept_bytes > CACHE_BYTES:
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= len(dropped)

    def _read_thumbnails(self, sha256s: Sequence[str]) -> dict[str, bytes]:
        found = self._reader.workspace().catalog.thumbnails(sha256s)
        for sha256 in sha256s:
            if sha256 not in found:
                raise NotFound(f"there is no picture {sha256}")
            if not found[sha256].startswith(_JPEG_START):
                raise Corrupt(f"the thumbnail of picture {sha256} is no JPEG")
        return found

    def _reencode(self, sha256: str, side: int | None, quality: int) -> bytes:
        from crawler.decode import decode
        from crawler.rejections import ImageRejected

        workspace = self._reader.workspace()
        data = workspace.catalog.read_image_bytes(sha256)
        with self._decoding:
            try:
                image = decode(data, max_pixels=workspace.project.policy().max_pixels)
            except ImageRejected as error:
                raise Corrupt(f"picture {sha256} no longer decodes: {error}") from error
            if side is not None:
                image.thumbnail((side, side))
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()


router = APIRouter(prefix="/pictures", include_in_schema=False)


def _jpeg(data: bytes) -> Response:
    # An id is the hash of the bytes, so what it names never changes.
    return Response(data, media_type="image/jpeg", headers={"cache-control": IMMUTABLE})


@router.get("/{sha256}/thumbnail.jpg")
def thumbnail(request: Request, sha256: Sha256) -> Response:
    """Serve the thumbnail."""
    return _jpeg(request.app.state.shelf.thumbnail(sha256))


@router.get("/{sha256}/display.jpg")
def display(request: Request, sha256: Sha256) -> Response:
    """Serve the picture at a size to look at."""
    return _jpeg(request.app.state.shelf.display(sha256))


@router.get("/{sha256}/original.jpg")
def original(request: Request, sha256: Sha256) -> Response:
    """Serve the picture in its full size."""
    return _jpeg(request.app.state.shelf.original(sha256))
