"""One mini-batch of a factorisation: its codes, its statistics, the components. Fit is a loop."""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import partial
from typing import Any, NamedTuple

from ratewise.errors import RatewiseError, invalid
from ratewise.nmf import hals, sgd
from ratewise.nmf.arrays import Array, namespace
from ratewise.nmf.rows import Rows
from ratewise.nmf.scale import Scale
from ratewise.nmf.schedules import Observation, RateSchedule, clipped
from ratewise.nmf.statistics import Statistics, Sums

#: Rows that were never seen get that many times the usual sweeps or steps.
_FRESH = 8


class Penalty(NamedTuple):
    """Weights of |.|_1 and |.|^2 / 2: of a batch's codes, and of the components a row of data."""

    codes_l1: float = 0.0
    codes_l2: float = 0.0
    parts_l1: float = 0.0
    parts_l2: float = 0.0

    @classmethod
    def of(cls, features: int, alpha_codes: float, alpha_parts: float, l1_ratio: float) -> Penalty:
        """Return scikit-learn's: those of W scaled by n_features, those of H by n_samples."""
        return cls(
            features * alpha_codes * l1_ratio,
            features * alpha_codes * (1.0 - l1_ratio),
            alpha_parts * l1_ratio,
            alpha_parts * (1.0 - l1_ratio),
        )

    def scaled(self, scale: Scale) -> Penalty:
        """Return the same penalty for data and factors that are scaled."""
        w, h = scale.codes, scale.parts
        return Penalty(
            scale.weight(self.codes_l1, w),
            scale.weight(self.codes_l2, 0, w),
            scale.weight(self.parts_l1, h),
            scale.weight(self.parts_l2, 0, h),
        )

    def fit(self, sums: Sums, gram: Array, parts: Array) -> float:
        """Return |X - W H|^2 / 2 and the codes' penalty: |X|^2 / 2 for codes of 0."""
        fit = sums.loss(gram, parts)
        if self.codes_l1 or self.codes_l2:
            trace = float(sums.gram.diagonal().sum())
            fit += self.codes_l1 * sums.mass + self.codes_l2 * trace / 2.0
        return fit

    def loss(self, sums: Sums, gram: Array, parts: Array) -> float:
        """Return |X - W H|^2 / 2 and the penalty, for H and the codes in `sums`.

        Args:
            sums: of some rows; the components' penalty counts once a row.
            gram: H H^T, [k, k].
            parts: H, [k, m].
        """
        loss = self.fit(sums, gram, parts)
        if self.parts_l1:
            loss += sums.rows * self.parts_l1 * float(parts.sum())
        if self.parts_l2:
            trace = float(gram.diagonal().sum())
            loss += sums.rows * self.parts_l2 * trace / 2.0
        return loss


