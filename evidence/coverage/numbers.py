"""How often each interval erred, from what is kept of the simulation."""

from __future__ import annotations

from typing import NamedTuple

from evidence.coverage import plan
from evidence.coverage.plan import ALLOWED, CAUTIOUS, Settings, Unit
from evidence.results import Results


class Found(NamedTuple):
    """What came out of a design in a world, as shares of the repetitions."""

    unit: Unit
    missed: float  #: the interval does not hold the truth
    false: float  #: it lies wholly on a side of 1 on which the truth is not
    decided: float  #: it lies wholly on one side of 1
    without: float = 0.0  #: there is no interval
    width: float = 0.0  #: the median, of ln(ratio)

    @property
    def errs(self) -> bool:
        """Whether it errs more than is allowed."""
        return self.missed > ALLOWED

    @property
    def cautious(self) -> bool:
        """Whether it is wider than it need be."""
        return self.missed < CAUTIOUS


def load(results: Results, settings: Settings) -> list[Found]:
    """Return what came out, designs in the order of the plan.

    Raises:
        StoreError: a unit has not been simulated.
    """
    wanted = plan.units(settings).items()
    return [Found(unit, *results.of(name)[0].losses) for name, unit in wanted]
