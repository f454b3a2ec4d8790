"""Every body becomes an upright RGB picture, or is rejected with the right reason."""

from __future__ import annotations

import gzip
import io
import warnings
from pathlib import Path

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crawler.decode import Examined, decode, examine, fingerprint
from crawler.rejections import ImageRejected, Reason
from tests.crawler.pictures import encoded, picture

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'


def reason_for(data: bytes, **limits: int) -> Reason:
    """Return why `data` is rejected."""
    with pytest.raises(ImageRejected) as caught:
        examine(data, **limits)
    return caught.value.reason


def test_every_file_of_the_odd_collection_is_decoded_or_rejected(shared: Path) -> None:
    """158 broken, odd and rare files: an RGB picture or ImageRejected, nothing else, no warning."""
    decoded: dict[str, Image.Image | Reason] = {}
    for file in sorted((shared / "data/robust_images/files").iterdir()):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                decoded[file.name] = decode(file.read_bytes())
            except ImageRejected as rejected:
                decoded[file.name] = rejected.reason
    pictures = {name: seen for name, seen in decoded.items() if isinstance(seen, Image.Image)}
    assert len(decoded) >= 150
    assert all(each.mode == "RGB" and min(each.size) > 0 for each in pictures.values())
    assert {"flower.jpg", "hopper.webp", "star.gif", "rot1mir0.avif"} <= pictures.keys()
    assert decoded["truncated_jpeg.jpg"] == Reason.TRUNCATED
    assert decoded["truncated_image.png"] == Reason.TRUNCATED
    assert decoded["page_404.jpg"] == Reason.NOT_AN_IMAGE
    assert decoded["json_error.png"] == Reason.NOT_AN_IMAGE
    assert decoded["empty.jpg"] == Reason.NOT_AN_IMAGE
    assert decoded["check.svg"] == Reason.SVG
    assert decoded["relax.jp2"] == Reason.UNSUPPORTED_FORMAT
    assert decoded["decompression_bomb.gif"] == Reason.TOO_MANY_PIXELS
    assert decoded["Bad_clrsUsed.bmp"] == Reason.CORRUPT


@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("PNG", {}),
        ("WEBP", {"quality": 95}),
        ("GIF", {}),
        ("AVIF", {"quality": 95}),
        ("BMP", {}),
        ("TIFF", {}),
    ],
)
def test_every_supported_format_shows_the_same_picture(
    format_name: str, options: dict[str, object]
) -> None:
    original = picture(1)
    seen = decode(encoded(original, format_name, **options))
    difference = np.abs(np.asarray(seen).astype(int) - np.asarray(original))
    assert seen.size == original.size
    assert difference.mean() < 8


def test_the_name_of_the_format_comes_from_the_bytes() -> None:
    assert examine(encoded(picture(1), "WEBP")).format == "webp"


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP"])
def test_a_cut_off_body_is_truncated_not_corrupt(format_name: str) -> None:
    data = encoded(picture(2), format_name)
    assert reason_for(data[: len(data) * 2 // 3]) == Reason.TRUNCATED


@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("GIF", {}),
        ("AVIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
    ],
)
def test_wherever_a_file_is_cut_off_it_is_refused_or_shows_every_pixel(
    format_name: str, options: dict[str, object]
) -> None:
    """None that lacks pixels is kept: what can be missing is an end mark, or a checksum."""
    data = encoded(picture(2), format_name, **options)
    whole = decode(data)
    refused = 0
    for size in {
        *(len(data) * part // 40 for part in range(1, 40)),
        *range(len(data) - 30, len(data)),
    }:
        try:
            examine(data[:size])
        except ImageRejected:
            refused += 1
        else:
            assert decode(data[:size]).tobytes() == whole.tobytes()
    assert refused >= 39


def test_a_jpeg_that_lacks_only_its_last_byte_is_truncated() -> None:
    assert reason_for(encoded(picture(2), "JPEG")[:-1]) == Reason.TRUNCATED


def test_the_end_mark_of_an_embedded_thumbnail_does_not_hide_a_cut() -> None:
    exif = Image.Exif()
    exif[0x9286] = encoded(picture(3, (64, 48)), "JPEG")  # a whole JPEG inside the metadata
    data = encoded(picture(2), "JPEG", exif=exif)
    assert data.count(b"\xff\xd9") == 2
    assert reason_for(data[:-200]) == Reason.TRUNCATED


def test_a_body_that_is_whole_but_broken_inside_is_corrupt() -> None:
    data = bytearray(encoded(picture(2), "PNG"))
    data[len(data) // 2] ^= 0xFF
    assert reason_for(bytes(data)) == Reason.CORRUPT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.NOT_AN_IMAGE),
        (b"\n\n<!DOCTYPE html><html><body><svg></svg></body></html>", Reason.NOT_AN_IMAGE),
        (b"hello", Reason.NOT_AN_IMAGE),
        (SVG, Reason.SVG),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- made by hand -->\n' + SVG, Reason.SVG),
        (b"<!DOCTYPE svg [ <!ENTITY a 'b'> ]>" + SVG, Reason.SVG),
        (SVG.decode().encode("utf-16"), Reason.SVG),
        (gzip.compress(SVG, mtime=0), Reason.SVG),
        (gzip.compress(b"text", mtime=0), Reason.NOT_AN_IMAGE),
        (b"\0\0\0\x0cjP  \r\n\x87\n", Reason.UNSUPPORTED_FORMAT),
        (b"\0\0\0\x18ftypheic\0\0\0\0", Reason.UNSUPPORTED_FORMAT),
        (b"\0\0\0\x18ftypisom\0\0\0\0", Reason.NOT_AN_IMAGE),
    ],
)
def test_what_is_no_photograph_is_rejected_by_its_bytes(data: bytes, reason: Reason) -> None:
    assert reason_for(data) == reason


