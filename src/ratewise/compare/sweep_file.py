"""What the last comparison of a store asked for, checked before anything relies on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from ratewise.runs import Store
from ratewise.runs.store import damaged_sweep


def read(store: Store) -> tuple[dict[str, Any], list[str]] | None:
    """Return the plan, as `Plan.asked` made it, and the ids of its runs; None if there is none.

    Raises:
        StoreError: the store's file holds something else.
    """
    sweep = store.read_sweep()
    if sweep is None:
        return None
    if wrong := _wrong(sweep):
        raise damaged_sweep(store.folder, wrong)
    return sweep["plan"], sweep["runs"]


def _wrong(sweep: dict[str, Any]) -> str:
    """Return what is wrong, or nothing."""
    plan = sweep.get("plan")
    if not isinstance(plan, dict):
        return "plan is not an object"
    if not _all(sweep.get("runs"), _is_name, least=0):
        return "runs is not a list of ids"
    for field, (fits, what) in _FIELDS.items():
        if not fits(plan.get(field)):
            return f"plan.{field} is not {what}"
    wanted = {(task, optimizer) for task in plan["tasks"] for optimizer in plan["optimizers"]}
    if wanted - {(task, optimizer) for task, optimizer, _ in plan["grids"]}:
        return "plan.grids lacks a task or an optimizer"
    return ""


def _all(value: object, fits: Callable[[Any], bool], least: int = 1) -> bool:
    return isinstance(value, list) and len(value) >= least and all(map(fits, value))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_seed(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_rate(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < math.inf  # type: ignore[operator]


def _is_grid(value: object) -> bool:
    legal = isinstance(value, list) and len(value) == 3
    return legal and _all(value[:2], _is_name) and _all(value[2], _is_rate)  # type: ignore[index]


def _names(value: object) -> bool:
    return _all(value, _is_name) and len(set(value)) == len(value)  # type: ignore[call-overload, arg-type]


#: field of a plan -> what it may be, and that in words
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "tasks": (
        lambda value: isinstance(value, dict) and _names(list(value)) and _texts(value.values()),
        "an object: task -> preset",
    ),
    "optimizers": (_names, "a list of different names"),
    "schedules": (_names, "a list of different names"),
    "grids": (lambda value: _all(value, _is_grid), "a list of [task, optimizer, rates]"),
    "tuning_seeds": (lambda value: _all(value, _is_seed), "a list of seeds"),
    "judged_seeds": (lambda value: _all(value, _is_seed), "a list of seeds"),
    "tuner": (  # that of the grid is not named
        lambda value: value in (None, "advisor"),
        "advisor, or absent",
    ),
    "data_sets": (  # older files lack it
        lambda value: value is None or (isinstance(value, dict) and _texts(value.values())),
        "an object: task -> data set",
    ),
}
