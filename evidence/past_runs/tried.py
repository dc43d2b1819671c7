"""Other ways for the Advisor to go on from pilots and from past tasks, tried where it is developed.

None of these cells judges. A way that gains here may become the Advisor's own; until other cells
judge it, what is known of it is what is seen here.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from evidence.cells import Cell
from evidence.past_runs import advised
from evidence.past_runs.advised import ADVISOR, KNOWING, LINEAR, LOSSES, PILOTS, Advice, Session
from evidence.results import Result
from ratewise.curves import Advisor, Key
from ratewise.curves.advice import Prior
from ratewise.curves.prior import Past, default_centre, expected

#: Of the data sets that the Advisor may be developed on.
CELLS = tuple(
    Cell(*row)
    for row in (
        ("fashion", "mlp", 16, 300, "sgd"),
        ("fashion", "mlp", 128, 300, "adamw"),
        ("fashion", "mlp", 16, 1500, "sgd", True),
        ("wikitext", "window", 16, 300, "adamw"),
        ("wikitext", "window", 16, 1500, "sgd", True),
        ("digits", "residual", 16, 300, "adamw"),
        ("digits", "mlp", 16, 1500, "sgd"),
        ("teachers", "mlp", 128, 300, "adamw"),
        ("teachers", "residual", 4, 300, "sgd"),
        ("housing", "mlp", 16, 300, "sgd"),
        ("breast-cancer", "mlp", 16, 300, "adamw"),
        ("diabetes", "mlp", 128, 300, "adamw"),
    )
)
#: Lengths and passes that differ by less than this factor are alike.
_ALIKE = 4.0

Way = Callable[[Advice, Cell, Key, int, Sequence[Past]], Session]


@dataclass(frozen=True)
class Trials:
    """The size of this part; the tests make it small."""

    cells: tuple[Cell, ...] = CELLS
    advice: Advice = field(default_factory=Advice)


def piloted(
    advice: Advice, cell: Cell, key: Key, seed: int, past: Sequence[Past], kept: float
) -> Session:
    """Carry the pilots' best over, and keep a share of its distance from the default there."""
    made = Advisor(key=key, budget=4, pilot_steps=max(1, cell.steps // advised.PILOT))
    session = advised.advisor(made, cell, seed)
    losses: list[float] | None = None
    try:
        while True:
            losses = yield (next(session) if losses is None else session.send(losses))
    except StopIteration:
        centre = made.prior.centre
        return advised.chosen(centre * (made.best() / centre) ** kept)


def walked(advice: Advice, cell: Cell, key: Key, seed: int, past: Sequence[Past]) -> Session:
    """Make a fourth pilot instead of the run of full length."""
    steps = max(1, cell.steps // advised.PILOT)
    made = Advisor(key=key, budget=5, pilot_steps=steps)
    while (trial := made.ask()) is not None and trial.total_steps == steps:
        run = advised.at_ratio(trial.value, steps, seed, trial.seed)
        (loss,) = yield [run]
        made.tell(trial, loss)
    return advised.chosen(made.best())


def both(advice: Advice, cell: Cell, key: Key, seed: int, past: Sequence[Past]) -> Session:
    """Make two pilots and two runs of full length, the first of these at what is carried over."""
    made = Advisor(key=key, budget=3, pilot_steps=max(1, cell.steps // advised.PILOT))
    for _ in range(2):
        trial = made.ask()
        if trial is None or trial.total_steps == key.total_steps:
            break
        (loss,) = yield [advised.at_ratio(trial.value, trial.total_steps, seed, trial.seed)]
        made.tell(trial, loss)
    after = Advisor(key=key, budget=2)
    after.prior = after.prior._replace(centre=made.best(), spread=0.5)
    return (yield from advised.advisor(after, cell, seed))


def knowing(
    advice: Advice,
    cell: Cell,
    key: Key,
    seed: int,
    past: Sequence[Past],
    change: Callable[[Prior, Key, Sequence[Past]], Prior],
) -> Session:
    """Make two runs from a changed prior."""
    made = Advisor(key=key, budget=2)
    made.prior = change(expected(key, past), key, past)
    return (yield from advised.advisor(made, cell, seed))


def _shrunk(prior: Prior, key: Key, past: Sequence[Past], kept: float) -> Prior:
    middle = default_centre(key)
    return prior._replace(centre=middle * (prior.centre / middle) ** kept)


def _default_bend(prior: Prior, key: Key, past: Sequence[Past], kept: float = 1.0) -> Prior:
    """Leave the curvature to this task's runs."""
    usual = Prior(1.0)
    known = _shrunk(prior, key, past, kept)
    return known._replace(curvature=usual.curvature, curvature_spread=usual.curvature_spread)


def _alike(prior: Prior, key: Key, past: Sequence[Past]) -> Prior:
    """Let only tasks of like length and passes say where to begin."""

    def near(a: float, b: float) -> bool:
        return not (a and b) or abs(math.log(a / b)) <= math.log(_ALIKE)

    return expected(
        key,
        [
            one
            for one in past
            if near(one.key.total_steps, key.total_steps) and near(one.key.passes, key.passes)
        ],
    )


#: What is tried, by what the page calls it.
WAYS: dict[str, Way] = {
    PILOTS: partial(piloted, kept=1.0),
    "pilots, three quarters of the way from the default": partial(piloted, kept=0.75),
    "pilots, half of the way from the default": partial(piloted, kept=0.5),
    "4 pilots, no run of full length": walked,
    "2 pilots and 2": both,
    KNOWING: partial(knowing, change=lambda prior, key, past: prior),
    "past tasks, half of the way from the default": partial(
        knowing, change=partial(_shrunk, kept=0.5)
    ),
    "past tasks, curvature alone": partial(knowing, change=partial(_shrunk, kept=0.0)),
    "past tasks, centre alone": partial(knowing, change=_default_bend),
    "past tasks, half of the centre alone": partial(
        knowing, change=partial(_default_bend, kept=0.5)
    ),
    "past tasks of like length and passes": partial(knowing, change=_alike),
}
METHODS = (LINEAR, ADVISOR, *WAYS)


def units(trials: Trials) -> dict[str, Cell]:
    """Return the cells by a digest of what was asked for."""
    advice = trials.advice
    about = [advice.repeats, advice.grid, [tuple(cell) for cell in advice.past], METHODS]

    def digest(cell: Cell) -> str:
        return hashlib.sha256(json.dumps(["developed", cell, about]).encode()).hexdigest()[:16]

    return {digest(cell): cell for cell in trials.cells}


def made(trials: Trials, past: Sequence[Past], cell: Cell) -> list[Result]:
    """Return the runs that judge every way on a cell; past tasks on its data are not at hand."""
    advice = trials.advice
    others = [one for one in past if not one.key.task.startswith(f"{cell.data} ")]
    rates = advice.rates(cell.optimizer)
    going: dict[tuple[str, str, int], Session] = {}
    for loss in LOSSES:
        key = advised.key(cell, loss)
        for repeat in range(advice.repeats):
            seed = advised.TUNING + repeat
            going[LINEAR, loss, repeat] = advised.linear(rates, cell, seed)
            plain = Advisor(key=key, budget=4)
            going[ADVISOR, loss, repeat] = advised.advisor(plain, cell, seed)
            for name, way in WAYS.items():
                going[name, loss, repeat] = way(advice, cell, key, seed, others)
    return advised.judged(cell, going, "developed")
