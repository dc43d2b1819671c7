"""Which settings GreedyLR should have by default, chosen in three rounds.

Nothing is tuned on what judges it: all candidates meet on cheap tasks, the best four on three
more, and the one that is chosen is judged once, on tasks that nothing was chosen on.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

OPTIMIZERS = ("sgd", "adamw")
RATES = 5
#: Four candidates go on to round 2.
FINALISTS = 4


@dataclass(frozen=True)
class Round:
    """Where and how thoroughly the candidates of a round meet."""

    tasks: tuple[str, ...]
    tuning_seeds: int
    seeds: int = 1
    steps: int | None = None


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    windows: Sequence[int] = (1, 10, 20, 50)
    paces: Sequence[tuple[float, int]] = ((0.95, 10), (0.9, 3), (0.9, 10), (0.8, 5), (0.7, 3))
    rounds: tuple[Round, Round, Round] = (
        Round(("digits-mlp", "diabetes-mlp", "breast-cancer-mlp"), tuning_seeds=2),
        Round(("digits-cnn", "pydoc-gru", "housing-mlp"), tuning_seeds=3),
        Round(
            ("fashion-cnn", "cifar-resnet", "shakespeare-transformer", "polarity-text"),
            tuning_seeds=2,
            seeds=8,
        ),
    )
    rates: int = RATES
    judged: tuple[str, ...] = ()  #: schedules of the last round beside ours; () is all there are

    def candidates(self) -> list[dict[str, Any]]:
        """Return every combination of the settings under study."""
        names = ("factor", "patience", "window", "reference", "plateau")
        each = (self.paces, self.windows, ("best", "previous"), ("bad", "neutral"))
        return [
            dict(zip(names, (*pace, *others), strict=True))
            for pace, *others in itertools.product(*each)
        ]


def label(options: dict[str, Any]) -> str:
    """Return a short name of a candidate.

    >>> label({"factor": 0.9, "patience": 3, "window": 20, "reference": "best", "plateau": "bad"})
    '0.9/3/20 best bad'
    """
    name = "{factor:g}/{patience}/{window} {reference} {plateau}".format(**options)
    return name + (f" on {options['schedule']}" if options.get("schedule") else "")
