"""Whether what came lately is other than what the model in production was trained on.

    drift/<version>/<time>.json       one report a night

The pictures that were labelled last, and that the model was not fitted on, stand against those of
its training snapshot by their embeddings, overall and source by source; and by their scores, label
by label, against those that this model labelled first. (Scores out of fold would not do: they are
those of weaker heads, and always differ.) Links that were seen in the last day stand against
earlier ones by the share that was rejected. All of it is one question, "has anything changed?", so
its chance of a false alarm is kept over all tests together.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict

from flows.catalog import Catalog
from flows.conditions import sql_in
from flows.errors import Permanent
from flows.notify import Notice
from flows.objects import ObjectStore
from flows.predictions import manifests
from flows.registry import Registry
from flows.studio_links import DRIFTED
from flows.workspace import Workspace
from model.data import Snapshot
from model.drift import (
    MIN_PICTURES,
    Shift,
    adjusted,
    furthest_out,
    mmd,
    rate_shift,
    score_shift,
)

FURTHEST = 50
"""So many of the pictures that are least like training go up for review when something crossed."""

LATELY = timedelta(days=1)
SMALLEST_RATE = 0.05
SMALLEST_SCORES = 0.1
"""Of many links or scores the smallest change is beyond chance: less than these is no news."""

Kind = Literal["pictures", "pictures of a source", "scores of a label", "rejected links"]


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DriftTest(_Stored):
    """One comparison. `value` is in the measure's own unit, `p` corrected for all of them."""

    kind: Kind
    about: str
    now: int
    then: int
    value: float
    p: float
    crossed: bool


class FarPicture(_Stored):
    """A picture that is unlike all of training; `distance` is 1 less the nearest cosine."""

    sha256: str
    distance: float


class DriftReport(_Stored):
    """What was compared after one night. Without tests there was too little to compare."""

    version: str
    at: AwareDatetime
    level: float
    tests: tuple[DriftTest, ...]
    furthest: tuple[FarPicture, ...]

    @property
    def crossed(self) -> tuple[DriftTest, ...]:
        """The comparisons that are beyond chance."""
        return tuple(each for each in self.tests if each.crossed)

    def __str__(self) -> str:
        """Return the line with which the stage ends."""
        if not self.tests:
            return f"drift of {self.version}: fewer than {MIN_PICTURES} new pictures, not tested"
        if not self.crossed:
            return f"drift of {self.version}: none in {len(self.tests)} tests"
        said = "; ".join(
            f"{each.kind} {each.about} (p {each.p:.3f})".replace("  ", " ") for each in self.crossed
        )
        return f"drift of {self.version}: {said}"


def check_drift(workspace: Workspace) -> DriftReport:
    """Compare, and keep the report in the bucket. Permanent when no model is in production."""
    registry = Registry(workspace.store, workspace.project.name)
    version = registry.production()
    if version is None:
        raise Permanent("no model is in production yet: run `cratedig train` first")
    model = registry.load(version)
    settings = workspace.project.drift
    store, catalog = workspace.store, workspace.catalog
    encoder_id = model.head.encoder_id
    rng = np.random.default_rng(settings.seed)
    now_scores = _labelled(store, version, model.head.labels, settings.pictures, last=True)
    snapshot = Snapshot.from_json(store.get(f"snapshots/{model.card.snapshot_id}.json").decode())
    drawn = rng.permutation(len(snapshot.sha256s))[: settings.pictures]
    now_ids, now_ND = catalog.embeddings(encoder_id, list(now_scores))
    then_ids, then_MD = catalog.embeddings(encoder_id, [snapshot.sha256s[row] for row in drawn])
    found: list[tuple[Kind, str, int, int, Shift, float]] = []

    if min(len(now_ids), len(then_ids)) >= MIN_PICTURES:
        shift = mmd(now_ND, then_MD, seed=settings.seed)
        found.append(("pictures", "", len(now_ids), len(then_ids), shift, 0.0))
        rows_then = _by_source(catalog, then_ids)
        for source, rows in _by_source(catalog, now_ids).items():
            of_source = rows_then.get(source, [])
            # A source that training knows little of is held against all of it.
            before_MD = then_MD[of_source] if len(of_source) >= MIN_PICTURES else then_MD
            if len(rows) >= MIN_PICTURES:
                shift = mmd(now_ND[rows], before_MD, seed=settings.seed)
                found.append(
                    ("pictures of a source", source, len(rows), len(before_MD), shift, 0.0)
                )
    before = _labelled(store, version, model.head.labels, settings.pictures, without=now_scores)
    if min(len(now_scores), len(before)) >= MIN_PICTURES:
        now_NL, then_ML = (np.array(list(each.values())) for each in (now_scores, before))
        for label, now_N, then_M in zip(model.head.labels, now_NL.T, then_ML.T, strict=True):
            shift = score_shift(now_N, then_M)
            found.append(
                ("scores of a label", label, len(now_N), len(then_M), shift, SMALLEST_SCORES)
            )
    lately, earlier = _rejected(catalog, datetime.now(UTC) - LATELY)
    if min(lately[1], earlier[1]) >= MIN_PICTURES:
        shift = rate_shift(lately, earlier)
        found.append(("rejected links", "", lately[1], earlier[1], shift, SMALLEST_RATE))

    corrected = adjusted([shift.p for *_, shift, _ in found])
    report = DriftReport(
        version=version,
        at=datetime.now(UTC),
        level=settings.level,
        tests=tuple(
            DriftTest(
                kind=kind,
                about=about,
                now=now,
                then=then,
                value=shift.value,
                p=p,
                crossed=p <= settings.level and abs(shift.value) >= least,
            )
            for (kind, about, now, then, shift, least), p in zip(found, corrected, strict=True)
        ),
        furthest=tuple(
            FarPicture(sha256=now_ids[row], distance=distance)
            for row, distance in furthest_out(now_ND, then_MD, FURTHEST)
        ),
    )
    key = f"drift/{version}/{report.at.strftime('%Y%m%dT%H%M%S%fZ')}.json"
    store.put(key, report.model_dump_json(indent=1).encode())
    return report


