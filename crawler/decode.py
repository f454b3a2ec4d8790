"""Bytes of any origin to an RGB picture and what identifies it, or `ImageRejected` with the reason.

The format is read from the bytes, never from a name or a header, and only the formats of
`crawler.sniff.SUPPORTED` reach a decoder. SVG is never rendered: it is a program.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageOps, features

from crawler.hashes import hashes_of
from crawler.jpeg import coded_picture
from crawler.rejections import ImageRejected, Reason
from crawler.sniff import SUPPORTED, ends_early, sniff

if TYPE_CHECKING:  # the decoding processes need no HTTP client
    from crawler.fetch import Fetched

DEFAULT_MAX_PIXELS = 100_000_000
THUMBNAIL_SIDE = 256
# Largest values of 8, 10, 12, 14 and 16 bits.
_BIT_DEPTHS = (255, 1023, 4095, 16_383, 65_535)

# A thumbnail a little smaller than it may be is no loss, and a large JPEG decodes at 1/8.
_THUMBNAIL_FROM = 224
# Hashes look at 64 x 64 pixels at most: twice as many are enough to take them from.
_HASHED_SIDE = 128
# EXIF orientations that swap width and height.
_LYING = range(5, 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What identifies a picture: exactly by its bytes or pixels, nearly by its hashes."""

    sha256: str
    """Of the original bytes, hex: the image's id."""
    pixel_sha256: str
    """Equal means equal pixels, hex. Of the size and the upright RGB pixels: the same through any
    lossless format. For JPEG of what is coded, less the metadata: see `crawler.jpeg`.
    """
    phash: int
    """DCT hash, as imagehash.phash of the whole picture but for 2 bits; unsigned 64 bits."""
    dhash: int
    """Gradient hash, as imagehash.dhash; unsigned 64 bits."""
    hashable: bool
    """False for flat pictures, whose hashes mean nothing: they are never merged by hash."""
    width: int
    height: int
    size_bytes: int
    tiny: bytes
    """Luma 16 x 16, then Cb and Cr 8 x 8, one byte each (384): a second look where hashes agree.

    Hashes are blind to colour and to small parts; this is not. 384 bytes tell lookalikes apart as
    well as 16 x 16 RGB does, at half the size.
    """
    views: bytes = b""
    """Hashes of the whole and of its parts: `crawler.hashes.Hashes.views`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A body that is a picture, and what was read from it in one decoding."""

    fingerprint: Fingerprint
    format: str
    """A key of `crawler.sniff.SUPPORTED`."""
    thumbnail: bytes
    """JPEG, longest side at most 256 pixels, never enlarged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate(Examined):
    """A fetched picture that decodes, with where it came from."""

    fetched: Fetched


def examine(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS, min_side: int = 1) -> Examined:
    """Decode `data` once and return its fingerprint, format and thumbnail.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size, which is many times faster; all of its data is
    still read, so that a picture that was cut off is found. Raises `ImageRejected`: TOO_SMALL when
    the shorter side is under `min_side` pixels, and whatever `decode` says.
    """
    seen = _read(data, max_pixels, min_side, reduce_to=_THUMBNAIL_FROM)
    return Examined(
        fingerprint=_fingerprint(data, seen),
        format=seen.format,
        thumbnail=_thumbnail(seen.picture),
    )


def fingerprint(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Fingerprint:
    """Return what identifies the picture in `data`, without a thumbnail: faster than `examine`.

    A JPEG is decoded smaller still, by which a hash may differ in a bit or two. Raises as `decode`.
    """
    return _fingerprint(data, _read(data, max_pixels, 1, reduce_to=_HASHED_SIDE))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    picture: Image.Image
    """RGB, upright, reduced as far as it was cheap."""
    size: tuple[int, int]
    """Of the whole picture, upright."""
    format: str
    pixel_sha256: str


def _fingerprint(data: bytes, seen: _Seen) -> Fingerprint:
    hashes = hashes_of(_reduced(seen.picture, _HASHED_SIDE))
    return Fingerprint(
        sha256=hashlib.sha256(data).hexdigest(),
        pixel_sha256=seen.pixel_sha256,
        phash=hashes.phash,
        dhash=hashes.dhash,
        hashable=hashes.hashable,
        width=seen.size[0],
        height=seen.size[1],
        size_bytes=len(data),
        tiny=hashes.tiny,
        views=hashes.views,
    )


def _read(data: bytes, max_pixels: int, min_side: int, *, reduce_to: int) -> _Seen:
    """Decode `data` to a picture whose longer side is at least `reduce_to` pixels, if it has them."""
    format_name = image_format(data)
    with _opened(data, format_name, max_pixels) as opened:
        width, height = opened.size
        if min(width, height) < min_side:
            raise ImageRejected(
                Reason.TOO_SMALL,
                f"{width} x {height}, and the shorter side should be {min_side} or more",
            )
        if format_name == "jpeg":
            scale = max(1, max(width, height) // reduce_to)
            # Does nothing unless it can be 2, 4 or 8 times smaller.
            opened.draft(None, (max(1, width // scale), max(1, height // scale)))
        opened.load()
        orientation = _orientation(opened)
        if format_name == "jpeg":
            pixels = coded_picture(data, orientation)
            size = (height, width) if orientation in _LYING else (width, height)
            picture = _upright(opened)
            if picture.mode != "RGB":
                picture = _flattened(picture)
        else:
            # A plugin may learn the true size while it loads (TIFF, GIF): look again.
            _check_pixels(opened.size, max_pixels)
            picture = _flattened(_upright(opened))
            size = picture.size
            pixels = hashlib.sha256(b"%dx%d:" % size)
            pixels.update(picture.tobytes())
        return _Seen(
            picture=_reduced(picture, reduce_to),
            size=size,
            format=format_name,
            pixel_sha256=pixels.hexdigest(),
        )


def decode(
    data: bytes,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    reduce_to: tuple[int, int] | None = None,
) -> Image.Image:
    """Return the picture in `data`: mode RGB, upright, flattened on white, first frame.

    With `reduce_to`, a size, a JPEG of twice that or more, either way up, is decoded at 1/2, 1/4 or
    1/8 of its size, which is several times faster; all of its data is still read.

    The size is checked against `max_pixels` before any pixel is decoded. Raises `ImageRejected`
    and nothing else, whatever the bytes: TRUNCATED when the format's own end mark says that bytes
    are missing (transient causes are likely), CORRUPT when they are all there and do not decode.
    Pillow's own ceiling of 179 million pixels holds beside `max_pixels`.
    """
    with _opened(data, image_format(data), max_pixels) as opened:
        if reduce_to is not None:
            opened.draft(None, reduce_to)  # does nothing to other formats
        opened.load()
        # A plugin may learn the true size while it loads (TIFF, GIF): look again.
        _check_pixels(opened.size, max_pixels)
        return _flattened(_upright(opened))


@contextlib.contextmanager
def _opened(data: bytes, format_name: str, max_pixels: int) -> Iterator[Image.Image]:
    """Open a picture that is not too large; whatever fails with it inside is an `ImageRejected`."""
    with _pillow_warnings_silenced:
        try:
            with Image.open(io.BytesIO(data), formats=[SUPPORTED[format_name]]) as opened:
                _check_pixels(opened.size, max_pixels)
                yield opened
        except ImageRejected:
            raise
        except Image.DecompressionBombError as error:
            raise ImageRejected(Reason.TOO_MANY_PIXELS, str(error)) from None
        except Exception as error:  # Pillow's plugins raise nearly every built-in type
            reason = Reason.TRUNCATED if ends_early(data, format_name) else Reason.CORRUPT
            detail = f"{format_name} of {len(data)} bytes does not decode: {error}"
            raise ImageRejected(reason, detail) from error


def image_format(data: bytes) -> str:
    """Return the format of `data`, a key of `SUPPORTED`; raise `ImageRejected` for anything else."""
    if not data:
        raise ImageRejected(Reason.NOT_AN_IMAGE, "the body is empty")
    name = sniff(data)
    if name == "svg":
        raise ImageRejected(Reason.SVG, "SVG is a program, not a photograph, and is not rendered")
    if name in {"", "html", "gzip", "mp4", "pdf"}:
        raise ImageRejected(
            Reason.NOT_AN_IMAGE, f"the body is {name or 'no known format'}: {data[:16]!r}"
        )
    if name not in SUPPORTED or (name == "avif" and not features.check("avif")):
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, f"{name} is not decoded")
    return name


def _reduced(image: Image.Image, side: int) -> Image.Image:
    """Return `image` at 1/2, 1/3, ... of its size, its longer side still `side` or more."""
    factor = max(image.size) // side
    return image.reduce(factor) if factor > 1 else image


def _thumbnail(image: Image.Image) -> bytes:
    scale = THUMBNAIL_SIDE / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        # Of pictures under twice the size, HAMMING is as sharp as LANCZOS and twice as fast.
        image = image.resize(size, Image.Resampling.HAMMING)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageRejected(
            Reason.TOO_MANY_PIXELS, f"{width} x {height} is more than {max_pixels} pixels"
        )
    if width < 1 or height < 1:
        raise ImageRejected(Reason.CORRUPT, f"the picture is {width} x {height}")


def _orientation(image: Image.Image) -> int:
    """Return how the picture is to be turned, as EXIF counts: 1 to 8, 1 if nothing is said."""
    # See _upright() for why any error says nothing.
    with contextlib.suppress(Exception):
        said = image.getexif().get(ExifTags.Base.Orientation, 1)
        if said in range(1, 9):
            return int(said)
    return 1


def _upright(image: Image.Image) -> Image.Image:
    # Unreadable EXIF says nothing about orientation, and browsers show such a picture as it lies;
    # reading it raises nearly every built-in type.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)  # a copy would double the peak memory
    return image


def _flattened(image: Image.Image) -> Image.Image:
    """Return `image` as RGB, what is transparent shown on white."""
    if image.mode.startswith(("I", "F")):
        return _from_deep(image)
    if image.has_transparency_data:
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        flat = Image.new("RGB", layer.size, "white")
        flat.paste(layer, mask=layer.getchannel("A"))
        return flat
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _from_deep(image: Image.Image) -> Image.Image:
    """Return a picture of 16 or 32 bits a pixel in 8 bits: Pillow's own conversion clips at 255."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and image.mode.startswith("I") and high <= _BIT_DEPTHS[-1]:
        # Sensors of 10, 12 and 14 bits store their numbers in 16: take the smallest that holds all.
        low, high = 0.0, float(next(top for top in _BIT_DEPTHS if high <= top))
    elif low >= 0 and image.mode == "F" and high <= 1:
        low, high = 0.0, 1.0
    # Elsewhere the range is the instrument's own: stretch it.
    scaled = (values - low) * (255.0 / (high - low)) if high > low else np.zeros_like(values)
    return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")


class _WarningsSilenced:
    """Silence warnings while any thread decodes.

    Pillow warns about sizes and broken metadata, which decode() judges itself. catch_warnings()
    alone is not safe when several threads enter and leave it interleaved, so they share one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._shared: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._shared = warnings.catch_warnings(action="ignore")
                self._shared.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._shared is not None:
                self._shared.__exit__(kind, error, traceback)
                self._shared = None


_pillow_warnings_silenced = _WarningsSilenced()
