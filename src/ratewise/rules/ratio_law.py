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
#: Where they are.
WITH_PASSES = Passes(level=0.024, power=0.5, free=8.0, fall=0.2, least=1e-4, most=0.05)
#: Of the ratio from scratch, what weights that were trained before take: no other was found.
PRETRAINED = 1.0
#: Passes up to which data count as seen about once.
FRESH = 1.5


class Outlook(NamedTuple):
    """What is known of a run before it begins; a number is None where it is not."""

    total_steps: int | None  #: length of the run in optimizer steps
    steps_per_epoch: int | None = None  #: optimizer steps in a pass over the data
    pretrained: bool = False  #: it begins at weights that were trained before
    batch_size: int | None = None  #: rows in an optimizer step

    @property
    def passes(self) -> float | None:
        """The passes over the data, at least 1.

        >>> Outlook(1000, 250).passes, Outlook(1000, 10**6).passes, Outlook(None, 250).passes
        (4.0, 1.0, None)
        """
        if self.total_steps is None or self.steps_per_epoch is None:
            return None
        return max(1.0, self.total_steps / self.steps_per_epoch)


#: Nothing.
UNKNOWN = Outlook(None)


class RatioLaw(NamedTuple):
    """The ratio, whatever is known of a run."""

    unknown: Horizon = DEFAULT  #: where passes are not known
    known: Passes = WITH_PASSES  #: and where they are
    pretrained: float = PRETRAINED  #: the share of it that fine-tuning takes

    def ratio(self, run: Outlook) -> float:
        """Return the ratio for a run."""
        if run.total_steps is None or run.passes is None:
            found = self.unknown.ratio(run.total_steps)
        else:
            found = self.known.ratio(run.total_steps, run.passes)
        return found * self.pretrained if run.pretrained else found


def default_ratio(
    total_steps: int | None, steps_per_epoch: int | None = None, pretrained: bool = False
) -> float:
    """Return the ratio that is used where none is given; the arguments are those of `Outlook`.

    >>> [float(f"{default_ratio(steps):.3g}") for steps in (10, 300, 1200, None)]
    [0.05, 0.019, 0.00827, 0.01]
    >>> [float(f"{default_ratio(1200, passes):.3g}") for passes in (1200, 12)]
    [0.012, 0.00724]
    """
    return RatioLaw().ratio(Outlook(total_steps, steps_per_epoch, pretrained))