class Solver:
    """Components, statistics and schedule, stepped batch by batch.

    Components and statistics are replaced, never changed in place: an interruption leaves those
    of the last finished batch.

    Args:
        parts: H, [k, m], >= 0.
        statistics: what is remembered.
        penalty: on codes and components.
        sweeps: of HALS, over the codes and over the components.
        schedule: steers the gradient step of SGD; None is HALS.
        total_steps: steps of SGD's run, for the schedule; None if unknown.
    """

    def __init__(
        self,
        parts: Array,
        statistics: Statistics,
        penalty: Penalty,
        sweeps: int,
        schedule: RateSchedule | None,
        total_steps: int | None = None,
    ) -> None:
        self.parts = parts
        self.statistics = statistics
        self._penalty, self._sweeps = penalty, sweeps
        self._schedule, self._total_steps = schedule, total_steps
        self._curvature = sgd.Curvature()
        self._last: Array | None = None
        self.rates: list[float] = []  #: c of each step of SGD
        self.steps = 0

    def step(
        self, rows: Rows, codes: Array | None, key: Hashable | None, keep: float
    ) -> tuple[Array, float]:
        """Fit the codes of a batch, then the components to all that is remembered.

        Args:
            rows: X_b.
            codes: W_b^T as it was last, [k, b], which may become the result; None for rows never
                seen.
            key, keep: as `Statistics.put` takes them.

        Returns:
            The codes, and the loss of the batch with them, before the components' step.

        Raises:
            InvalidArgument: the batch has entries that are not finite, or overflows: components
                and statistics are as they were.
        """
        plain = self.parts @ self.parts.T
        codes, sums = self._fitted(rows, codes, plain)
        loss = self._penalty.loss(sums, plain, self.parts)
        if not math.isfinite(loss):
            raise not_finite(f"a loss of {loss} in batch {self.steps + 1}")

        total = self.statistics.put(sums, key, keep)
        if self._schedule is None:
            self.parts = self._swept(total)
        else:
            self.parts = self._stepped(self._schedule, sums, total, plain)
        if not self.statistics.exact and not any(self._penalty):
            codes = self._at_one_scale(codes)
        self.steps += 1
        return codes, loss

    def _fitted(self, rows: Rows, codes: Array | None, plain: Array) -> tuple[Array, Sums]:
        """Return codes of a batch that fit it no worse than codes of 0 do, and its sums.

        Components that have moved since, by the few batches of a first pass or under sums that
        decay, may have left codes at a scale that the usual steps do not make good. Such codes
        are as good as none: those for rows never seen take their place.

        Args:
            rows, codes: as `step` takes them.
            plain: H H^T, [k, k].
        """
        penalty = self._penalty
        gram = with_diagonal(plain, penalty.codes_l2)
        goal = rows.project(self.parts)
        goal -= penalty.codes_l1
        times = 1
        if codes is None:
            codes, times = hals.first_codes(gram, goal), _FRESH
        if self._schedule is None:
            codes = hals.sweep(codes, gram, goal, times * self._sweeps, in_place=True)
        else:
            codes = sgd.code_steps(codes, gram, goal, times * sgd.CODE_STEPS)
        del goal
        sums = Sums(
            codes @ codes.T,
            rows.cross(codes),
            rows.square,
            float(codes.sum()) if penalty.codes_l1 else 0.0,
            float(rows.shape[0]),
        )
        if times == 1 and not penalty.fit(sums, plain, self.parts) <= rows.square / 2.0:
            return self._fitted(rows, None, plain)
        return codes, sums

    def _at_one_scale(self, codes: Array) -> Array:
        """Give each component the norm 1, and return the codes times what it had.

        W D^-1 and D H are the same factorisation, and where sums decay nothing holds D: a component
        that few of the remembered rows use would grow from batch to batch until it overflows. A
        penalty holds it.
        """
        norms = namespace(self.parts).sqrt((self.parts * self.parts).sum(1))
        norms[norms == 0] = 1.0
        self.statistics.scale(norms)
        self._curvature.scale(norms)
        if self._last is not None:
            self._last = self._last * norms[:, None]
        self.parts = self.parts / norms[:, None]
        return codes * norms[:, None]

    def _swept(self, total: Sums) -> Array:
        gram = with_diagonal(total.gram, total.rows * self._penalty.parts_l2)
        slope = total.rows * self._penalty.parts_l1
        target = total.cross - slope if slope else total.cross
        return hals.sweep(self.parts, gram, target, self._sweeps)

    def _stepped(self, schedule: RateSchedule, batch: Sums, total: Sums, gram: Array) -> Array:
        """Return the components after a gradient step at the schedule's rate."""
        penalty = self._penalty
        curvature = self._curvature.bound(batch.gram / batch.rows, total.gram / total.rows)
        gain = sgd.gains(with_diagonal(curvature, penalty.parts_l2))
        gradient = total.gram @ self.parts
        gradient -= total.cross
        gradient /= total.rows
        if penalty.parts_l1 or penalty.parts_l2:
            gradient += penalty.parts_l1 + penalty.parts_l2 * self.parts
        loss = partial(self._penalty.loss, total, gram, self.parts)
        rows, last = total.rows, self._last
        seen = Observation(self.steps, self._total_steps, loss, rows, gradient, gain, last)
        c = clipped(schedule.rate(seen))
        parts = sgd.component_step(self.parts, gradient, gain, c)
        self._last = gradient
        self.rates.append(c)
        return parts

    def loss(self) -> float:
        """Return the loss over all that is remembered, at no pass over the data."""
        total = self.statistics.total
        if total is None:
            return 0.0
        return self._penalty.loss(total, self.parts @ self.parts.T, self.parts)


def not_finite(found: str) -> RatewiseError:
    """Return the error for data that were finite, and of one size, when they were checked."""
    fix = (
        "look for a file that changes while it is read, or a batch many orders of magnitude "
        "larger than the first, and begin with a new estimator"
    )
    return invalid("X", "finite while it is read, and of one order of magnitude", found, fix)


def with_diagonal(gram: Array, diagonal: float) -> Array:
    """Return a Gram matrix with something added to its diagonal; itself where that is 0."""
    if not diagonal:
        return gram
    like: Any = namespace(gram).zeros_like(gram[0]) + diagonal
    return gram + namespace(gram).diag(like)