def test_too_many_pixels_are_refused_before_decoding() -> None:
    """Only the header is there: a decoder would have called it truncated."""
    header = encoded(picture(1, (400, 300)), "PNG")[:100]
    assert reason_for(header, max_pixels=119_999) == Reason.TOO_MANY_PIXELS


def test_as_many_pixels_as_allowed_pass() -> None:
    assert decode(encoded(picture(1, (400, 300))), max_pixels=120_000).size == (400, 300)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = picture(4)
    # What a camera stores so that this orientation shows `upright`: the inverse operation.
    stored = {
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = decode(encoded(stored, "PNG", exif=exif))
    assert np.array_equal(np.asarray(seen), np.asarray(upright))


def test_unreadable_exif_leaves_the_picture_as_it_lies() -> None:
    upright = picture(4)
    seen = decode(encoded(upright, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage"))
    assert np.array_equal(np.asarray(seen), np.asarray(upright))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_shown_on_white(mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0)).convert(mode)
    assert decode(encoded(clear)).getcolors() == [(64, (255, 255, 255))]


def test_a_palette_with_a_transparent_colour_is_shown_on_white() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 0, 0])
    seen = decode(encoded(image, "GIF", transparency=1))
    assert seen.getcolors() == [(64, (255, 255, 255))]


def test_half_transparent_black_is_grey() -> None:
    seen = decode(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 128))))
    assert seen.getpixel((0, 0)) == (127, 127, 127)


def test_sixteen_bits_keep_their_tones() -> None:
    """Pillow's own conversion clips everything above 255 to white."""
    ramp = np.linspace(0, 65_535, 256, dtype=np.uint16).reshape(1, 256).repeat(8, axis=0)
    seen = np.asarray(decode(encoded(Image.fromarray(ramp))))
    assert np.array_equal(seen[0, :, 0], np.arange(256))


def test_twelve_bits_in_sixteen_are_not_black() -> None:
    ramp = np.linspace(0, 4095, 256, dtype=np.uint16).reshape(1, 256).repeat(8, axis=0)
    assert np.asarray(decode(encoded(Image.fromarray(ramp)))).max() == 255


def test_floating_point_between_nought_and_one_fills_the_range() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 256).repeat(8, axis=0)
    seen = np.asarray(decode(encoded(Image.fromarray(ramp), "TIFF")))
    assert np.array_equal(seen[0, :, 0], np.arange(256))


def test_cmyk_comes_out_as_rgb() -> None:
    seen = decode(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = seen.getpixel((8, 8))  # type: ignore[misc]  # three bands: an RGB picture
    assert red > 240
    assert max(green, blue) < 15


def test_an_animation_shows_its_first_frame() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    seen = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert seen.getpixel((8, 8)) == (255, 0, 0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_anywhere_is_a_picture_or_a_rejection(data: st.DataObject) -> None:
    """Flipped and lost bytes, in every format: no other exception comes out."""
    format_name = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF"]))
    body = bytearray(encoded(picture(5, (48, 40)), format_name))
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)))]
    try:
        seen = decode(bytes(body), max_pixels=1_000_000)
    except ImageRejected:
        return
    assert seen.mode == "RGB"


def test_a_small_picture_is_rejected_by_its_shorter_side() -> None:
    assert reason_for(encoded(picture(1, (300, 63))), min_side=64) == Reason.TOO_SMALL


