"""Branches: a run that went on from another's checkpoint has that one's beginning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ratewise.curves.curve import Curve, Series
from ratewise.errors import InvalidArgument, unknown


def join(branch: Curve, trunk: Curve, at: int | None = None) -> Curve:
    """Return the whole training of a branch: the trunk up to where it left it, then its own.

    Args:
        branch: whose first points lie late.
        trunk: the run from whose checkpoint it went on.
        at: the step of that checkpoint; None is the step before the branch's first rate or
            training loss, or its first held-out loss where there are none.

    Raises:
        InvalidArgument: the trunk ends before the branch begins.
    """
    logged = [branch.lr, branch.train_loss, branch.held_out_loss]
    own = [int(series.step[0]) for series in logged[:2] if len(series)]
    own = own or [int(series.step[0]) for series in logged[2:] if len(series)]
    if not own:
        raise InvalidArgument(f"run {branch.name!r} has no point: it cannot be joined")
    at = min(own) - 1 if at is None else at
    every = np.diff(trunk.lr.step).max(initial=1) + np.diff(branch.lr.step).max(initial=1)
    if trunk.steps + every < at:
        raise InvalidArgument(
            f"run {trunk.name!r} ends at step {trunk.steps}, before {branch.name!r} begins "
            f"({at + 1}): name the run that it went on from"
        )
    whole: dict[str, Any] = {}
    for name, mine in branch.series.items():
        before, after = trunk.series[name].until(at), mine.after(at)
        whole[name] = Series(np.r_[before.step, after.step], np.r_[before.value, after.value])
    if len(trunk.lr) and len(branch.lr) and not len(trunk.lr.until(at)):
        raise InvalidArgument(f"run {trunk.name!r} has no rate up to step {at}")
    return replace(branch.with_facts(parent=""), **whole)


def joined(curves: Iterable[Curve], parents: Mapping[str, str] | None = None) -> list[Curve]:
    """Return the curves, each branch joined to its trunk.

    Args:
        curves: all of them.
        parents: branch -> trunk by name, beside what the curves' facts say.

    Raises:
        UnknownName: a trunk is not among them.
        InvalidArgument: branches go round in a circle, or a trunk is too short.
    """
    by_name = {curve.name: curve for curve in curves}
    parents = {
        **{name: one.facts.parent for name, one in by_name.items() if one.facts.parent},
        **(parents or {}),
    }
    for branch, trunk in parents.items():
        for name in (branch, trunk):
            if name not in by_name:
                raise unknown("run", name, by_name)
    done: dict[str, Curve] = {}

    def whole(name: str, seen: tuple[str, ...]) -> Curve:
        if name in seen:
            raise InvalidArgument(f"branches go round in a circle: {' -> '.join([*seen, name])}")
        if name not in done:
            curve, trunk = by_name[name], parents.get(name)
            done[name] = join(curve, whole(trunk, (*seen, name))) if trunk else curve
        return done[name]

    return [whole(name, ()) for name in by_name]
