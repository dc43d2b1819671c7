"""What the state of a scheduler must look like that steers tensors: its tables, a line a field."""

from __future__ import annotations

import math
from typing import Any

from ratewise.rules import schema
from ratewise.rules.features import FEATURES, FeatureState
from ratewise.rules.fixed import FIXED
from ratewise.rules.schema import SINGLE, Check
from ratewise.rules.update_ratio import UpdateRatioConfig
from ratewise.schedulers import base_rates
from ratewise.schedulers.steered import PER

_RATES = schema.several(schema.above(0.0, schema.LARGEST_RATE))
#: Rates that a scheduler steers from.
_FULL = schema.several(schema.number(base_rates.LEAST, base_rates.MOST))
#: Vectors of a number a unit, a tensor or a group: float32 on the parameters' device.
_FACTORS = schema.several(schema.number(0.0, SINGLE))
_FEATURE = schema.number(-SINGLE, SINGLE)


def _ratio(name: str, value: Any) -> None:
    """Check a displacement in float32, which is not finite where the weights are not."""
    schema.real(name, value)
    legal = not math.isfinite(value) or abs(value) <= SINGLE
    schema.require(legal, name, "a number that float32 can hold", value)


#: What a policy remembers of a run: `Correction.to_state`.
CORRECTION: dict[str, Check] = {
    "policy": schema.text,
    "features": schema.record(
        {
            **dict.fromkeys(FeatureState._fields, _FEATURE),
            "means": schema.several(_FEATURE, length=3),
        }
    ),
    "correction": schema.above(0.0, SINGLE),
    "outside": schema.number(0.0, SINGLE),
    "seen": schema.several(_FEATURE, length=len(FEATURES)),
}
#: `Steering.to_state`.
STEERING: dict[str, Check] = {
    "factor": _FACTORS,
    "settled": _FACTORS,
    "typical": schema.number(0.0, SINGLE),
    "probe": schema.several(schema.number(1.0, 1e4)),  # up to `steering.PROBE`
    "ratios": schema.several(_ratio),
    "every": schema.count(1),
    "steps": schema.count(),
    "decided": schema.count(),
    "shapes": schema.several(schema.several(schema.count())),
    "correction": schema.optional(schema.record(CORRECTION)),
}
#: `SteeredLR._own_state`.
STEERED: dict[str, Check] = {
    "config": schema.settings(UpdateRatioConfig),
    "per": schema.choice(*PER),
    "schedule": schema.choice(*FIXED),
    "begin": schema.count(),
    "height": schema.number(0.0, 1.0),
    "base": _RATES,
    "full": _FULL,
    "keep_proportions": schema.flag,
    "largest": schema.above(0.0),
    "proportions": schema.several(schema.above(0.0, 1.0)),
    "alone": schema.count(),
    "stride": schema.count(),
    "steering": schema.record(STEERING),
}


def check(name: str, state: Any, **more: Check) -> None:
    """Raise `InvalidState` unless a steering scheduler's own part of a state is legal.

    Args:
        name: where it lies.
        state: it.
        more: fields of a scheduler that has some besides.
    """
    schema.record({**STEERED, **more})(name, state)
    schema.same_length(name, state, "base", "full", "proportions")
