"""What to ask next about a label: the order of its queue, and the pictures that come round again."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from flows import queues
from flows.errors import Corrupt, CratedigError
from flows.studio.agreement import disputed
from flows.studio.columns import Picture, Rows
from flows.studio.ledger import ANSWERS
from flows.studio.page_leases import Held, PageLeases
from flows.studio.reader import LARGE_ROWS, Reader
from flows.studio.view import Page, QueueOrder, View
from flows.workspace import Workspace

if TYPE_CHECKING:  # scipy and all it takes are imported when a model is asked for, not at start
    from flows.registry import Registry

Order = Literal[
    "teaching",
    "uncertain",
    "highest",
    "newest",
    "suspects",
    "drift",
    "false-positives",
    "false-negatives",
    "disputed",
]
ORDERS: Mapping[Order, str] = {
    "teaching": "what teaches most",
    "uncertain": "the most uncertain",
    "highest": "the highest score",
    "newest": "the newest",
    "suspects": "answers that look wrong",
    "drift": "unlike what was trained on",
    "false-positives": "the model's false positives",
    "false-negatives": "the model's false negatives",
    "disputed": "disagreements",
}
"""What each order is called on the page."""

OF_UNDECIDED = frozenset({"teaching", "uncertain", "highest", "newest", "drift"})

T = TypeVar("T")

_CHOSEN = 200
_CANDIDATES = 5_000  # half the likeliest to teach, half by lot; `choose` looks closely at 2,000
_COMPARED = 2_000  # decided ones, by lot; `choose` takes no more
_CHOOSE_AGAIN_AFTER = 50  # decisions
_NIGHT_KEPT_S = 30.0  # a night's queue, before the store is asked again
_PATIENCE_S = 0.3  # what a reviewer of few pictures waits; till it is chosen, doubt is the order


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A picture to ask about."""

    picture: Picture
    again: bool = False
    """It is decided already and comes round blind, to measure how far answers agree."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QueuePage:
    """A page of a queue; `next` is what `after` must be for the page that follows."""

    asked: tuple[Asked, ...]
    total: int
    next: str | None
    held: int = 0
    """What would be asked, too, but is on the screens of others."""
    holders: tuple[str, ...] = ()
    """Who they are."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Wrong:
    """Where a model and the answers differ, by label: ids, the furthest apart first."""

    version: str | None
    since: datetime
    """What was answered later has been looked at since."""
    ids: Mapping[tuple[str, str], tuple[str, ...]]


_NO_MODEL = _Wrong(version=None, since=datetime.max.replace(tzinfo=UTC), ids={})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Taught:
    """What teaches most about a label, by a model and as of so many decisions."""

    ids: tuple[str, ...]
    version: str | None
    decisions: int


