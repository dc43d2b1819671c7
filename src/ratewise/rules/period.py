"""The metrics between two decisions: their sum and number, of which the mean is decided on."""

from __future__ import annotations

import math
from typing import Any

from ratewise.errors import NonFiniteLoss


class Period:
    """The sum of the metrics since the last decision, and how many there were.

    Metrics are Python floats, or scalar arrays of one namespace, which are not read. Without
    `skip` a metric that is not finite makes the sum, and with it the mean, not finite either.

    Args:
        skip: leave metrics that are not finite out of the sum.

    >>> period = Period(skip=True)
    >>> for loss in (4.0, math.nan, 1.0):
    ...     period.add(loss)
    >>> period.seen, period.count, period.mean()
    (3, 2, 2.5)
    """

    def __init__(self, *, skip: bool = False) -> None:
        self.skip = skip
        self.clear()

    def clear(self) -> None:
        """Begin a new period."""
        self.seen = 0  #: metrics that came
        self.count: Any = 0  #: of them those that are in the sum
        self.total: Any = 0.0

    def add(self, value: Any, xp: Any = None) -> None:
        """Take one more metric in.

        Args:
            value: the metric.
            xp: the array namespace of the metrics; None for Python floats.
        """
        self.seen += 1
        if not self.skip:
            self.total = self.total + value if self.count else value
            self.count += 1
        elif xp is not None:
            finite = xp.isfinite(value)
            self.total = xp.where(finite, value, 0.0) + self.total
            self.count = finite + self.count
        elif math.isfinite(value):
            self.total += value
            self.count += 1

    def mean(self) -> Any:
        """Return the mean of the metrics in the sum; NaN if there are none."""
        return mean(self.total, self.count)


def mean(total: Any, count: Any) -> Any:
    """Return the mean of `count` metrics; NaN of none, where the number is not an array.

    >>> mean(3.0, 2), mean(3.0, 1), mean(0.0, 0)
    (1.5, 3.0, nan)
    """
    if isinstance(count, int | float) and count <= 1:
        return total if count else math.nan
    return total / count


def nonfinite(
    metric: float, where: str, *, name: str = "loss", total: float = math.nan
) -> NonFiniteLoss:
    """Return the error for a metric that is not finite, or whose period's sum is not.

    Args:
        metric: what was seen.
        where: at which step.
        name: of the metric.
        total: of the metrics since the last decision, which may be infinite where each is finite.
    """
    sum_of = f", and the sum since the last decision {total}" if math.isfinite(metric) else ""
    return NonFiniteLoss(
        f"{name} is {metric}{sum_of} at {where}: mend the run, or pass on_nonfinite='bad' or 'skip'"
    )
