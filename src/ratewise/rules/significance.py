r"""Whether a loss has fallen or risen by more than chance: two rank tests, at every loss.

With :math:`x_1 \dots x_n` the losses since the last verdict, Mann and Kendall's statistic counts
the pairs that rose less the pairs that fell,

.. math:: S_n = \sum_{i < j \le n} \mathrm{sign}(x_j - x_i), \qquad
          \sigma_n^2 = \frac{n (n - 1) (2 n + 5)}{18},

and :math:`|S_n| > z \sigma_n` is a trend. With :math:`y_1 \dots y_m` the best stretch of losses
between two verdicts so far, Mann and Whitney's,

.. math:: U_n = \sum_{i \le n,\, j \le m} \mathrm{sign}(x_i - y_j), \qquad
          \tau_n^2 = \frac{n m (n + m + 1)}{3},

is the same for "above what was reached before". A loss that is taken in adds its row of pairs.

Why ranks. Where nothing changes, their distribution is known for each n, whatever that of the
losses: a rate of false alarms can be stated, heavy tails do not matter, and where metrics are
rare 6 in a row can decide. No variance is estimated, so none is 0 or infinite. All is counted in
integers, equal to the last bit in every runtime. Each loss's row of pairs is independent of the
earlier ones (sequential ranks), so that a look after each loss, which errs more often than one
look at the end, does so at a rate that is the same for all losses: `FALSE_ALARMS`. What is
assumed is noise that is independent from loss to loss; where it is not, decide on means.

Variant: Welch's t between the older and the newer half of the losses. It finds a trend later, the
more so the heavier the tails, and cannot decide on few losses.

Sources: Mann (1945) and Kendall (1938) for S, Mann & Whitney (1947) for U, Parent (1965) and
Bhattacharya & Frierson (1981) for sequential ranks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ratewise.rules.greedy_config import GreedyConfig
from ratewise.rules.smoothing import pairwise_sum, slots

#: Standard errors beyond which S is a trend, and U a loss that lies above the best stretch.
TREND = 2.5
EXCESS = 3.0
#: The share of stretches of 200 losses of independent noise in which S goes beyond `TREND`, up or
#: down: simulated, and the same whatever the noise's distribution. Each direction has half of it,
#: and they undo each other; at 3 standard errors it is 0.07, and trends are found later.
FALSE_ALARMS = 0.27


class Evidence(NamedTuple):
    """The losses since the last verdict, the best stretch before it, and how they compare."""

    values: Any  #: [slots, ...] the losses in their order; unused places are 0
    count: Any  #: [...] int, n
    trend: Any  #: [...] int, S
    best: Any  #: [slots, ...] the best stretch, likewise
    best_count: Any  #: [...] int, m
    excess: Any  #: [...] int, U
    mean: Any  #: of the last verdict, as `Verdict` has them: for those who tell of it
    before: Any
    errors: Any


class Verdict(NamedTuple):
    """What the losses since the last verdict say, and the numbers behind it."""

    better: Any  #: bool, a trend in the wanted direction
    worse: Any  #: bool, a trend against it
    lost: Any  #: bool, worse than the best stretch, and not on the way back
    full: Any  #: bool, none of these in as many losses as may be kept
    mean: Any  #: of the newer half of the losses
    before: Any  #: mean of the older half; where `lost` holds, of the best stretch
    errors: Any  #: the statistic in standard errors, > 0 where the loss went up
    whole: Any  #: mean of all losses

    def given(self) -> Any:
        """Return whether there is one."""
        return self.better | self.worse | self.lost | self.full


def empty(window: int, zero: Any, xp: Any) -> Evidence:
    """Return no evidence; `zero` gives the shape, the type and the device."""
    none, values = xp.where(zero != 0, 1, 0), xp.stack([zero] * slots(window))
    return Evidence(values, none, none, values, none, none, zero, zero, zero)


def push(evidence: Evidence, value: Any, *, xp: Any) -> Evidence:
    """Return the evidence with one more loss, which is finite and for which there is room."""
    index = _index(evidence.values, xp)
    new = _pairs(value, evidence.values, index < evidence.count, xp)
    above = _pairs(value, evidence.best, index < evidence.best_count, xp)
    return evidence._replace(
        values=xp.where(index == evidence.count, value, evidence.values),
        count=evidence.count + 1,
        trend=evidence.trend + new,
        excess=evidence.excess + above,
    )


def judge(
    evidence: Evidence,
    reference: Any,
    *,
    config: GreedyConfig,
    xp: Any,
) -> Verdict:
    """Return what the evidence says.

    Args:
        evidence: with at least one loss.
        reference: mean of the best stretch.
        config: for `window`, the most losses that are kept, `threshold`, the smallest change
            that matters, and `mode`.
        xp: the array namespace.
    """
    values, kind = evidence.values, evidence.values.dtype
    half = evidence.count // 2  # the newer half has the odd loss
    n, m, trend, excess, old, new = (
        xp.asarray(whole, dtype=kind)
        for whole in (
            evidence.count,
            evidence.best_count,
            evidence.trend,
            evidence.excess,
            half,
            evidence.count - half,
        )
    )
    spread, apart = xp.sqrt(trend_variance(n)), xp.sqrt(excess_variance(n, m))
    is_old = _index(values, xp) < half
    halves = xp.stack([xp.where(is_old, values, 0.0), xp.where(is_old, 0.0, values)], 1)
    sums = pairwise_sum(halves)
    some = xp.where(n > 0, n, 1.0)
    older, newer = sums[0] / xp.where(old > 0, old, 1.0), sums[1] / xp.where(new > 0, new, 1.0)
    whole = (sums[0] + sums[1]) / some

    up = -1.0 if config.mode == "max" else 1.0
    relative, threshold = config.threshold_mode == "rel", config.threshold
    risen, above = up * (newer - older), up * (newer - reference)
    moved, lies = up * trend, up * excess
    margin = threshold * abs(older) if relative else threshold
    sound = xp.isfinite(risen)  # sums may overflow
    better = (moved < -TREND * spread) & (risen < -margin) & sound
    worse = (moved > TREND * spread) & (risen > margin) & sound
    margin = threshold * abs(reference) if relative else threshold
    lost = (lies > EXCESS * apart) & (moved >= 0) & (above > margin) & xp.isfinite(above)
    return Verdict(
        better,
        worse,
        lost,
        (evidence.count >= config.window) & ~(better | worse | lost),
        newer,
        xp.where(lost, reference, older),
        xp.where(lost, excess / xp.where(m > 0, apart, 1.0), trend / xp.where(n > 1, spread, 1.0)),
        whole,
    )


def conclude(
    evidence: Evidence,
    reference: Any,
    verdict: Verdict,
    ended: Any,
    *,
    config: GreedyConfig,
    xp: Any,
) -> tuple[Evidence, Any]:
    """Return the evidence and the best stretch's mean; where a stretch has `ended`, one begins.

    It is the best so far if there was none before, if most pairs say so, or if the best one was
    lost: what comes after a retreat is compared with what it was a retreat from. (If the data have
    become harder for good, the old best would bring the rate down to its bound.)
    """
    where = xp.where
    low = evidence.excess > 0 if config.mode == "max" else evidence.excess < 0
    anew = (evidence.best_count == 0) | verdict.lost
    best = ended & (low | anew) & (evidence.count > 0) & xp.isfinite(verdict.whole)
    values, count = evidence.values, evidence.count
    told = verdict.given() & xp.isfinite(verdict.mean) & xp.isfinite(verdict.before)
    told = ended & told
    return Evidence(
        values=where(ended, 0.0, values),
        count=where(ended, 0, count),
        trend=where(ended, 0, evidence.trend),
        best=where(best, values, evidence.best),
        best_count=where(best, count, evidence.best_count),
        excess=where(ended, 0, evidence.excess),
        mean=where(ended, where(told, verdict.mean, 0.0), evidence.mean),
        before=where(ended, where(told, verdict.before, 0.0), evidence.before),
        errors=where(ended, where(told, verdict.errors, 0.0), evidence.errors),
    ), where(best, verdict.whole, reference)


def keep(condition: Any, new: Evidence, old: Evidence, xp: Any) -> Evidence:
    """Return `new` where `condition` holds and `old` elsewhere."""
    return Evidence(*(xp.where(condition, a, b) for a, b in zip(new, old, strict=True)))


def _index(values: Any, xp: Any) -> Any:
    """Return each place's number along the first axis."""
    return xp.cumsum(xp.ones_like(values, dtype=xp.int32), 0) - 1


def _pairs(value: Any, others: Any, there: Any, xp: Any) -> Any:
    """Return how many of the others lie below a value, less those that lie above."""
    below, above = (others < value) & there, (others > value) & there
    return xp.sum(xp.where(below, 1, xp.where(above, -1, 0)), 0)


def trend_variance(n: Any) -> Any:
    """Return the variance of S where nothing changes."""
    return n * (n - 1) * (2 * n + 5) / 18


def excess_variance(n: Any, m: Any) -> Any:
    """Return the variance of U where nothing changes."""
    return n * m * (n + m + 1) / 3
