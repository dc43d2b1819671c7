"""What `ratewise forecast` says: a loss with its interval, and what it rests on."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ratewise.curves.curve import Curve, Floats
from ratewise.curves.forecast import LossLaw, fit
from ratewise.curves.read import read
from ratewise.errors import InvalidArgument
from ratewise.files.contents import shown

_NAMES = 5


def task_of(curve: Curve) -> str:
    """Return what a training is of: its task, or else the first folder of its name.

    >>> task_of(Curve("small/run-3")), task_of(Curve("run-3"))
    ('small', '')
    """
    return curve.facts.task or curve.name.rpartition("/")[0].partition("/")[0]


def runs_of(store: str | os.PathLike[str], task: str | None) -> list[Curve]:
    """Return the curves of a store, or of logs, that have rates.

    Args:
        store: as `ratewise.curves.read` takes it.
        task: those of one task alone, as `task_of` has it.

    Raises:
        InvalidArgument: there are none; or they are of several tasks, and none was named.
    """
    curves = [curve for curve in read(store).curves if len(curve.lr)]
    tasks = sorted({task_of(curve) for curve in curves})
    known = ", ".join(map(shown, tasks[:_NAMES])) or "none with rates"
    if task is None and len(tasks) > 1:
        raise InvalidArgument(
            f"{store} has runs of {len(tasks)} tasks, which one law does not fit: {known}. "
            "Name one by --task, or import runs of the same model and data with --task NAME"
        )
    if task is not None:
        curves = [curve for curve in curves if task_of(curve) == task]
    if not curves:
        raise InvalidArgument(f"{store} has no run of task {task!r} with rates: it has {known}")
    return curves


def told(law: LossLaw, rates: Floats, level: float = 0.9) -> str:
    """Return the forecast for a schedule in lines.

    Raises:
        OutsideSeen: no past run comes near the schedule.
    """
    (ahead,) = law.predict([rates], level=level)
    which = {"held_out": "held-out", "train": "training"}[law.loss]
    lines = [
        f"{which} loss after {len(rates):,} steps: {ahead.loss:.4f} "
        f"[{ahead.low:.4f}, {ahead.high:.4f}] ({level:.0%})",
        f"from {len(law.runs)} runs, {law.fitted.law.name} law ({law.fitted.law.source})",
        "its parameters: " + _parameters(law, level),
    ]
    if law.left_out:
        lines.append(f"left out ({len(law.left_out)}):")
        lines += [f"  {shown(name)}: {shown(why)}" for name, why in _first(law.left_out)]
    return "\n".join(lines)


def _parameters(law: LossLaw, level: float) -> str:
    found = law.parameters(level).items()
    return ", ".join(f"{name} {p.value:.3g} [{p.low:.3g}, {p.high:.3g}]" for name, p in found)


def _first(left_out: dict[str, str]) -> Sequence[tuple[str, str]]:
    return list(left_out.items())[:_NAMES]


def forecast(
    store: str | os.PathLike[str],
    rates: Floats,
    *,
    task: str | None = None,
    law: str = "functional",
    loss: str = "auto",
    seed: int = 0,
) -> str:
    """Return what the runs of a store say of a schedule.

    Args:
        store: a store of runs, or logs.
        rates: the schedule's, one a step.
        task: whose runs are taken, where the store has several.
        law, loss, seed: as in `ratewise.curves.fit`.

    Raises:
        InvalidArgument: too few runs, or a schedule that none comes near.
    """
    return told(fit(runs_of(store, task), law=law, loss=loss, seed=seed), rates)
