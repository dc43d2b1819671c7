"""By which criterion GreedyLR decides where none is named: the run's length says.

What was measured (`python -m evidence greedy-defaults`): over 44 cells of 300 to 6,000 losses, the
length known, the test of significance with its end is below counting; with 10 to 30 losses it is
above it; and where the length is not known, nothing shows that it is no worse.
"""

from __future__ import annotations

from typing import NamedTuple

from ratewise.rules.greedy_config import END, GreedyConfig

#: With no fewer metrics is the test of significance the default: the shortest runs that it was
#: judged on have as many.
LEAST_METRICS = 300


class Decided(NamedTuple):
    """What was decided for a run."""

    config: GreedyConfig  #: with a criterion
    end: str | None  #: name of the schedule that the rate is multiplied by
    why: str  #: in words


def decide(config: GreedyConfig, metrics: float | None, *, scheduled: bool = False) -> Decided:
    """Return the settings and the end of a run whose config names no criterion.

    Args:
        config: as it was given; one that has a criterion keeps it, and its run has no end.
        metrics: how many the run is expected to have; None is not known.
        scheduled: whether a schedule was named.

    >>> decided = decide(GreedyConfig(), 4690)
    >>> decided.config.criterion, decided.end, decided.why
    ('significance', 'stable-decay:0.7', '4,690 metrics are expected')
    >>> decide(GreedyConfig(), 30).why
    '30 metrics are expected, fewer than 300'
    >>> decide(GreedyConfig(), None).config == GreedyConfig(criterion="count")
    True
    """
    if config.criterion is not None:
        return Decided(config, None, "it was named, or a setting that belongs to it")
    if scheduled:
        return Decided(config.under("count"), None, "a schedule is given")
    if metrics is None:
        return Decided(config.under("count"), None, "the run's length is not known")
    expected = f"{int(metrics):,} metrics are expected"
    if metrics < LEAST_METRICS:
        return Decided(config.under("count"), None, f"{expected}, fewer than {LEAST_METRICS}")
    return Decided(config.under("significance"), END["significance"], expected)
