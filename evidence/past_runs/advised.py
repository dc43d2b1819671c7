"""Tuning with a few runs, judged: the Advisor against a grid, random search and Optuna.

A method is a session: it asks for runs, is told one loss of each, and ends with what it
recommends, which fresh seeds judge. All sessions of a cell go side by side, on stacks.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from evidence import code, simulated
from evidence.cells import Cell, task
from evidence.results import Result, Results
from evidence.simulated import Planned
from ratewise.curves import Advisor, Key
from ratewise.curves.advice import Prior, Tried
from ratewise.curves.prior import Past, expected
from ratewise.rules.update_ratio import UpdateRatioConfig
from ratewise.simulate import Fixed, Signals
from ratewise.simulate.update_ratio import UpdateRatio

#: Judged: no data set of these is one of those that the Advisor was developed on.
CELLS = tuple(
    Cell(*row)
    for row in (
        ("bent teachers", "mlp", 16, 300, "adamw"),
        ("shakespeare", "window", 4, 300, "sgd"),
        ("mnist1d", "mlp", 16, 300, "adamw", True),
        ("polarity", "window", 128, 300, "adamw"),
        ("cifar", "mlp", 16, 300, "sgd"),
        ("kjv", "window", 16, 300, "adamw"),
        ("wavy teachers", "mlp", 128, 300, "adamw"),
        ("mnist1d", "mlp", 16, 1500, "sgd"),
        ("kjv", "window", 16, 1500, "sgd", True),
        ("wavy teachers", "mlp", 4, 1500, "sgd"),
        ("polarity", "attention", 16, 300, "sgd"),
        ("cifar", "mlp", 4, 1500, "adamw"),
        ("bent teachers", "residual", 4, 1500, "sgd"),
        ("shakespeare", "window", 16, 3000, "adamw"),
        ("cifar", "lenet", 16, 300, "adamw", True),
        ("mnist1d", "mlp", 128, 3000, "adamw"),
    )
)
#: Other tasks, whose runs are at hand: of the data that the Advisor was developed on.
PAST = tuple(
    Cell(*row)
    for row in (
        ("digits", "mlp", 16, 300, "sgd"),
        ("housing", "mlp", 16, 300, "adamw"),
        ("teachers", "mlp", 16, 300, "adamw"),
        ("wikitext", "window", 4, 300, "sgd"),
        ("fashion", "mlp", 16, 1500, "adamw"),
        ("diabetes", "mlp", 4, 300, "sgd"),
        ("digits", "mlp", 128, 300, "adamw"),
        ("teachers", "mlp", 4, 1500, "sgd"),
    )
)
LOSSES = ("held_out", "train")
LINEAR, ADVISOR, PILOTS = "tuned linear, 9 runs", "Advisor, 4 runs", "3 pilots at T/5 and 1"
KNOWING, CENTRE, AS_RUN = "with past tasks, 2 runs", "the centre", "best of three at the centre"
OTHERS = "three rates at other tasks' best"
TPE, RANDOM = "Optuna's TPE, 9 runs", "random search, 9 runs"
METHODS = (LINEAR, ADVISOR, PILOTS, KNOWING, CENTRE, AS_RUN, OTHERS, TPE, RANDOM)
#: A lower loss, of data that were memorised, counts as that.
FLOOR = 1e-3
#: Rates of a grid, and how many times shorter pilots are.
GRID, PILOT = 9, 5
#: Trials before TPE has a model; its default is 10, more than are made here.
STARTUP = 3
#: The rate under UpdateRatioLR, which does not matter.
_ANY = 1e-2
TUNING, _JUDGING = 2000, 3000
#: What the versions of a run call the digest of the Advisor's code.
ADVISED = "advisor"


class Asked(NamedTuple):
    """A run that a session wants."""

    rule: Any
    lr: float
    steps: int
    seed: int


class Chosen(NamedTuple):
    """What a session recommends."""

    rule: Any
    lr: float


Session = Generator[list[Asked], list[float], Chosen]


@dataclass(frozen=True)
class Falling:
    """A schedule that Optuna shapes: hold, then fall linearly.

    Args:
        hold: share of the run after which it falls.
        end: share of the rate that it ends at.
    """

    hold: float
    end: float

    def at(self, step: int, steps: int) -> float:
        """Return the scale after so many steps.

        >>> [Falling(0.5, 0.25).at(step, 8) for step in (0, 4, 6, 8)]
        [1.0, 1.0, 0.625, 0.25]
        """
        done = (step / steps - self.hold) / (1.0 - self.hold)
        return 1.0 - (1.0 - self.end) * max(0.0, done)

    def start(self, zero: Tensor, steps: int) -> tuple[Tensor, Any]:
        """Return the first scale and the state."""
        return zero + 1.0, (zero, steps)

    def update(self, state: Any, seen: Signals) -> tuple[Tensor, Any]:
        """Return the next scale and the state."""
        zero, steps = state
        return zero + self.at(seen.step, steps), state


@dataclass(frozen=True)
class Advice:
    """The size of this part; the tests make it small."""

    cells: tuple[Cell, ...] = CELLS
    past: tuple[Cell, ...] = PAST
    repeats: int = 5  #: each with tuning seeds of its own, judged on a seed of its own
    grid: int = GRID
    methods: tuple[str, ...] = METHODS

    def rates(self, optimizer: str) -> list[float]:
        """Return the rates of an optimizer's grid, three decades and a third."""
        low, high = (1e-3, 2.0) if optimizer == "sgd" else (1e-4, 0.2)
        return [float(f"{x:.4g}") for x in np.geomspace(low, high, self.grid)]


