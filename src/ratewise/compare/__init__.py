"""Schedules compared on real trainings: `run`, for named tasks and for a `Task` of your own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ratewise.errors import extra_named

if TYPE_CHECKING:
    from ratewise.compare.schedules import Schedule as Schedule
    from ratewise.compare.sweep import Comparison as Comparison
    from ratewise.compare.sweep import run as run
    from ratewise.compare.task import Task as Task

_HOMES = {"Comparison": "sweep", "Schedule": "schedules", "Task": "task", "run": "sweep"}
__all__ = ["Comparison", "Schedule", "Task", "run"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ratewise.compare' has no attribute {name!r}")
    with extra_named("ratewise.compare", "compare"):
        home = importlib.import_module(f"ratewise.compare.{_HOMES[name]}")
    return getattr(home, name)
