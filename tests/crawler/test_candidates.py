"""Links and archive members become candidates or rows with a reason; a dying decoder stops nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import io
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest
from PIL import Image

from crawler.archive import Member, SkippedMember, archive_members
from crawler.candidates import candidates, examine_members
from crawler.consent import consent_from_file
from crawler.decode import Candidate, Examined, examine
from crawler.decode_pool import DecodePool
from crawler.fetch import Unchanged, Validators
from crawler.rejections import Reason, Rejected
from tests.crawler.picture_server import FAST, Answers, serving, status
from tests.crawler.pictures import encoded, picture
from tests.crawler.rights import file_with_xmp, mining
from tests.processes import children_running

PICTURES = {f"/{seed}.png": encoded(picture(seed)) for seed in range(6)}
POLICY = dataclasses.replace(FAST, min_side=100)

Outcome = Candidate | Unchanged | Rejected


async def drained(outcomes: AsyncGenerator[Outcome, None]) -> dict[str, Outcome]:
    """Return the outcomes by the last part of their address."""
    async with aclosing(outcomes):
        return {_address(each).rsplit("/", 1)[-1]: each async for each in outcomes}


def _address(outcome: Outcome) -> str:
    if isinstance(outcome, Rejected):
        return outcome.url
    return (outcome.fetched.link if isinstance(outcome, Candidate) else outcome.link).url


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """What becomes of a site's links, one of each kind."""
    answers: Answers = {
        **PICTURES,
        "/small.png": encoded(picture(1, (300, 99))),
        "/cut.png": PICTURES["/1.png"][:-500],
        "/page.jpg": b"<!doctype html><html></html>",
        "/gone.jpg": status(404),
        "/same.jpg": status(304),
    }

    async def scenario() -> dict[str, Outcome]:
        async with serving(answers) as server:
            known = {f"{server.base}/same.jpg": Validators(etag='"v1"')}
            links = [server.link(path) for path in answers]
            return await drained(candidates(links, policy=POLICY, allow_private=True, known=known))

    return asyncio.run(scenario())


def test_pictures_become_candidates_with_their_fingerprint(outcomes: Mapping[str, Outcome]) -> None:
    for path, data in PICTURES.items():
        candidate = outcomes[path[1:]]
        assert isinstance(candidate, Candidate)
        assert candidate.fetched.data == data
        assert candidate.fingerprint == examine(data).fingerprint
        assert candidate.format == "png"


@pytest.mark.parametrize(
    ("name", "reason", "has_body"),
    [
        ("small.png", Reason.TOO_SMALL, True),
        ("cut.png", Reason.TRUNCATED, True),
        ("page.jpg", Reason.NOT_AN_IMAGE, True),
        ("gone.jpg", Reason.HTTP_ERROR, False),
    ],
)
def test_what_is_no_use_is_rejected_with_the_hash_of_what_was_read(
    outcomes: Mapping[str, Outcome], name: str, reason: Reason, has_body: bool
) -> None:
    outcome = outcomes[name]
    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.sha256 is not None) == (reason, has_body)


def test_what_has_not_changed_passes_through(outcomes: Mapping[str, Outcome]) -> None:
    assert isinstance(outcomes["same.jpg"], Unchanged)


def test_a_picture_whose_file_forbids_training_is_rejected_with_the_evidence() -> None:
    """The site allows it; the statement travels inside the picture."""
    reserved = file_with_xmp(mining("DMI-PROHIBITED-AIMLTRAINING"))

    async def scenario() -> tuple[dict[str, Outcome], str]:
        async with serving({"/free.jpg": PICTURES["/1.png"], "/reserved.jpg": reserved}) as server:
            links = [server.link("/free.jpg"), server.link("/reserved.jpg")]
            found = await drained(candidates(links, policy=POLICY, allow_private=True, workers=1))
            return found, server.base

    found, base = asyncio.run(scenario())
    refused = found["reserved.jpg"]
    assert isinstance(found["free.jpg"], Candidate)
    assert isinstance(refused, Rejected)
    assert refused.reason == consent_from_file(reserved).reason
    assert f"at {base}/reserved.jpg" in refused.detail
    assert refused.sha256 == hashlib.sha256(reserved).hexdigest()


def test_a_picture_that_hangs_the_decoder_is_blamed_and_no_other() -> None:
    """48 million pixels need more processor time than is given; the worker is killed for real."""
    answers: Answers = {
        **PICTURES,
        "/endless.png": encoded(Image.new("RGB", (8000, 6000))),
    }

    async def scenario() -> dict[str, Outcome]:
        async with serving(answers) as server:
            links = [server.link(path) for path in sorted(answers, reverse=True)]
            return await drained(
                candidates(links, policy=POLICY, allow_private=True, workers=1, decode_cpu_s=0.1)
            )

    found = asyncio.run(scenario())
    endless = found.pop("endless.png")
    assert isinstance(endless, Rejected)
    assert endless.reason == Reason.DECODER_CRASHED
    assert [type(each) for each in found.values()] == [Candidate] * len(PICTURES)


