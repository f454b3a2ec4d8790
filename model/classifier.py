"""The multi-label head: one sigmoid a label on unit embeddings, and how one is fitted.

Shapes: N examples, D embedding, L labels, R = min(N, D) directions that the examples span.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]
Sums = NDArray[np.floating]
"""What is summed over examples: float64, or float32 when they are many."""

_FLOAT32_FROM = 5_000  # examples
_SIDE_BY_SIDE = 1_000_000  # example x label x strength: 8 MB an array, about what a cache holds
_BIAS_PENALTY = 1e-6  # a label with answers of one kind alone would send its bias to infinity
_MEMORY = 8  # steps that L-BFGS remembers
_MAX_STEPS = 500
_MAX_HALVINGS = 30
_TOLERANCE = 1e-5  # of the slope, in units in which the loss curves by about 1
_FLOAT32_TOLERANCE = 1e-4  # sums of float32 see no further


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MultiLabelHead:
    """A trained classifier over the unit embeddings of one encoder.

    `weight_LD` and `bias_L` are float32; an answer is yes where its score reaches `thresholds_L`.
    """

    labels: tuple[str, ...]
    weight_LD: NDArray[np.float32]
    bias_L: NDArray[np.float32]
    thresholds_L: NDArray[np.float32]
    encoder_id: str

    def __post_init__(self) -> None:
        count = len(self.labels)
        if self.weight_LD.ndim != 2 or len(self.weight_LD) != count:
            raise ValueError(f"{count} labels come with weights {self.weight_LD.shape}")
        if self.bias_L.shape != (count,) or self.thresholds_L.shape != (count,):
            raise ValueError(
                f"{count} labels come with biases {self.bias_L.shape} "
                f"and thresholds {self.thresholds_L.shape}"
            )

    def scores(self, embeddings_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scores (N, L) in [0, 1], columns in the order of `labels`.

        Classes are balanced in training, so 0.5 is where yes and no are equally likely when a
        label is as often there as not. ValueError is raised when the width is another encoder's.
        """
        if embeddings_ND.ndim != 2 or embeddings_ND.shape[1] != self.weight_LD.shape[1]:
            raise ValueError(
                f"embeddings {embeddings_ND.shape} are not those of encoder {self.encoder_id}, "
                f"which have {self.weight_LD.shape[1]} numbers each"
            )
        return np.asarray(expit(embeddings_ND @ self.weight_LD.T + self.bias_L), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strength:
    """How strongly weights are pulled, and toward what.

    `penalty` multiplies half the squared distance from `text` times the label's zero-shot weights;
    the loss beside it is a mean, and the embeddings are scaled to a mean squared length of 1 about
    their mean, so that one grid suits every encoder and every number of pictures. `text` 0 pulls
    toward nothing, 1 toward exactly what CLIP says before anyone has looked.
    """

    penalty: float
    text: float


@dataclass(frozen=True, slots=True, eq=False)
class FittingProblem:
    """Embeddings and targets, brought into the form in which every strength is fitted fast.

    The embeddings are centred and scaled, then rotated onto the R directions that they span. That
    is exact: with a quadratic pull the optimum differs from the pull's aim only in their span.
    With many examples the sums are of float32, which BLAS adds up twice as fast.
    """

    mean_D: Floats
    scale: float
    axes_DR: Floats
    spread_R: Floats  # variance along each direction
    rotated_NR: Sums
    sign_NL: Sums  # +1 yes, -1 no or unreviewed
    weight_NL: Sums  # 0 where unreviewed; in each label, yes and no sum to a half each
    text_LD: Floats  # zero-shot weights; 0 without a text
    text_NL: Sums = field(repr=False)  # the zero-shot logits of each example, about their mean

    @classmethod
    def of(
        cls,
        embeddings_ND: NDArray[np.float32],
        targets_NL: NDArray[np.float32],
        text_LD: NDArray[np.float32] | None = None,
    ) -> FittingProblem:
        """Prepare the fit of embeddings (N, D) to targets (N, L): 1 yes, 0 no, nan unreviewed."""
        exact = len(embeddings_ND) < _FLOAT32_FROM
        x_ND: Sums = embeddings_ND.astype(np.float64 if exact else np.float32)
        mean_D = x_ND.mean(0, dtype=np.float64)
        x_ND -= mean_D.astype(x_ND.dtype)
        length = float(np.sqrt(np.einsum("nd,nd->n", x_ND, x_ND).mean(dtype=np.float64)))
        scale = 1 / length if length > 1e-6 else 1.0  # all pictures alike: nothing to scale
        text_shape = (targets_NL.shape[1], x_ND.shape[1])
        text_LD = np.zeros(text_shape, np.float32) if text_LD is None else text_LD
        text_NL: Sums = x_ND @ text_LD.T.astype(x_ND.dtype)
        x_ND *= x_ND.dtype.type(scale)
        axes_DR, spread_R = _principal_directions(x_ND)

        yes_NL, no_NL = targets_NL == 1, targets_NL == 0
        weight_NL = 0.5 * yes_NL / yes_NL.sum(0).clip(min=1)
        weight_NL += 0.5 * no_NL / no_NL.sum(0).clip(min=1)
        return cls(
            mean_D=mean_D,
            scale=scale,
            axes_DR=axes_DR,
            spread_R=spread_R,
            rotated_NR=np.asarray(x_ND @ axes_DR.astype(x_ND.dtype)),
            sign_NL=np.where(yes_NL, 1, -1).astype(x_ND.dtype),
            weight_NL=weight_NL.astype(x_ND.dtype),
            text_LD=text_LD.astype(np.float64),
            text_NL=text_NL,
        )

    def solve(self, strengths: Sequence[Strength]) -> list[tuple[Floats, Floats]]:
        """Return weights (L, D) and biases (L,), for unit embeddings, at each strength.

        Small problems are solved side by side, as columns of one. In large ones every fit starts
        from the one before it: give strengths in falling order of penalty.
        """
        number, labels = self.sign_NL.shape
        together = len(strengths) if number * labels * len(strengths) <= _SIDE_BY_SIDE else 1
        solutions = []
        start = np.zeros((len(self.spread_R) + 1, labels * together))
        for first in range(0, len(strengths), together):
            part = strengths[first : first + together]
            each = [strength for strength in part for _ in range(labels)]
            start = self._minimise(each, start[:, : len(each)])
            for index, strength in enumerate(part):
                solved = start[:, index * labels : (index + 1) * labels]
                solutions.append(self._for_unit_embeddings(solved, [strength] * labels))
        return solutions

    def solve_each(self, strengths: Sequence[Strength]) -> tuple[Floats, Floats]:
        """Return weights (L, D) and biases (L,), every label fitted at its own strength."""
        start = np.zeros((len(self.spread_R) + 1, len(strengths)))
        return self._for_unit_embeddings(self._minimise(strengths, start), strengths)

    def _for_unit_embeddings(
        self, solved: Floats, strengths: Sequence[Strength]
    ) -> tuple[Floats, Floats]:
        text_L = np.array([strength.text for strength in strengths])
        weight_LD = (self.axes_DR @ solved[:-1]).T * self.scale + self.text_LD * text_L[:, None]
        return weight_LD, solved[-1] - weight_LD @ self.mean_D

    def _minimise(self, strengths: Sequence[Strength], start: Floats) -> Floats:
        """Return (R + 1, C): weights along the directions, and the biases as the last row.

        `strengths` are those of the C columns, which run through the labels once or more.
        """
        times = len(strengths) // self.sign_NL.shape[1]
        sign_NC, weight_NC = (np.tile(each, times) for each in (self.sign_NL, self.weight_NL))
        kind = sign_NC.dtype
        text_C = np.array([strength.text for strength in strengths], kind)
        offset_NC = np.tile(self.text_NL, times) * text_C
        penalty_C = np.array([strength.penalty for strength in strengths])
        # A logistic loss curves by at most a quarter of the spread. Measured in units in which
        # that bound is 1, every direction is equally long, and descent needs tens of steps.
        unit = 1 / np.sqrt(np.append(self.spread_R, 1.0)[:, None] / 4 + penalty_C)
        penalty = np.vstack(
            [np.tile(penalty_C, (len(self.spread_R), 1)), np.full(len(penalty_C), _BIAS_PENALTY)]
        )

        def losses_and_gradients(measured: Floats) -> tuple[Floats, Floats]:
            inner = measured * unit
            margin_NC = self.rotated_NR @ inner[:-1].astype(kind)
            margin_NC += inner[-1].astype(kind)
            margin_NC += offset_NC
            margin_NC *= sign_NC
            small_NC = np.exp(-np.abs(margin_NC))  # the one exponential of loss and slope
            loss_NC = np.log1p(small_NC)
            loss_NC -= np.minimum(margin_NC, 0)
            slope_NC = np.where(margin_NC > 0, small_NC, 1)
            slope_NC /= 1 + small_NC
            slope_NC *= -sign_NC
            slope_NC *= weight_NC
            loss_C = np.einsum("nc,nc->c", weight_NC, loss_NC, dtype=np.float64)
            loss_C += (penalty * inner**2).sum(0) / 2
            gradient = np.vstack([self.rotated_NR.T @ slope_NC, slope_NC.sum(0)])
            return loss_C, (gradient + penalty * inner) * unit

        tolerance = _TOLERANCE if kind == np.float64 else _FLOAT32_TOLERANCE
        return np.asarray(minimise_columns(losses_and_gradients, start / unit, tolerance) * unit)


def minimise_columns(
    losses_and_gradients: Callable[[Floats], tuple[Floats, Floats]],
    start_RL: Floats,
    tolerance: float = _TOLERANCE,
) -> Floats:
    """Return the minimum (R, L) of L smooth convex losses, each of its own column, by L-BFGS.

    The losses share their evaluation and nothing else: every column has its own memory of the
    curvature and its own step length, so that none waits for or disturbs another. Sums of numpy
    and two matrix products: SciPy's L-BFGS-B would take the labels for one problem, and calls
    LAPACK on matrices so small that BLAS threads cost it seconds on a busy machine. Nocedal and
    Wright, Numerical Optimization, algorithm 7.5, with a backtracking search.
    """
    point_RL, (loss_L, gradient_RL) = start_RL, losses_and_gradients(start_RL)
    memory: deque[tuple[Floats, Floats, Floats]] = deque(maxlen=_MEMORY)
    stuck_L = np.zeros(len(loss_L), bool)  # no step lowers the loss: that is rounding, not slope
    for _ in range(_MAX_STEPS):
        done_L = stuck_L | (np.abs(gradient_RL).max(0) < tolerance)
        if done_L.all():
            break
        direction_RL = -_curved(gradient_RL, memory)
        slope_L = (direction_RL * gradient_RL).sum(0)
        step_L = np.where(done_L, 0.0, 1.0)
        for _ in range(_MAX_HALVINGS):
            new_RL = point_RL + step_L * direction_RL
            new_loss_L, new_gradient_RL = losses_and_gradients(new_RL)
            high_L = new_loss_L > loss_L + 1e-4 * step_L * slope_L
            if not (high_L & (step_L > 0)).any():
                break
            step_L[high_L] /= 2
        else:
            stuck_L |= high_L
            step_L[high_L] = 0
            new_RL = point_RL + step_L * direction_RL
            new_loss_L, new_gradient_RL = losses_and_gradients(new_RL)
        moved_RL, bent_RL = new_RL - point_RL, new_gradient_RL - gradient_RL
        curvature_L = (moved_RL * bent_RL).sum(0)
        inverse_L = np.divide(1, curvature_L, out=np.zeros_like(curvature_L), where=curvature_L > 0)
        memory.append((moved_RL, bent_RL, inverse_L))
        point_RL, loss_L, gradient_RL = new_RL, new_loss_L, new_gradient_RL
    return point_RL


def _curved(gradient_RL: Floats, memory: Sequence[tuple[Floats, Floats, Floats]]) -> Floats:
    """Return the gradient times the inverse curvature that the remembered steps show."""
    result_RL = gradient_RL.copy()
    taken = []
    for moved_RL, bent_RL, inverse_L in reversed(memory):
        share_L = inverse_L * (moved_RL * result_RL).sum(0)
        result_RL -= share_L * bent_RL
        taken.append(share_L)
    if memory:
        moved_RL, bent_RL, inverse_L = memory[-1]
        # A column that did not move last time has inverse 0, and keeps the unit length.
        length_L = np.divide(
            (moved_RL * bent_RL).sum(0),
            (bent_RL**2).sum(0),
            out=np.ones_like(inverse_L),
            where=inverse_L > 0,
        )
        result_RL *= length_L
    for (moved_RL, bent_RL, inverse_L), share_L in zip(memory, reversed(taken), strict=True):
        result_RL += (share_L - inverse_L * (bent_RL * result_RL).sum(0)) * moved_RL
    return result_RL


def _principal_directions(x_ND: Sums) -> tuple[Floats, Floats]:
    """Return the directions (D, R) that centred rows span, and the variance along each."""
    n, dim = x_ND.shape
    if n < dim:
        variance, left_NR = np.linalg.eigh(x_ND @ x_ND.T / n)
        kept = variance > max(variance[-1], 0) * 1e-12
        axes_DR = x_ND.T @ left_NR[:, kept] / np.sqrt(variance[kept] * n)
    else:
        variance, axes_DR = np.linalg.eigh((x_ND.T @ x_ND).astype(np.float64) / n)
        kept = variance > max(variance[-1], 0) * (1e-12 if x_ND.dtype == np.float64 else 1e-6)
        axes_DR = axes_DR[:, kept]
    return axes_DR, variance[kept]
