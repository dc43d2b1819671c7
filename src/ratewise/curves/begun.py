"""A training that is under way: which it is, and whether a forecast may rest on its losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ratewise.curves.curve import Curve, Floats
from ratewise.curves.forecast import LossLaw
from ratewise.curves.points import check, points, usable
from ratewise.curves.read import read
from ratewise.errors import InvalidArgument
from ratewise.files.contents import shown

#: In the mean over its steps its rates may differ from the schedule's by so much of the peak:
#: logs round them, and some name the rate of the step that follows.
_OFF = 0.02
#: From this share of a run on its forecasts were judged.
JUDGED = 0.3
_OPTION = "--begun"


def taken(curves: Sequence[Curve], begun: str) -> tuple[Curve, list[Curve]]:
    """Return the run that is under way, and the others.

    Args:
        curves: the past runs.
        begun: the name of one of them, or the log of a run that is not among them.

    Raises:
        InvalidArgument: neither, or the log has several runs.
    """
    named = [curve for curve in curves if curve.name == begun]
    if named:
        return named[0], [curve for curve in curves if curve.name != begun]
    if not Path(begun).exists():
        raise InvalidArgument(
            f"{_OPTION} must be the name of a run in the store or the log of one, got "
            f"{shown(begun)}: check its name"
        )
    found = read(begun).curves
    if len(found) != 1:
        raise InvalidArgument(
            f"{_OPTION} must be the log of one run, got {len(found)} in {begun}: name one of them"
        )
    return found[0], list(curves)


def check_begun(run: Curve, rates: Floats, law: LossLaw, curves: Sequence[Curve]) -> None:
    """Raise unless a run is the beginning of a training under a schedule.

    Args:
        run: what is known of it so far.
        rates: the schedule's, one a step.
        law: what was fitted.
        curves: what it was fitted to.

    Raises:
        InvalidArgument: the run diverged, is as long as the schedule, has other rates or no loss
            of the kind that was fitted, or its losses are in another unit.
    """
    name = shown(run.name)
    if run.diverged_at is not None:
        raise InvalidArgument(f"run {name} diverged at step {run.diverged_at}: it has no end ahead")
    own = points(run, law.loss)
    if own.length >= len(rates):
        raise InvalidArgument(
            f"run {name} has {own.length:,} steps, the schedule {len(rates):,}: pass the length "
            "that is planned by --total-steps"
        )
    known = np.arange(own.length) >= run.lr.step[0] - 1
    off = np.where(known, np.abs(own.rates - rates[: own.length]), 0.0)
    if off.sum() > _OFF * rates.max() * known.sum():
        worst = int(off.argmax())
        raise InvalidArgument(
            f"run {name} has other rates than the schedule: {own.rates[worst]:.4g} at step "
            f"{worst + 1:,}, where the schedule has {rates[worst]:.4g}: pass the schedule that it "
            "is trained under"
        )
    check([own, *usable(curves, law.loss, 64)[0]])


def said_of(run: Curve, rates: Floats, law: LossLaw) -> str:
    """Return in a line how far a run is, and where its losses lie."""
    own = points(run, law.loss)
    over = float(np.mean(own.loss[-3:] / law.fitted.losses([own])[-3:])) - 1
    words = (
        f"run {shown(run.name)} so far: {own.length:,} of {len(rates):,} steps, "
        f"its losses {abs(over):.2%} {'above' if over >= 0 else 'below'} the law's"
    )
    if own.length < JUDGED * len(rates):
        words += f"; forecasts were judged from {JUDGED:.0%} of a run on"
    return words