def test_workers_that_are_killed_cost_no_picture() -> None:
    """As the kernel does when memory runs out."""

    async def scenario() -> list[Outcome]:
        members = ((path[1:], data) for path, data in PICTURES.items())
        found: list[Outcome] = []
        async with aclosing(examine_members(members, "x", policy=POLICY, workers=1)) as outcomes:
            async for each in outcomes:
                if not found:
                    # This process may have started the run's servers, too.
                    workers = children_running("crawler.decode_worker")
                    assert workers
                    for worker in workers:
                        worker.kill()
                found.append(each)
        return found

    assert [type(each) for each in asyncio.run(scenario())] == [Candidate] * len(PICTURES)


def _bombs() -> list[bytes]:
    """Files of a few kilobytes, one bit a pixel, that become 300 and 400 MB; the last is over the cap."""
    under = Image.new("1", (10_000, 9_900))
    return [
        encoded(under),
        encoded(under, transparency=0),
        encoded(under, "GIF"),
        encoded(under, "TIFF", compression="group4"),
        encoded(Image.new("1", (20_000, 10_000))),
    ]


def _most_held_mib() -> float:
    """Return the highest peak memory of this process's decoding workers."""
    peaks = []
    for worker in children_running("crawler.decode_worker"):
        said = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines()
        )
        peaks.append(int(said["VmHWM"].split()[0]) / 1024)
    return max(peaks)


def test_a_pixel_bomb_costs_a_row_and_little_memory() -> None:
    """And its worker goes on to the next picture."""

    async def scenario() -> tuple[list[object], object, float]:
        async with DecodePool(1, POLICY) as pool:
            bombs: list[object] = [(await pool.examine(data)).seen for data in _bombs()]
            next_one = await pool.examine(PICTURES["/1.png"])
            return bombs, next_one.seen, _most_held_mib()

    bombs, next_one, peak_mib = asyncio.run(scenario())
    reasons = [each[0] if isinstance(each, tuple) else None for each in bombs]
    assert Reason.DECODER_CRASHED not in reasons
    assert reasons[1] == reasons[-1] == Reason.TOO_MANY_PIXELS
    assert isinstance(next_one, Examined)
    assert peak_mib < 512


def test_every_odd_file_is_a_picture_or_a_row(shared: Path) -> None:
    """158 broken, odd and rare files: none crashes or hangs the decoder, or takes much memory."""
    paths = sorted(path for path in (shared / "data/robust_images").rglob("*") if path.is_file())

    async def scenario() -> tuple[Mapping[str, object], float]:
        async with DecodePool(None, dataclasses.replace(POLICY, min_side=1)) as pool:
            replies = await asyncio.gather(*(pool.examine(each.read_bytes()) for each in paths))
            seen = {path.name: each.seen for path, each in zip(paths, replies, strict=True)}
            return seen, _most_held_mib()

    replies, peak_mib = asyncio.run(scenario())
    refused = {name: each for name, each in replies.items() if isinstance(each, tuple)}
    assert Reason.DECODER_CRASHED not in {reason for reason, _ in refused.values()}
    assert len(replies) - len(refused) > 60
    for each in replies.values():
        if isinstance(each, Examined):
            with Image.open(io.BytesIO(each.thumbnail)) as thumbnail:
                wide, high = thumbnail.size
            # A sane picture: its thumbnail has its shape.
            seen = each.fingerprint
            assert max(wide, high) <= 256
            assert abs(wide * seen.height - high * seen.width) <= max(seen.width, seen.height)
    assert peak_mib < 512


def test_no_worker_is_left_when_the_work_is_stopped_early() -> None:
    async def scenario() -> None:
        members = ((path[1:], data) for path, data in PICTURES.items())
        async with aclosing(examine_members(members, "x", policy=POLICY, workers=1)) as outcomes:
            await anext(outcomes)

    before = {child.pid for child in psutil.Process().children()}
    asyncio.run(scenario())
    assert {child.pid for child in psutil.Process().children()} <= before


def test_members_of_an_archive_become_candidates_under_their_name(tmp_path: Path) -> None:
    for path, data in PICTURES.items():
        (tmp_path / path[1:]).write_bytes(data)
    (tmp_path / "labels.csv").write_text("name,label\n")
    found = asyncio.run(
        drained(examine_members(archive_members(tmp_path), "photos", policy=POLICY, workers=1))
    )
    candidate, other = found["1.png"], found["labels.csv"]
    assert isinstance(candidate, Candidate)
    assert isinstance(other, Rejected)
    assert candidate.fetched.link.url == "archive:photos/1.png"
    assert other.reason == Reason.NOT_AN_IMAGE
    assert len(found) == len(PICTURES) + 1


def test_what_an_archive_could_not_hand_out_is_a_rejected_row() -> None:
    members: list[Member] = [
        SkippedMember(name="../evil.jpg", reason=Reason.ADDRESS_FORBIDDEN, detail="why")
    ]
    (outcome,) = asyncio.run(
        drained(examine_members(iter(members), "photos", policy=POLICY))
    ).values()
    assert outcome == Rejected(
        url="archive:photos/../evil.jpg",
        page_url="archive:photos",
        reason=Reason.ADDRESS_FORBIDDEN,
        detail="why",
    )