class Queues:
    """Deals out pages of the queues to several browser tabs at once."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._leases = PageLeases()
        self._lock = threading.Lock()
        self._wrong = _NO_MODEL
        self._taught: dict[str, _Taught] = {}
        self._nights: dict[str, tuple[float, queues.Queue | None]] = {}
        self._chooser = threading.Thread()  # of what teaches most; one at a time

    def page(
        self,
        label: str,
        order: Order,
        *,
        after: str | None,
        limit: int,
        holder: str,
        who: str = "",
    ) -> QueuePage:
        """Return a page of the queue of `label` for the tab `holder`, and lease it to that tab.

        Decided pictures come round again, blind, only among those that are undecided.
        """
        view = self._reader.recent()
        rows, may_be_asked = self._ordered(view, label, order)
        if not may_be_asked[rows].any():
            # That nothing waits is not said before the store has been asked.
            view = self._reader.view()
            rows, may_be_asked = self._ordered(view, label, order)

        def choose(held: Held) -> tuple[QueuePage, list[str]]:
            others = _rows(view, held.others)
            passing = may_be_asked.copy()
            passing[others] = False
            mine = _rows(view, held.mine)
            start = after
            if order == "teaching" and after is not None and len(mine):
                # The order may be another by now: from its top, less what this tab has been given.
                passing[mine] = False
                start = None
            page = view.page_of(rows, passing, after=start, limit=limit)
            asked = [Asked(picture=each) for each in page.pictures]
            if order in OF_UNDECIDED:
                asked = self._with_some_again(view, label, order, page, holder)
            busy = others[may_be_asked[others] & np.isin(others, rows)]
            found = QueuePage(
                asked=tuple(asked),
                total=page.total,
                next=page.next,
                held=len(busy),
                holders=tuple(sorted({held.others[view.pictures.ids[row]] for row in busy})),
            )
            still = mine[may_be_asked[mine]] if after is not None else mine[:0]
            ids = [view.pictures.ids[row] for row in still]
            return found, ids + [each.picture.sha256 for each in asked]

        return self.lend(label, choose, holder=holder, who=who)

    def lend(
        self,
        label: str,
        choose: Callable[[Held], tuple[T, Iterable[str]]],
        *,
        holder: str,
        who: str,
    ) -> T:
        """Return what `choose` makes of what is on screens; the ids beside it are on `holder`'s now."""
        workspace = self._reader.workspace()
        tab = holder if label in workspace.project.taxonomy().names else ""
        return self._leases.deal(workspace.store, label, tab, choose, who=who)

    def release(self, label: str, holder: str) -> None:
        """Let other tabs be asked what the tab `holder` was given: it is being closed."""
        self._leases.release(self._reader.workspace().store, label, holder)

    def claim(self, label: str, holder: str) -> None:
        """Let the tab `holder` be asked what others have on their screens."""
        self._leases.claim(self._reader.workspace().store, label, holder)

    def _ordered(self, view: View, label: str, order: Order) -> tuple[Rows, NDArray[np.bool_]]:
        """Return rows in the queue's order, and of all rows which may be asked."""
        if order == "teaching":
            first = _rows(view, self._teaching(view, label))
            rest = view.prelabels.order(label, "uncertain")
            rows = np.concatenate([first, rest[~np.isin(rest, first)]])
            return rows.astype(np.int32), view.waiting(label)
        if order == "disputed":
            rows = np.array(list(disputed(view.decisions, label)), np.int32)
            return rows, view.pictures.is_kept
        if order == "drift":
            return self._drifted(view, label, _registry(self._reader.workspace()).production())
        if order in OF_UNDECIDED:
            by = cast("QueueOrder", order)
            rows = view.pictures.newest if by == "newest" else view.prelabels.order(label, by)
            return rows, view.waiting(label)
        return self._differing(view, label, order)

    def left(self, order: Literal["suspects", "drift"]) -> dict[str, int]:
        """Return how many pictures that queue still has, a label, on whosever screen they are."""
        workspace = self._reader.workspace()
        view, version = self._reader.recent(), _registry(workspace).production()
        found = {}
        for label in workspace.project.taxonomy().names:
            if order == "drift":
                rows, passing = self._drifted(view, label, version)
            else:
                rows, passing = self._differing(view, label, order)
            found[label] = int(passing[rows].sum())
        return found

    def _drifted(
        self, view: View, label: str, version: str | None
    ) -> tuple[Rows, NDArray[np.bool_]]:
        """Return what the last night has put up because it is unlike training."""
        read_at, stored = self._nights.get(label, (-_NIGHT_KEPT_S, None))
        if time.monotonic() - read_at >= _NIGHT_KEPT_S:
            stored = queues.read(self._reader.workspace().store, label)
            self._nights[label] = (time.monotonic(), stored)
        fresh = stored is not None and version is not None and not stored.stale(version=version)
        picks = stored.picks if stored is not None and fresh else ()
        far = tuple(each.sha256 for each in picks if each.why == "drift")
        return _rows(view, far), view.waiting(label)

    def _differing(self, view: View, label: str, order: Order) -> tuple[Rows, NDArray[np.bool_]]:
        """Return where answers and the model in production differ, and nobody has looked since."""
        wrong = self._wrong_by_the_model(self._reader.workspace())
        answers = view.decisions.answers(label)
        looked_at = view.decisions.answered_since(label, wrong.since)
        wanted = {"false-positives": ["no"], "false-negatives": ["yes"]}.get(order, ["yes", "no"])
        codes = [ANSWERS.index(cast("Literal['yes', 'no']", each)) for each in wanted]
        rows = _rows(view, wrong.ids.get((label, order), ()))
        return rows, np.isin(answers, codes) & ~looked_at

    def _with_some_again(
        self, view: View, label: str, order: Order, page: Page, holder: str
    ) -> list[Asked]:
        asked = [Asked(picture=each) for each in page.pictures]
        share = self._reader.workspace().project.review.again
        dice = random.Random(f"{label} {holder} {asked[0].picture.sha256 if asked else ''}")
        count = int(len(asked) * share + dice.random())
        answers = view.decisions.answers(label)
        clear = [ANSWERS.index("yes"), ANSWERS.index("no")]
        decided = np.flatnonzero(np.isin(answers, clear) & view.pictures.is_kept)
        for row in dice.sample(decided.tolist(), min(count, len(decided))):
            again = Asked(picture=view.pictures.at(row), again=True)
            at = dice.randrange(len(asked) + 1)
            if order == "highest":
                # Out of its place it would be known for what it is.
                score = _score(view, again, label)
                at = sum(_score(view, each, label) >= score for each in asked)
            asked.insert(at, again)
        return asked

    def _teaching(self, view: View, label: str) -> tuple[str, ...]:
        """Return the ids that teach most: the night's queue while it is fresh, else chosen here.

        Choosing reads all vectors, which takes a second or two for 100,000 pictures: it is done in
        the background, and what was chosen before is the answer meanwhile.
        """
        workspace = self._reader.workspace()
        with self._lock:
            if label not in self._taught:
                stored = queues.read(workspace.store, label)
                # Whether it is of the model in production is seen to in the background, too.
                if stored is not None and not stored.stale(version=stored.version):
                    self._taught[label] = _Taught(
                        ids=tuple(each.sha256 for each in stored.picks),
                        version=stored.version,
                        decisions=view.decisions.decisions,
                    )
            if not self._chooser.is_alive():
                self._chooser = threading.Thread(
                    target=self._teach, args=(view, workspace, label), name="chooser", daemon=True
                )
                self._chooser.start()
        if label not in self._taught and len(view.pictures) <= LARGE_ROWS:
            self._chooser.join(_PATIENCE_S)
        return self._taught[label].ids if label in self._taught else ()

    def _teach(self, view: View, workspace: Workspace, label: str) -> None:
        """Choose anew if there is another model, or much has been decided since."""
        taught = self._taught.get(label)
        decisions = view.decisions.decisions
        try:
            version = _registry(workspace).production()
            if (
                taught is not None
                and taught.version == version
                and decisions - taught.decisions < _CHOOSE_AGAIN_AFTER
            ):
                return
            ids = _choose(view, workspace, label)
        except CratedigError:
            return  # the next page is asked for soon, and this tried again
        self._taught[label] = _Taught(ids=ids, version=version, decisions=decisions)

    def _wrong_by_the_model(self, workspace: Workspace) -> _Wrong:
        registry = _registry(workspace)
        version = registry.production()
        if version is None:
            return _NO_MODEL
        with self._lock:
            if self._wrong.version != version:
                self._wrong = _compare(registry, version)
            return self._wrong