def drift_reports(store: ObjectStore, version: str) -> Iterator[DriftReport]:
    """Yield the reports on that model, oldest first."""
    for info in store.list(f"drift/{version}/"):
        yield DriftReport.model_validate_json(store.get(info.key))


def latest_report(store: ObjectStore, version: str) -> DriftReport | None:
    """Return the last report on that model, or None before there is one."""
    newest = max((info.key for info in store.list(f"drift/{version}/")), default=None)
    return None if newest is None else DriftReport.model_validate_json(store.get(newest))


def drift_notice(report: DriftReport, *, project: str, studio_url: str | None = None) -> Notice:
    """Return what to say when something crossed."""
    steps = ["review the pictures that are marked drift, then run `cratedig train`"]
    if studio_url:
        steps.append(f"look at them in the studio: {studio_url}{DRIFTED.path}")
    return Notice(
        subject=f"{project}: what comes in has changed",
        summary=str(report),
        rows=drift_rows(report),
        next_steps=steps,
    )


def drift_rows(report: DriftReport) -> list[dict[str, str]]:
    """Return the table of a report, a row a comparison."""
    return [
        {
            "compared": f"{each.kind} {each.about}".strip(),
            "now": str(each.now),
            "then": str(each.then),
            "change": f"{each.value:+.4f}",
            "p": f"{each.p:.3f}",
            "": "drift" if each.crossed else "",
        }
        for each in report.tests
    ]


def _labelled(
    store: ObjectStore,
    version: str,
    labels: Sequence[str],
    most: int,
    *,
    last: bool = False,
    without: Collection[str] = (),
) -> dict[str, NDArray[np.float32]]:
    """Return the scores (L,) of the `most` pictures that were labelled first, or last.

    Without those that the model was fitted on. Of a part that has more the first in the order of
    ids, which is none.
    """
    column = {label: index for index, label in enumerate(labels)}
    found: dict[str, NDArray[np.float32]] = {}
    for manifest in sorted(manifests(store, version), key=lambda each: each.number, reverse=last):
        for part in manifest.parts:
            table = pq.read_table(
                io.BytesIO(store.get(part)),
                columns=["sha256", "label", "score"],
                filters=[("fitted", "=", False)],
            ).sort_by("sha256")
            enough = (most - len(found) + len(without)) * len(labels)
            for row in table.slice(0, enough).to_pylist():
                sha256 = row["sha256"]
                if sha256 in without or (len(found) >= most and sha256 not in found):
                    continue
                scores_L = found.setdefault(sha256, np.full(len(labels), np.nan, np.float32))
                scores_L[column[row["label"]]] = row["score"]
        if len(found) >= most:
            break
    return found


def _by_source(catalog: Catalog, sha256s: Sequence[str]) -> dict[str, list[int]]:
    """Return the rows of the pictures by the source that found them first."""
    row_of = {sha256: row for row, sha256 in enumerate(sha256s)}
    found: dict[str, list[int]] = defaultdict(list)
    for batch in catalog.image_batches(["sha256", "provenance"], sql_in("sha256", sha256s)):
        for record in batch.to_pylist():
            if record["provenance"]:
                found[record["provenance"][0]["source"]].append(row_of[record["sha256"]])
    return dict(sorted(found.items()))


def _rejected(catalog: Catalog, since: datetime) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return how many links of how many were rejected: those seen since then, and before."""
    counts = np.zeros((2, 2), int)
    for batch in catalog.link_batches(["outcome", "seen_at"]):
        late_B = batch.column("seen_at").to_numpy(zero_copy_only=False) >= np.datetime64(
            since.replace(tzinfo=None)
        )
        rejected_B = batch.column("outcome").to_numpy(zero_copy_only=False) == "rejected"
        for late in (False, True):
            of_them = late_B == late
            counts[int(late)] += (int((rejected_B & of_them).sum()), int(of_them.sum()))
    (before, of_before), (now, of_now) = counts.tolist()
    return (now, of_now), (before, of_before)