class Unit(NamedTuple):
    """A cell: one that judges, or one whose runs are at hand."""

    kind: str  #: "advised" or "past"
    cell: Cell

    def __str__(self) -> str:
        return f"{self.kind}: {self.cell}"


def units(advice: Advice, kind: str) -> dict[str, Unit]:
    """Return the units of a kind by a digest of what was asked for."""
    about = {**asdict(advice), "cells": 0, "past": 0 if kind == "past" else advice.past}

    def digest(unit: Unit) -> str:
        text = json.dumps([unit, about])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    cells = advice.past if kind == "past" else advice.cells
    return {digest(unit): unit for unit in (Unit(kind, cell) for cell in cells)}


def table(advice: Advice) -> list[tuple[str, int, int]]:
    """Return what is to be trained: the cell, the most runs, and their steps together."""
    rows = []
    for cell in advice.cells:
        full = advice.repeats * (2 * advice.grid + 2 * (advice.grid + 4 + 1 + 2 + 3))
        short, judged = 2 * 3 * advice.repeats, 2 * advice.repeats * len(advice.methods)
        steps = (full + judged) * cell.steps + short * (cell.steps // PILOT)
        rows.append((str(cell), full + short + judged, steps))
    return rows


# -- methods ----------------------------------------------------------------------------------


def ratio_rule(value: float) -> UpdateRatio:
    """Return UpdateRatioLR at a ratio."""
    return UpdateRatio(UpdateRatioConfig(ratio=min(value, 1.0)), schedule="linear")


def key(cell: Cell, loss: str, unit: str = "ratio") -> Key:
    """Return what the Advisor is told of a cell."""
    rows = _rows(cell)
    return Key(
        str(cell),
        cell.optimizer,
        cell.model,
        cell.steps,
        cell.steps * cell.batch / rows,
        loss,
        unit,
    )


def _rows(cell: Cell) -> int:
    made = task(cell, judging=False)
    data = made.data(0) if callable(made.data) else made.data
    return len(data[0]) - made.held_out if data else 1


def linear(rates: Sequence[float], cell: Cell, seed: int) -> Session:
    """Take the best rate of a grid."""
    losses = yield [Asked(Fixed("linear"), lr, cell.steps, seed) for lr in rates]
    return Chosen(Fixed("linear"), rates[int(np.argmin(losses))])


def advisor(made: Advisor, cell: Cell, seed: int) -> Session:
    """Follow the Advisor."""
    while (trial := made.ask()) is not None:
        (loss,) = yield [at_ratio(trial.value, trial.total_steps, seed, trial.seed)]
        made.tell(trial, loss)
    return chosen(made.best())


def at_ratio(value: float, steps: int, seed: int, again: int = 0) -> Asked:
    """Return a run at a ratio; `again` is the Advisor's seed, of a value that is tried again."""
    return Asked(ratio_rule(value), _ANY, steps, seed + 100 * again)


def chosen(value: float) -> Chosen:
    """Return a ratio that is recommended."""
    return Chosen(ratio_rule(value), _ANY)


def around(prior: Prior, cell: Cell, seed: int) -> Session:
    """Take the best of three ratios as it was run: no parabola."""
    values = [prior.centre * factor for factor in (0.5, 1.0, 2.0)]
    losses = yield [at_ratio(value, cell.steps, seed) for value in values]
    return chosen(values[int(np.argmin(losses))])


def at_the_centre(prior: Prior) -> Session:
    """Take the centre, without a run."""
    yield []
    return chosen(prior.centre)


def searched(rates: Sequence[float], cell: Cell, seed: int, kind: str) -> Session:
    """Search rate, end and beginning of the fall, by Optuna or at random."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if kind == TPE:  # by default its first 10 trials are random: all that there are
        sampler: Any = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
    else:
        sampler = optuna.samplers.RandomSampler(seed=seed + 500)
    study = optuna.create_study(sampler=sampler)
    for _ in rates:
        trial = study.ask()
        lr = trial.suggest_float("rate", min(rates), max(rates), log=True)
        rule = Falling(trial.suggest_float("hold", 0.0, 0.95), trial.suggest_float("end", 0.0, 1.0))
        (loss,) = yield [Asked(rule, lr, cell.steps, seed)]
        study.tell(trial, loss if math.isfinite(loss) else 1e30)
    best = study.best_params
    return Chosen(Falling(best["hold"], best["end"]), best["rate"])


def sessions(
    advice: Advice, cell: Cell, loss: str, seed: int, past: Sequence[Past]
) -> dict[str, Session]:
    """Return all methods on a cell, for a loss and a tuning seed."""
    of, rates = key(cell, loss), advice.rates(cell.optimizer)
    plain = Advisor(key=of, budget=4)
    knowing = Advisor(key=of, budget=2)
    knowing.prior = expected(of, past)
    theirs = expected(key(cell, loss, "rate"), past).centre
    pilots = Advisor(key=of, budget=4, pilot_steps=max(1, cell.steps // PILOT))
    made: dict[str, Callable[[], Session]] = {
        LINEAR: partial(linear, rates, cell, seed),
        ADVISOR: partial(advisor, plain, cell, seed),
        PILOTS: partial(advisor, pilots, cell, seed),
        KNOWING: partial(advisor, knowing, cell, seed),
        CENTRE: partial(at_the_centre, plain.prior),
        AS_RUN: partial(around, plain.prior, cell, seed),
        OTHERS: partial(linear, [theirs / 3, theirs, theirs * 3], cell, seed),
        TPE: partial(searched, rates, cell, seed, TPE),
        RANDOM: partial(searched, rates, cell, seed, RANDOM),
    }
    return {name: made[name]() for name in advice.methods}


# -- runs -------------------------------------------------------------------------------------


def made(advice: Advice, past: Sequence[Past], unit: Unit) -> list[Result]:
    """Return a unit's runs: of a past task at a few values; of a judged one those that judge."""
    if unit.kind == "past":
        return _past(advice, unit.cell)
    cell = unit.cell
    going = {
        (name, loss, repeat): session
        for loss in LOSSES
        for repeat in range(advice.repeats)
        for name, session in sessions(advice, cell, loss, TUNING + repeat, past).items()
    }
    return judged(cell, going, "judged")


def judged(cell: Cell, going: dict[tuple[str, str, int], Session], role: str) -> list[Result]:
    """Run sessions, by method, loss and repeat, and return the runs that judge what they chose."""
    chosen, spent = _driven(cell, going)
    judging = [
        Asked(found.rule, found.lr, cell.steps, _JUDGING + repeat)
        for (_, _, repeat), found in chosen.items()
    ]
    ended = _trained(cell, judging, judging_rows=True)
    return [
        ended[run]._replace(
            method=name, setting=f"{loss}, {spent[name, loss, repeat]} runs", role=role,
            seed=repeat, versions=json.dumps({**json.loads(ended[run].versions), ADVISED: _code()}),
        )
        for (name, loss, repeat), run in zip(chosen, judging, strict=True)
    ]  # fmt: skip


@cache
def _code() -> str:
    """Return the digest of the Advisor's code, as it is today."""
    return code.digest(*(f"ratewise.curves.{name}" for name in ("advice", "advisor", "prior")))


def earlier(results: Results, units_: Iterable[str]) -> int:
    """Return how many units an earlier version of the simulator's or the Advisor's code made."""
    versions = [json.loads(results.of(name)[0].versions) for name in units_]
    now = {simulated.CODE: simulated.made_by(), ADVISED: _code()}
    return sum(any(one.get(key) != value for key, value in now.items()) for one in versions)


def _driven(
    cell: Cell, going: dict[tuple[str, str, int], Session]
) -> tuple[dict[tuple[str, str, int], Chosen], dict[tuple[str, str, int], int]]:
    """Run all sessions to their ends, side by side; equal runs are made once."""
    chosen: dict[tuple[str, str, int], Chosen] = {}
    spent = dict.fromkeys(going, 0)
    known: dict[Asked, Result] = {}
    asked = {who: next(session) for who, session in going.items()}
    while asked:
        todo = list(dict.fromkeys(r for runs in asked.values() for r in runs if r not in known))
        for steps in sorted({run.steps for run in todo}):
            known |= _trained(cell, [run for run in todo if run.steps == steps])
        after = {}
        for who, runs in asked.items():
            spent[who] += len(runs)
            at = {"train": 1, "held_out": 2}[who[1]]
            try:
                after[who] = going[who].send([known[run].losses[at] for run in runs])
            except StopIteration as stop:
                chosen[who] = stop.value
        asked = after
    return {who: chosen[who] for who in going}, spent


def _trained(cell: Cell, runs: Sequence[Asked], judging_rows: bool = False) -> dict[Asked, Result]:
    """Train runs of one length, each once."""
    unique = list(dict.fromkeys(runs))
    if not unique:
        return {}
    of = cell._replace(steps=unique[0].steps)
    planned = [
        Planned({"optimizer": cell.optimizer}, "", run.rule, run.lr, run.lr, run.seed)
        for run in unique
    ]
    found = simulated.trained(
        str(cell), task(of, judging=judging_rows), cell.optimizer, planned, simulated.ends,
        steps=of.steps, every=of.steps,
    )  # fmt: skip
    return dict(zip(unique, found, strict=True))


def _past(advice: Advice, cell: Cell) -> list[Result]:
    """Return a past task's runs: five ratios, and a grid of rates under linear decay."""
    centre = Advisor(key=key(cell, "held_out")).prior.centre
    ratios = [float(f"{centre * 2.0**k:.4g}") for k in range(-2, 3)]
    runs = [Asked(ratio_rule(value), _ANY, cell.steps, 0) for value in ratios]
    rates = advice.rates(cell.optimizer)
    runs += [Asked(Fixed("linear"), lr, cell.steps, 0) for lr in rates]
    ended = _trained(cell, runs)
    about = [("ratio", value) for value in ratios] + [("rate", value) for value in rates]
    return [
        ended[run]._replace(method=unit, setting=repr(value), role="past")
        for run, (unit, value) in zip(runs, about, strict=True)
    ]


def at_hand(units_: Sequence[tuple[Unit, Sequence[Result]]]) -> list[Past]:
    """Return past tasks from the runs of their units, in both units and for both losses."""
    found = []
    for unit, runs in units_:
        for loss, at in (("train", 1), ("held_out", 2)):
            for kind in ("ratio", "rate"):
                tried = [
                    Tried(float(run.setting), run.losses[at]) for run in runs if run.method == kind
                ]
                found.append(Past(key(unit.cell, loss, kind), tuple(tried)))
    return found
