"""Recall of every kind of copy, and precision, ours and the peers'."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from crawler.decode import Examined, examine
from crawler.dedupe import group_duplicates
from tests.bench.alike.peers import PEERS, pairs_found_by
from tests.bench.alike.renditions import CHANGES, FRAMING, jpeg, photographs
from tests.bench.report import Row

PHOTOGRAPHS = 50  # of each folder


@dataclass(slots=True)
class Counts:
    """Pairs that were found, right and wrong, of a number of true ones."""

    right: int = 0
    wrong: int = 0
    true: int = 0

    def add(self, pairs: Sequence[tuple[int, int]], true: int) -> None:
        """Add pairs of positions, (original, picture that the copy was made of)."""
        self.right += sum(first == second for first, second in pairs)
        self.wrong += sum(first != second for first, second in pairs)
        self.true += true

    @property
    def recall(self) -> float:
        """Share of the true pairs that were found."""
        return self.right / self.true

    @property
    def precision(self) -> float:
        """Share of the pairs found that are true."""
        return self.right / max(1, self.right + self.wrong)


def quality() -> tuple[list[Row], str]:
    """Return recall of each change and precision over all, and a line about all peers.

    Rival in the table: imagehash. Every original is compared with every copy made by one change.
    """
    originals = photographs(PHOTOGRAPHS)
    examined = [examine(jpeg(image)) for image in originals]
    ours = {name: Counts() for name in CHANGES}
    peers: dict[str, dict[str, Counts]] = {}
    kept = decided = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write(folder / "originals", [jpeg(image) for image in originals])
        for name, (_, changes) in CHANGES.items():
            for at, change in enumerate(changes):
                bodies = [jpeg(change(image).convert("RGB")) for image in originals]
                groups = _pairs(examined, [examine(body) for body in bodies])
                ours[name].add([(first, second) for first, second, _ in groups], len(originals))
                if name in FRAMING:
                    decided += len(groups)
                    kept += sum(of_originals for _, _, of_originals in groups)
                _write(folder / f"{name} {at}", bodies)
        for peer in PEERS:
            found = pairs_found_by(peer, folder)
            if found is not None:
                peers[peer] = {name: Counts() for name in CHANGES}
                for name, (_, changes) in CHANGES.items():
                    for at in range(len(changes)):
                        pairs = [(a, b) for a, b in found[f"{name} {at}"]]
                        peers[peer][name].add(pairs, len(originals))
    rival = peers.get("imagehash")
    rows = [
        Row(
            name=f"recall: {name}",
            unit="share",
            value=ours[name].recall,
            rival=rival[name].recall if rival else None,
            target=target,
        )
        for name, (target, _) in CHANGES.items()
    ]
    rows.append(
        Row(
            name="precision over all of these",
            unit="share",
            value=_all(ours).precision,
            rival=_all(rival).precision if rival else None,
            target=0.99,
        )
    )
    rows.append(
        Row(name="the original stays, of framed and cropped", unit="share", value=kept / decided)
    )
    lines = [
        f"{peer}: precision {_all(counts).precision:.3f}, recall "
        + ", ".join(f"{each.recall:.2f} {name}" for name, each in counts.items())
        for peer, counts in {"ours": ours, **peers}.items()
    ]
    missing = sorted(PEERS.keys() - peers.keys())
    if missing:
        lines.append(f"could not be installed or run: {', '.join(missing)}")
    return rows, "\n".join(lines)


def _write(folder: Path, bodies: Sequence[bytes]) -> None:
    folder.mkdir()
    for at, body in enumerate(bodies):
        (folder / f"{at:05}.jpg").write_bytes(body)


def _all(counts: dict[str, Counts]) -> Counts:
    return Counts(
        right=sum(each.right for each in counts.values()),
        wrong=sum(each.wrong for each in counts.values()),
        true=sum(each.true for each in counts.values()),
    )


def _pairs(first: Sequence[Examined], second: Sequence[Examined]) -> list[tuple[int, int, bool]]:
    """Return the pairs, one of each, that were put into one group.

    Position of the original, of the copy, and whether the original is what stays.
    """
    both = [*first, *second]
    position = {each.fingerprint.sha256: at for at, each in enumerate(both)}
    thumbnails = {each.fingerprint.sha256: each.thumbnail for each in both}
    groups = group_duplicates(
        [each.fingerprint for each in both], thumbnails=lambda ids: thumbnails
    )
    found = []
    for group in groups:
        kept = position[group.kept]
        members = [kept, *(position[each.sha256] for each in group.duplicates)]
        found += [
            (one, other - len(first), kept == one)
            for one in members
            for other in members
            if one < len(first) <= other
        ]
    return found


def merged_of_the_empty() -> Row:
    """Return how many of 1,000 flat, transparent and low-entropy pictures were merged."""
    rng = np.random.default_rng(0)
    pictures = []
    for at in range(1000):
        sheet = Image.new("RGBA", (120, 90), (*rng.integers(0, 256, 3).tolist(), 255))
        if at % 3 == 1:
            sheet.putalpha(0)
            sheet.putpixel((at % 120, at // 12 % 90), (at % 251, 7, 9, 200))
        elif at % 3 == 2:
            left, top = rng.integers(0, 80, 2).tolist()
            ImageDraw.Draw(sheet).rectangle((left, top, left + 3, top + 3), fill=(0, 0, 0))
        file = io.BytesIO()
        sheet.save(file, "PNG")
        pictures.append(examine(file.getvalue()))
    by_id = {each.fingerprint.sha256: each for each in pictures}
    groups = group_duplicates(
        [each.fingerprint for each in by_id.values()],
        thumbnails=lambda ids: {each: by_id[each].thumbnail for each in ids},
    )
    merged = sum(
        duplicate.how != "same pixels" for group in groups for duplicate in group.duplicates
    )
    return Row(
        name="empty ones merged by hash", unit="of 1,000", value=merged, target=0, at_least=False
    )
