"""How a time is measured and told: in turn with what it is compared with, with its spread."""

from __future__ import annotations

import contextlib
import gc
import math
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import NamedTuple


class Spread(NamedTuple):
    """A median, and the span around it that holds a share of the values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], share: float = 0.5) -> Spread:
        """Return the spread of one value or more.

        Args:
            values: what was measured.
            share: of the values that lie within the span: 0.5 from quartile to quartile, 0.8
                from the 10th to the 90th percentile, 1 from the least to the largest.

        >>> Spread.of([float(i) for i in range(101)], 0.8)
        Spread(median=50.0, low=10.0, high=90.0)
        >>> Spread.of([3.0])
        Spread(median=3.0, low=3.0, high=3.0)
        """
        ordered = sorted(values)
        tail = (1.0 - share) / 2.0
        low, high = (_quantile(ordered, q) for q in (tail, 1.0 - tail))
        return cls(statistics.median(ordered), low, high)

    def cells(self, digits: int) -> list[str]:
        """Return the median and the span as a table shows them.

        >>> Spread(2.0, 1.04, 3.0).cells(1)
        ['2.0', '1.0 to 3.0']
        """
        return [f"{self.median:.{digits}f}", f"{self.low:.{digits}f} to {self.high:.{digits}f}"]


def _quantile(ordered: Sequence[float], q: float) -> float:
    """Return a quantile, linear between values; infinite ones are not mixed with others."""
    at = round(q * (len(ordered) - 1), 9)
    below, above = ordered[math.floor(at)], ordered[math.ceil(at)]
    part = at - math.floor(at)
    return below if part == 0.0 or below == above else below + part * (above - below)


class Growth(NamedTuple):
    """How time grows with a size, all else fixed."""

    name: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def exponent(self) -> float:
        """The slope of log time on log size by least squares: 1 is linear.

        >>> round(Growth("", (1, 2, 4), (3.0, 12.0, 48.0)).exponent, 9)
        2.0
        """
        logs = [[math.log(value) for value in values] for values in (self.sizes, self.seconds)]
        return statistics.linear_regression(*logs).slope


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector away from what is timed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def interleaved(
    contenders: Mapping[str, Callable[[], float]], repeats: int, warm: int = 1
) -> dict[str, list[float]]:
    """Return what each contender measures, once a repetition.

    A busy moment of the machine then hits all alike. The order rotates, so that none always
    follows the same one.

    Args:
        contenders: by name, what measures it once.
        repeats: repetitions that count.
        warm: repetitions before, which do not.
    """
    names = list(contenders)
    found: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(-warm, repeats):
        shift = repetition % len(names)
        for name in names[shift:] + names[:shift]:
            value = contenders[name]()
            if repetition >= 0:
                found[name].append(value)
    return found


def added(with_it: Sequence[float], without: Sequence[float]) -> Spread:
    """Return what something takes more than what was measured beside it, by repetition."""
    return Spread.of([more - less for more, less in zip(with_it, without, strict=True)])


def measured_on(*packages: str) -> str:
    """Return what stands beside every time: interpreter, packages, kind of machine."""
    versions = [f"{name} {metadata.version(name)}" for name in packages]
    machine = f"{platform.system()} {platform.machine()}"
    return ", ".join([f"Python {platform.python_version()}", *versions, machine])
