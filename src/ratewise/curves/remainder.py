"""What a law leaves over, as a Gaussian process of schedules: universal kriging of ln(loss / law).

A law of ten numbers errs by some tenths of a percent, and errs alike for runs that are alike.
Alike are schedules by their shape (root mean square difference of rate / peak over the share of
the steps done), by ln peak rate and by ln length. Near runs that were seen the forecast takes
over what the law missed there, and its interval is narrow; away from them the law stands alone.

A law of ten numbers is not known from a few runs. With the slopes g of ln(law) in its parameters at
a schedule, G at those that were seen, k and K the process's covariances, and P the parameters'
precision beforehand, that adds to the variance

    r' (G' K^-1 G + P)^-1 r,   r = g - G' K^-1 k

(Rasmussen and Williams 2006, eq. 2.42): much where runs are few, nothing near runs that were seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve  # type: ignore[import-untyped]
from scipy.optimize import minimize  # type: ignore[import-untyped]

from ratewise.curves.curve import Floats
from ratewise.curves.fitting import Fitted

#: At how many shares of its steps a schedule's shape is looked at.
_SHARES = 64
#: In ln loss: by what two runs with the same rates differ (seeds, order of the data).
OWN = 0.003
#: Most runs, and beginnings of runs, that a process is made of.
MOST = 400
#: ln of: the scales of shape, peak and length, the standard deviation, the noise; and how
#: uncertain each is beforehand. From curves of 124M parameters that no claim is tested on alone.
_PRIOR = np.log([0.3, 1.5, 2.0, 0.01, 0.0005])
_SPREAD = np.array([0.7, 0.7, 0.7, 1.0, 0.7])


class Features(NamedTuple):
    """What makes schedules alike; a row a schedule."""

    shape: Floats  #: rate / peak at the middles of equal shares of the steps
    peak: Floats  #: ln of the peak rate
    length: Floats  #: ln of the steps


def features(schedules: Sequence[Floats]) -> Features:
    """Return the features of schedules, each the rates of its steps."""
    shares = (np.arange(_SHARES) + 0.5) / _SHARES
    shapes, peaks, lengths = [], [], []
    for rates in schedules:
        peak, steps = float(rates.max()), np.arange(1, len(rates) + 1)
        shapes.append(np.interp(shares * len(rates), steps, rates) / peak)
        peaks.append(np.log(peak))
        lengths.append(np.log(len(rates)))
    return Features(np.array(shapes), np.array(peaks), np.array(lengths))


def apart(a: Features, b: Features) -> tuple[Floats, Floats, Floats]:
    """Return the distances of all pairs in shape, ln peak and ln length."""
    shape = np.sqrt(np.maximum(0.0, ((a.shape[:, None] - b.shape[None]) ** 2).mean(-1)))
    return (
        shape,
        np.abs(a.peak[:, None] - b.peak[None]),
        np.abs(a.length[:, None] - b.length[None]),
    )


@dataclass(frozen=True)
class Remainder:
    """The process, given what the law left over of the runs that were seen."""

    law: Fitted
    seen: Features
    slopes: Floats  #: of ln(law) in its parameters, at what was seen
    scales: Floats  #: logarithms, as `_PRIOR`
    left: Floats  #: ln(loss / law) of what was seen

    def predict(
        self, schedules: Sequence[Floats], begun: tuple[Floats, float] | None = None
    ) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of ln(loss / law) at the ends of schedules.

        Args:
            schedules: rates of the steps.
            begun: the schedule of the run's own beginning, and ln(loss / law) at its end. A run
                has an offset of its own (`OWN`), which its beginning tells of.
        """
        every = [*schedules, *([begun[0]] if begun else [])]
        wanted = features(every)
        factor = cho_factor(_covariance(self.scales, apart(self.seen, self.seen), noise=True))
        across = _covariance(self.scales, apart(wanted, self.seen))
        mean = across @ cho_solve(factor, self.left)
        noise = np.exp(2 * self.scales[4])
        joint = _covariance(self.scales, apart(wanted, wanted))
        joint -= across @ cho_solve(factor, across.T)
        told = cho_solve(factor, self.slopes)
        rest = self.law.slopes(every) - across @ told
        precision = self.slopes.T @ told + np.diag(self.law.spreads**-2)
        joint += rest @ np.linalg.solve(precision, rest.T)
        variance = np.diag(joint)
        if begun is not None:
            joint += OWN**2
            gain = joint[:-1, -1] / (joint[-1, -1] + noise)
            mean = mean[:-1] + gain * (begun[1] - mean[-1])
            variance = np.diag(joint)[:-1] - gain * joint[:-1, -1]
        return mean, np.sqrt(np.maximum(variance, 0.0) + noise)


def fit_remainder(law: Fitted, schedules: Sequence[Floats], left: Floats) -> Remainder:
    """Return the process with the scales that make what was left over most likely.

    Args:
        law: what leaves it over.
        schedules: rates of the steps of runs, or of their beginnings.
        left: ln(loss / law) at each one's end.
    """
    pick = np.unique(np.linspace(0, len(left) - 1, min(MOST, len(left))).astype(int))
    picked, left = [schedules[i] for i in pick], np.asarray(left)[pick]
    seen = features(picked)
    pairs = apart(seen, seen)

    def unlikely(scales: Floats) -> float:
        try:
            factor = cho_factor(_covariance(scales, pairs, noise=True))
        except np.linalg.LinAlgError:
            return 1e12
        fit = 0.5 * float(left @ cho_solve(factor, left)) + float(np.log(np.diag(factor[0])).sum())
        return fit + 0.5 * float((((scales - _PRIOR) / _SPREAD) ** 2).sum())

    options = {"maxiter": 150, "xatol": 0.02, "fatol": 0.02}
    found = minimize(unlikely, _PRIOR, method="Nelder-Mead", options=options)
    return Remainder(law, seen, law.slopes(picked), found.x, left)


def _covariance(
    scales: Floats, pairs: tuple[Floats, Floats, Floats], noise: bool = False
) -> Floats:
    lengths = np.exp(scales[:3])
    far = sum((each / scale) ** 2 for each, scale in zip(pairs, lengths, strict=True))
    found = np.exp(2 * scales[3] - 0.5 * far)
    if noise:
        found = found + np.exp(2 * scales[4]) * np.eye(len(found))
    return np.asarray(found)
