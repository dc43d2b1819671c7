"""Advisor: which rate or ratio to run next, as ask and tell; what was told is kept in a file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ratewise.curves.advice import Decision, Prior, Tried, decide, recommend
from ratewise.curves.prior import Key, Past, carried, expected, from_curves
from ratewise.errors import CorruptData, InvalidArgument, InvalidState, invalid
from ratewise.files import contents, writing
from ratewise.files.locked import locked
from ratewise.rules import schema
from ratewise.rules.checks import check_count, is_number

#: Of the file; another one is refused.
FORMAT = 1
#: The file in a folder of runs, bytes that are read of it, and tasks and runs that it may hold.
NAME, MOST_BYTES, MOST = "advisor.json", 1 << 26, 100_000
_TRIAL = schema.record(
    {
        "value": schema.above(0.0),
        "total_steps": schema.count(),
        "seed": schema.count(),
        "loss": schema.optional(schema.number(0.0)),  # None is a run that diverged
    }
)
_TABLE = schema.record(
    {
        "format": schema.choice(FORMAT),
        "tasks": schema.several(
            schema.record(
                {
                    "key": schema.record(
                        {
                            "task": schema.text,
                            "optimizer": schema.text,
                            "family": schema.text,
                            "total_steps": schema.count(),
                            "passes": schema.number(0.0),
                            "loss": schema.text,
                            "unit": schema.text,
                        }
                    ),
                    "trials": schema.several(_TRIAL, most=MOST),
                }
            ),
            most=MOST,
        ),
    }
)


#: What was told: by key, length and run.
_Tasks: TypeAlias = "list[tuple[Key, list[tuple[int, Tried]]]]"


class Trial(NamedTuple):
    """A run to be made."""

    value: float  #: the rate, or the ratio
    total_steps: int  #: its length; 0 where the key has none
    seed: int  #: of weights and data; another one where a value is to be tried again
    reason: str


class Advisor:
    """Ask which value to run next, tell what loss it came to.

    >>> advisor = Advisor(key=Key("my-model", optimizer="adamw", total_steps=1000), budget=4)
    >>> while (trial := advisor.ask()) is not None:
    ...     loss = 2.0 + 0.05 * math.log(trial.value / 2e-3) ** 2  # train with this rate
    ...     advisor.tell(trial, loss)
    >>> print(f"{advisor.best():.2g}: {advisor.reason}")
    0.002: the budget of 4 runs is used up

    Past tasks, this advisor's and others', say where to begin: those told to the same file, and
    the runs of the store (`ratewise runs import`). What was told is written at once, whole or not
    at all; an advisor with the same file and key goes on from there. Trials that were asked for
    and never told are asked for again by the next advisor. Several processes may tell one file:
    each run is kept once, and all of them are known to the next `ask` anywhere. What others have
    under way is not known: for runs side by side, ask in one process.

    Args:
        store: a folder of runs, beside which `advisor.json` is kept; or the path of such a file,
            ending in .json; None keeps nothing.
        key: what the training is of; a `Key`, a mapping of its fields, or a task's name.
        budget: the most runs; None goes on until the gain is too small.
        min_gain: stop where another run is expected to lower the loss by less than this share.
        centre: the first value; None is where past tasks have their best values, or our default.
        pilot_steps: length of shorter runs that come first; the best of them is carried over to
            the key's length by the length law, for one run of that length.

    Raises:
        InvalidArgument, WrongType, UnknownName: an argument outside its range.
        CorruptData: the file holds something else.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | None = None,
        *,
        key: Key | Any,
        budget: int | None = None,
        min_gain: float = 0.005,
        centre: float | None = None,
        pilot_steps: int | None = None,
    ) -> None:
        self.key = Key.of(key)
        if budget is not None:
            check_count("budget", budget, 1)
        if not (is_number(min_gain) and 0.0 <= min_gain < 1.0):
            raise invalid("min_gain", "a number in [0, 1)", min_gain, "pass 0.005 for half a %")
        if centre is not None and not (is_number(centre) and 0.0 < centre < math.inf):
            raise invalid("centre", "a finite number > 0", centre, "pass e.g. 1e-3")
        if pilot_steps is not None:
            check_count("pilot_steps", pilot_steps, 1)
            if not pilot_steps < self.key.total_steps:
                allowed = f"below key.total_steps={self.key.total_steps}"
                raise invalid("pilot_steps", allowed, pilot_steps, "pass e.g. a fifth of it")
            if budget is not None and budget < 2:
                raise invalid("budget", "2 or more with pilots", budget, "pass 4")
        self.budget, self.min_gain, self.pilot_steps = budget, min_gain, pilot_steps
        self._path = _path(store)
        self._told: list[tuple[int, Tried]] = []
        self._under_way: list[Trial] = []
        others: list[Past] = []
        for key_, told in _load(self._path):
            if key_ == self.key:
                self._told = told
            else:
                others += _by_length(key_, told)
        if store is not None and Path(store).is_dir():
            others += _runs(Path(store), self.key, {one.value for _, one in self._told})
        #: What past tasks say; its `centre` is the first value.
        self.prior: Prior = expected(self.key, others, centre)
        if centre is not None:
            self.prior = self.prior._replace(centre=centre)
        #: Why the last `ask` returned what it did.
        self.reason = ""

    # -- ask and tell ---------------------------------------------------------------------------

    def ask(self) -> Trial | None:
        """Return the next run to make, or None: `reason` says why, `done` whether for good.

        Several may be asked for before the first is told, for runs side by side: None then means
        to wait for one of them.
        """
        self._told = self._kept(_load(self._path))
        left = None if self.budget is None else self.budget - len(self._told) - len(self._under_way)
        if left is not None and left <= 0:
            self._decide(Decision(None, 0, math.nan, self._spent(), bool(self._under_way)))
            return None
        steps = self.key.total_steps
        if self.pilot_steps is not None:
            if self._full():
                self._decide(Decision(None, 0, math.nan, "the run of full length was made"))
                return None
            found = self._next(self.pilot_steps)
            if left == 1 or (found.value is None and not found.waits):
                if self._under_way:
                    found = Decision(None, 0, math.nan, "pilots are under way", waits=True)
                else:
                    words = f"carried over from {self.pilot_steps} steps"
                    found = Decision(self._carried(), 0, math.nan, words)
            else:
                steps = self.pilot_steps
        else:
            found = self._next(steps)
        self._decide(found)
        if found.value is None:
            return None
        trial = Trial(found.value, steps, found.seed, found.reason)
        self._under_way.append(trial)
        return trial

    def tell(self, trial: Trial | float, loss: float) -> None:
        """Take a run's loss, and keep it.

        Args:
            trial: what `ask` returned; or a value, for a run of the key's length that was made
                without asking.
            loss: the final loss that the key names, >= 0; infinite or NaN for a run that diverged.

        Raises:
            InvalidArgument, WrongType: no trial and no value, or a loss that is none.
        """
        if not isinstance(trial, Trial):
            if not (is_number(trial) and 0.0 < trial < math.inf):
                fix = "pass what ask() returned, or the value that was run"
                raise invalid("trial", "a trial or a finite number > 0", trial, fix)
            seeds = [one.seed for _, one in self._told if one.value == trial]
            trial = Trial(float(trial), self.key.total_steps, max(seeds, default=-1) + 1, "")
        lost = isinstance(loss, float) and not math.isfinite(loss) and loss != -math.inf
        if not lost and not (is_number(loss) and loss >= 0):
            fix = "pass the final loss; for one that may be negative, e.g. exp(loss)"
            raise invalid("loss", "a number >= 0, or infinite where it diverged", loss, fix)
        if trial in self._under_way:
            self._under_way.remove(trial)
        end = math.inf if lost else float(loss)
        self._keep(trial.total_steps, Tried(trial.value, end, trial.seed))

    # -- what came of it ------------------------------------------------------------------------

    @property
    def trials(self) -> list[tuple[float, float, int]]:
        """What was told, in order: value, loss, length."""
        return [(one.value, one.loss, steps) for steps, one in self._told]

    @property
    def done(self) -> bool:
        """Whether `ask` has nothing more to propose."""
        return self._done

    _done = False

    def best(self) -> float:
        """Return the value to use.

        It is the minimum of a parabola through the best runs, and may not have been run; after
        pilots it is what they are carried over to. Before the first run it is the centre.
        """
        if self.pilot_steps is not None:
            return self._carried()
        return recommend(self._at(self.key.total_steps), self.prior)

    # -- parts ----------------------------------------------------------------------------------

    def _at(self, steps: int) -> list[Tried]:
        return [one for length, one in self._told if length == steps]

    def _full(self) -> bool:
        """Return whether the run that follows the pilots was made, or is under way."""
        lengths = [length for length, _ in self._told] + [
            one.total_steps for one in self._under_way
        ]
        return self.key.total_steps in lengths

    def _prior_at(self, steps: int) -> Prior:
        scale = carried(self.key, self.key.total_steps, steps)
        return self.prior._replace(centre=self.prior.centre * scale)

    def _next(self, steps: int) -> Decision:
        busy = [one.value for one in self._under_way if one.total_steps == steps]
        prior = self._prior_at(steps)
        return decide(self._at(steps), prior, under_way=busy, min_gain=self.min_gain)

    def _carried(self) -> float:
        steps = self.pilot_steps or self.key.total_steps
        best = recommend(self._at(steps), self._prior_at(steps))
        return best * carried(self.key, steps, self.key.total_steps)

    def _decide(self, found: Decision) -> None:
        self.reason = found.reason
        self._done = found.value is None and not found.waits

    def _spent(self) -> str:
        return f"the budget of {self.budget} runs is used up"

    def _kept(self, tasks: _Tasks) -> list[tuple[int, Tried]]:
        """Return what a file has of this key: of every process; this one's own if it has none."""
        return next((told for key, told in tasks if key == self.key), self._told)

    def _keep(self, steps: int, run: Tried) -> None:
        """Take in a run, and write it to what the file has by now."""
        if self._path is None:
            self._told.append((steps, run))
            return
        with locked(self._path):
            tasks = _load(self._path)
            self._told = [*self._kept(tasks), (steps, run)]
            others = [(key, told) for key, told in tasks if key != self.key]
            writing.write(self._path, _text([*others, (self.key, self._told)]))


