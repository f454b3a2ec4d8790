"""95 % intervals of what is measured on pictures, some of which are kin.

Precision, recall and average precision are proportions, or means of numbers in [0, 1]. Their variance
over groups tells how many independent trials the pictures are worth, v (1 - v) / variance, and
Wilson's score interval for that many is given: percentiles of the bootstrap alone are too narrow near
1, and [1, 1] for 12 of 12. Where fewer than 10 groups are counted, or where these do not differ, the
groups themselves are the trials.

Shapes: N examples, R draws, G groups of kin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Z95 = 1.959963984540054
TINY = 10  # counted groups below which their variance says little
_NEARLY_0 = 1e-12
_MAX_CELLS = 20_000_000  # draw x group: what is held at once, 160 MiB
ENOUGH_DRAWS = 200  # for a spread; with so many its own error is 5 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A measured value and the 95 % interval it lies in."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Bootstrap draws of whole groups: kin are right or wrong together."""

    group_N: NDArray[np.intp]  # the group number of each row
    weight_RG: Floats  # how often each draw holds each group

    @classmethod
    def of(cls, groups: Sequence[str], seed: int, resamples: int) -> Draws:
        """Draw as many groups as there are, with replacement, `resamples` times.

        Of very many groups fewer draws are made, but never fewer than a spread needs.
        """
        if not groups:
            raise ValueError("there is no picture to judge by")
        _, group_N = np.unique(np.asarray(groups), return_inverse=True)
        number = int(group_N.max()) + 1
        rng = np.random.default_rng(seed)
        draws = min(resamples, max(ENOUGH_DRAWS, _MAX_CELLS // number))
        drawn = rng.multinomial(number, np.full(number, 1 / number), size=draws)
        return cls(group_N, drawn.astype(np.float64))

    def by_group(self, counts_N: Floats) -> Floats:
        """Return sums of per-picture counts (N, ...) in every group, (G, ...)."""
        counts_G = np.zeros((self.weight_RG.shape[1], *counts_N.shape[1:]))
        np.add.at(counts_G, self.group_N, counts_N)
        return counts_G

    def drawn(self, counts_G: Floats) -> Floats:
        """Return sums of per-group counts (G, ...) in every draw, (R, ...)."""
        drawn = self.weight_RG @ counts_G.reshape(len(counts_G), -1)
        return drawn.reshape(len(self.weight_RG), *counts_G.shape[1:])

    def groups_in(self, chosen_N: NDArray[np.bool_]) -> int:
        """Return how many groups the chosen pictures are of."""
        return len(np.unique(self.group_N[chosen_N]))


def wilson(value: float, trials: float, z: float = Z95) -> Interval:
    """Return Wilson's score interval of a proportion `value` seen in `trials`; [0, 1] without any."""
    if trials == 0:
        return Interval(value=value, low=0.0, high=1.0)
    share = z**2 / trials
    middle = (value + share / 2) / (1 + share)
    half = z * np.sqrt(value * (1 - value) / trials + share / (4 * trials)) / (1 + share)
    return Interval(
        value=value,
        low=min(value, max(0.0, float(middle - half))),
        high=max(value, min(1.0, float(middle + half))),
    )


def proportion(part_G: Floats, whole_G: Floats) -> Interval:
    """Return Wilson's interval of a proportion, from what every group counts of its part and whole.

    Pictures of their own are so many trials. Of kin, the trials are what their variance between
    groups is worth (Rao and Scott 1992), and fewer where these are few: it is known no better than
    they tell it, so the worth shrinks by the square of two quantiles of Student's t (Korn and
    Graubard 1998). Without anything counted the value is 0 within [0, 1].
    """
    whole, groups = float(whole_G.sum()), int((whole_G > 0).sum())
    if groups == 0:
        return wilson(0.0, 0)
    value = float(part_G.sum()) / whole
    variance = float(((part_G - value * whole_G) ** 2).sum()) / whole**2
    if groups < TINY or variance == 0:
        return wilson(value, groups)
    worth = value * (1 - value) / variance
    if worth > groups:
        worth *= (student(worth) / student(groups)) ** 2
    return wilson(value, worth)


def mean_of_draws(value: float, drawn_R: Floats, trials: int) -> Interval:
    """Return Wilson's interval for as many independent trials as the bootstrap's spread is worth.

    `trials` are the groups that were counted; they stand alone where they are tiny or where the
    draws do not differ. The bootstrap's variance is short of the true one by (n - 1) / n, and is
    known no better than n - 1 groups tell it: Student's t stands for the normal.
    """
    variance = float(np.var(drawn_R)) if len(drawn_R) else 0.0
    z = Z95
    if trials > 1:
        variance *= trials / (trials - 1)
        z = student(trials)
    worth = value * (1 - value) / variance if variance > 0 else 0.0
    return wilson(value, worth if trials >= TINY and worth > 0 else trials, z)


def area(value: float, variance: float, positives: int, negatives: int) -> Interval:
    """Return the score interval of an area under the ROC curve, from groups with a yes and a no.

    The variance falls towards 1 far faster than a proportion's, and seen on few of the rarer answer
    is smallest where the area is too large by chance. So each possible area is held to the variance
    that it would have (as Newcombe 2006), with scores from two normal classes of one spread. How far
    the measured one (DeLong's) departs from that is a factor; the model counts as ten groups in it.
    """
    fewer = min(positives, negatives)
    expected = _area_variance(value, positives, negatives)
    factor = 1.0
    if variance > 0 and expected > 0:
        factor = (fewer * variance / expected + TINY) / (fewer + TINY)

    def beyond(true: float) -> float:
        spread = factor * _area_variance(true, positives, negatives)
        return (value - true) ** 2 - Z95**2 * spread

    from scipy.optimize import brentq

    # Just within 0 and 1, where nothing varies: a perfect ranking has a lower end, too.
    inner = min(max(value, _NEARLY_0), 1 - _NEARLY_0)
    low = brentq(beyond, 0, inner) if value > 0 else 0.0
    high = brentq(beyond, inner, 1) if value < 1 else 1.0
    return Interval(value=value, low=min(low, value), high=max(high, value))


def _area_variance(value: float, positives: int, negatives: int) -> float:
    """Return the variance of the area of two normal classes of one spread whose true area it is."""
    from scipy.special import ndtri, owens_t

    # That two positives both outrank a negative, less the square: of normal classes, in closed form.
    shared = value * (1 - value) - 2 * float(owens_t(ndtri(value), 3**-0.5))
    terms = value * (1 - value) + (positives + negatives - 2) * max(shared, 0.0)
    return terms / (positives * negatives)


def student(trials: float) -> float:
    """Return the 97.5 % quantile of Student's t for a spread that so many trials (> 1) tell."""
    # The studio, which asks for Wilson's alone, is 13 MB smaller without scipy.
    from scipy.special import stdtrit

    return float(stdtrit(trials - 1, 0.975))
