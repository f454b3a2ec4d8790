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
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import imagehash
import numpy as np
from PIL import Image, ImageOps, features

from crawler.rejections import ImageRejected, Reason
from crawler.sniff import SUPPORTED, ends_early, sniff

if TYPE_CHECKING:  # the decoding processes need no HTTP client
    from crawler.fetch import Fetched

DEFAULT_MAX_PIXELS = 100_000_000
THUMBNAIL_SIDE = 256
# Largest values of 8, 10, 12, 14 and 16 bits.
_BIT_DEPTHS = (255, 1023, 4095, 16_383, 65_535)

# The gate for perceptual hashes. Below it the hash bits are noise around a flat tone, and any two
# such pictures may agree. Measured on 16 x 16 luma: 38 placeholder pictures (a number on grey) have
# a deviation of at most 5.7; of 732 photographs, covers and product pictures all but one (a pale
# texture, 6.6) have 13.7 or more.
_MIN_LUMA_DEVIATION = 10.0
# A blank sheet with one small dark mark has contrast, but next to no information: one level holds
# nearly all of it. Least entropy over 16 levels among those 732 pictures: 0.82 bit.
_MIN_LUMA_ENTROPY_BITS = 0.7

TINY_LUMA_SIDE = 16
TINY_CHROMA_SIDE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What identifies a picture: exactly by its bytes or pixels, nearly by its hashes."""

    sha256: str
    """Of the original bytes, hex: the image's id."""
    pixel_sha256: str
    """Of the size and the decoded, upright RGB pixels, hex: the same through any lossless format."""
    phash: int
    """DCT hash, unsigned 64 bits."""
    dhash: int
    """Gradient hash, unsigned 64 bits."""
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

    Raises `ImageRejected`: TOO_SMALL when the shorter side is under `min_side` pixels, and whatever
    `decode` says.
    """
    image = decode(data, max_pixels=max_pixels)
    width, height = image.size
    if min(width, height) < min_side:
        raise ImageRejected(
            Reason.TOO_SMALL,
            f"{width} x {height}, and the shorter side should be {min_side} or more",
        )
    # Hashes, tiny and thumbnail all come from one reduced picture: a large original is read once.
    small = _reduced(image)
    luma, *chroma = small.convert("YCbCr").split()
    tiny_luma = luma.resize((TINY_LUMA_SIDE, TINY_LUMA_SIDE), Image.Resampling.BOX)
    tiny_chroma = [
        band.resize((TINY_CHROMA_SIDE, TINY_CHROMA_SIDE), Image.Resampling.BOX) for band in chroma
    ]
    pixels = hashlib.sha256(f"{width}x{height}:".encode())
    pixels.update(image.tobytes())
    thumbnail = io.BytesIO()
    small.save(thumbnail, "JPEG", quality=85)
    return Examined(
        fingerprint=Fingerprint(
            sha256=hashlib.sha256(data).hexdigest(),
            pixel_sha256=pixels.hexdigest(),
            phash=_as_uint64(imagehash.phash(small)),
            dhash=_as_uint64(imagehash.dhash(small)),
            hashable=_carries_information(tiny_luma),
            width=width,
            height=height,
            size_bytes=len(data),
            tiny=b"".join(band.tobytes() for band in (tiny_luma, *tiny_chroma)),
        ),
        format=image_format(data),
        thumbnail=thumbnail.getvalue(),
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
    format_name = image_format(data)
    with _pillow_warnings_silenced:
        try:
            with Image.open(io.BytesIO(data), formats=[SUPPORTED[format_name]]) as opened:
                _check_pixels(opened.size, max_pixels)
                if reduce_to is not None:
                    opened.draft(None, reduce_to)  # does nothing to other formats
                opened.load()
                # A plugin may learn the true size while it loads (TIFF, GIF): look again.
                _check_pixels(opened.size, max_pixels)
                return _flattened(_upright(opened))
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


def _reduced(image: Image.Image) -> Image.Image:
    scale = min(1.0, THUMBNAIL_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _as_uint64(hash_8x8: imagehash.ImageHash) -> int:
    return int.from_bytes(np.packbits(hash_8x8.hash.ravel()).tobytes(), "big")


def _carries_information(luma: Image.Image) -> bool:
    values = np.asarray(luma)
    share = np.bincount(values.ravel() // 16, minlength=16) / values.size
    entropy_bits = -float(np.sum(share * np.log2(share, where=share > 0, out=np.zeros(16))))
    return float(values.std()) >= _MIN_LUMA_DEVIATION and entropy_bits >= _MIN_LUMA_ENTROPY_BITS


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageRejected(
            Reason.TOO_MANY_PIXELS, f"{width} x {height} is more than {max_pixels} pixels"
        )
    if width < 1 or height < 1:
        raise ImageRejected(Reason.CORRUPT, f"the picture is {width} x {height}")


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
