"""What `ratewise forecast` says and writes: a loss with its interval, a plan, a page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ratewise import __version__
from ratewise.curves import page
from ratewise.curves.begun import check_begun, said_of, taken
from ratewise.curves.curve import Curve, Floats
from ratewise.curves.forecast import LossLaw, fit
from ratewise.curves.read import read
from ratewise.errors import InvalidArgument, invalid
from ratewise.files.contents import shown
from ratewise.rules import plan as plans
from ratewise.rules.plan import Plan, from_rates

_NAMES = 5
#: Constants of a law in a line.
_A_LINE = 4
#: Names of runs that a plan keeps.
_KEPT = 200


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


def ahead(
    law: LossLaw, rates: Floats, level: float = 0.9, begun: Curve | None = None
) -> dict[str, Any]:
    """Return the forecast for a schedule as a plan keeps it.

    Raises:
        OutsideSeen: no past run comes near the schedule.
    """
    (found,) = law.predict([rates], level=level, begun=begun)
    return {"which": law.loss, **found._asdict()}


def told(law: LossLaw, steps: int, found: Mapping[str, Any]) -> str:
    """Return a forecast in lines.

    Args:
        law: what it was made with.
        steps: the schedule's length.
        found: what `ahead` returned.
    """
    which = {"held_out": "held-out", "train": "training"}[law.loss]
    level = found["level"]
    lines = [
        f"{which} loss after {steps:,} steps: {found['loss']:.4f} "
        f"[{found['low']:.4f}, {found['high']:.4f}] ({level:.0%})",
        f"from {len(law.runs)} past runs, by the {law.fitted.law.source}; its constants:",
        *_constants(law, level),
    ]
    if law.left_out:
        lines.append(f"left out ({len(law.left_out)}):")
        lines += [f"  {shown(name)}: {shown(why)}" for name, why in _first(law.left_out)]
    return "\n".join(lines)


def planned(
    law: LossLaw, rates: Floats, schedule: Mapping[str, Any], begun: Curve | None = None
) -> Plan:
    """Return the plan of a schedule, with its forecast and where it came from.

    Args:
        law: what past runs say.
        rates: the schedule's, one a step; the plan comes within 1e-4 of the highest.
        schedule: its name and numbers, for the plan's provenance.
        begun: what is known so far of the training itself.

    Raises:
        OutsideSeen: no past run comes near the schedule.
    """
    plan = from_rates(rates)
    provenance = {
        "made_by": f"ratewise {__version__}",
        "schedule": dict(schedule),
        "law": law.fitted.law.name,
        "source": law.fitted.law.source,
        "runs": [shown(name) for name in law.runs[:_KEPT]],
        "runs_in_all": len(law.runs),
    }
    if begun is not None:
        provenance |= {"begun": shown(begun.name), "begun_steps": begun.steps}
    found = ahead(law, plan.rates(), begun=begun)
    return replace(plan, provenance=provenance, forecast=found)


def _constants(law: LossLaw, level: float) -> list[str]:
    """Return the law's constants with their intervals, some in a line; those not fitted are not."""
    said = [
        f"{name.replace('~peak', ' by peak rate')} {one.value:.3g} [{one.low:.3g}, {one.high:.3g}]"
        for name, one in law.parameters(level).items()
        if not one.value == one.low == one.high
    ]
    return ["  " + ", ".join(said[i : i + _A_LINE]) for i in range(0, len(said), _A_LINE)]


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
    schedule: Mapping[str, Any] | None = None,
    begun: str | None = None,
    plan: Path | None = None,
    report: Path | None = None,
) -> str:
    """Return what the runs of a store say of a schedule, and write the files that are asked for.

    Args:
        store: a store of runs, or logs.
        rates: the schedule's, one a step.
        task: whose runs are taken, where the store has several.
        law, loss, seed: as in `ratewise.curves.fit`.
        schedule: its name and numbers, for the plan's provenance.
        begun: the training itself, if it is under way: the name of its run in the store, which
            then is no past run, or its log.
        plan: the file of the plan, .json.
        report: the page, .html or .md.

    Raises:
        InvalidArgument: too few runs, a schedule that none comes near, or a run under way that
            is not under this schedule; nothing is written.
        CannotWrite: the file system refused.
    """
    if plan is not None and plan.suffix.lower() != ".json":
        raise invalid("--plan", "a file that ends in .json", str(plan), "rename it")
    if report is not None:
        page.check_suffix(report)
    runs, own = runs_of(store, task), None
    if begun is not None:
        own, runs = taken(runs, begun)
    fitted = fit(runs, law=law, loss=loss, seed=seed)
    if own is not None:
        check_begun(own, rates, fitted, runs)
    made = planned(fitted, rates, schedule or {}, own)
    said = told(fitted, made.total_steps, made.forecast or {})
    if own is not None:
        said = f"{said}\n{said_of(own, rates, fitted)}"
    lines = [said]
    if plan is not None:
        plans.write(plan, made)
        lines.append(f"plan: {plan}; use it: ratewise.PlannedLR(optimizer, {str(plan)!r})")
    if report is not None:
        page.write(report, fitted, runs, made, said, own)
        lines.append(f"page: {report}")
    return "\n".join(lines)