def _registry(workspace: Workspace) -> Registry:
    from flows.registry import Registry

    return Registry(workspace.store, workspace.project.name)


def _rows(view: View, ids: Iterable[str]) -> Rows:
    return np.array([row for row in map(view.pictures.row, ids) if row >= 0], np.int32)


def _score(view: View, asked: Asked, label: str) -> float:
    score = view.score(asked.picture.sha256, label)
    return -1.0 if score is None else score


def _choose(view: View, workspace: Workspace, label: str) -> tuple[str, ...]:
    """Choose what teaches most among the undecided, by the encoder that pre-labelled most."""
    from model.active import choose

    decided = np.flatnonzero(view.decisions.answers(label) > 0)
    pool = _candidates(view, label, by="uncertain" if len(decided) else "highest")
    if len(decided) > _COMPARED:
        decided = np.random.default_rng(0).choice(decided, _COMPARED, replace=False)
    encoder = most_used_encoder(workspace)
    if encoder is None or not pool:
        return ()
    wanted = [*pool, *(view.pictures.ids[row] for row in decided)]
    ids, vectors_ND = workspace.catalog.embeddings(encoder, wanted)
    in_pool = np.isin(ids, pool)
    pooled = [each for each, is_in in zip(ids, in_pool, strict=True) if is_in]
    scores_N = np.array([view.score(each, label) for each in pooled], np.float32)
    picks = choose(
        vectors_ND[in_pool],
        scores_N,
        decided_MD=vectors_ND[~in_pool] if (~in_pool).any() else None,
        count=min(_CHOSEN, len(pooled)),
    )
    return tuple(pooled[each.index] for each in picks)


def _candidates(view: View, label: str, *, by: Literal["highest", "uncertain"]) -> list[str]:
    """Return undecided ids: those that come first by their score, and as many of the rest by lot."""
    ranked = view.prelabels.order(label, by)
    waiting = ranked[view.waiting(label)[ranked]]
    first, rest = np.split(waiting, [_CANDIDATES // 2])
    drawn = np.random.default_rng(0).permutation(rest)[: _CANDIDATES // 2]
    return [view.pictures.ids[row] for row in (*first, *drawn)]


def most_used_encoder(workspace: Workspace) -> str | None:
    """Return the id of the encoder that has embedded the most pictures; None before there is one."""
    names = [name for name in workspace.catalog.versions() if name.startswith("embeddings/")]
    encoders = sorted(name.removeprefix("embeddings/") for name in names)
    return max(encoders, key=workspace.catalog.embedding_count, default=None)


def _compare(registry: Registry, version: str) -> _Wrong:
    """Return where the model, on pictures that it had no part in, differs from the answers."""
    from model.card import CheckpointInvalid

    try:
        model = registry.load(version)
    except CheckpointInvalid as error:
        raise Corrupt(f"model {version} cannot be compared: {error}") from error
    suspects = model.card.report.suspects if model.card.report is not None else ()
    above_NL = model.out_of_fold_NL - model.out_of_fold_thresholds_NL
    ids: dict[tuple[str, str], tuple[str, ...]] = {}
    for column, label in enumerate(model.card.labels):
        lowest = np.argsort(above_NL[:, column], kind="stable")
        said_no = lowest[above_NL[lowest, column] < 0]
        said_yes = lowest[above_NL[lowest, column] >= 0][::-1]
        for order, rows in (("false-positives", said_yes), ("false-negatives", said_no)):
            ids[label, order] = tuple(model.sha256s[row] for row in rows.tolist())
        ids[label, "suspects"] = tuple(each.sha256 for each in suspects if each.label == label)
    promoted = [each["at"] for each in registry.promotions() if each["version"] == version]
    return _Wrong(version=version, since=datetime.fromisoformat(promoted[-1]), ids=ids)
