"""Other ways to fit the curves of one peak rate, and to choose the next run: what each gives.

The laws' defaults were chosen while these very curves were looked at; so a way that is better
here by little may be no better elsewhere. The authors' constants stand beside them, computed as
they are printed, as a check that errors are counted as theirs were.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from evidence import code
from evidence.past_runs import plan
from evidence.results import Result, Results
from ratewise.curves import Curve, LossLaw, fit
from ratewise.curves.curve import Floats
from ratewise.curves.fitting import DELTA, Fitted, fit_law
from ratewise.curves.laws import LAWS
from ratewise.curves.points import points
from ratewise.errors import InvalidArgument

#: Constants that the authors publish with their code (L0, A, alpha, B, C, beta, gamma).
PUBLISHED = {
    "mpl-25m": (
        3.04045406, 0.52468604, 0.50786857, 363.78751622, 2.06560812, 0.58279013, 0.64142257,
    ),
    "mpl-100m": (
        2.6514477, 0.60115152, 0.45295811, 437.9464276, 2.13245612, 0.59785199, 0.65523644,
    ),
}  # fmt: skip
AUTHORS = "the authors' constants"
#: Points of a run when all are taken.
_ALL = 1_000_000
#: Draws of past runs begin at this seed, which no judged draw has.
FIRST = 1000


class Way(NamedTuple):
    """How a law is fitted."""

    title: str
    points: int = 64
    delta: float = DELTA
    late: float = 0.0  #: share of a run that is left out at its beginning


WAYS = (
    Way("as it is"),
    Way("all points", points=_ALL),
    Way("Huber's loss from 0.001, as the authors", delta=1e-3),
    Way("both of these", points=_ALL, delta=1e-3),
    Way("without the first tenth", late=0.1),
)
BOTH = "mean of both laws"


class Unit(NamedTuple):
    """What is computed in one go."""

    kind: str  #: "fits" or "choices"
    what: str  #: the set, or the first draw

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


def units(settings: plan.Settings) -> dict[str, Unit]:
    """Return the units by a digest of what determines them, code included."""
    found = [Unit("fits", name) for name in settings.sets]
    found += [Unit("choices", str(i)) for i in range(0, settings.draws, settings.chunk)]
    about = [settings.seed, settings.chunk, code.digest(*plan.FITS, "evidence.past_runs.ways")]
    return {sha256(json.dumps([unit, about]).encode()).hexdigest()[:16]: unit for unit in found}


def made(settings: plan.Settings, data: str | None, unit: Unit) -> list[Result]:
    """Return what is kept of a unit."""
    work = {"fits": fits, "choices": choices}
    return work[unit.kind](settings, data, unit.what)


# -- the curves of one peak rate ----------------------------------------------------------------


def fits(settings: plan.Settings, data: str | None, name: str) -> list[Result]:
    """Return each way's mean and worst relative error on each curve that was not fitted."""
    curves = plan.shapes(name, data)
    seen = [curves[one] for one in plan.FITTED]
    ahead: dict[tuple[str, str], Callable[[Floats, Any], Floats]] = {}
    for way in WAYS:
        for law in LAWS:
            ahead[law, way.title] = _fitted(seen, law, way, settings.seed).at
    plain = [ahead[law, WAYS[0].title] for law in LAWS]
    ahead["both", BOTH] = lambda rates, steps: np.mean([one(rates, steps) for one in plain], axis=0)
    if name in PUBLISHED:
        ahead["multi-power", AUTHORS] = lambda rates, steps: published(name, rates, steps)
    found = []
    for one, curve in curves.items():
        if one in plan.FITTED:
            continue
        steps, loss = curve.train_loss
        for (law, title), at in ahead.items():
            error = np.abs(at(curve.rates(), steps) / loss - 1)
            numbers = [float(error.mean()), float(error.max())]
            found.append(
                Result(name, law, f"{title}: {one}", settings.seed, "way", curve.steps, numbers,
                       0.0, "{}")
            )  # fmt: skip
    return found


def _fitted(seen: Sequence[Curve], law: str, way: Way, seed: int) -> Fitted:
    cut = [replace(one, train_loss=one.train_loss.after(way.late * one.steps - 1)) for one in seen]
    runs = [points(one, "train", way.points) for one in cut]
    return fit_law(LAWS[law], runs, seed=seed, delta=way.delta)


def published(name: str, rates: Floats, steps: Sequence[int]) -> Floats:
    """Return the multi-power law at the authors' constants, its sums over all steps as written.

    Args:
        name: of the set.
        rates: of the steps from 1 on, the warmup's among them.
        steps: at which the loss is asked for.
    """
    l0, a, alpha, b, c, beta, gamma = PUBLISHED[name]
    total, change = np.cumsum(rates), np.diff(rates, prepend=0.0)
    known = rates > 0
    scale = np.where(known, rates, 1.0) ** -gamma
    found = []
    for step in steps:
        since = total[step - 1] - total[:step] + rates[:step]
        kept = (1 + c * scale[:step] * since) ** -beta
        drop = float((change[:step] * (1 - kept))[known[:step]].sum())
        found.append(l0 + a * total[step - 1] ** -alpha + b * drop)
    return np.array(found)


