"""A label's curves as one SVG: precision-recall, thresholds, reliability, scores, learning.

The same scores give the same bytes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.card import LearningSummary
from model.ranking import reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _YES, _NO, _FAINT = "#1f2933", "#1b6ca8", "#c2571a", "#9aa5b1"


def label_plots(
    scores_N: NDArray[np.floating],
    positive_N: NDArray[np.bool_],
    threshold: float,
    learning: LearningSummary | None,
) -> str:
    """Return an SVG of five diagrams of held-out scores; both answers must be there."""
    # Half a second: what reads a model need not pay it.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    exact_N: NDArray[np.float64] = scores_N.astype(np.float64)
    settings: Any = {
        "svg.hashsalt": "cratedig",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 8,
        "axes.edgecolor": _FAINT,
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
    }
    with mpl.rc_context(settings):
        # Margins that fit these five: having them worked out takes as long as all the drawing.
        figure = Figure(figsize=(13, 2.7))
        figure.subplots_adjust(left=0.04, right=0.99, bottom=0.18, top=0.89, wspace=0.28)
        axes: list[Axes] = list(figure.subplots(1, 5))
        _draw_precision_recall(axes[0], exact_N, positive_N, threshold)
        _draw_thresholds(axes[1], exact_N, positive_N, threshold)
        _draw_reliability(axes[2], exact_N, positive_N)
        _draw_histogram(axes[3], exact_N, positive_N, threshold)
        _draw_learning(axes[4], learning)
        for each in axes:
            each.spines[["top", "right"]].set_visible(False)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    return text[text.index("<svg") :]  # an XML prologue has no place within HTML


def _swept(
    scores_N: NDArray[np.float64], positive_N: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return thresholds, precision and recall at each score that occurs, highest first."""
    order = np.argsort(-scores_N, kind="stable")
    scores, hits = scores_N[order], np.cumsum(positive_N[order])
    ends = np.flatnonzero(np.append(scores[:-1] != scores[1:], True))
    if len(ends) > 400:  # more points than pixels only make the page long
        ends = ends[np.unique(np.linspace(0, len(ends) - 1, 400).astype(int))]
    return scores[ends], hits[ends] / (ends + 1), hits[ends] / hits[-1]


def _draw_precision_recall(
    axes: Axes, scores_N: NDArray[np.float64], positive_N: NDArray[np.bool_], threshold: float
) -> None:
    _, precision, recall = _swept(scores_N, positive_N)
    axes.plot(recall, precision, color=_YES)
    axes.axhline(positive_N.mean(), color=_FAINT, linestyle=":", linewidth=1)
    yes = scores_N >= threshold
    if yes.any():
        axes.plot(
            (yes & positive_N).sum() / positive_N.sum(), positive_N[yes].mean(), "o", color=_NO
        )
    axes.set(title="precision and recall", xlabel="recall", ylabel="precision")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.05))


def _draw_thresholds(
    axes: Axes, scores_N: NDArray[np.float64], positive_N: NDArray[np.bool_], threshold: float
) -> None:
    cuts, precision, recall = _swept(scores_N, positive_N)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    axes.plot(cuts, precision, color=_YES, label="precision")
    axes.plot(cuts, recall, color=_NO, label="recall")
    axes.plot(cuts, f1, color=_INK, label="F1")
    axes.axvline(threshold, color=_FAINT, linestyle="--", linewidth=1)
    axes.set(title="by threshold", xlabel="threshold", xlim=(0, 1), ylim=(0, 1.05))
    axes.legend(frameon=False, fontsize=7)


def _draw_reliability(
    axes: Axes, scores_N: NDArray[np.float64], positive_N: NDArray[np.bool_]
) -> None:
    diagram = reliability(scores_N, positive_N)
    there = diagram.weight_B > 0
    axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=1)
    axes.scatter(
        diagram.score_B[there],
        diagram.share_B[there],
        s=10 + 300 * diagram.weight_B[there],
        color=_YES,
        alpha=0.7,
        edgecolors="none",
    )
    axes.set(title="reliability", xlabel="score", ylabel="share of yes, balanced")
    axes.set(xlim=(0, 1), ylim=(-0.05, 1.05))


def _draw_histogram(
    axes: Axes, scores_N: NDArray[np.float64], positive_N: NDArray[np.bool_], threshold: float
) -> None:
    bins = [float(edge) for edge in np.linspace(0, 1, 21)]
    axes.hist(scores_N[~positive_N], bins=bins, color=_NO, alpha=0.6, label="no")
    axes.hist(scores_N[positive_N], bins=bins, color=_YES, alpha=0.6, label="yes")
    axes.axvline(threshold, color=_FAINT, linestyle="--", linewidth=1)
    axes.set(title="scores", xlabel="score", ylabel="pictures", xlim=(0, 1))
    axes.legend(frameon=False, fontsize=7)


def _draw_learning(axes: Axes, learning: LearningSummary | None) -> None:
    axes.set(title="with more pictures", xlabel="positives fitted on", ylim=(0, 1.05))
    if learning is None:
        return
    for name, mean, deviation, colour in (
        ("recall", learning.recall, learning.recall_deviation, _NO),
        (
            "average precision",
            learning.average_precision,
            learning.average_precision_deviation,
            _YES,
        ),
    ):
        middle, half = np.array(mean), np.array(deviation)
        axes.plot(learning.positives, middle, "o-", markersize=3, color=colour, label=name)
        axes.fill_between(
            learning.positives, middle - half, middle + half, color=colour, alpha=0.15, linewidth=0
        )
    axes.legend(frameon=False, fontsize=7, loc="lower right")