def test_a_picture_as_small_as_allowed_passes() -> None:
    seen = examine(encoded(picture(1, (300, 64))), min_side=64)
    assert (seen.fingerprint.width, seen.fingerprint.height) == (300, 64)


def test_the_thumbnail_is_a_jpeg_of_at_most_256_pixels() -> None:
    with Image.open(io.BytesIO(examine(encoded(picture(1, (600, 300)))).thumbnail)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (256, 128))


def test_a_small_picture_is_not_enlarged_for_its_thumbnail() -> None:
    with Image.open(io.BytesIO(examine(encoded(picture(1, (90, 70)))).thumbnail)) as thumbnail:
        assert thumbnail.size == (90, 70)


def test_the_same_pixels_in_two_lossless_formats_have_one_pixel_hash() -> None:
    first, second = (examine(encoded(picture(1), each)).fingerprint for each in ("PNG", "BMP"))
    assert first.pixel_sha256 == second.pixel_sha256
    assert first.sha256 != second.sha256


def test_files_that_differ_in_metadata_alone_have_one_pixel_hash() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    plain = encoded(picture(1), "JPEG")
    described = encoded(picture(1), "JPEG", exif=exif, comment=b"a comment")
    first, second = (examine(each).fingerprint for each in (plain, described))
    assert first.pixel_sha256 == second.pixel_sha256
    assert first.sha256 != second.sha256


def test_the_same_coded_picture_turned_by_exif_has_another_pixel_hash() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, turned = encoded(picture(1), "JPEG"), encoded(picture(1), "JPEG", exif=exif)
    first, second = (examine(each).fingerprint for each in (plain, turned))
    assert first.pixel_sha256 != second.pixel_sha256
    assert (first.width, first.height) == (second.height, second.width)


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_with_other_coded_data_has_another_pixel_hash(
    quality: int, *, progressive: bool
) -> None:
    bodies = [
        encoded(picture(seed), "JPEG", quality=quality, progressive=progressive) for seed in (1, 2)
    ]
    first, second = (examine(each).fingerprint for each in bodies)
    assert first.pixel_sha256 != second.pixel_sha256


@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_that_is_decoded_at_an_eighth_is_found_to_be_cut_off(
    *, progressive: bool
) -> None:
    data = encoded(picture(2, (1920, 1440)), "JPEG", progressive=progressive)
    assert reason_for(data[: len(data) * 9 // 10]) == Reason.TRUNCATED


@pytest.mark.parametrize("size", [(384, 288), (640, 480), (1920, 1440)])
def test_hashes_are_those_of_imagehash_on_the_whole_picture(
    shared: Path, size: tuple[int, int]
) -> None:
    """Within 2 bits of pHash, as the picture is decoded at 1/2, 1/4 or 1/8."""
    for file in sorted((shared / "data/hymenoptera/images").iterdir())[:8]:
        with Image.open(file) as opened:
            data = encoded(opened.convert("RGB").resize(size), "JPEG", quality=85)
        expected = int(str(imagehash.phash(Image.open(io.BytesIO(data)))), 16)
        for seen in (examine(data).fingerprint, fingerprint(data)):
            assert (seen.phash ^ expected).bit_count() <= 2


def test_the_same_pixels_in_another_shape_have_another_pixel_hash() -> None:
    grey = [
        examine(encoded(Image.new("RGB", size, "grey"))).fingerprint for size in ((8, 4), (4, 8))
    ]
    assert grey[0].pixel_sha256 != grey[1].pixel_sha256


@pytest.mark.parametrize(
    "flat",
    [
        Image.new("RGB", (200, 200), "white"),
        Image.new("RGB", (200, 200), (120, 130, 140)),
        Image.linear_gradient("L").point(lambda value: 120 + value // 16),
    ],
)
def test_flat_pictures_are_not_hashable(flat: Image.Image) -> None:
    assert not examine(encoded(flat)).fingerprint.hashable


def test_placeholder_pictures_are_not_hashable(shared: Path) -> None:
    """A number on plain grey, from a real site: hashes would merge different numbers."""
    files = sorted((shared / "data/sites/lazyload_demos/images").glob("440x560-*.webp"))[:12]
    assert len(files) == 12
    assert not any(examine(file.read_bytes()).fingerprint.hashable for file in files)


def test_photographs_are_hashable(shared: Path) -> None:
    files = sorted((shared / "data/turntable_vinyl/images").iterdir())[:20]
    assert all(examine(file.read_bytes()).fingerprint.hashable for file in files)


def test_hashes_fit_unsigned_64_bits() -> None:
    seen: Examined = examine(encoded(picture(6)))
    assert 0 < seen.fingerprint.phash < 2**64
    assert 0 < seen.fingerprint.dhash < 2**64
