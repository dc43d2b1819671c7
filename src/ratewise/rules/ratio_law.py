r"""The ratio of the update-ratio rule as it depends on a run: its length, its passes, its start.

With T optimizer steps and E passes over the data,

.. math:: r = \mathrm{clip}\Bigl(r_0 \, (300 / T)^p \, \min\bigl(1, (E_0 / E)^k\bigr)\Bigr).

Where passes are not known the last factor is missing, and p is a compromise between data that are
seen once and data that are learned by heart.
"""

from __future__ import annotations

from typing import NamedTuple


class Horizon(NamedTuple):
    """How the ratio depends on a run's length alone: ``clip(level (300 / total_steps)^power)``."""

    level: float  #: at 300 steps
    power: float
    least: float
    most: float
    unknown: float  #: where the length is not known

    def ratio(self, total_steps: int | None) -> float:
        """Return the ratio for a run of so many optimizer steps; None is not known."""
        if total_steps is None:
            return self.unknown
        return min(self.most, max(self.least, self.level * (300.0 / total_steps) ** self.power))


class Passes(NamedTuple):
    """How the ratio depends on length and passes: ``clip(... min(1, (free / passes)^fall))``."""

    level: float  #: at 300 steps, on rows that are seen once
    power: float
    free: float  #: passes that cost nothing
    fall: float
    least: float
    most: float

    def ratio(self, total_steps: int, passes: float) -> float:
        """Return the ratio for a run of so many optimizer steps, and so many passes."""
        found = self.level * (300.0 / total_steps) ** self.power
        found *= min(1.0, (self.free / passes) ** self.fall)
        return min(self.most, max(self.least, found))


#: Where passes are not known. Fitted, as the next, by `python -m evidence update-ratio`:
#: docs/evidence/update-ratio.md.
DEFAULT = Horizon(level=0.019, power=0.6, least=1e-4, most=0.05, unknown=0.01)
#: Where they are. Of the laws that are as good as the best it is the one that long runs on fresh
#: data want.
WITH_PASSES = Passes(level=0.024, power=0.5, free=2.0, fall=0.5, least=1e-4, most=0.05)
#: Of the ratio from scratch, what weights that were trained before take: no other was found.
PRETRAINED = 1.0
#: Passes up to which data count as seen about once.
FRESH = 1.5


def passes_of(total_steps: int | None, steps_per_epoch: int | None) -> float | None:
    """Return the passes over the data, at least 1; None where they are not known.

    >>> passes_of(1000, 250), passes_of(1000, 10**6), passes_of(None, 250)
    (4.0, 1.0, None)
    """
    if total_steps is None or steps_per_epoch is None:
        return None
    return max(1.0, total_steps / steps_per_epoch)


def default_ratio(
    total_steps: int | None, steps_per_epoch: int | None = None, pretrained: bool = False
) -> float:
    """Return the ratio that is used where none is given.

    Args:
        total_steps: length of the run in optimizer steps, or None.
        steps_per_epoch: optimizer steps in a pass over the data, or None.
        pretrained: the run begins at weights that were trained before.

    >>> [float(f"{default_ratio(steps):.3g}") for steps in (10, 300, 1200, None)]
    [0.05, 0.019, 0.00827, 0.01]
    >>> [float(f"{default_ratio(1200, passes):.3g}") for passes in (1200, 120)]
    [0.012, 0.00537]
    """
    passes = passes_of(total_steps, steps_per_epoch)
    if total_steps is None or passes is None:
        found = DEFAULT.ratio(total_steps)
    else:
        found = WITH_PASSES.ratio(total_steps, passes)
    return found * PRETRAINED if pretrained else found
