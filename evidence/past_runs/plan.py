"""Which published curves are fitted, which are forecast, and how suggestions are drawn.

Two sets of Luo et al. 2025 (25M and 100M parameters, nine schedules of one peak rate) and one of
Schaipp et al. 2025 (124M, 153 runs at peaks of 1e-4 to 5e-3, 15,000 to 50,000 steps).
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evidence import code
from ratewise.curves import Curve, read, with_warmup
from ratewise.curves.curve import Floats
from ratewise.data import locate

#: The sets of one peak rate, and on which curves their paper fits; it predicts the others.
SHAPES = ("mpl-25m", "mpl-100m")
FITTED = ("cosine_24000", "constant_24000", "wsdcon_9")
#: What their authors report, in shares: means over curves of the mean and of the worst error.
REPORTED = {"mpl-25m": (0.00110, 0.00409), "mpl-100m": (0.00142, 0.00583)}
#: Steps of the linear warmup that is not in their logs.
WARMUP = 2160
PEAKS = "slimpajama-124m"
#: Runs up to so many steps are at hand; longer ones are forecast.
AT_HAND = 25_000
#: Candidates of a suggestion have so many steps.
WANTED = 50_000
#: Share of a run that has been made where its end is forecast.
BEGUN = 0.3
LEVEL = 0.9
#: What makes a fit or a forecast: its code is a part of a unit's name.
FITS = (
    *(
        f"ratewise.curves.{name}"
        for name in (
            "branches", "columns", "curve", "fitting", "forecast", "laws", "log", "points",
            "published", "rates", "read", "remainder", "series", "sums", "tables",
        )
    ),
    "evidence.past_runs.fits",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    draws: int = 200
    chunk: int = 25  #: draws that are made and kept together
    seed: int = 0  #: of all fits; draw i has seed + i
    points: int = 64  #: of each run, to which a law is fitted
    laws: tuple[str, ...] = ("functional", "multi-power")
    sets: tuple[str, ...] = SHAPES
    every: int = 1  #: every so manieth long run is forecast
    few: tuple[int, ...] = (2, 3, 5, 10, 20)  #: past runs whose intervals are held to the ends
    sets_of_few: int = 40  #: draws of each


class Unit(NamedTuple):
    """What is computed in one go."""

    kind: str  #: "shapes", "lengths", "suggestions", "covered" or "begun"
    what: str  #: the set, the law, the first draw, or the number of past runs

    def __str__(self) -> str:
        return f"{self.kind} {self.what}"


class Run(NamedTuple):
    """A curve of the 124M set with what its table says."""

    curve: Curve
    steps: int
    key: tuple[str, ...]  #: everything that was set but for the length


def units(settings: Settings) -> dict[str, Unit]:
    """Return the units by a digest of what determines them, code included."""
    found = [Unit("shapes", name) for name in settings.sets]
    found += [Unit("lengths", law) for law in settings.laws]
    found += [Unit("suggestions", str(i)) for i in range(0, settings.draws, settings.chunk)]
    found += [Unit("covered", str(count)) for count in settings.few]
    found.append(Unit("begun", settings.laws[0]))
    kept = {key: value for key, value in asdict(settings).items() if key not in ("draws", "few")}
    made_by = code.digest(*FITS)

    def digest(unit: Unit) -> str:
        text = json.dumps([unit, kept, AT_HAND, WANTED, BEGUN, LEVEL, made_by])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    return {digest(unit): unit for unit in found}


def folder(data: str | None) -> Path:
    """Return where the curves lie.

    Raises:
        MissingData: they do not.
    """
    how = "the README names both repositories, under the MIT licence"
    return locate.find("the set of published loss curves", ["lr-curves"], how, data)


@cache
def shapes(name: str, data: str | None) -> dict[str, Curve]:
    """Return a set of one peak rate by the names of its files."""
    found = read(folder(data) / name).curves
    return {curve.name: with_warmup(curve, WARMUP) for curve in found}


@cache
def runs(data: str | None) -> tuple[Run, ...]:
    """Return the 124M set, each branch with its trunk's beginning."""
    where = folder(data)
    with (where / f"{PEAKS}-runs.csv").open(newline="", encoding="utf-8") as file:
        table = {row["run"]: row for row in csv.DictReader(file)}
    found = []
    for curve in read(where).curves:
        group, _, run = curve.name.partition("/")
        if group == PEAKS:
            row = table[run]
            shape = row["shape"] if row["schedule"] == "wsd" else ""
            key = (row["schedule"], row["cooldown"], shape, row["final_lr_share"], row["peak_lr"])
            found.append(Run(curve, int(row["steps"]), key))
    return tuple(found)


def at_hand(data: str | None) -> list[Run]:
    """Return the runs of the 124M set that may be learned from."""
    return [one for one in runs(data) if one.steps <= AT_HAND]


def end(run: Run) -> tuple[Floats, float]:
    """Return a run's rates up to its last evaluation, and the loss there."""
    step, loss = run.curve.held_out_loss
    return run.curve.rates(int(step[-1])), float(loss[-1])


def candidates(data: str | None) -> list[Run]:
    """Return the runs of the 124M set among which one is suggested."""
    return [one for one in runs(data) if one.steps == WANTED]


def several(hand: Sequence[Run], count: int, rng: np.random.Generator) -> list[Run]:
    """Return so many past runs at two peak rates or more."""
    while True:
        found = [hand[i] for i in rng.choice(len(hand), count, replace=False)]
        if len({one.key[-1] for one in found}) > 1:
            return found


def drawn(
    data: str | None, seed: int, wanted: Sequence[Run]
) -> tuple[list[Run], int, np.random.Generator]:
    """Return three past runs with two peak rates or more, drawn with a seed.

    With them come the index of the candidate with the settings of the best of the three (three of
    which there is none are drawn again), and the generator, for what else is drawn.
    """
    hand, rng = at_hand(data), np.random.default_rng(seed)
    while True:
        three = several(hand, 3, rng)
        best = min(three, key=lambda one: end(one)[1])
        same = [i for i, one in enumerate(wanted) if one.key == best.key]
        if same:
            return three, same[0], rng