def _text(tasks: _Tasks) -> str:
    """Return the file that holds these tasks."""
    return json.dumps(
        {
            "format": FORMAT,
            "tasks": [
                {
                    "key": asdict(key),
                    "trials": [
                        {
                            "value": one.value,
                            "total_steps": steps,
                            "seed": one.seed,
                            "loss": one.loss if math.isfinite(one.loss) else None,
                        }
                        for steps, one in told
                    ],
                }
                for key, told in tasks
            ],
        },
        indent=1,
    )


def _path(store: str | os.PathLike[str] | None) -> Path | None:
    """Return the file in which an advisor keeps what it was told.

    Raises:
        InvalidArgument: neither a folder nor a file that ends in .json.
    """
    if store is None:
        return None
    path = Path(store)
    if path.is_dir():
        return path / NAME
    if path.suffix.lower() != ".json":
        fix = "pass a folder that `ratewise runs import` made, or e.g. 'advisor.json'"
        raise invalid("store", "a folder of runs, or a file that ends in .json", str(store), fix)
    return path


def _load(path: Path | None) -> _Tasks:
    """Return what the file holds: by key, length and run.

    Raises:
        CorruptData: it holds something else.
    """
    if path is None or not path.exists():
        return []
    fix = "name another file, or remove it to begin anew"
    try:
        said = json.loads(contents.contents(path, MOST_BYTES))
        _TABLE("advisor", said)
        return [
            (
                Key(**task["key"]),
                [
                    (
                        one["total_steps"],
                        Tried(
                            float(one["value"]),
                            math.inf if one["loss"] is None else float(one["loss"]),
                            one["seed"],
                        ),
                    )
                    for one in task["trials"]
                ],
            )
            for task in said["tasks"]
        ]
    except InvalidState as error:
        reason = str(error).rpartition(": ")[0]
        raise CorruptData(f"{path} is no file of an Advisor ({reason}): {fix}") from error
    except (ValueError, RecursionError, InvalidArgument) as error:
        what = contents.shown(error, 120)
        raise CorruptData(f"{path} is no file of an Advisor ({what}): {fix}") from error


def _by_length(key: Key, told: Sequence[tuple[int, Tried]]) -> list[Past]:
    """Return a past task once a length that was run."""
    lengths = sorted({steps for steps, _ in told})
    return [
        Past(
            key.at(length),
            tuple(one for steps, one in told if steps == length),
        )
        for length in lengths
    ]


def _runs(folder: Path, key: Key, told: set[float]) -> list[Past]:
    """Return the past tasks in a store of runs, which may have none yet.

    Of the very training that is to come, runs at values that were told do not count twice.
    """
    from ratewise.curves.read import read  # reads Parquet: nothing else here needs it

    if key.unit != "rate":  # logs have rates alone
        return []
    try:
        curves = read(folder).curves
    except InvalidArgument:  # the folder has no log yet
        return []
    found = []
    for past in from_curves(curves, key.loss):
        own = (past.key.task, past.key.total_steps) == (key.task, key.total_steps)
        tried = tuple(one for one in past.tried if not (own and one.value in told))
        found += [Past(past.key, tried)] if tried else []
    return found
