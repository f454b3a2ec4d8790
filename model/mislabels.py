"""Answers that are probably wrong: what cleanlab finds in out-of-fold scores.

Shapes: N examples, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """One answer that does not look like the others of its kind.

    `answer` is what was decided; `quality` in [0, 1] is how far the held-out score bears it out.
    """

    sha256: str
    label: str
    answer: bool
    score: float
    quality: float


def suspected_mislabels(
    sha256s: Sequence[str],
    labels: Sequence[str],
    out_of_fold_NL: NDArray[np.float32],
    targets_NL: NDArray[np.float32],
) -> list[Suspect]:
    """Return the suspects of all labels, the least borne out first.

    Confident learning (Northcutt, Jiang and Chuang 2021), each label a question of its own: an
    answer is suspected when the score of a model that never saw the picture speaks for the other
    answer with as much confidence as pictures that have it get on average. Labels with fewer than
    five reviewed yes or no are passed over.
    """
    # Imports pandas: seconds that reading a model need not pay.
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    suspects = []
    for column, label in enumerate(labels):
        rows = np.flatnonzero(~np.isnan(targets_NL[:, column]))
        given = (targets_NL[rows, column] == 1).astype(int)
        if len(given) == 0 or np.bincount(given, minlength=2).min() < 5:
            continue
        scores = out_of_fold_NL[rows, column].astype(np.float64)
        probabilities = np.column_stack([1 - scores, scores])
        found = find_label_issues(
            given, probabilities, filter_by="confident_learning", n_jobs=1, verbose=False
        )
        quality = get_label_quality_scores(given, probabilities)
        suspects += [
            Suspect(
                sha256=sha256s[rows[index]],
                label=label,
                answer=bool(given[index]),
                score=float(scores[index]),
                quality=float(quality[index]),
            )
            for index in np.flatnonzero(found)
        ]
    return sorted(suspects, key=lambda each: (each.quality, each.sha256, each.label))
