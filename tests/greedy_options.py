"""Options of GreedyLR side by side, whether they are arguments or settings in its `config`."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

from ratewise import GreedyConfig, GreedyLR

SETTINGS = {setting.name for setting in fields(GreedyConfig)}
IN_CONFIG = SETTINGS - inspect.signature(GreedyLR).parameters.keys()


def arguments(**options: Any) -> dict[str, Any]:
    """Return arguments of GreedyLR, with the settings that only `config` takes put into it."""
    inside = {name: value for name, value in options.items() if name in IN_CONFIG}
    beside = {name: value for name, value in options.items() if name not in IN_CONFIG}
    return {**beside, "config": GreedyConfig(**inside)} if inside else beside
