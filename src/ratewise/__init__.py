"""ratewise: learning-rate schedules that react, and the means to compare them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ratewise.curves.advisor import Advisor as Advisor
    from ratewise.nmf import StochasticNMF as StochasticNMF
    from ratewise.plotting import plot_schedule as plot
    from ratewise.rules.greedy_config import GreedyConfig as GreedyConfig
    from ratewise.schedulers.greedy import GreedyLR as GreedyLR
    from ratewise.schedulers.guard import SpikeGuard as SpikeGuard
    from ratewise.schedulers.learned import LearnedLR as LearnedLR
    from ratewise.schedulers.listeners import JSONLWriter as JSONLWriter
    from ratewise.schedulers.listeners import TensorBoardWriter as TensorBoardWriter
    from ratewise.schedulers.planned import PlannedLR as PlannedLR
    from ratewise.schedulers.update_ratio import UpdateRatioLR as UpdateRatioLR

__version__ = "0.1.0"

#: public name -> where it is; imported at first use, so that `import ratewise` is light
_HOMES = {
    "Advisor": "ratewise.curves.advisor:Advisor",
    "GreedyConfig": "ratewise.rules.greedy_config:GreedyConfig",
    "GreedyLR": "ratewise.schedulers.greedy:GreedyLR",
    "JSONLWriter": "ratewise.schedulers.listeners:JSONLWriter",
    "LearnedLR": "ratewise.schedulers.learned:LearnedLR",
    "PlannedLR": "ratewise.schedulers.planned:PlannedLR",
    "SpikeGuard": "ratewise.schedulers.guard:SpikeGuard",
    "StochasticNMF": "ratewise.nmf:StochasticNMF",
    "TensorBoardWriter": "ratewise.schedulers.listeners:TensorBoardWriter",
    "UpdateRatioLR": "ratewise.schedulers.update_ratio:UpdateRatioLR",
    "plot": "ratewise.plotting:plot_schedule",
}

__all__ = [
    "Advisor",
    "GreedyConfig",
    "GreedyLR",
    "JSONLWriter",
    "LearnedLR",
    "PlannedLR",
    "SpikeGuard",
    "StochasticNMF",
    "TensorBoardWriter",
    "UpdateRatioLR",
    "__version__",
    "plot",
]


def __getattr__(name: str) -> Any:
    if name == "integrations":
        return importlib.import_module("ratewise.integrations")
    if name not in _HOMES:
        raise AttributeError(f"module 'ratewise' has no attribute {name!r}")
    module, attribute = _HOMES[name].split(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "integrations"})
