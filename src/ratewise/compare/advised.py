"""`ratewise tune`: one task, one schedule, a few runs; each run is kept, and the advisor's too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ratewise.compare import optimizers, own, schedules, training
from ratewise.compare.optimizers import Optimizer
from ratewise.compare.schedules import Schedule
from ratewise.compare.task import Task
from ratewise.curves import Advisor, Key
from ratewise.curves.prior import default_centre
from ratewise.errors import InvalidArgument, invalid
from ratewise.runs import RunRecord, Store, make_run_id

#: What is tuned where nothing is named: it needs no rate, and the shape is the judged one.
DEFAULT = Schedule("update-ratio-linear", "update-ratio", {"schedule": "linear"})
_UPDATE_RATIO = "update-ratio"


class Advised(NamedTuple):
    """What came of it."""

    best: float  #: the rate, or the ratio, to use
    advisor: Advisor
    summary: str


def tune(
    task: str | Task,
    *,
    store: str | Path,
    optimizer: str | Optimizer = "adamw",
    schedule: str | Schedule = DEFAULT,
    budget: int = 4,
    min_gain: float = 0.005,
    pilot_steps: int | None = None,
    family: str = "",
    preset: str = "small",
    data: str | None = None,
    steps: int | None = None,
) -> Advised:
    """Tune a schedule on a task with a few runs, beginning where past tasks had their best.

    What is tuned is the ratio of an update-ratio schedule, and the rate of any other. The loss
    is the validation part's at the end. Call it again after a kill: no run is repeated.

    Args:
        task: a name of `ratewise.compare.tasks.names()`, `FILE.py:NAME`, or a `Task`.
        store: folder of runs, a new one or one with past tasks; the runs are added to it.
        optimizer: a name of `optimizers.names()`, or an `Optimizer`.
        schedule: a name of `schedules.names()`, or a `Schedule`.
        budget: the most runs.
        min_gain: stop where another run is expected to lower the loss by less than this share.
        pilot_steps: length of shorter runs that come first; one of full length ends it.
        family: of models, in words of your own.
        preset, data, steps: as in `ratewise.compare.run`.

    Raises:
        InvalidArgument, UnknownName, WrongType: an argument outside its range.
        MissingData, CorruptData: a data set is absent or damaged.
        StoreError: `store` holds something else or cannot be written.
    """
    found = own.load(task, preset, data) if isinstance(task, str) else task
    found = found if steps is None else replace(found, steps=steps)
    stepped, chosen = optimizers.named(optimizer), schedules.named(schedule)
    unit = "ratio" if chosen.kind == _UPDATE_RATIO else "rate"
    if unit == "ratio" and "ratio" in chosen.options:
        fix = "leave it out, it is what is tuned"
        raise invalid("schedule", "without a ratio of its own", chosen.options["ratio"], fix)
    passes = found.steps * found.batch_size / len(found.train[0])
    key = Key(found.name, stepped.name, family, found.steps, passes, "held_out", unit)
    with Store(store) as kept:
        advisor = Advisor(
            kept.folder, key=key, budget=budget, min_gain=min_gain, pilot_steps=pilot_steps,
            centre=_centre(key, stepped),
        )  # fmt: skip
        records = {record.run_id: record for record in kept.load()}
        while (trial := advisor.ask()) is not None:
            of = replace(found, steps=trial.total_steps)
            record = _run(of, stepped, chosen, unit, trial.value, trial.seed, records)
            kept.add(record)
            advisor.tell(trial, _end(record))
    return Advised(advisor.best(), advisor, _summary(advisor, found, stepped, chosen, unit))


def _centre(key: Key, optimizer: Optimizer) -> float | None:
    """Return the middle of the optimizer's grid where no rate is usual for it."""
    try:
        default_centre(key)
    except InvalidArgument:
        return optimizer.grid(1)[0]
    return None


def _run(
    task: Task,
    optimizer: Optimizer,
    schedule: Schedule,
    unit: str,
    value: float,
    seed: int,
    records: dict[str, RunRecord],
) -> RunRecord:
    """Return the run's record, out of the store where it is there already."""
    rate = value
    if unit == "ratio":  # the rate does not matter then
        rate = optimizer.grid(1)[0]
        schedule = replace(schedule, options={**schedule.options, "ratio": value})
    made = make_run_id(training.configuration(task, optimizer, schedule, rate, seed))
    if made in records:
        return records[made]
    with training.one_thread():
        return training.train(task, optimizer, schedule, rate, seed, role="tuned")


def _end(record: RunRecord) -> float:
    """Return a run's last validation loss, infinite where it diverged."""
    return math.inf if record.status == "diverged" else record.validation_loss[-1]


def _edge(trials: Sequence[tuple[float, float, int]]) -> str:
    """Return at which end of the values that were run the best one lies, or nothing.

    Of runs of several lengths those of the length that was run most often count: the pilots.
    """
    lengths = [steps for _, _, steps in trials]
    most = max(lengths, key=lengths.count)
    ends = {value: loss for value, loss, steps in trials if steps == most}
    best = min(ends, key=lambda value: ends[value])
    if len(ends) > 1 and best == max(ends):
        return "highest"
    return "lowest" if len(ends) > 1 and best == min(ends) else ""


def _summary(
    advisor: Advisor, task: Task, optimizer: Optimizer, schedule: Schedule, unit: str
) -> str:
    """Return the runs, what to use, and why no more were made, in lines."""
    past = advisor.prior.tasks
    began = f"from {past} past trainings" if past else "our default"
    lines = [f"{task.name}, {optimizer.name}, {schedule.name}; first {unit}: {began}"]
    lines.append(f"{unit:>10} {'steps':>8} {'loss':>10}")
    for value, loss, steps in advisor.trials:
        shown = f"{loss:.5g}" if math.isfinite(loss) else "diverged"
        lines.append(f"{value:>10.4g} {steps:>8,} {shown:>10}")
    best = advisor.best()
    lines.append(f"use {unit} {best:.4g}: {advisor.reason}")
    side = _edge(advisor.trials) if len(advisor.trials) == advisor.budget else ""
    if side:
        beyond, more = ("below" if side == "lowest" else "above"), len(advisor.trials) + 2
        lines.append(
            f"warning: the best run has the {side} {unit} that was tried; a better one may lie "
            f"{beyond} it: --budget {more} goes on there"
        )
    if unit == "ratio":
        shape = schedule.options.get("schedule", "cosine")
        call = f"ratio={best:.4g}, schedule={shape!r}, total_steps={task.steps}"
        lines.append(f"ratewise.UpdateRatioLR(optimizer, {call})")
    return "\n".join(lines)