# -- the next run -------------------------------------------------------------------------------


def choices(settings: plan.Settings, data: str | None, first: str) -> list[Result]:
    """Return for each draw where the runs end that each way of choosing would make next."""
    wanted, found = plan.candidates(data), []
    ends = np.array([plan.end(one)[1] for one in wanted])
    rates = [plan.end(one)[0] for one in wanted]
    for draw in range(int(first), min(int(first) + settings.chunk, settings.draws)):
        seed = FIRST + settings.seed + draw
        three, same, _ = plan.drawn(data, seed, wanted)
        laws = [_or_none([one.curve for one in three], law, seed, settings.points) for law in LAWS]
        for title, choose in CHOICES.items():
            index = choose(laws, rates)
            picked = ends[same if index is None else index]
            numbers = [float(picked), float(ends.min())]
            found.append(
                Result("choices", title, str(draw), seed, "way", plan.WANTED, numbers, 0.0, "{}")
            )
    return found


def _or_none(curves: Sequence[Curve], law: str, seed: int, most: int) -> LossLaw | None:
    try:
        return fit(curves, law=law, seed=seed, most_points=most)
    except InvalidArgument:
        return None


def _lowest(
    laws: Sequence[LossLaw | None], rates: Sequence[Floats], high: bool = False
) -> int | None:
    """Return the candidate of the lowest mean over laws of ln forecast, or of its upper bound."""
    known = [law for law in laws if law is not None]
    if not known:
        return None
    inside = [i for i, one in enumerate(rates) if not known[0].outside(one).startswith("peak")]
    if not inside:
        return None
    wanted = [rates[i] for i in inside]
    ahead = [law.predict(wanted, level=plan.LEVEL, outside="allow") for law in known]
    values = [[np.log(one.high if high else one.loss) for one in each] for each in ahead]
    return inside[int(np.argmin(np.mean(values, axis=0)))]


#: Ways to choose from forecasts of the functional and of the multi-power law.
CHOICES: dict[str, Callable[[Sequence[LossLaw | None], Sequence[Floats]], int | None]] = {
    "lowest forecast, functional": lambda laws, rates: _lowest(laws[:1], rates),
    "lowest forecast, multi-power": lambda laws, rates: _lowest(laws[1:], rates),
    "lowest forecast, mean of both laws": _lowest,
    "lowest upper bound, functional": lambda laws, rates: _lowest(laws[:1], rates, high=True),
    "lowest upper bound, both": lambda laws, rates: _lowest(laws, rates, high=True),
}


# -- what came of it ----------------------------------------------------------------------------


def rows(results: Results, settings: plan.Settings) -> tuple[list[list[str]], list[list[str]]]:
    """Return the table of fits, mean and worst by set, and that of choices; empty where missing."""
    there = [
        row for name, unit in units(settings).items() if name in results for row in results.of(name)
    ]
    return _fit_rows([row for row in there if row.task != "choices"], settings), _choice_rows(
        [row for row in there if row.task == "choices"]
    )


def _fit_rows(there: Sequence[Result], settings: plan.Settings) -> list[list[str]]:
    errors: dict[tuple[str, str], dict[str, list[list[float]]]] = {}
    for row in there:
        way = row.method, row.setting.rpartition(": ")[0]
        errors.setdefault(way, {}).setdefault(row.task, []).append(row.losses)
    found = []
    for (law, title), by_set in errors.items():
        line = [law, title]
        for name in settings.sets:
            if name not in by_set:
                line += ["", "", ""]
                continue
            mean, worst = np.array(by_set[name]).T
            line += [f"{x:.3%}" for x in (mean.mean(), worst.mean(), worst.max())]
        found.append(line)
    return found


def _choice_rows(there: Sequence[Result]) -> list[list[str]]:
    regrets: dict[str, list[float]] = {}
    for row in there:
        regrets.setdefault(row.method, []).append(row.losses[0] / row.losses[1] - 1)
    return [
        [title, f"{len(all_):,}", *(f"{np.quantile(all_, q):.2%}" for q in (0.5, 0.75, 0.9, 1.0))]
        for title, all_ in regrets.items()
    ]


def authors(results: Results, settings: plan.Settings) -> dict[str, tuple[float, float, float]]:
    """Return by set what the authors' constants err by: mean, mean worst, worst point of all."""
    found = {}
    for name, unit in units(settings).items():
        if unit.kind == "fits" and name in results:
            mine = [x.losses for x in results.of(name) if x.setting.startswith(f"{AUTHORS}: ")]
            if mine:
                mean, worst = np.array(mine).T
                found[unit.what] = (float(mean.mean()), float(worst.mean()), float(worst.max()))
    return found
