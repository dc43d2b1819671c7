"""Non-negative matrix factorisation: `StochasticNMF`, what bounds its rate, what schedules it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ratewise.errors import extra_named

if TYPE_CHECKING:
    from ratewise.nmf.command import fit_file as fit_file
    from ratewise.nmf.estimator import StochasticNMF as StochasticNMF

_HOMES = {"StochasticNMF": "estimator", "fit_file": "command"}
__all__ = ["StochasticNMF", "fit_file"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ratewise.nmf' has no attribute {name!r}")
    with extra_named("ratewise.nmf", "nmf"):
        home = importlib.import_module(f"ratewise.nmf.{_HOMES[name]}")
    return getattr(home, name)
